"""What every pretraining method must do; a new file in ``pretrain/methods`` is tested as it is."""

import ast
from pathlib import Path

import numpy as np
import pytest
import torch

from whytransfer.backbone.build import Architecture, build
from whytransfer.core import plugins
from whytransfer.core.errors import InputError
from whytransfer.core.streams import Stream
from whytransfer.pretrain.method import Method, Setting, TrainedConfig, ViewBatch
from whytransfer.pretrain.parts import discrimination
from whytransfer.pretrain.stage import resolve
from whytransfer.train.loop import Context
from whytransfer.train.norm import convert_groups

NAMES = plugins.names("method")
TRAINED = [name for name in NAMES if plugins.find("method", name).Method.TRAINS]
NUM_IMAGES, NUM_CLASSES, BATCH, CROP_PX = 64, 2, 8, 32
SMALL = {"num_keys": 16, "num_dims": 8, "momentum": 0.9}


def _method(name, seed=0):
    module = plugins.find("method", name)
    fields = {key: value for key, value in SMALL.items() if key in module.Config.model_fields}
    architecture = {"name": "resnet10", "width": 8, "stem_pool": False}
    config = resolve(name, {**fields, "architecture": architecture}, "test")
    backbone = build(Architecture(**architecture), Stream(seed, "init/backbone"))
    if isinstance(config, TrainedConfig):
        convert_groups(backbone, BATCH // 2)
    return module.Method(config, backbone, Setting(NUM_IMAGES, NUM_CLASSES, seed))


def _batch(method, step):
    """The step's images out of 64: each of its own colour, in two classes, light and dark.

    The queue never holds a key of an image that is asked about, so each can be told from it.
    """
    indices = (torch.arange(BATCH) + BATCH * step) % NUM_IMAGES
    labels = indices % NUM_CLASSES
    colours = Stream(1, "colours").uniform(NUM_IMAGES * 3, 0, 110).reshape(NUM_IMAGES, 1, 1, 3)
    colours = colours[indices] + 120 * labels.numpy()[:, None, None, None]
    views = []
    for view in range(method.NUM_VIEWS):
        noise = Stream(1, "noise", step, view).uniform(BATCH * CROP_PX * CROP_PX * 3, 0, 20)
        pixels = noise.reshape(BATCH, CROP_PX, CROP_PX, 3) + colours
        views.append(torch.from_numpy(pixels.astype(np.uint8)))
    return ViewBatch(tuple(views), labels, indices)


def _train(method, num_steps, first_step=0, lr=0.02):
    """The loss of each step."""
    return [scalars["loss"] for scalars in _scalars(method, num_steps, first_step, lr)]


def _scalars(method, num_steps, first_step=0, lr=0.02):
    trained = [p for p in method.parameters() if p.requires_grad]
    optimiser = torch.optim.SGD(trained, lr=lr)
    values = []
    for step in range(first_step, first_step + num_steps):
        scalars = method.loss(_batch(method, step), Context(step=step, seed=0, gather=lambda x: x))
        optimiser.zero_grad()
        scalars["loss"].backward()
        optimiser.step()
        method.after_step()
        values.append({key: value.item() for key, value in scalars.items()})
    return values


@pytest.mark.parametrize("name", NAMES)
def test_is_described_and_holds_its_backbone(name):
    method = _method(name)
    assert isinstance(method, Method)
    assert plugins.describe("method", name).endswith((".", "labels"))
    assert method.backbone in list(method.modules())
    assert name in TRAINED or not method.TRAINS


@pytest.mark.parametrize("name", TRAINED)
def test_loss_is_finite_and_every_trainable_parameter_gets_a_gradient(name):
    method = _method(name)
    scalars = method.loss(_batch(method, 0), Context(step=0, seed=0, gather=lambda x: x))
    assert torch.isfinite(scalars["loss"])
    assert 0 <= scalars["accuracy"].item() <= 1
    assert not scalars["accuracy"].requires_grad
    scalars["loss"].backward()
    trained = {name: p for name, p in method.named_parameters() if p.requires_grad}
    without = [name for name, p in trained.items() if p.grad is None or not p.grad.any()]
    assert not without
    assert any(name.endswith("layer4.0.conv2.weight") for name in trained)


@pytest.mark.parametrize("name", TRAINED)
def test_two_steps_from_one_seed_are_identical(name):
    one, two = _method(name), _method(name)
    assert _train(one, 2) == _train(two, 2)
    for (key, a), b in zip(one.state_dict().items(), two.state_dict().values(), strict=True):
        assert torch.equal(a, b), key


@pytest.mark.parametrize("name", TRAINED)
def test_another_seed_is_another_run(name):
    assert _train(_method(name), 1) != _train(_method(name, seed=1), 1)


@pytest.mark.parametrize("name", TRAINED)
def test_state_round_trips_in_the_middle_of_training(name):
    straight, first, second = _method(name), _method(name), _method(name, seed=7)
    expected = _train(straight, 3)
    assert _train(first, 2) == expected[:2]
    second.load_state_dict({key: value.clone() for key, value in first.state_dict().items()})
    assert _train(second, 1, first_step=2) == expected[2:]


@pytest.mark.parametrize("name", TRAINED)
def test_learning_lowers_the_loss(name):
    # Beside the same number of steps without learning: a queue that fills changes the loss too.
    trained, idle = (_train(_method(name), 32, lr=lr) for lr in (0.02, 0.0))
    assert np.mean(trained[-4:]) < 0.9 * np.mean(idle[-4:])


@pytest.mark.parametrize("name", TRAINED)
def test_a_trained_network_does_its_own_task_better_than_an_untrained_one(name):
    trained, idle = (_scalars(_method(name), 64, lr=lr)[-16:] for lr in (0.05, 0.0))
    for measure in {"accuracy", "batch_keys_found"} & set(trained[0]):
        learnt, chance = (np.mean([step[measure] for step in run]) for run in (trained, idle))
        assert learnt > chance + 0.05, measure


@pytest.mark.parametrize("name", TRAINED)
def test_what_changes_numbers_is_left_to_the_machine_and_settled_in_the_recipe(name):
    automatic = plugins.find("method", name).Config().training
    fields = ("precision", "memory_format", "compile")
    assert [getattr(automatic, field) for field in fields] == ["auto"] * 3
    training = resolve(name, {}, "test", device="cpu").training
    assert "auto" not in [getattr(training, field) for field in fields]


@pytest.mark.parametrize("name", TRAINED)
def test_what_trains_refuses_a_vision_transformer(name):
    with pytest.raises(InputError, match=r"field architecture.*vit_tiny_16.*ResNets.*random_init"):
        resolve(name, {"architecture": {"name": "vit_tiny_16"}}, "test")


@pytest.mark.parametrize("name", [name for name in NAMES if name not in TRAINED])
def test_what_does_not_train_has_no_training_settings(name):
    assert not isinstance(resolve(name, {}, "test"), TrainedConfig)
    assert not _method(name).NEEDS_LABELS


PARTS = sorted(Path(discrimination.__file__).parent.glob("*.py"))
FILES = [Path(plugins.find("method", name).__file__) for name in NAMES]


@pytest.mark.parametrize("path", [*FILES, *PARTS], ids=lambda path: path.stem)
def test_methods_know_neither_devices_nor_processes(path):
    tree = ast.parse(path.read_text())
    imported = {
        name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (getattr(node, "module", None), *(alias.name for alias in node.names))
        if name
    }
    forbidden = ("distributed", "processes", "lightning", "cuda", "launch")
    assert not [name for name in imported if any(word in name for word in forbidden)]
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not used & {"cuda", "distributed", "is_cuda", "all_gather", "all_reduce"}
