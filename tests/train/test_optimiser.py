"""The optimiser against plain arithmetic, and what a resumed run takes up."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from whytransfer.train.config import Sgd
from whytransfer.train.optimiser import set_lr, sgd


def model(dtype=torch.float32):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.Conv2d(5, 4, 1), nn.Flatten())
    return net.to(dtype=dtype, memory_format=torch.channels_last)


def steps(net, optimiser, first, last):
    for step in range(first, last):
        generator = torch.Generator().manual_seed(step)
        images = torch.randn(4, 3, 5, 5, generator=generator, dtype=net[0].weight.dtype)
        optimiser.zero_grad()
        set_lr(optimiser, 0.1 / (1 + step))
        net(images.contiguous(memory_format=torch.channels_last)).square().mean().backward()
        optimiser.step()


@pytest.mark.parametrize("nesterov", [False, True])
def test_equals_plain_arithmetic(nesterov):
    """Velocity 0.9 v + g, where g has its decay; norms decay by their own weight."""
    config = Sgd(lr=0.1, momentum=0.9, weight_decay=0.1, norm_weight_decay=0.0, nesterov=nesterov)
    net = model(torch.float64)
    optimiser = sgd(net, config)
    weights = {name: p.detach().numpy().copy() for name, p in net.named_parameters()}
    velocities = {name: np.zeros_like(weight) for name, weight in weights.items()}
    for step in range(4):
        steps(net, optimiser, step, step + 1)
        for name, parameter in net.named_parameters():
            decay = 0.0 if name.startswith("1.") else 0.1
            gradient = parameter.grad.numpy() + decay * weights[name]
            velocities[name] = 0.9 * velocities[name] + gradient
            moved = gradient + 0.9 * velocities[name] if nesterov else velocities[name]
            weights[name] = weights[name] - 0.1 / (1 + step) * moved
            np.testing.assert_allclose(parameter.detach().numpy(), weights[name], atol=1e-12)


def test_a_resumed_run_has_the_same_bits():
    config = Sgd(lr=0.1)
    whole = model()
    steps(whole, sgd(whole, config), 0, 6)
    first = model()
    optimiser = sgd(first, config)
    steps(first, optimiser, 0, 3)
    kept = copy.deepcopy((first.state_dict(), optimiser.state_dict()))
    second = model()
    resumed = sgd(second, config)
    second.load_state_dict(kept[0])
    resumed.load_state_dict(kept[1])
    steps(second, resumed, 3, 6)
    for ours, other in zip(second.parameters(), whole.parameters(), strict=True):
        assert torch.equal(ours, other)


def test_what_needs_no_gradient_is_left_alone():
    net = model()
    net[0].requires_grad_(False)
    found = [p for group in sgd(net, Sgd(lr=0.1)).param_groups for p in group["params"]]
    assert len(found) == 4 and not any(p is net[0].weight for p in found)
    with pytest.raises(ValueError, match="empty"):
        sgd(net.requires_grad_(False), Sgd(lr=0.1))
