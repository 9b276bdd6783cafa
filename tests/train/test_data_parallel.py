"""Means over processes through shared memory: everyone's mean, the same bits in all of them."""

import os
import sys
from pathlib import Path

import pytest
import torch
from tests.pretrain.test_processes import torchrun
from tests.train.averaging import NOWHERE, ON_THE_FIRST, SHAPES

from whytransfer.core.processes import Processes
from whytransfer.train.data_parallel import DataParallel, SharedDataParallel, data_parallel

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux")


@pytest.fixture(scope="module", params=[2, 3])
def found(request, tmp_path_factory):
    """Returns what each of some processes had, and what came of it."""
    folder = tmp_path_factory.mktemp("averaging")
    script = Path(__file__).with_name("averaging.py")
    done = torchrun(str(script), str(folder), processes=request.param)
    assert done.returncode == 0, done.stderr
    return [torch.load(folder / f"{rank}.pt") for rank in range(request.param)]


def test_every_process_gets_the_mean_in_the_same_bits(found):
    of_all = [each["gradients"] for each in found]
    by_gloo = iter(of_all[0]["by_gloo"])
    for step, averaged in enumerate(of_all[0]["averaged"]):
        for number, (mean, by_others) in enumerate(zip(averaged, by_gloo, strict=False)):
            assert (mean is None) == (number % len(SHAPES) == NOWHERE)
            if mean is None:
                assert all(other["averaged"][step][number] is None for other in of_all)
                continue
            everyone = torch.stack([each["had"][step][number] for each in of_all])
            exact, eps = everyone.double().mean(0), torch.finfo(mean.dtype).eps
            torch.testing.assert_close(mean.double(), exact, rtol=0, atol=eps)
            assert number % len(SHAPES) != ON_THE_FIRST or not everyone[1:].any()
            for other in of_all[1:]:
                assert torch.equal(other["averaged"][step][number], mean)
            if len(found) == 2:
                assert torch.equal(by_others, mean)


def test_means_lie_as_their_parameters_do_and_no_hook_stays(found):
    for each in found:
        assert all(each["gradients"]["lies"])
        assert not any(each["gradients"]["hooks"])


def test_all_tensors_come_together_in_order_and_layout(found):
    of_all = [each["gathered"] for each in found]
    for everyone in zip(*of_all, strict=True):
        expected = torch.stack([own for own, _, _ in everyone])
        for own, by_gloo, gathered in everyone:
            assert gathered.dtype == own.dtype
            assert torch.equal(gathered, expected) and torch.equal(by_gloo, expected)
            layout = torch.channels_last if own.dim() == 4 else torch.contiguous_format
            assert gathered[0].is_contiguous(memory_format=layout)


def test_memory_goes_with_the_gradients_and_what_was_gathered_last_alone_stays(found):
    assert all(each["mapped"] == 1 for each in found)


@pytest.mark.parametrize(
    "how", ["ends", "ends long before", "fails", "dies with a child that has its pipes"]
)
def test_who_waits_for_a_process_that_is_gone_is_told(tmp_path, how):
    script = Path(__file__).with_name("leaving.py")
    done = torchrun(str(script), str(tmp_path), how)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "1").read_text() == "another process of this run is gone"


def test_processes_of_several_machines_or_on_gpus_share_no_memory():
    near, far = Processes(0, 4, 0, 4), Processes(0, 4, 0, 2)
    assert isinstance(data_parallel(near, on_cpu=True), SharedDataParallel)
    assert isinstance(data_parallel(far, on_cpu=True), DataParallel)
    assert isinstance(data_parallel(near, on_cpu=False), DataParallel)


def test_without_files_in_memory_nothing_is_shared(monkeypatch):
    monkeypatch.delattr(os, "memfd_create")
    assert isinstance(data_parallel(Processes(0, 4, 0, 4), on_cpu=True), DataParallel)
