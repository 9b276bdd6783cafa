"""What every downstream task must do; a new file in ``transfer/tasks`` is tested as it is."""

import json
import typing

import numpy as np
import pytest
import torch
from tests.transfer import painted

from whytransfer.backbone.build import Architecture, build
from whytransfer.core import plugins
from whytransfer.core.config import Config, to_plain
from whytransfer.core.streams import Stream
from whytransfer.data.dataset import from_spec
from whytransfer.data.predictions import (
    ClassPredictions,
    truth_of,
    write_classifications,
    write_detections,
    write_label_maps,
    write_truth,
)
from whytransfer.data.sample import IGNORED
from whytransfer.data.world import crowds, things
from whytransfer.ops.detections import Detections
from whytransfer.train.learner import Context
from whytransfer.transfer.stage import resolve
from whytransfer.transfer.task import PREDICTIONS, TRUTH, Predicts, Setting, Task

NAMES = plugins.names("task")
SMALL = {
    "detector": {
        "proposals": {
            "sizes_px": [16, 32], "sampled": 16, "candidates_train": 60, "candidates_test": 60,
            "proposals_train": 20, "proposals_test": 20,
        },
        "regions": {"sampled": 8, "pooled": 4},
    },
    "segmenter": {"channels": 8, "auxiliary_channels": 8, "rates": [1, 2]},
    "precise_bn_steps": 1,
    "test_batch_size": 4,
    "augmentation": {"crop_px": 32},
    "resize_px": 36,
    "crop_px": 32,
    "num_draws": 20,
}  # fmt: skip


VIEWS = {
    "detections": {"short_sides_px": [64], "test_short_side_px": 64},
    "segments": {"crop_px": [32, 48]},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """By what a task predicts: a dataset of that kind."""
    root = tmp_path_factory.mktemp("world")
    few = {"num_shared_shapes": 2, "num_new_shapes": 1, "size_px": 64}
    crowds.write(root / "crowds", crowds.Config(num_train=4, num_test=4, layout="coco", **few), 0)
    things.write(
        root / "things", things.Config(num_train=6, num_test=6, size_px=48, num_shapes=6), 0
    )
    painted.write(root / "painted", {"train": 6, "test": 6})
    masks = {"format": "tests.transfer.painted", "root": str(root / "painted")}
    return {
        "detections": from_spec({"format": "coco", "root": str(root / "crowds")}, None, "test"),
        "segments": from_spec(masks, None, "test"),
        "classes": from_spec({**things.DATASET, "root": str(root / "things")}, None, "test"),
    }


def _task(name, data, seed=0):
    module = plugins.find("task", name)
    small = {**SMALL, "views": VIEWS.get(module.Task.PREDICTS)}
    known = {key: value for key, value in small.items() if key in module.Config.model_fields}
    config = resolve(name, {**known, "training": {"batch_size": 4}}, "test")
    backbone = build(Architecture(name="resnet10", width=8, stem_pool=False), Stream(0, "b"))
    dataset = data[module.Task.PREDICTS]
    return module.Task(config, backbone, Setting(dataset.open("train"), dataset.open("test"), seed))


def _train(task, num_steps):
    task.model.train()
    trained = [p for p in task.model.parameters() if p.requires_grad]
    optimiser = torch.optim.SGD(trained, lr=0.01)
    losses = []
    for step, batch in zip(range(num_steps), task.batches(0), strict=False):
        scalars = task.model.loss(batch, Context(step=step, seed=0, gather=lambda x: x))
        optimiser.zero_grad()
        scalars["loss"].backward()
        optimiser.step()
        task.model.after_step()
        losses.append(scalars["loss"].item())
    return losses


def _write(folder, source, quality):
    """Writes predictions for the images of a source: perfect, empty (or all wrong), or mixed."""
    if source.segmentation(0) is not None:
        _write_maps(folder, source, quality)
        return
    if source.objects(0) is None:
        _write_classes(folder, source, quality)
        return
    truth = truth_of(source, masks=True)
    mixed = Stream(0, "mixed").uniform(len(truth)) < 0.5
    shift = np.where(mixed, 6.0, 0.0)[:, None] * (quality == "mixed")
    rows = slice(0, 0) if quality == "empty" else slice(None)
    found = Detections(
        truth.image[rows], truth.label[rows], np.linspace(0.9, 0.1, len(truth))[rows],
        (truth.boxes_xyxy + shift)[rows], truth.masks[rows],
    )  # fmt: skip
    write_truth(folder / TRUTH, truth)
    write_detections(folder / PREDICTIONS, found, truth)


def _write_classes(folder, source, quality):
    count, num_classes = len(source), len(source.classes)
    labels = np.array([source.label(i) for i in range(count)])
    others = np.array([[c for c in range(num_classes) if c != label] for label in labels])
    wrong = {"perfect": [], "empty": range(count), "mixed": range(0, count, 2)}[quality]
    topk = np.column_stack([labels, others])[:, :5]
    topk[list(wrong)] = others[list(wrong), :5]
    names = tuple(source.name(i) for i in range(count))
    predictions = ClassPredictions(names, source.classes, labels, topk)
    write_classifications(folder / PREDICTIONS, predictions)


def _write_maps(folder, source, quality):
    """Of a mixed prediction the upper half is right; of an empty one no pixel has a class."""
    true = [source.segmentation(i).labels for i in range(len(source))]
    right = {"perfect": 1.0, "empty": 0.0, "mixed": 0.5}[quality]
    found = [labels.copy() for labels in true]
    for labels in found:
        labels[round(right * len(labels)) :] = IGNORED
    names = [source.name(i) for i in range(len(source))]
    write_label_maps(folder / TRUTH, names, source.classes, true)
    write_label_maps(folder / PREDICTIONS, names, source.classes, found)


def _scores(task, folder):
    """All that is defined: no object of the data is large, so COCO's APl is not."""
    scores = {m.name: m.value for m in type(task).score(folder, task.config)}
    return {name: value for name, value in scores.items() if value is not None}


@pytest.mark.parametrize("name", NAMES)
def test_is_described_and_configured(name):
    module = plugins.find("task", name)
    assert plugins.describe("task", name).endswith(".")
    assert issubclass(module.Config, Config)
    assert issubclass(module.Task, Task)
    assert module.Task.PREDICTS in typing.get_args(Predicts)
    assert resolve(name, to_plain(module.Config()), "test") == module.Config()


@pytest.mark.parametrize("name", NAMES)
def test_perfect_predictions_score_best_and_empty_ones_worst(name, data, tmp_path):
    task = _task(name, data)
    scores = {}
    for quality in ("perfect", "mixed", "empty"):
        (tmp_path / quality).mkdir()
        _write(tmp_path / quality, task.setting.test, quality)
        scores[quality] = _scores(task, tmp_path / quality)
    headline = next(iter(scores["perfect"]))
    assert scores["perfect"][headline] == pytest.approx(100.0)
    assert scores["empty"][headline] == 0.0
    assert 0.0 < scores["mixed"][headline] < 100.0
    assert all(value == pytest.approx(100.0) for value in scores["perfect"].values())
    assert all(value == 0.0 for value in scores["empty"].values())


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_predictions_does_not_matter(name, data, tmp_path):
    task = _task(name, data)
    _write(tmp_path, task.setting.test, "mixed")
    before = _scores(task, tmp_path)
    content = json.loads((tmp_path / PREDICTIONS).read_text())
    order = Stream(3, "order").permutation(len(content["rows"]))
    assert order.tolist() != sorted(order.tolist())
    content["rows"] = [content["rows"][i] for i in order]
    (tmp_path / PREDICTIONS).write_text(json.dumps(content))
    assert _scores(task, tmp_path) == pytest.approx(before)


@pytest.mark.parametrize("name", NAMES)
def test_a_frozen_backbone_stays_bit_identical_and_a_tuned_one_moves(name, data, tmp_path):
    task = _task(name, data)
    before = {n: v.clone() for n, v in task.model.backbone.state_dict().items()}
    _train(task, 2)
    task.finish()
    task.predict(tmp_path)
    after = task.model.backbone.state_dict()
    same = [torch.equal(before[n], after[n]) for n in before]
    assert not all(same) if task.FINE_TUNES else all(same)


@pytest.mark.parametrize("name", NAMES)
def test_training_is_a_function_of_the_seed(name, data):
    first, again, other = (_train(_task(name, data, seed), 2) for seed in (0, 0, 1))
    assert first == again
    assert first != other
    assert np.isfinite(first).all()


@pytest.mark.parametrize("name", NAMES)
def test_every_trainable_parameter_gets_a_gradient(name, data):
    task = _task(name, data)
    _train(task, 1)
    without = [n for n, p in task.model.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []
    tuned = {p.requires_grad for p in task.model.backbone.parameters()}
    assert tuned == {task.FINE_TUNES}


@pytest.mark.parametrize("name", NAMES)
def test_what_it_writes_can_be_scored(name, data, tmp_path):
    task = _task(name, data)
    task.predict(tmp_path)
    metrics = type(task).score(tmp_path, task.config)
    assert metrics[0].n == len(task.setting.test)
    assert len({m.name for m in metrics}) == len(metrics)
