"""Schedules step by step against the reference code's, and the optimiser's groups."""

import pytest
import torch
from tests.oracles import schedules
from torch import nn

from whytransfer.core.config import build, to_plain
from whytransfer.core.errors import InputError
from whytransfer.train.config import Schedule, Sgd, Training
from whytransfer.train.optimiser import set_lr, sgd


def test_cosine_per_epoch_is_mocos():
    schedule = Schedule(kind="cosine", per="epoch")
    for step in range(200 * 7):
        factor = schedule.factor(step, total_steps=1400, steps_per_epoch=7)
        assert 0.03 * factor == pytest.approx(
            schedules.moco_cosine(0.03, step // 7, 200), rel=1e-15
        )


def test_cosine_per_step_moves_at_every_step_and_ends_near_zero():
    schedule = Schedule(kind="cosine")
    factors = [schedule.factor(step, total_steps=50, steps_per_epoch=7) for step in range(50)]
    assert factors == [schedules.moco_cosine(1.0, step, 50) for step in range(50)]
    assert factors[0] == 1 and factors[25] == pytest.approx(0.5) and 0 < factors[-1] < 0.002


def test_multistep_per_epoch_is_mocos():
    schedule = Schedule(kind="multistep", per="epoch", milestones=(120, 160))
    for step in range(200 * 3):
        factor = schedule.factor(step, total_steps=600, steps_per_epoch=3)
        expected = schedules.moco_steps(0.03, step // 3, (120, 160))
        assert 0.03 * factor == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("warmup_steps", [0, 1, 100])
def test_warmup_and_multistep_are_detectron2s(warmup_steps):
    schedule = Schedule(kind="multistep", milestones=(600, 800), warmup_steps=warmup_steps)
    for step in range(900):
        factor = schedule.factor(step, total_steps=900, steps_per_epoch=11)
        expected = schedules.detectron2_warmup_multistep(
            0.02, step, (600, 800), warmup_steps, 1 / 1000
        )
        assert 0.02 * factor == pytest.approx(expected, rel=1e-14), step


@pytest.mark.parametrize(("power", "min_lr"), [(0.9, 1e-4), (0.9, 0.0), (2.0, 1e-3)])
def test_poly_is_mmcvs(power, min_lr):
    schedule = Schedule(kind="poly", power=power, floor=min_lr / 0.01)
    for step in range(400):
        factor = schedule.factor(step, total_steps=400, steps_per_epoch=11)
        expected = schedules.mmcv_poly(0.01, step, 400, power, min_lr)
        assert 0.01 * factor == pytest.approx(expected, rel=1e-13), step
    assert schedule.factor(0, 400, 11) == pytest.approx(1.0)
    assert schedule.factor(400, 400, 11) == pytest.approx(min_lr / 0.01)


def test_warmup_begins_at_its_factor_and_is_over_after_its_steps():
    schedule = Schedule(warmup_steps=100)
    assert schedule.factor(0, 9000, 1) == 1e-3
    assert schedule.factor(50, 9000, 1) == pytest.approx(0.5005)
    assert schedule.factor(99, 9000, 1) < 1 == schedule.factor(100, 9000, 1)


def test_durations_become_steps_once():
    common = {"batch_size": 4, "sgd": Sgd(lr=0.1)}
    assert Training(epochs=2, **common).total_steps(steps_per_epoch=7) == 14
    assert Training(epochs=0.5, **common).total_steps(steps_per_epoch=5) == 2
    assert Training(epochs=0.01, **common).total_steps(steps_per_epoch=5) == 1
    assert Training(steps=9, **common).total_steps(steps_per_epoch=5) == 9


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epochs": 1, "steps": 1}, "either epochs or steps"),
        ({}, "either epochs or steps"),
        ({"steps": 0}, "greater than 0"),
        ({"steps": 1, "sgd": {"lr": -1}}, "field sgd.lr"),
        ({"steps": 1, "sgd": {"lr": 1, "momentumm": 0}}, "did you mean 'momentum'"),
        ({"steps": 1, "schedule": {"kind": "cosin"}}, "did you mean 'cosine'"),
        ({"steps": 1, "schedule": {"milestones": [3]}}, "milestones go with kind: multistep"),
        ({"steps": 1, "schedule": {"kind": "multistep"}}, "milestones go with kind: multistep"),
        (
            {"steps": 1, "schedule": {"kind": "multistep", "milestones": [3, 2]}},
            "milestones must rise",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(values, message):
    with pytest.raises(InputError, match=message):
        build(Training, {"batch_size": 4, "sgd": {"lr": 0.1}} | values, "here")


def test_a_training_round_trips_through_plain_data():
    schedule = Schedule(kind="multistep", milestones=(6, 8), warmup_steps=2)
    training = Training(steps=9, batch_size=2, sgd=Sgd(lr=0.02), schedule=schedule)
    assert build(Training, to_plain(training), "here") == training


def network():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.GroupNorm(2, 4), nn.Linear(4, 2))
    net[3].bias.requires_grad_(False)
    return net


def decay_of(optimiser):
    return {
        id(p): group["weight_decay"] for group in optimiser.param_groups for p in group["params"]
    }


def test_norm_layers_have_their_own_weight_decay():
    net = network()
    decay = decay_of(sgd(net, Sgd(lr=0.1, weight_decay=1e-4, norm_weight_decay=0.0)))
    norms = {id(p) for layer in (net[1], net[2]) for p in layer.parameters()}
    assert {key for key, value in decay.items() if value == 0} == norms
    others = {id(net[0].weight), id(net[0].bias), id(net[3].weight)}
    assert {key for key, value in decay.items() if value == 1e-4} == others


def test_by_default_every_trainable_parameter_decays_alike():
    net = network()
    decay = decay_of(sgd(net, Sgd(lr=0.1, weight_decay=3e-4)))
    assert set(decay.values()) == {3e-4}
    assert set(decay) == {id(p) for p in net.parameters()} - {id(net[3].bias)}


def test_a_layer_that_is_used_twice_is_optimised_once():
    layer = nn.BatchNorm2d(2)
    optimiser = sgd(nn.ModuleList([layer, nn.Sequential(layer)]), Sgd(lr=0.1))
    assert sum(len(group["params"]) for group in optimiser.param_groups) == 2


def test_the_learning_rate_reaches_every_group():
    optimiser = sgd(network(), Sgd(lr=0.1, norm_weight_decay=0.0))
    set_lr(optimiser, 0.25)
    assert [group["lr"] for group in optimiser.param_groups] == [0.25, 0.25]


def test_the_optimiser_is_plain_sgd():
    optimiser = sgd(network(), Sgd(lr=0.1, momentum=0.8, nesterov=True))
    assert type(optimiser) is torch.optim.SGD
    group = optimiser.param_groups[0]
    assert (group["momentum"], group["dampening"], group["nesterov"]) == (0.8, 0, True)
