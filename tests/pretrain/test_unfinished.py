"""A run that was interrupted where ``auto`` settled otherwise: said, never silently begun anew."""

import logging

import cv2
import numpy as np
import pytest

from whytransfer.core import devices
from whytransfer.core.config import merge, override
from whytransfer.core.stage import Execution
from whytransfer.core.store import Store
from whytransfer.core.streams import Stream
from whytransfer.data.dataset import from_spec
from whytransfer.pretrain import stage
from whytransfer.pretrain.views import Views
from whytransfer.train import capabilities

SMALL = {
    "architecture": {"name": "resnet10", "width": 8, "stem_pool": False},
    "augmentation": {"crop_px": 16},
    "bn_group_size": 4,
    "training": {
        "epochs": None, "steps": 4, "batch_size": 8, "checkpoint_every_steps": 2,
        "log_every_steps": 1, "schedule": {"kind": "cosine", "per": "step", "milestones": []},
    },
}  # fmt: skip


@pytest.fixture
def native(monkeypatch):
    """Says whether this machine has bfloat16; it has none until told otherwise."""
    found = {"native": False}
    for module in (devices, capabilities):
        monkeypatch.setattr(module, "on_gpu", lambda device: False)
    monkeypatch.setattr(devices, "cpu_has_bfloat16", lambda: found["native"])
    # Whichever the precision, convolutions are products then: precision alone differs.
    monkeypatch.setattr(capabilities, "cpu_has_amx", lambda: True)
    return found


@pytest.fixture
def data(tmp_path):
    root = tmp_path / "data"
    for split, count in (("train", 4), ("val", 1)):
        for label, name in enumerate("ab"):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                noise = Stream(label, split, i).integers(20 * 24 * 3, 256).reshape(20, 24, 3)
                cv2.imwrite(str(root / split / name / f"{i}.png"), noise.astype(np.uint8))
    return from_spec({"format": "imagefolder", "root": str(root)}, None, "test")


@pytest.fixture
def interrupted(data, tmp_path, native, monkeypatch):
    """A store with a run that was stopped after the checkpoint of step 2, without bfloat16."""
    calls, call = [], Views.__call__

    def failing(self, epoch, index):
        calls.append(index)
        if len(calls) > 3 * 8:
            raise RuntimeError("killed")
        return call(self, epoch, index)

    with monkeypatch.context() as patch:
        patch.setattr(Views, "__call__", failing)
        with pytest.raises(RuntimeError, match="killed"):
            run(data, tmp_path)
    return tmp_path / "runs"


def run(data, folder, *overrides, **changes):
    values = merge(override(SMALL, overrides), changes)
    config = stage.resolve("supervised", values, "test", device="cpu")
    execution = Execution(progress=False, device="cpu")
    store = Store(folder / "runs")
    return stage.run("supervised", data, config, seed=0, store=store, execution=execution)


def test_it_names_the_run_and_what_goes_on_with_it(interrupted, data, tmp_path, native, caplog):
    native["native"] = True
    (work,) = (interrupted / "work").iterdir()
    with caplog.at_level(logging.WARNING):
        run(data, tmp_path)
    (said,) = caplog.messages
    assert "\n" not in said
    assert f"interrupted after step 2 ({work})" in said
    assert said.endswith("stop this and give training.precision=32-true")
    # What it says is true.
    caplog.clear()
    steps, fit = [], stage.fit

    def watched(model, batches, *rest):
        return fit(model, lambda first: steps.append(first) or batches(first), *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "fit", watched)
        run(data, tmp_path, "training.precision=32-true")
    assert steps == [2] and not caplog.messages
    assert not list((interrupted / "work").iterdir())


@pytest.mark.parametrize(
    "changes",
    [
        {"training": {"precision": "64-true"}},  # given on purpose
        {"training": {"sgd": {"lr": 0.2}}},  # another recipe
        {"limit": 8, "bn_group_size": 2},
    ],
)
def test_a_run_that_differs_on_purpose_is_none_of_it(
    interrupted, data, tmp_path, native, caplog, changes
):
    native["native"] = True
    with caplog.at_level(logging.WARNING):
        run(data, tmp_path, **changes)
    assert not caplog.messages


def test_nothing_is_said_where_this_run_is_begun_or_the_other_is_at_work(
    interrupted, data, tmp_path, native, caplog
):
    store = Store(interrupted)
    step = stage.step_for("supervised", data.fingerprint, _config(), 0)
    native["native"] = True
    here = stage.step_for("supervised", data.fingerprint, _config(), 0)
    assert step.fingerprint != here.fingerprint
    assert stage.begun_otherwise(store, here, "cpu")
    with store.lock(step.fingerprint):
        assert store.computing(step.fingerprint)
        assert stage.begun_otherwise(store, here, "cpu") is None
    assert not store.computing(step.fingerprint)
    assert stage.begun_otherwise(store, step, "cpu") is None  # goes on with itself


def _config():
    return stage.resolve("supervised", SMALL, "test", device="cpu")


def test_a_run_begun_on_a_gpu_is_named_with_its_applier(data, tmp_path, native, monkeypatch):
    store = Store(tmp_path / "runs")
    there = _config().model_copy(update={"applier": "device"})
    step = stage.step_for("supervised", data.fingerprint, there, 0)
    folder = store.work(step.fingerprint) / "checkpoints"
    folder.mkdir()
    (folder / "checkpoint-00000007-0123456789abcdef.pt").touch()
    here = stage.step_for("supervised", data.fingerprint, _config(), 0)
    said = stage.begun_otherwise(store, here, "cpu")
    assert "after step 7" in said and said.endswith(" give applier=device")
