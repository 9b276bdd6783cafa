"""Means over processes through shared memory: everyone's mean, the same bits in all of them."""

import os
import sys
from pathlib import Path

import pytest
import torch
from tests.pretrain.test_processes import torchrun

from whytransfer.core.processes import Processes
from whytransfer.train.data_parallel import DataParallel

needs_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux")


@needs_linux
@pytest.mark.parametrize("size", [2, 3])
def test_every_process_gets_the_mean_in_the_same_bits(tmp_path, size):
    script = Path(__file__).with_name("averaging.py")
    done = torchrun(str(script), str(tmp_path), processes=size)
    assert done.returncode == 0, done.stderr
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(size)]
    for number, averaged in enumerate(found[0]["averaged"]):
        everyone = torch.stack([each["had"][number] for each in found])
        torch.testing.assert_close(
            averaged.double(),
            everyone.double().mean(0),
            rtol=0,
            atol=torch.finfo(averaged.dtype).eps,
        )
        for other in found[1:]:
            assert torch.equal(other["averaged"][number], averaged)
        if size == 2:
            assert torch.equal(found[0]["by_gloo"][number], averaged)
    for each in found:
        before, after = each["mappings"]
        assert before == 2  # one of each number, whatever had to be mapped anew
        assert after == 0


def test_processes_of_several_machines_or_on_gpus_share_no_memory():
    near, far = Processes(0, 4, 0, 4), Processes(0, 4, 0, 2)
    assert (DataParallel(near, on_cpu=True)._shared is not None) == hasattr(os, "memfd_create")
    assert DataParallel(far, on_cpu=True)._shared is None
    assert DataParallel(near, on_cpu=False)._shared is None
