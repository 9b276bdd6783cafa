"""The learner around a method: device photometry, the count of unreadable images, its limit."""

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from whytransfer.core.errors import InputError
from whytransfer.core.stage import Execution
from whytransfer.core.store import Store
from whytransfer.core.streams import Stream
from whytransfer.data.augmentation import ViewParameters
from whytransfer.data.dataset import from_spec
from whytransfer.data.device_views import apply_photometry, photometry
from whytransfer.pretrain import stage
from whytransfer.pretrain.learner import Pretext, Tolerance
from whytransfer.pretrain.method import ViewBatch
from whytransfer.pretrain.views import Views
from whytransfer.train.learner import place
from whytransfer.train.loop import Context

NUM_IMAGES, BATCH = 24, 8


class _Method(nn.Module):
    """Keeps what it is given."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.steps = 0

    def loss(self, batch, context):
        self.batch = batch
        return {"loss": self.weight.sum(), "accuracy": self.weight.detach().sum()}

    def after_step(self):
        self.steps += 1


def _context(step):
    return Context(step, 0, lambda tensor: tensor)


def _batch(flags=(False, False)):
    crops = torch.arange(2 * 4 * 4 * 3, dtype=torch.uint8).reshape(2, 4, 4, 3)
    given = photometry([ViewParameters(0, 0, 4, 4, flip=True), ViewParameters(0, 0, 4, 4)])
    return ViewBatch((crops,), None, torch.arange(2), (given,), torch.tensor(flags))


def test_a_method_sees_views_whose_photometry_is_done():
    learner, batch = Pretext(_Method()), _batch()
    scalars = learner.loss(place(batch, torch.device("cpu"), True), _context(0))
    seen = learner.method.batch
    assert set(scalars) == {"loss", "accuracy"}
    assert seen.photometry is None
    assert torch.equal(seen.views[0], apply_photometry(batch.views[0], batch.photometry[0]))
    assert torch.equal(seen.views[0][0], batch.views[0][0].flip(1))


def test_mode_parameters_and_steps_are_the_methods():
    method = _Method()
    learner = Pretext(method)
    learner.eval()
    assert not method.training
    learner.train()
    assert method.training
    learner.after_step()
    assert method.steps == 1
    assert list(learner.parameters()) == list(method.parameters())
    assert set(learner.state_dict()) == {"method.weight"}


def test_unreadable_images_are_counted_by_epoch_and_in_all():
    learner = Pretext(_Method(), Tolerance(0.5, steps_per_epoch=2, batch_size=2))
    counts = []
    for step, flags in enumerate([(1, 0), (0, 1), (0, 0), (1, 0)]):
        scalars = learner.loss(_batch([bool(flag) for flag in flags]), _context(step))
        assert scalars["unreadable"].item() == sum(flags)
        assert scalars["unreadable"].dtype == torch.float32
        counts.append(learner.counts.tolist())
    assert counts == [[0, 1, 1], [0, 2, 2], [1, 0, 2], [1, 1, 3]]
    assert learner.num_unreadable == 3


def test_those_of_all_processes_are_counted():
    learner = Pretext(_Method(), Tolerance(1.0, steps_per_epoch=2, batch_size=4))
    both = Context(0, 0, lambda count: torch.stack([count, count]), world_size=2)
    assert learner.loss(_batch((True, False)), both)["unreadable"].item() == 2


def test_too_many_in_an_epoch_stop_the_run_also_after_a_checkpoint():
    tolerance = Tolerance(0.25, steps_per_epoch=2, batch_size=2)
    learner = Pretext(_Method(), tolerance)
    learner.loss(_batch((True, False)), _context(4))
    again = Pretext(_Method(), tolerance)
    again.load_state_dict(learner.state_dict())
    for one in (learner, again):
        with pytest.raises(InputError, match=r"epoch 2: 2 of its 4 images .* max_unreadable"):
            one.loss(_batch((False, True)), _context(5))


@pytest.fixture
def folder(tmp_path):
    """An ImageNet folder of two classes, in which two of 24 images are cut short."""
    for split, count in (("train", NUM_IMAGES // 2), ("val", 1)):
        for label, name in enumerate(("dark", "light")):
            place_ = tmp_path / "data" / split / name
            place_.mkdir(parents=True)
            for i in range(count):
                noise = Stream(label, split, i).integers(40 * 48 * 3, 120).reshape(40, 48, 3)
                path = place_ / f"{i:02d}.jpg"
                cv2.imwrite(str(path), (noise + 130 * label).astype(np.uint8))
                if (split, i) == ("train", 5):
                    path.write_bytes(path.read_bytes()[:60])
    return from_spec({"format": "imagefolder", "root": str(tmp_path / "data")}, None, "test")


TRAINING = {
    "epochs": None,
    "steps": 7,
    "batch_size": BATCH,
    "checkpoint_every_steps": 2,
    "log_every_steps": 1,
    "schedule": {"kind": "cosine", "per": "step", "milestones": []},
}


def _run(data, store, **fields):
    values = {
        "architecture": {"name": "resnet10", "width": 8, "stem_pool": False},
        "augmentation": {"crop_px": 32},
        "bn_group_size": 4,
        "training": TRAINING,
        **fields,
    }
    config = stage.resolve("supervised", values, "test")
    execution = Execution(progress=False)
    return stage.run("supervised", data, config, seed=0, store=Store(store), execution=execution)


SKIP = {"unreadable": "skip", "max_unreadable": 0.1}


def test_by_default_the_run_stops_and_names_the_file(folder, tmp_path):
    with pytest.raises(InputError, match=r"(dark|light)/05\.jpg"):
        _run(folder, tmp_path / "runs")


def test_skipped_images_are_counted_in_the_record(folder, tmp_path):
    found = _run(folder, tmp_path / "runs", **SKIP)
    # Two whole epochs of three steps, with two such images each, and a third one's first step.
    assert found.record["unreadable"].value in (4, 5, 6)
    assert found.record["unreadable"].n == 7 * BATCH
    assert found.file(stage.LOG).read_text().count('"unreadable": ') == 7


def test_more_than_the_share_stop_the_run(folder, tmp_path):
    with pytest.raises(InputError, match="max_unreadable"):
        _run(folder, tmp_path / "runs", unreadable="skip", max_unreadable=0.05)


def test_an_interrupted_run_counts_as_an_undisturbed_one(folder, tmp_path, monkeypatch):
    expected = _run(folder, tmp_path / "whole", applier="device", **SKIP)
    calls, call = [], Views.__call__

    def failing(self, epoch, index):
        calls.append(index)
        if len(calls) > 5 * BATCH + 3:
            raise RuntimeError("killed")
        return call(self, epoch, index)

    with monkeypatch.context() as patch:
        patch.setattr(Views, "__call__", failing)
        with pytest.raises(RuntimeError, match="killed"):
            _run(folder, tmp_path / "cut", applier="device", **SKIP)
    found = _run(folder, tmp_path / "cut", applier="device", **SKIP)
    files = ("backbone.safetensors", stage.LOG)
    assert [found.file(f).read_bytes() for f in files] == [
        expected.file(f).read_bytes() for f in files
    ]
    assert found.record.metrics == expected.record.metrics


def test_the_applier_is_settled_in_the_recipe(monkeypatch):
    assert stage.resolve("moco_v2", {}, "test", device="cpu").applier == "cpu"
    assert stage.resolve("moco_v2", {"applier": "device"}, "test").applier == "device"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (9, 0))
    assert stage.resolve("moco_v2", {}, "test", device="auto").applier == "device"
    assert stage.resolve("moco_v2", {}, "test", device="cpu").applier == "cpu"
    assert stage.resolve("moco_v2", {"applier": "cpu"}, "test").applier == "cpu"


def test_both_appliers_train_to_nearly_the_same_loss(folder, tmp_path):
    exact = {"training": {**TRAINING, "precision": "64-true"}}  # bfloat16 alone moves it by 0.1
    rows = [
        _run(folder, tmp_path / applier, applier=applier, **exact, **SKIP).record["loss"].value
        for applier in ("cpu", "device")
    ]
    assert rows[0] != rows[1]
    assert rows[0] == pytest.approx(rows[1], rel=0.1)
