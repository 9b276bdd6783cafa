"""Adam against plain arithmetic, what a resumed run takes up, and which optimiser is taken."""

import copy

import numpy as np
import pytest
import torch
from tests.oracles.landmarks import Adam as Oracle
from torch import nn

from whytransfer.core.config import build
from whytransfer.core.errors import InputError
from whytransfer.core.stage import Execution
from whytransfer.train.adam import adam
from whytransfer.train.config import Adam, Sgd, Training
from whytransfer.train.optimiser import set_lr
from whytransfer.train.state import Run, TrainingState


def model(dtype=torch.float32):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.Conv2d(5, 4, 1), nn.Flatten())
    return net.to(dtype=dtype, memory_format=torch.channels_last)


def lr_at(step):
    return 0.1 / (1 + step)


def steps(net, optimiser, first, last):
    for step in range(first, last):
        generator = torch.Generator().manual_seed(step)
        images = torch.randn(4, 3, 5, 5, generator=generator, dtype=net[0].weight.dtype)
        optimiser.zero_grad()
        set_lr(optimiser, lr_at(step))
        net(images.contiguous(memory_format=torch.channels_last)).square().mean().backward()
        optimiser.step()


@pytest.mark.parametrize("amsgrad", [False, True])
def test_equals_plain_arithmetic(amsgrad):
    """The decay is part of the gradient; norms decay by their own weight."""
    config = Adam(
        lr=0.1, betas=(0.8, 0.9), eps=1e-6, weight_decay=0.1, norm_weight_decay=0.0, amsgrad=amsgrad
    )
    net = model(torch.float64)
    found = adam(net, config)
    oracles = {
        name: Oracle(
            p.detach().numpy(), 0.1, (0.8, 0.9), 1e-6, 0.0 if name[0] == "1" else 0.1, amsgrad
        )
        for name, p in net.named_parameters()
    }
    for step in range(6):
        steps(net, found, step, step + 1)
        for name, parameter in net.named_parameters():
            oracles[name].step(parameter.grad.numpy(), lr_at(step))
            np.testing.assert_allclose(parameter.detach().numpy(), oracles[name].weight, atol=1e-12)


def test_a_resumed_run_has_the_same_bits():
    config = Adam(weight_decay=5e-4, amsgrad=True)
    whole = model()
    steps(whole, adam(whole, config), 0, 6)
    first = model()
    begun = adam(first, config)
    steps(first, begun, 0, 3)
    kept = copy.deepcopy((first.state_dict(), begun.state_dict()))
    second = model()
    resumed = adam(second, config)
    second.load_state_dict(kept[0])
    resumed.load_state_dict(kept[1])
    steps(second, resumed, 3, 6)
    for ours, other in zip(second.parameters(), whole.parameters(), strict=True):
        assert torch.equal(ours, other)


def taken(folder, training):
    """The optimiser that a training of these settings has."""
    run = Run(folder, folder / "log.jsonl", Execution(), seed=0, steps_per_epoch=1, title="t")
    return TrainingState(model(), training, run).optimiser


def test_which_one_is_taken_and_what_its_rate_is_called(tmp_path):
    plain = Training(steps=1, batch_size=1, sgd=Sgd(lr=0.3))
    assert type(taken(tmp_path, plain)) is torch.optim.SGD
    assert (plain.lr, plain.lr_field) == (0.3, "training.sgd.lr")
    given = Training(steps=1, batch_size=1, sgd=Sgd(lr=0.3), adam=Adam(lr=0.02, eps=1e-5))
    found = taken(tmp_path, given)
    assert type(found) is torch.optim.Adam
    assert (given.lr, given.lr_field) == (0.02, "training.adam.lr")
    assert found.defaults["lr"] == 0.02 and found.defaults["eps"] == 1e-5


def test_what_needs_no_gradient_is_left_alone():
    net = model()
    net[0].requires_grad_(False)
    found = [p for group in adam(net, Adam()).param_groups for p in group["params"]]
    assert len(found) == 4 and not any(p is net[0].weight for p in found)
    with pytest.raises(ValueError, match="empty"):
        adam(net.requires_grad_(False), Adam())


@pytest.mark.parametrize("values", [{"betas": [0.9, 1.0]}, {"eps": 0}, {"lr": -1}, {"beta": 1}])
def test_settings_that_make_no_sense_are_refused(values):
    with pytest.raises(InputError, match=next(iter(values))):
        build(Adam, values, "test")
