"""The three recipes of VOC, value by value, and the learning rate of every step of each."""

import pytest
import torch
from tests.oracles.schedules import detectron2_warmup_multistep

from whytransfer.backbone.build import Architecture, build
from whytransfer.core.config import assumptions, to_plain
from whytransfer.core.errors import InputError
from whytransfer.core.streams import Stream
from whytransfer.train.optimiser import sgd
from whytransfer.transfer.parts.c4 import C4Config, C4Detector
from whytransfer.transfer.stage import resolve
from whytransfer.transfer.tasks import coco_detection, voc07_detection

LENGTHS = {
    ("voc07_detection", "paper"): (9000, (6000, 8000), 100),
    ("voc07_detection", "moco_24k"): (24000, (18000, 22000), 100),
    ("voc07_detection", "detectron2"): (18000, (12000, 16000), 100),
    ("coco_detection", "2x"): (180000, (120000, 160000), 1000),
    ("coco_detection", "1x"): (90000, (60000, 80000), 1000),
}
"""Task and recipe → steps, where the rate falls, warm-up (protocols of the references)."""


@pytest.mark.parametrize(("task", "recipe"), LENGTHS)
def test_the_learning_rate_of_every_step_is_the_oracles(task, recipe):
    steps, milestones, warmup = LENGTHS[task, recipe]
    training = resolve(task, {"recipe": recipe}, "test").training
    assert training.steps == steps == training.total_steps(313)
    for step in range(steps):
        found = training.sgd.lr * training.schedule.factor(step, steps, 313)
        expected = detectron2_warmup_multistep(0.02, step, milestones, warmup, 1 / 1000)
        assert found == pytest.approx(expected, rel=1e-12), step


def test_warm_up_starts_at_a_thousandth_and_steps_fall_at_their_milestone():
    schedule = resolve("voc07_detection", {}, "test").training.schedule
    rates = [0.02 * schedule.factor(step, 9000, 313) for step in (0, 50, 99, 100, 5999, 6000, 8000)]
    expected = [2e-5, 0.01001, 0.0198002, 0.02, 0.02, 0.002, 0.0002]
    assert rates == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("recipe", voc07_detection.RECIPES)
def test_what_all_recipes_of_voc_share(recipe):
    config = resolve("voc07_detection", {"recipe": recipe}, "test")
    training, views = config.training, config.views
    assert config.recipe == recipe
    assert (training.batch_size, training.sgd.lr, training.sgd.momentum) == (16, 0.02, 0.9)
    assert not training.sgd.nesterov
    assert (training.sgd.weight_decay, training.sgd.norm_weight_decay) == (1e-4, 0.0)
    assert (training.schedule.gamma, training.schedule.warmup_factor) == (0.1, 1e-3)
    assert training.precision == "32-true"
    assert views.short_sides_px == tuple(range(480, 801, 32))
    assert (views.max_side_px, views.test_short_side_px, views.flip_p) == (1333, 800, 0.5)
    assert (config.filter_empty, config.aspect_group, config.keep_difficult) == (True, 2, True)
    assert config.voc_rule == "voc07"
    regions, proposals = config.detector.regions, config.detector.proposals
    assert proposals == voc07_detection.Config().detector.proposals
    assert (regions.aligned, regions.sampling_ratio, regions.pooled) == (True, 0, 14)


def test_what_sets_the_recipes_apart():
    paper, moco, stock = (
        resolve("voc07_detection", {"recipe": name}, "test") for name in voc07_detection.RECIPES
    )
    assert paper == voc07_detection.Config()
    assert paper.detector == moco.detector
    assert (moco.detector.frozen_levels, moco.detector.frozen_norms) == (0, False)
    assert moco.detector.regions.extra_norm
    assert (moco.precise_bn_steps, stock.precise_bn_steps) == (200, 0)
    assert (stock.detector.frozen_levels, stock.detector.frozen_norms) == (2, True)
    assert not stock.detector.regions.extra_norm


def test_what_is_given_beside_a_recipe_wins_and_a_record_reads_back():
    changes = {"recipe": "moco_24k", "training": {"steps": 7}}
    config = resolve("voc07_detection", changes, "test")
    assert (config.training.steps, config.training.schedule.milestones) == (7, (18000, 22000))
    assert resolve("voc07_detection", to_plain(config), "record") == config


def test_an_unknown_recipe_is_named_with_the_nearest():
    with pytest.raises(InputError, match=r"field recipe: found 'moco24k'; .*did you mean 'moco_24"):
        resolve("voc07_detection", {"recipe": "moco24k"}, "mine.yaml")
    with pytest.raises(InputError, match="recipe: unknown field"):
        resolve("linear_readout", {"recipe": "paper"}, "mine.yaml")


def test_what_nobody_states_is_assumed():
    assert [a.field for a in assumptions(voc07_detection.Config())] == [
        "training.schedule.warmup_steps"
    ]
    assert {a.field for a in assumptions(coco_detection.Config())} == {
        "recipe",
        "training.steps",
        "training.schedule.milestones",
        "training.schedule.warmup_steps",
    }


def test_norms_do_not_decay_and_biases_do_as_weights():
    backbone = build(Architecture(name="resnet10", width=8), Stream(0, "b"))
    model = C4Detector(backbone, 3, C4Config())
    config = voc07_detection.Config().training.sgd
    decay = {
        id(parameter): group["weight_decay"]
        for group in sgd(model, config).param_groups
        for parameter in group["params"]
    }
    norms = 0
    for module in model.modules():
        is_norm = isinstance(module, torch.nn.BatchNorm2d)
        for parameter in module.parameters(recurse=False):
            assert decay[id(parameter)] == (0.0 if is_norm else 1e-4)
            norms += is_norm
    assert norms == 2 * 13
    assert len(decay) == len(list(model.parameters()))
    biases = (model.proposals.conv.bias, model.predictor.classes.bias)
    assert [decay[id(bias)] for bias in biases] == [1e-4, 1e-4]
