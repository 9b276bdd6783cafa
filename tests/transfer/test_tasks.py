"""Both tasks on a small world: learning, files, intervals, resuming, and what they refuse."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from whytransfer.backbone import artifact as backbones
from whytransfer.backbone.build import Architecture, build
from whytransfer.core.config import Config, assumptions, to_plain
from whytransfer.core.errors import InputError
from whytransfer.core.stage import Execution, Step, materialise
from whytransfer.core.store import Store
from whytransfer.core.streams import Stream
from whytransfer.data.dataset import from_spec
from whytransfer.data.predictions import ClassPredictions, read_detections, read_truth
from whytransfer.data.sample import Objects
from whytransfer.data.world import crowds, things
from whytransfer.ops.detections import Detections
from whytransfer.train import capabilities
from whytransfer.train.learner import Context
from whytransfer.transfer import stage
from whytransfer.transfer.measure import metrics as metrics_of
from whytransfer.transfer.measure import shares
from whytransfer.transfer.parts import readout
from whytransfer.transfer.parts.detection_score import measure_detections
from whytransfer.transfer.stage import resolve, run, step_for
from whytransfer.transfer.task import Setting
from whytransfer.transfer.tasks import linear_readout, voc07_detection

DETECTION = {
    "training": {
        "steps": 6, "batch_size": 4, "sgd": {"lr": 0.02}, "log_every_steps": 2,
        "schedule": {"milestones": [4], "warmup_steps": 2},
    },
    "detector": {
        "proposals": {
            "sizes_px": [16, 32], "sampled": 32, "candidates_train": 100, "candidates_test": 100,
            "proposals_train": 30, "proposals_test": 30,
        },
        "regions": {"sampled": 16, "pooled": 4},
    },
    "views": {"short_sides_px": [48, 64], "test_short_side_px": 64},
    "precise_bn_steps": 2,
    "test_batch_size": 4,
    "num_draws": 50,
}  # fmt: skip
READOUT = {
    "training": {
        "epochs": 4, "batch_size": 8, "sgd": {"lr": 1.0}, "schedule": {"milestones": [3]},
    },
    "augmentation": {"crop_px": 32},
    "resize_px": 36,
    "crop_px": 32,
    "num_draws": 50,
}  # fmt: skip
SETTINGS = {"voc07_detection": DETECTION, "linear_readout": READOUT}
QUIET = Execution(device="cpu", progress=False)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A detection set and a classification set, as datasets."""
    root = tmp_path_factory.mktemp("world")
    shapes = crowds.Config(
        num_train=8, num_test=6, size_px=64, num_shared_shapes=2, num_new_shapes=1
    )
    crowds.write(root / "crowds", shapes, 0)
    things.write(
        root / "things", things.Config(num_train=24, num_test=12, size_px=48, num_shapes=3), 0
    )
    specs = {
        "voc07_detection": {**crowds.DATASET, "root": str(root / "crowds")},
        "linear_readout": {**things.DATASET, "root": str(root / "things")},
    }
    return {task: from_spec(spec, None, "test") for task, spec in specs.items()}


def network(seed=0):
    return build(Architecture(name="resnet10", width=8, stem_pool=False), Stream(seed, "b"))


def backbone_in(store):
    def compute(folder, _work):
        backbones.save(folder, network(), {})
        return ()

    return materialise(store, Step("pretrain", "random_init", Config(), seed=0), compute)


def transfer(task, world, root, execution=QUIET, **changes):
    store = Store(root)
    config = resolve(task, {**SETTINGS[task], **changes}, "test")
    backbone = backbone_in(store)
    return run(task, backbone, world[task], config, seed=0, store=store, execution=execution)


@pytest.fixture(scope="module")
def finished(world, tmp_path_factory):
    """Both tasks, run through the stage."""
    root = tmp_path_factory.mktemp("store")
    return {task: transfer(task, world, root) for task in SETTINGS}


def test_the_artifact_holds_what_scoring_and_diagnosis_need(finished):
    files = set(finished["voc07_detection"].manifest["files"])
    wanted = {"predictions.json", "truth.json", "training.jsonl", "record.json"}
    assert files == wanted | {"backbone/backbone.json", "backbone/backbone.safetensors"}
    readout = set(finished["linear_readout"].manifest["files"])
    assert readout == {"predictions.json", "choices.json", "training.jsonl", "record.json"}


@pytest.mark.parametrize("task", SETTINGS)
def test_metrics_are_a_function_of_the_files(finished, task):
    artifact = finished[task]
    kind = {"voc07_detection": voc07_detection, "linear_readout": linear_readout}[task]
    config = resolve(task, SETTINGS[task], "test")
    assert kind.Task.score(artifact.path, config) == artifact.record.metrics


def test_metric_names_and_intervals(finished):
    metrics = finished["voc07_detection"].record.metrics
    families = ["AP", "AP50", "AP75", "coco_AP", "coco_AP50", "coco_AP75"]
    classes = json.loads((finished["voc07_detection"].path / "truth.json").read_text())["classes"]
    assert [m.name for m in metrics] == families + [f"AP[{name}]" for name in classes]
    assert {m.n for m in metrics} == {6}
    top1, top5, *grid = finished["linear_readout"].record.metrics
    assert (top1.name, top5.name, top1.n, top1.unit) == ("top1", "top5", 12, "%")
    assert [m.name for m in grid] == ["grid_top1", "grid_top5"]
    assert top5.value == 100.0  # of three classes
    assert top1.low <= top1.value <= top1.high
    assert top1.interval == "images"


def test_the_fine_tuned_backbone_is_a_backbone_and_has_moved(finished):
    tuned = backbones.load(finished["voc07_detection"].path / "backbone")
    start = network().net.state_dict()
    moved = [name for name, v in tuned.net.state_dict().items() if not torch.equal(v, start[name])]
    assert "conv1.weight" in moved
    assert "layer4.0.conv1.weight" in moved
    assert "layer4.0.bn1.running_mean" in moved


def test_the_same_again_and_with_workers_is_the_same(world, finished, tmp_path):
    for task, workers in (("voc07_detection", 1), ("linear_readout", 0)):
        again = transfer(
            task, world, tmp_path / task, QUIET.model_copy(update={"workers": workers})
        )
        assert again.fingerprint == finished[task].fingerprint
        for name, checksum in finished[task].manifest["files"].items():
            if name != "record.json":
                assert again.manifest["files"][name] == checksum, name


def test_an_interrupted_detection_goes_on_to_the_same_bits(world, finished, tmp_path, monkeypatch):
    """Killed while it predicts: all steps are in the checkpoint, the end is made again."""

    def killed(self, folder):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(voc07_detection.Task, "predict", killed)
        with pytest.raises(KeyboardInterrupt):
            transfer("voc07_detection", world, tmp_path)
    again = transfer("voc07_detection", world, tmp_path)
    files = again.manifest["files"]
    for name in ("predictions.json", "training.jsonl", "backbone/backbone.safetensors"):
        assert files[name] == finished["voc07_detection"].manifest["files"][name]


def test_the_batches_of_a_step_do_not_depend_on_where_a_run_began(world):
    data = world["voc07_detection"]
    config = resolve("voc07_detection", DETECTION, "test")
    setting = Setting(data.open("train"), data.open("test"), seed=3)
    task = voc07_detection.Task(config, network(), setting)
    whole = list(task.batches(0))
    rest = list(task.batches(4))
    assert len(whole) == 6
    assert [b.indices for b in whole[4:]] == [b.indices for b in rest]
    assert torch.equal(whole[5].images, rest[1].images)


@pytest.mark.parametrize("cached", [0, 2])
def test_readout_learns_its_training_images(world, cached):
    data = world["linear_readout"]
    changes = {
        "training": {"epochs": 40, "batch_size": 12, "schedule": {"milestones": [30]}},
        "augmentation": {"crop_px": 32, "crop_scale": [0.8, 1.0]},
        "cached_views": cached,
    }
    config = resolve("linear_readout", {**READOUT, **changes}, "test")
    task = linear_readout.Task(config, network(), Setting(data.open("train"), data.open("test")))
    linear = task.model.head("layer4").linear
    optimiser = torch.optim.SGD(linear.parameters(), lr=0.5, momentum=0.9)
    rows = []
    for batch in task.batches(0):
        scalars = task.model.loss(batch, Context(step=0, seed=0, gather=lambda x: x))
        optimiser.zero_grad()
        scalars["loss"].backward()
        optimiser.step()
        rows.append([scalars["loss"].item(), scalars["accuracy"].item()])
    assert len(rows) == 80
    assert rows[0][0] == pytest.approx(np.log(3), rel=0.02)
    loss, right = np.mean(rows[-8:], axis=0)
    assert loss < 0.95
    assert right > 0.55


def test_cached_views_are_the_views_of_the_first_epochs(world):
    data = world["linear_readout"]
    setting = Setting(data.open("train"), data.open("test"))
    tasks = [
        linear_readout.Task(
            resolve("linear_readout", {**READOUT, "cached_views": cached}, "test"),
            network(), setting,
        )
        for cached in (0, 2)
    ]  # fmt: skip
    plain, cached = (list(task.batches(0)) for task in tasks)
    for step in range(6):  # two epochs of three steps
        assert torch.equal(plain[step].labels, cached[step].labels)
        assert torch.equal(plain[step].held_out, cached[step].held_out)
        features = tasks[0].model.features(plain[step].inputs)
        torch.testing.assert_close(features, cached[step].inputs, rtol=1e-4, atol=1e-5)


def test_readout_notices_a_backbone_that_moved(world):
    data = world["linear_readout"]
    setting = Setting(data.open("train"), data.open("test"))
    task = linear_readout.Task(resolve("linear_readout", READOUT, "test"), network(), setting)
    task.model.train()
    task.model.features(torch.zeros(8, 32, 32, 3, dtype=torch.uint8))
    task.finish()
    task.model.backbone.net.bn1.running_mean.add_(1e-6)
    with pytest.raises(RuntimeError, match=r"bn1\.running_mean has changed"):
        task.finish()


def test_limit_takes_fewer_images_and_another_fingerprint(world, tmp_path):
    artifact = transfer("linear_readout", world, tmp_path, limit=8)
    assert artifact.record.metrics[0].n == 8
    full = step_for("linear_readout", "b", "d", resolve("linear_readout", READOUT, "t"), 0)
    few = resolve("linear_readout", {**READOUT, "limit": 8}, "t")
    assert step_for("linear_readout", "b", "d", few, 0).fingerprint != full.fingerprint


@pytest.mark.parametrize(("asked", "device"), [("auto", "cuda (a card)"), ("cpu", "cpu")])
def test_the_record_names_the_device_that_was_used(world, tmp_path, monkeypatch, asked, device):
    monkeypatch.setattr(capabilities, "on_gpu", lambda device: device != "cpu")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a card")
    execution = Execution(progress=False, device=asked)
    found = transfer("linear_readout", world, tmp_path, execution)
    assert found.record.volatile.device == device


def test_a_step_without_memory_names_a_batch_that_would_not_be_refused(
    world, tmp_path, monkeypatch
):
    def short(*_):
        raise MemoryError

    monkeypatch.setattr(readout.Readouts, "loss", short)
    with pytest.raises(InputError, match=r"give training.batch_size=4 training.sgd.lr=0.5"):
        transfer("linear_readout", world, tmp_path)
    odd = {"aspect_group": 3, "training": {"batch_size": 9, "schedule": {"milestones": [4]}}}
    config = resolve("voc07_detection", {**DETECTION, **odd}, "test")
    assert stage._lighter(config) == ["training.batch_size=3 training.sgd.lr=0.00666667"]


def test_defaults_are_the_papers_and_assumptions_are_marked():
    detection = voc07_detection.Config()
    training = detection.training
    assert (training.steps, training.batch_size, training.sgd.lr) == (9000, 16, 0.02)
    assert training.schedule.milestones == (6000, 8000)
    assert (training.sgd.weight_decay, training.sgd.norm_weight_decay) == (1e-4, 0.0)
    assert detection.precise_bn_steps == 200
    assert [a.field for a in assumptions(detection)] == ["training.schedule.warmup_steps"]
    readout = linear_readout.Config()
    assert (readout.training.epochs, readout.training.batch_size) == (100, 256)
    assert (readout.training.sgd.lr, readout.training.sgd.weight_decay) == (30.0, 0.0)
    assert readout.training.schedule.milestones == (60, 80)
    assert readout.augmentation.jitter_p == 0
    for task, config in (("voc07_detection", detection), ("linear_readout", readout)):
        assert resolve(task, {}, "test") == config
        assert resolve(task, to_plain(config), "test") == config


def test_partial_overrides_keep_the_other_defaults():
    config = resolve("voc07_detection", {"training": {"sgd": {"lr": 0.1}}}, "test")
    assert config.training.sgd.norm_weight_decay == 0.0
    assert config.training.steps == 9000


@pytest.mark.parametrize(
    ("task", "changes", "message"),
    [
        ("voc07_detection", {"training": {"batch_size": 64}}, "64 is more than the 8 training"),
        ("linear_readout", {"training": {"batch_size": 64}}, "64 is more than the 24 training"),
    ],
)
def test_a_batch_larger_than_the_data_is_refused(world, task, changes, message):
    data = world[task]
    kind = {"voc07_detection": voc07_detection, "linear_readout": linear_readout}[task]
    config = resolve(task, changes, "test")
    with pytest.raises(InputError, match=message):
        kind.Task(config, network(), Setting(data.open("train"), data.open("test")))


def test_groups_that_do_not_fill_a_batch_are_refused():
    for changes in (
        {"training": {"batch_size": 15}},
        {"training": {"batch_size": 16}, "detector": {"bn_group_size": 3}},
    ):
        with pytest.raises(InputError, match=r"is not a multiple of .* set .* to null"):
            resolve("voc07_detection", changes, "mine.yaml")


def test_unknown_fields_are_named_with_the_nearest(world):
    with pytest.raises(InputError, match="did you mean 'sampled'"):
        resolve("voc07_detection", {"detector": {"regions": {"sample": 3}}}, "mine.yaml")
    with pytest.raises(InputError, match="did you mean 'voc07_detection'"):
        resolve("voc_detection", {}, "mine.yaml")


NONE = np.zeros(0, dtype=bool)


class NoBoxes:
    """A training split whose images show nothing."""

    classes = ("a",)

    def __len__(self):
        return 5

    def __init__(self, objects):
        self._objects = objects

    def objects(self, index):
        return self._objects

    def path(self, index):
        return Path(f"folder/{index}.jpg")


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        (
            Objects(np.zeros((0, 4)), NONE.astype(int), NONE, NONE, NONE),
            "no box in any of its 5 images",
        ),
        (None, "folder: the images have no boxes.*voc or coco"),
    ],
)
def test_training_images_without_a_box_are_refused(objects, message):
    images = NoBoxes(objects)
    with pytest.raises(InputError, match=message):
        voc07_detection.Task(voc07_detection.Config(), network(), Setting(images, images))


def test_images_without_labels_are_refused(world):
    boxes = world["voc07_detection"].open("train")
    with pytest.raises(InputError, match="the image has no label"):
        linear_readout.Task(linear_readout.Config(), network(), Setting(boxes, boxes))


def test_empty_images_are_left_out_by_default(world):
    data = world["voc07_detection"]
    train = data.open("train")
    empty = train.objects(0)

    class OneEmpty:
        classes = train.classes

        def __len__(self):
            return len(train)

        def size(self, index):
            return train.size(index)

        def objects(self, index):
            found = train.objects(index)
            if index:
                return found
            columns = (column for column in vars(found).values() if column is not None)
            return type(empty)(*(column[:0] for column in columns))

    source = OneEmpty()
    for filtered, count in ((True, 7), (False, 8)):
        config = resolve("voc07_detection", {**DETECTION, "filter_empty": filtered}, "test")
        task = voc07_detection.Task(config, network(), Setting(source, source))
        assert len(task._scenes.kept) == count


def test_truth_as_predictions_scores_100(finished):
    truth = read_truth(finished["voc07_detection"].path / "truth.json")
    perfect = Detections(truth.image, truth.label, np.ones(len(truth)), truth.boxes_xyxy)
    metrics = metrics_of(measure_detections(perfect, truth, "voc07"), 20)
    known = [m for m in metrics if m.value is not None]
    assert [m.value for m in known] == pytest.approx([100.0] * len(known))
    assert all(m.low == pytest.approx(100.0) for m in known)


def test_a_class_without_objects_is_undefined_not_zero(finished):
    path = finished["voc07_detection"].path
    truth = read_truth(path / "truth.json")
    found = read_detections(path / "predictions.json", truth)
    widened = type(truth)(**{**vars(truth), "classes": (*truth.classes, "unicorn")})
    metrics = {m.name: m for m in metrics_of(measure_detections(found, widened, "voc07"), 5)}
    assert metrics["AP[unicorn]"].value is None
    assert metrics["AP[unicorn]"].interval == "none: undefined"
    before = {m.name: m.value for m in finished["voc07_detection"].record.metrics}
    assert metrics["AP"].value == before["AP"]


def test_accuracy_interval_covers_the_binomial_one():
    correct = np.arange(400) % 4 != 0
    (metric,) = metrics_of(shares({"top1": correct}), 1000)
    assert metric.value == 75.0
    half_width = 1.96 * 100 * np.sqrt(0.75 * 0.25 / 400)
    assert metric.low == pytest.approx(75 - half_width, abs=0.8)
    assert metric.high == pytest.approx(75 + half_width, abs=0.8)


def test_guesses_beyond_the_number_of_classes_do_not_exist():
    predictions = ClassPredictions(("a",), ("x", "y"), np.array([1]), np.array([[0, 1]]))
    assert predictions.correct(1).tolist() == [False]
    assert predictions.correct(5).tolist() == [True]
