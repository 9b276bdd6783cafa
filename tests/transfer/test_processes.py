"""A transfer does not depend on the machine: one process, two, interrupted, any workers."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.pretrain.test_processes import torchrun
from tests.transfer.two_processes import (
    CASES,
    ROWS,
    STEPS,
    layer,
    passed,
    stopped,
    transfer,
    whole_batch,
    write_data,
)
from torch import nn

from whytransfer.core.errors import InputError
from whytransfer.core.processes import Processes
from whytransfer.train.checkpoint import Checkpoints
from whytransfer.transfer.sharing import require_shares
from whytransfer.transfer.stage import resolve
from whytransfer.transfer.tasks import semantic_segmentation, voc07_detection

TRAINED = (
    "detection", "masks", "grouped", "segmentation", "readout", "held_out", "stages", "landmarks",
    "frozen",
)  # fmt: skip
UNTRAINED = ("neighbours", "logistic", "episodes")
SHARDED = {"sharded": voc07_detection.Task, "sharded_pixels": semantic_segmentation.Task}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Holds what one process did alone, and what two did together."""
    folder = tmp_path_factory.mktemp("processes")
    data = folder / "data"
    write_data(data)
    for case in TRAINED + UNTRAINED:
        transfer(case, folder / "one", data)
    for case, kind in SHARDED.items():
        trained(case, kind, folder)
    done = torchrun(str(Path(__file__).with_name("two_processes.py")), str(folder))
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    return folder


def trained(case, kind, folder):
    """Trains in one process, which is killed before it predicts; then one and two go on."""

    def killed(self, folder):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(kind, "predict", killed)
        transfer(case, folder / "one", folder / "data")
    shutil.copytree(folder / "one" / case, folder / "two" / case)
    transfer(case, folder / "one", folder / "data")


def seen(folder: Path) -> list[dict]:
    return [json.loads((folder / f"seen-{rank}.json").read_text()) for rank in (0, 1)]


def outcome(store: Path):
    """Returns a finished run's rows, its last state, and the bytes of its payload."""
    (path,) = (store / "transfer").iterdir()
    (work,) = (w for w in (store / "work").iterdir() if (w / "checkpoints").exists())
    last = Checkpoints(work / "checkpoints").newest()
    assert last.step == STEPS
    rows = [json.loads(line) for line in (path / "training.jsonl").read_text().splitlines()]
    return rows, last.state, payload_of(path)


def payload_of(path: Path) -> dict[str, bytes]:
    files = sorted(p for p in path.rglob("*") if p.is_file())
    volatile = ("record.json", "artifact.json")
    return {str(p.relative_to(path)): p.read_bytes() for p in files if p.name not in volatile}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("case", TRAINED)
def test_two_processes_train_what_one_does(folder, case):
    rows, state, payload = outcome(folder / "two" / case)
    expected, expected_state, expected_payload = outcome(folder / "one" / case)
    assert len(rows) == STEPS and list(payload) == list(expected_payload)
    for row, other in zip(rows, expected, strict=True):
        assert list(row) == list(other)
        assert row == pytest.approx(other, abs=1e-5)
    assert list(state["model"]) == list(expected_state["model"])
    for name, value in expected_state["model"].items():
        assert (state["model"][name] - value).abs().max() < 1e-5, name
    for one, other in zip(state.get("average", ()), expected_state.get("average", ()), strict=True):
        assert (one - other).abs().max() < 1e-5
    # They do not agree because nothing was learnt.
    assert np.ptp([row["loss"] for row in expected]) > 0.1


@pytest.mark.timeout(900)
@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float64, 1e-10), (torch.float32, 1e-3), (torch.bfloat16, 3e-2)],
)
def test_synchronised_statistics_are_those_of_the_whole_batch(folder, rows, dtype, tolerance):
    parts = [torch.load(folder / f"layer-{r}.pt")[f"{rows} {dtype}"] for r in (0, 1)]
    expected = passed(layer(nn.BatchNorm2d, dtype), *whole_batch(rows, dtype))
    output, grad, weight, bias, mean, variance = zip(*parts, strict=True)
    found = [torch.cat(output), torch.cat(grad), sum(weight), sum(bias)]
    for one, other in zip(found, expected, strict=False):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)
    for kept, other in ((mean, expected[4]), (variance, expected[5])):
        assert torch.equal(*kept)
        torch.testing.assert_close(kept[0], other, rtol=tolerance, atol=tolerance)


@pytest.mark.timeout(900)
def test_statistics_of_groups_are_each_process_s_own_and_of_the_whole_batch_are_shared(folder):
    for case, same in (("grouped", False), ("detection", True)):
        own = outcome(folder / "two" / case)[1]["statistics"]
        assert own.shape[0] == 2 and torch.equal(own[0], own[1]) == same


@pytest.mark.timeout(900)
@pytest.mark.parametrize("case", UNTRAINED)
def test_what_is_computed_once_per_image_is_shared_and_the_same_files(folder, case):
    for stage in ("transfer", "features"):
        one, two = (sorted((folder / n / case / stage).iterdir()) for n in ("one", "two"))
        assert [path.name for path in one] == [path.name for path in two] != []
        for path, other in zip(one, two, strict=True):
            assert payload_of(path) == payload_of(other)
    # 60 images of new classes, 55 of base classes and 5 that are kept apart, five at a time.
    if case == "episodes":
        batches = [json.loads((folder / f"batches-{r}.json").read_text())[case] for r in (0, 1)]
        assert batches == [6 + 6 + 1, 6 + 5]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("case", TRAINED)
def test_two_processes_score_what_one_does(folder, case):
    metrics = []
    for store in ("one", "two"):
        (path,) = (folder / store / case / "transfer").iterdir()
        metrics.append(json.loads((path / "record.json").read_text())["metrics"])
    for metric, other in zip(*metrics, strict=True):
        assert (metric["name"], metric["n"]) == (other["name"], other["n"])
        assert metric["value"] == pytest.approx(other["value"], abs=1e-3)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("case", SHARDED)
def test_predictions_of_one_model_are_the_same_files(folder, case):
    two, one = outcome(folder / "two" / case)[2], outcome(folder / "one" / case)[2]
    assert two == one
    assert len(one["predictions.json"]) > 100


@pytest.mark.timeout(900)
def test_interrupted_on_two_processes_nothing_changes_a_bit(folder):
    whole, again = outcome(folder / "two" / "detection"), outcome(folder / "again" / "detection")
    assert whole[0] == again[0]
    assert whole[2] == again[2]
    for name, value in whole[1]["model"].items():
        assert torch.equal(value, again[1]["model"][name]), name
    for found in seen(folder):
        assert [text.rpartition(" ")[2] for text in found["stops"]] == ["3", "5", "9"]


@pytest.mark.timeout(900)
def test_all_processes_return_one_artifact_and_one_writes_it(folder):
    first, second = seen(folder)
    assert first == second
    assert first["detection"] == first["found"]
    assert not list(folder.glob("*/*/work/*.part"))


@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than cores
@pytest.mark.parametrize("case", ["detection", "segmentation", "readout"])
def test_any_number_of_workers_gives_the_same_bits(folder, tmp_path, case):
    transfer(case, tmp_path / "three", folder / "data", workers=3)
    assert stopped(5, 0, case, tmp_path / "one", folder / "data").endswith("after step 5")
    transfer(case, tmp_path / "one", folder / "data", workers=1)
    whole = outcome(folder / "one" / case)
    for name in ("three", "one"):
        found = outcome(tmp_path / name / case)
        assert found[0] == whole[0]
        assert found[2] == whole[2]


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("case", "step"),
    [("detection", 1), ("detection", 7), ("detection", 12), ("segmentation", 6), ("readout", 5)],
)
def test_interrupted_at_any_step_it_ends_with_the_same_bits(folder, tmp_path, case, step):
    where = case, tmp_path, folder / "data"
    assert stopped(step, 0, *where).endswith(f"SIGINT, stopped after step {step}")
    assert not list((tmp_path / case).glob("transfer/*"))
    transfer(*where)
    found, whole = outcome(tmp_path / case), outcome(folder / "one" / case)
    assert found[0] == whole[0]
    assert found[2] == whole[2]
    for name, value in whole[1]["model"].items():
        assert torch.equal(value, found[1]["model"][name]), name


def test_batches_that_processes_cannot_share_are_refused():
    task, settings = CASES["grouped"]
    with pytest.raises(InputError, match=r"field training.batch_size: 4 images.*by 3 processes"):
        require_shares("transfer x", resolve(task, settings, "test"), Processes(size=3))
    message = r"field detector\.bn_group_size: each of 4.*set detector\.bn_group_size=1"
    with pytest.raises(InputError, match=message):
        require_shares("transfer x", resolve(task, settings, "test"), Processes(size=4))
    whole = resolve(*CASES["detection"], "test")
    require_shares("transfer x", whole, Processes(size=2))  # synchronised
    message = r"field detector\.padded_together: each of 4.*set detector\.padded_together=1"
    with pytest.raises(InputError, match=message):
        require_shares("transfer x", whole, Processes(size=4))
