"""The pretraining stage: settings, refusals, artifacts, and runs that were interrupted."""

import dataclasses
import functools

import cv2
import numpy as np
import pytest
import torch

from whytransfer.backbone import artifact
from whytransfer.core.config import override, to_plain
from whytransfer.core.errors import InputError, TrainingError
from whytransfer.core.processes import Processes
from whytransfer.core.stage import Execution
from whytransfer.core.store import Store
from whytransfer.core.streams import Stream
from whytransfer.data.dataset import from_spec
from whytransfer.pretrain import stage
from whytransfer.pretrain.learner import Pretext
from whytransfer.pretrain.views import Views
from whytransfer.train import capabilities

QUIET = Execution(progress=False)
SMALL = {
    "architecture": {"name": "resnet10", "width": 8, "stem_pool": False},
    "augmentation": {"crop_px": 32},
    "bn_group_size": 4,
    "training": {
        "epochs": None,
        "steps": 5,
        "batch_size": 8,
        "checkpoint_every_steps": 2,
        "log_every_steps": 1,
        "schedule": {"kind": "cosine", "per": "step", "milestones": []},
    },
}
QUEUE = {"num_keys": 16, "num_dims": 8}


@pytest.fixture(scope="module")
def things(tmp_path_factory):
    """An ImageNet folder of two classes with ten noisy images each."""
    root = tmp_path_factory.mktemp("things")
    for split, count in (("train", 10), ("val", 1)):
        for label, name in enumerate(("dark", "light")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                noise = Stream(label, split, i).integers(40 * 48 * 3, 120).reshape(40, 48, 3)
                cv2.imwrite(str(folder / f"{i}.png"), (noise + 130 * label).astype(np.uint8))
    return from_spec({"format": "imagefolder", "root": str(root)}, None, "test")


class _Unlabelled:
    """A dataset whose images have no label, as those of detection data."""

    fingerprint = "f" * 64

    def __init__(self, data):
        self.data = data

    def open(self, split):
        source = self.data.open(split)

        class Source(type(source)):
            def label(self, index):
                return None

        return Source(**vars(source))


def _config(method, **fields):
    extra = QUEUE if method in ("moco_v2", "exemplar_v2") else {}
    return stage.resolve(method, {**SMALL, **extra, **fields}, "test")


def _run(method, data, store, execution=QUIET, seed=0, **fields):
    config = _config(method, **fields)
    return stage.run(method, data, config, seed=seed, store=Store(store), execution=execution)


def test_defaults_stand_where_nothing_is_given():
    config = stage.resolve("moco_v2", {"training": {"sgd": {"lr": 0.3}}}, "test")
    assert config.training.sgd.lr == 0.3
    assert config.training.sgd.weight_decay == 1e-4
    assert config.training.epochs == 200
    supervised = stage.resolve("supervised", {}, "test").training
    assert (supervised.epochs, supervised.sgd.lr) == (90, 0.1)
    assert supervised.schedule.milestones == (30, 60)


def test_a_wrong_name_is_answered_with_the_nearest():
    with pytest.raises(InputError, match="did you mean 'temperature'"):
        stage.resolve("moco_v2", {"temprature": 0.1}, "test")
    with pytest.raises(InputError, match="did you mean 'moco_v2'"):
        stage.resolve("moco2", {}, "test")


def test_settings_of_training_do_not_concern_what_does_not_train():
    assert stage.resolve("random_init", SMALL, "test") == stage.resolve(
        "random_init", {"architecture": SMALL["architecture"]}, "test"
    )
    with pytest.raises(InputError, match="unknown field"):
        stage.resolve("random_init", {"traning": {}}, "test")


def test_random_init_depends_on_architecture_and_seed_alone(tmp_path, things):
    one = _run("random_init", None, tmp_path)
    assert one.path == _run("random_init", things, tmp_path).path
    other = _run("random_init", None, tmp_path, seed=1)
    states = [artifact.load(found.path).state_dict() for found in (one, other)]
    assert not torch.equal(*(state["net.conv1.weight"] for state in states))
    assert one.record.metrics == ()
    assert one.record.inputs == {}
    assert stage.LOG not in one.manifest["files"]


@pytest.mark.parametrize("method", ["moco_v2", "supervised"])
def test_a_run_leaves_backbone_log_and_metrics(tmp_path, things, method):
    found = _run(method, things, tmp_path)
    assert set(found.manifest["files"]) >= {"backbone.safetensors", "backbone.json", stage.LOG}
    rows = found.file(stage.LOG).read_text().splitlines()
    assert len(rows) == 5
    accuracy = {"moco_v2": "keys_found", "supervised": "training_top1"}[method]
    assert 0 <= found.record[accuracy].value <= 100
    assert found.record["loss"].n == 20
    assert found.record.inputs == {"data": things.fingerprint}
    start = artifact.load(_run("random_init", None, tmp_path).path)
    trained = artifact.load(found.path)
    assert not torch.equal(start.net.conv1.weight, trained.net.conv1.weight)
    assert trained.net.bn1.num_batches_tracked == 5
    assert _run(method, things, tmp_path).path == found.path


def test_an_interrupted_run_ends_as_an_undisturbed_one(tmp_path, things, monkeypatch):
    expected = _run("exemplar_v2", things, tmp_path / "whole")
    calls = []

    def failing(self, epoch, index):
        calls.append(index)
        if len(calls) > 30:  # in step 4, after the checkpoint of step 2
            raise RuntimeError("killed")
        return _call(self, epoch, index)

    _call = Views.__call__
    with monkeypatch.context() as patch:
        patch.setattr(Views, "__call__", failing)
        with pytest.raises(RuntimeError, match="killed"):
            _run("exemplar_v2", things, tmp_path / "cut")
    assert list((tmp_path / "cut" / "work").rglob("checkpoint-*.pt"))
    found = _run("exemplar_v2", things, tmp_path / "cut")
    files = ("backbone.safetensors", stage.LOG)
    assert [found.file(f).read_bytes() for f in files] == [
        expected.file(f).read_bytes() for f in files
    ]
    assert found.record.metrics == expected.record.metrics


def test_workers_change_no_bit(tmp_path, things):
    weights = []
    for workers in (0, 2):
        execution = Execution(workers=workers, progress=False)
        found = _run("supervised", things, tmp_path / str(workers), execution)
        weights.append(found.file("backbone.safetensors").read_bytes())
    assert weights[0] == weights[1]


@pytest.mark.parametrize(
    ("method", "fields", "message"),
    [
        ("moco_v2", {"num_keys": 20}, r"num_keys: a queue of 20 .*set num_keys=16"),
        ("moco_v2", {"bn_group_size": 3}, r"field bn_group_size: a batch of 8 .*groups of 3"),
        ("moco_v2", {"limit": 4}, r"batch_size: is 8, the data have 4 images"),
    ],
)
def test_settings_that_do_not_fit_are_refused_before_anything_is_written(
    tmp_path, things, method, fields, message
):
    with pytest.raises(InputError, match=message):
        _run(method, things, tmp_path, **fields)
    assert not list(tmp_path.iterdir())


def test_a_model_that_memory_can_not_hold_is_one_error(tmp_path, things):
    with pytest.raises(InputError, match=r"field num_keys: .*num_keys=8000000000, num_dims=128"):
        _run("moco_v2", things, tmp_path, num_keys=8_000_000_000, num_dims=128)
    assert not list(tmp_path.glob("pretrain/*"))


@pytest.mark.parametrize(
    ("batch", "group", "num_keys", "processes", "advised"),
    [
        (16, 4, 32, 1, "training.batch_size=8 training.sgd.lr=0.015"),
        (8, 8, 16, 1, "training.batch_size=4 training.sgd.lr=0.015 bn_group_size=4"),
        (12, 4, 24, 1, "training.batch_size=4 training.sgd.lr=0.01"),  # 8 would do but is over half
        (18, 6, 36, 1, "training.batch_size=6 training.sgd.lr=0.01"),
        (20, 10, 20, 1, "training.batch_size=10 training.sgd.lr=0.015"),
        (20, 4, 100, 1, "training.batch_size=4 training.sgd.lr=0.006"),  # 8 does not divide 100
        (16, None, 48, 1, "training.batch_size=8 training.sgd.lr=0.015"),
        (16, 8, 64, 2, "training.batch_size=8 training.sgd.lr=0.015 bn_group_size=4"),
        (2, 2, 4, 1, None),
    ],
)
def test_the_step_that_needs_less_memory_would_not_be_refused(
    things, batch, group, num_keys, processes, advised
):
    given = {**SMALL["training"], "batch_size": batch}
    config = _config("moco_v2", training=given, bn_group_size=group, num_keys=num_keys)
    step = stage.step_for("moco_v2", things.fingerprint, config, 0)
    run = stage.Pretraining(step, config, things, QUIET, Processes(size=processes))
    first, *_, last = run._lighter()
    assert last == "--dry-run, which measures what fits"
    if advised is None:
        assert "batch_size" not in first
        return
    assert first == advised
    again = stage.resolve("moco_v2", override(to_plain(config), first.split()), "test")
    stage.Pretraining(step, again, things, QUIET, Processes(size=processes))


def test_a_step_without_memory_says_so_in_the_words_of_the_command_line(
    tmp_path, things, monkeypatch
):
    def short(*_):
        raise MemoryError

    monkeypatch.setattr(Pretext, "loss", short)
    with pytest.raises(InputError, match=r"give training.batch_size=4 .*; or --dry-run, which"):
        _run("supervised", things, tmp_path)


def test_a_loss_that_is_no_number_names_images_of_the_whole_data(tmp_path, things, monkeypatch):
    """Of a run of 16 of the 20 images, whose numbers are not those of the run."""
    loss, seen = Pretext.loss, []

    def diverging(self, batch, context):
        scalars = loss(self, batch, context)
        seen[:] = batch.indices.tolist()
        return {**scalars, "loss": scalars["loss"] * (float("nan") if context.step == 3 else 1)}

    monkeypatch.setattr(Pretext, "loss", diverging)
    with pytest.raises(TrainingError, match=r"nan at step 3 .*batch of 8 im.*checkpoint-00000002"):
        _run("supervised", things, tmp_path, limit=16)
    (file,) = tmp_path.glob("work/*/batch-3.txt")
    whole = things.open("train")
    named = [line.partition(" ") for line in file.read_text().splitlines()]
    assert [name for _, _, name in named] == [f"({whole.name(int(n))})" for n, _, _ in named]
    assert len(named) == 8 and [int(number) for number, _, _ in named] != seen


@pytest.mark.parametrize(("asked", "device"), [("auto", "cuda (a card)"), ("cpu", "cpu")])
def test_the_record_names_the_device_that_was_used(tmp_path, things, monkeypatch, asked, device):
    monkeypatch.setattr(capabilities, "on_gpu", lambda device: device != "cpu")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a card")
    # Only the answer of the machine is false: the training itself runs on the CPU.
    monkeypatch.setattr(stage, "fit", functools.partial(_fit_on_cpu, stage.fit))
    execution = Execution(progress=False, device=asked)
    found = _run("supervised", things, tmp_path, execution)
    assert found.record.volatile.device == device


def _fit_on_cpu(fit, model, batches, training, run):
    execution = run.execution.model_copy(update={"device": "cpu"})
    return fit(model, batches, training, dataclasses.replace(run, execution=execution))


def test_missing_data_and_labels_are_named_with_a_way_out(tmp_path, things):
    with pytest.raises(InputError, match=r"no data.*give --data"):
        _run("moco_v2", None, tmp_path)
    for method in ("supervised", "exemplar_v2"):
        with pytest.raises(InputError, match=r"no labels.*needs none: moco_v1, moco_v2"):
            _run(method, _Unlabelled(things), tmp_path)
    assert not list(tmp_path.iterdir())


def test_moco_needs_no_labels(tmp_path, things):
    labelled, unlabelled = (
        _run("moco_v2", data, tmp_path).file("backbone.safetensors").read_bytes()
        for data in (things, _Unlabelled(things))
    )
    assert labelled == unlabelled


def test_one_class_is_too_few_to_classify():
    from whytransfer.pretrain.method import Setting
    from whytransfer.pretrain.methods import supervised

    with pytest.raises(InputError, match=r"1 class.*at least 2"):
        supervised.Method.check(_config("supervised"), Setting(20, 1), "pretrain supervised")


def test_somebody_elses_checkpoint_becomes_an_arm(tmp_path):
    made = _run("random_init", None, tmp_path / "ours")
    state = artifact.load(made.path).net.state_dict()
    file = tmp_path / "theirs.pth"
    torch.save(state, file)
    config = stage.resolve("checkpoint", {"architecture": SMALL["architecture"]}, "test")
    found = stage.run_checkpoint(file, config, store=Store(tmp_path / "store"))
    step = stage.step_for_checkpoint(file, config)
    assert found.fingerprint == step.fingerprint
    assert found.record.inputs["checkpoint"] == step.inputs["checkpoint"]
    loaded = artifact.load(found.path).net.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in state.items())
    copy = tmp_path / "copy.pth"
    copy.write_bytes(file.read_bytes())
    assert stage.step_for_checkpoint(copy, config).fingerprint == step.fingerprint
    folder = stage.run_checkpoint(
        made.path, stage.resolve("checkpoint", {}, "test"), store=Store(tmp_path / "store")
    )
    assert artifact.load(folder.path).architecture.width == 8


def test_a_missing_or_broken_checkpoint_is_named(tmp_path):
    config = stage.resolve("checkpoint", {}, "test")
    with pytest.raises(InputError, match="no such file"):
        stage.step_for_checkpoint(tmp_path / "none.pth", config)
    broken = tmp_path / "broken.pth"
    broken.write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"broken\.pth: not readable"):
        stage.run_checkpoint(broken, config, store=Store(tmp_path / "store"))
    assert not (tmp_path / "store").exists()
