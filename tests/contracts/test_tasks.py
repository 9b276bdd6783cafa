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
from whytransfer.core.errors import InputError
from whytransfer.core.streams import Stream
from whytransfer.data.dataset import from_spec
from whytransfer.data.episode_predictions import EpisodePredictions, write_episodes
from whytransfer.data.landmark_files import Landmarks, write_landmarks
from whytransfer.data.predictions import (
    ClassPredictions,
    truth_of,
    write_classifications,
    write_detections,
    write_label_maps,
    write_truth,
)
from whytransfer.data.sample import IGNORED
from whytransfer.data.world import crowds, faces, novelties, things
from whytransfer.ops.detections import Detections
from whytransfer.train.learner import Context
from whytransfer.transfer.parts import episodes
from whytransfer.transfer.parts.stages import BUILT_ON, WITHOUT_STAGES, require_task
from whytransfer.transfer.stage import resolve
from whytransfer.transfer.task import PREDICTIONS, TRUTH, Predicts, Setting, Task

RESNET = Architecture(name="resnet10", width=8, stem_pool=False)
VIT = Architecture(name="vit_tiny_16", width=8)
VIT_SETTINGS = {"mafl_landmarks": {"regressor": {"levels": ["block6", "block12"]}}}
NAMES = plugins.names("task")
TRAINED = [name for name in NAMES if plugins.find("task", name).Task.TRAINS]
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
    "regressor": {"map_px": 16, "virtual_points": 4},
    "test_batch_size": 4,
    "augmentation": {"crop_px": 32},
    "resize_px": 36,
    "crop_px": 32,
    "num_draws": 20,
    "features": {"view": {"kind": "centre", "resize_px": 36, "crop_px": 32}},
    "episodes": {"ways": 3, "queries": 2},
    "num_episodes": 4,
    "neighbours": [2],
}  # fmt: skip


VIEWS = {
    "detections": {"short_sides_px": [64], "test_short_side_px": 64},
    "segments": {"crop_px": [32, 48]},
    "landmarks": {"crop_top_px": 4, "crop_px": 40, "resize_px": 36, "margin_px": 2},
}
MODES = {name: ({},) for name in NAMES} | {"mafl_landmarks": ({}, {"mode": "fine_tuned"})}
"""By task: the settings that change what it does to the backbone."""
UNDEFINED = {"coco_detection": {"coco_APm", "coco_APl", "mask_APm", "mask_APl"}}
"""By task: the metrics that these data can't give a value; in 64 pixels all objects are small."""


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
    kinds = {"num_base": 6, "num_validation": 1, "num_novel": 4, "per_kind": 8, "apart": 2}
    novelties.write(root / "novelties", novelties.Config(**kinds, size_px=48), 0)
    people = {"num_train": 6, "num_val": 1, "num_test": 6, "num_identities": 3}
    pixels = {"width_px": 40, "height_px": 48}
    faces.write(root / "faces", faces.Config(**people, **pixels), 0)
    masks = {"format": "tests.transfer.painted", "root": str(root / "painted")}
    return {
        "detections": from_spec({"format": "coco", "root": str(root / "crowds")}, None, "test"),
        "segments": from_spec(masks, None, "test"),
        "episodes": from_spec({**novelties.DATASET, "root": str(root / "novelties")}, None, "test"),
        "landmarks": from_spec({**faces.DATASET, "root": str(root / "faces")}, None, "test"),
        "classes": from_spec({**things.DATASET, "root": str(root / "things")}, None, "test"),
    }


def _task(name, data, seed=0, architecture=RESNET, **settings):
    module = plugins.find("task", name)
    small = {**SMALL, "views": VIEWS.get(module.Task.PREDICTS)}
    small["training"] = {"batch_size": 4}
    known = {key: value for key, value in small.items() if key in module.Config.model_fields}
    config = resolve(name, {**known, **settings}, "test")
    backbone = build(architecture, Stream(0, "b"))
    dataset = data[module.Task.PREDICTS]
    train, test = dataset.open("train"), dataset.open("test")
    apart = train.kept_apart() if module.Task.PREDICTS == "episodes" else None
    return module.Task(config, backbone, Setting(train, test, seed, kept_apart=apart))


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


def _write(folder, task, quality):
    """Writes predictions for the test images: perfect, empty (or all wrong), or mixed."""
    source = task.setting.test
    if task.PREDICTS == "episodes":
        _write_episodes(folder, task, quality)
        return
    if source.landmarks(0) is not None:
        _write_points(folder, source, quality)
        return
    if source.segmentation(0) is not None:
        _write_maps(folder, source, quality)
        return
    if source.objects(0) is None:
        _write_classes(folder / PREDICTIONS, source, quality)
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


def _write_classes(path, source, quality):
    count, num_classes = len(source), len(source.classes)
    labels = np.array([source.label(i) for i in range(count)])
    others = np.array([[c for c in range(num_classes) if c != label] for label in labels])
    wrong = {"perfect": [], "empty": range(count), "mixed": range(0, count, 2)}[quality]
    topk = np.column_stack([labels, others])[:, :5]
    topk[list(wrong)] = others[list(wrong), :5]
    names = tuple(source.name(i) for i in range(count))
    predictions = ClassPredictions(names, source.classes, labels, topk)
    write_classifications(path, predictions)


def _write_episodes(folder, task, quality):
    """Of a mixed prediction the first query of each class is right; base images as classes."""
    source, apart = task.setting.test, task.setting.kept_apart
    labels = np.array([source.label(i) for i in range(len(source))])
    drawn = episodes.draw(labels, source.classes, task.config.episodes, task.config.num_episodes)
    true = np.broadcast_to(np.arange(drawn.classes.shape[1])[:, None], drawn.queries.shape)
    guesses = np.array(true)
    guesses[..., {"perfect": 2, "mixed": 1, "empty": 0}[quality] :] += 1
    guesses %= drawn.classes.shape[1]
    write_episodes(
        folder / PREDICTIONS,
        EpisodePredictions(
            tuple(source.name(i) for i in range(len(source))), source.classes, labels,
            drawn.numbers, drawn.classes, drawn.queries, drawn.support,
            dict.fromkeys(task.config.episodes.shots, guesses), base="base.json",
        ),
    )  # fmt: skip
    _write_classes(folder / "base.json", apart, quality)


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


def _write_points(folder, source, quality):
    """Every point right, in one corner of the image, or every other image's points there."""
    names = tuple(source.name(i) for i in range(len(source)))
    true = np.array([source.landmarks(i) for i in range(len(source))])
    found = true.copy()
    wrong = {"perfect": [], "empty": range(len(true)), "mixed": range(0, len(true), 2)}[quality]
    found[list(wrong)] = 0.0
    landmarks = tuple("abcde")
    write_landmarks(folder / TRUTH, Landmarks(names, landmarks, true))
    write_landmarks(folder / PREDICTIONS, Landmarks(names, landmarks, found))


def _scores(name, task, folder):
    """Returns all that is defined; what is not must be known to be so, whatever was predicted."""
    scores = {m.name: m.value for m in type(task).score(folder, task.config)}
    undefined = {metric for metric, value in scores.items() if value is None}
    assert undefined == UNDEFINED.get(name, set())
    return {metric: value for metric, value in scores.items() if value is not None}


@pytest.mark.parametrize("name", NAMES)
def test_is_described_and_configured(name):
    module = plugins.find("task", name)
    assert plugins.describe("task", name).endswith(".")
    assert issubclass(module.Config, Config)
    assert issubclass(module.Task, Task)
    assert module.Task.PREDICTS in typing.get_args(Predicts)
    assert (name in TRAINED) == ("training" in module.Config.model_fields)
    assert resolve(name, to_plain(module.Config()), "test") == module.Config()


@pytest.mark.parametrize("name", NAMES)
def test_perfect_predictions_score_best_and_empty_ones_worst(name, data, tmp_path):
    task = _task(name, data)
    scores = {}
    for quality in ("perfect", "mixed", "empty"):
        (tmp_path / quality).mkdir()
        _write(tmp_path / quality, task, quality)
        scores[quality] = _scores(name, task, tmp_path / quality)
    headline = next(iter(scores["perfect"]))
    if task.measure(tmp_path / "mixed", task.config).lower_is_better:
        assert set(scores["perfect"].values()) == {0.0}
        for metric, best in scores["perfect"].items():
            assert best < scores["mixed"][metric] < scores["empty"][metric]
        return
    assert scores["perfect"][headline] == pytest.approx(100.0)
    assert scores["empty"][headline] == 0.0
    assert 0.0 < scores["mixed"][headline] < 100.0
    assert all(value == pytest.approx(100.0) for value in scores["perfect"].values())
    assert all(value == 0.0 for value in scores["empty"].values())


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_predictions_does_not_matter(name, data, tmp_path):
    task = _task(name, data)
    _write(tmp_path, task, "mixed")
    before = _scores(name, task, tmp_path)
    content = json.loads((tmp_path / PREDICTIONS).read_text())
    order = Stream(3, "order").permutation(len(content["rows"]))
    assert order.tolist() != sorted(order.tolist())
    content["rows"] = [content["rows"][i] for i in order]
    (tmp_path / PREDICTIONS).write_text(json.dumps(content))
    assert _scores(name, task, tmp_path) == pytest.approx(before)


@pytest.mark.parametrize("name", NAMES)
def test_a_frozen_backbone_stays_bit_identical_and_a_tuned_one_moves(name, data, tmp_path):
    for number, settings in enumerate(MODES[name]):
        (tmp_path / str(number)).mkdir()
        _is_kept_or_moved(_task(name, data, **settings), tmp_path / str(number))


def _is_kept_or_moved(task, folder):
    before = {n: v.clone() for n, v in task.model.backbone.state_dict().items()}
    if task.TRAINS:
        _train(task, 2)
    task.finish()
    task.predict(folder)
    after = task.model.backbone.state_dict()
    same = [torch.equal(before[n], after[n]) for n in before]
    assert not all(same) if task.fine_tunes(task.config) else all(same)


@pytest.mark.parametrize("name", TRAINED)
def test_training_is_a_function_of_the_seed(name, data):
    first, again, other = (_train(_task(name, data, seed), 2) for seed in (0, 0, 1))
    assert first == again
    assert first != other
    assert np.isfinite(first).all()


@pytest.mark.parametrize("name", TRAINED)
def test_every_trainable_parameter_gets_a_gradient(name, data):
    for settings in MODES[name]:
        task = _task(name, data, **settings)
        _train(task, 1)
        parameters = list(task.model.named_parameters())
        assert [n for n, p in parameters if p.requires_grad and p.grad is None] == []
        tuned = {p.requires_grad for p in task.model.backbone.parameters()}
        assert tuned == {task.fine_tunes(task.config)}


@pytest.mark.parametrize("name", NAMES)
def test_what_it_writes_can_be_scored(name, data, tmp_path):
    task = _task(name, data)
    task.predict(tmp_path)
    metrics = type(task).score(tmp_path, task.config)
    episodic = task.PREDICTS == "episodes"
    assert metrics[0].n == (task.config.num_episodes if episodic else len(task.setting.test))
    assert metrics[0].interval == ("episodes" if episodic else "images")
    assert len({m.name for m in metrics}) == len(metrics)


@pytest.mark.parametrize("name", NAMES)
def test_a_vision_transformer_is_read_or_refused_with_the_tasks_that_read_it(name, data, tmp_path):
    assert (name in WITHOUT_STAGES) != (name in BUILT_ON), "say in parts/stages.py which it is"
    if name in WITHOUT_STAGES:
        require_task(name, VIT)
        task = _task(name, data, architecture=VIT, **VIT_SETTINGS.get(name, {}))
        _is_kept_or_moved(task, tmp_path)
        assert type(task).score(tmp_path, task.config)[0].value is not None
        return
    said = (
        r"a vision transformer, its levels are embed, .*a ResNet with .*layer4.*: linear_readout, "
    )
    for refused in (lambda: _task(name, data, architecture=VIT), lambda: require_task(name, VIT)):
        with pytest.raises(InputError, match=said):
            refused()
