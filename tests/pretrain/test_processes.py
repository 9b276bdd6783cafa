"""The recipe does not depend on the machine: one process, two, interrupted, any workers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tests.pretrain.two_processes import OTHERS, STEPS, stopped, train

from whytransfer.core.errors import InputError
from whytransfer.core.processes import ALONE, Processes, here
from whytransfer.core.streams import Stream
from whytransfer.data.loader import EpochOrder
from whytransfer.data.part import Part, require_equal_parts
from whytransfer.train.checkpoint import Checkpoints

ROOT = Path(__file__).parents[2]


def torchrun(*command: str, processes: int = 2) -> subprocess.CompletedProcess:
    """Runs a Python command in several processes; ends them all after a while."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    settings = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *launcher, *command], env={**os.environ, **settings}, cwd=ROOT,
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip


def write_images(root: Path) -> None:
    """Writes an ImageNet folder of two classes, of 18 and 20 blurred noisy images."""
    for label, name in enumerate(("dark", "light")):
        for split, count in (("train", 18 + 2 * label), ("val", 1)):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                noise = Stream(label, split, i).integers(30 * 34 * 3, 256).reshape(30, 34, 3)
                image = cv2.GaussianBlur(noise.astype(np.uint8), (0, 0), 3)
                cv2.imwrite(str(folder / f"{i}.png"), image)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Holds what one process trained alone, and what two trained together."""
    folder = tmp_path_factory.mktemp("processes")
    data = folder / "data"
    write_images(data)
    train(folder / "one", data)
    for method in OTHERS:
        train(folder / f"one_{method}", data, method=method)
    assert "after step 20" in stopped(20, 0, store=folder / "one_to_two", data=data)
    done = torchrun(str(Path(__file__).with_name("two_processes.py")), str(folder))
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    train(folder / "two_to_one", data)
    return folder


def seen(folder: Path) -> list[dict]:
    return [json.loads((folder / f"seen-{rank}.json").read_text()) for rank in (0, 1)]


def outcome(store: Path):
    """Returns a finished run's losses, its last state, and the bytes of its payload."""
    (path,) = (store / "pretrain").iterdir()
    (work,) = (store / "work").iterdir()
    last = Checkpoints(work / "checkpoints").newest()
    assert last.step == STEPS
    rows = [json.loads(line) for line in (path / "training.jsonl").read_text().splitlines()]
    payload = {
        name: (path / name).read_bytes() for name in ("backbone.safetensors", "backbone.json")
    }
    return [row["loss"] for row in rows], last.state, payload


def assert_close(store: Path, other: Path) -> None:
    (losses, state, _), (expected, expected_state, _) = outcome(store), outcome(other)
    assert len(losses) == STEPS
    assert np.abs(np.subtract(losses, expected)).max() < 1e-5
    assert list(state["model"]) == list(expected_state["model"])
    for name, value in expected_state["model"].items():
        assert (state["model"][name] - value).abs().max() < 1e-5, name
    moments = [s["optimiser"]["state"].values() for s in (state, expected_state)]
    for one, other_moment in zip(*moments, strict=True):
        difference = one["momentum_buffer"] - other_moment["momentum_buffer"]
        assert difference.abs().max() < 1e-5


@pytest.mark.timeout(900)
def test_two_processes_train_what_one_does(folder):
    assert_close(folder / "two", folder / "one")
    state = outcome(folder / "two")[1]
    names = list(state["model"])
    assert any("queue" in name for name in names)
    running = [name for name in names if "running_" in name]
    assert any("key_encoder" in name for name in running)
    assert any("query_encoder" in name for name in running)
    # They do not agree because nothing was learnt.
    losses = outcome(folder / "one")[0]
    assert np.ptp(losses) > 0.1
    # What each process had of its own differs: the mean is no accident.
    own = state["statistics"]
    assert own.shape[0] == 2 and not torch.equal(own[0], own[1])


@pytest.mark.timeout(900)
@pytest.mark.parametrize("method", OTHERS)
def test_two_processes_train_what_one_does_by_other_methods(folder, method):
    assert_close(folder / f"two_{method}", folder / f"one_{method}")
    losses, state, _ = outcome(folder / f"one_{method}")
    assert np.ptp(losses) > 0.1
    # The labels of all processes are in the queue of each, and none that was there at the start.
    queued = [value for name, value in state["model"].items() if name.endswith("queue.labels")]
    assert len(queued) == (method == "exemplar_v1")
    assert all(set(labels.tolist()) == {0, 1} for labels in queued)


@pytest.mark.timeout(900)
def test_interrupted_on_two_processes_nothing_changes_a_bit(folder):
    whole, again = outcome(folder / "two"), outcome(folder / "again")
    assert whole[0] == again[0]
    assert whole[2] == again[2]
    for name, value in whole[1]["model"].items():
        assert torch.equal(value, again[1]["model"][name]), name
    assert torch.equal(whole[1]["statistics"], again[1]["statistics"])
    for found in seen(folder):
        steps = [text.rpartition(" ")[2] for text in found["stops"]]
        assert steps == ["7", "15", "16"]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("store", ["one_to_two", "two_to_one"])
def test_resumed_on_another_number_of_processes_it_is_the_same_run(folder, store):
    assert_close(folder / store, folder / "one")


@pytest.mark.timeout(900)
def test_all_processes_return_one_artifact_and_one_writes_it(folder):
    first, second = seen(folder)
    assert first == second
    assert first["whole"] == first["found"]
    for name in ("whole", "again", "one_to_two"):
        assert Path(first[name]).is_dir()
    assert "after step 20" in first["unfinished"]
    assert not list(folder.glob("*/work/*.part"))


@pytest.mark.timeout(900)
def test_a_failure_of_one_process_ends_all_with_one_message(tmp_path):
    write_images(tmp_path / "data")
    (tmp_path / "data" / "train" / "dark" / "7.png").write_bytes(b"no image")
    done = torchrun(
        "-m", "whytransfer", "pretrain", "supervised", "--data", f"imagefolder:{tmp_path / 'data'}",
        "--store", str(tmp_path / "runs"), "--device", "cpu", "architecture.name=resnet10",
        "architecture.width=8", "augmentation.crop_px=24", "bn_group_size=4",
        "training.batch_size=8", "training.epochs=2", "training.schedule.milestones=[1]",
    )  # fmt: skip
    assert done.returncode == 1
    ours = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(ours) == 1, done.stderr
    assert "7.png" in ours[0]
    assert done.stdout == ""
    assert "FailedElsewhere" not in done.stderr
    assert not (tmp_path / "runs" / "pretrain").exists()


@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than cores
def test_any_number_of_workers_gives_the_same_bits(folder, tmp_path):
    # One worker in each process is part of the runs that were interrupted.
    train(tmp_path, folder / "data", workers=3)
    found, alone = outcome(tmp_path), outcome(folder / "one")
    assert found[0] == alone[0]
    assert found[2] == alone[2]


def test_parts_are_the_batch_in_its_order():
    order = EpochOrder(10, 4, seed=3)
    parts = [Part(order, Processes(rank=rank, size=2)).batches(1) for rank in (0, 1)]
    for (first, second), whole in zip(zip(*parts, strict=False), order.batches(1), strict=False):
        assert first + second == whole
        assert len(first) == 2
        if whole[0][0] > 2:
            break


@pytest.mark.parametrize(
    ("batch_size", "group_size", "size", "message"),
    [
        (15, 4, 2, r"field training.batch_size: 15 images.*by 2 proc.*set training.batch_size=16"),
        (3, 2, 4, r"set training.batch_size=8"),
        (16, None, 2, r"field bn_group_size: null.*set bn_group_size=8"),
        (
            16,
            16,
            2,
            r"each of 2 processes holds 8 of 16.*set bn_group_size=8, or .*size=32 or a mult",
        ),
        (24, 8, 2, r"holds 12 of 24 images.*set bn_group_size=6"),
    ],
)
def test_batches_that_processes_cannot_share_are_refused(batch_size, group_size, size, message):
    with pytest.raises(InputError, match=message):
        require_equal_parts("pretrain x", batch_size, group_size, Processes(size=size))


def test_one_process_shares_nothing():
    require_equal_parts("pretrain x", 15, None, ALONE)
    require_equal_parts("pretrain x", 16, 4, Processes(size=4))


def test_processes_are_those_of_torchrun(monkeypatch):
    assert here() == ALONE
    given = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "MASTER_ADDR": "h"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert here() == ALONE  # a cluster's own variables, without an address to meet at
    monkeypatch.setenv("MASTER_PORT", "1")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert here() == Processes(rank=5, size=8, local_rank=1, local_size=4)
    assert not here().leads
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert here() == ALONE
