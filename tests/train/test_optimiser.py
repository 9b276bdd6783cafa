"""The optimiser against plain arithmetic, and what a resumed run takes up."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from whytransfer.core.errors import InputError
from whytransfer.train.config import Adam, Sgd
from whytransfer.train.optimiser import adam, parameter_groups, set_lr, sgd


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


class Nested(nn.Module):
    """A trunk with a norm, two heads of like names, and a parameter of its own."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.scale = nn.Parameter(torch.ones(3, dtype=torch.float64))
        self.trunk = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4)).double()
        self.head = nn.Linear(4, 2).double()
        self.head2 = nn.Linear(4, 2).double()

    def forward(self, x):
        hidden = self.trunk(x * self.scale)
        return self.head(hidden), self.head2(hidden)


FACTORS = {"trunk": 0.1, "trunk.1": 2.0, "trunk.1.bias": 5.0, "head": 10.0}
FACTOR_OF = {
    "scale": 1.0, "trunk.0.weight": 0.1, "trunk.0.bias": 0.1, "trunk.1.weight": 2.0,
    "trunk.1.bias": 5.0, "head.weight": 10.0, "head.bias": 10.0, "head2.weight": 1.0,
    "head2.bias": 1.0,
}  # fmt: skip


def test_factors_equal_plain_arithmetic_with_the_longest_name_that_fits():
    """Each parameter by itself: velocity 0.9 v + g, step by its own part of the learning rate."""
    net = Nested()
    config = Sgd(lr=0.05, momentum=0.9, weight_decay=0.1, norm_weight_decay=0.01)
    optimiser = sgd(net, config, FACTORS)
    weights = {name: p.detach().numpy().copy() for name, p in net.named_parameters()}
    velocities = {name: np.zeros_like(weight) for name, weight in weights.items()}
    for step in range(5):
        set_lr(optimiser, 0.05 / (1 + step))
        generator = torch.Generator().manual_seed(step)
        images = torch.randn(6, 3, generator=generator, dtype=torch.float64)
        optimiser.zero_grad()
        sum(out.square().mean() for out in net(images)).backward()
        gradients = {name: p.grad.numpy().copy() for name, p in net.named_parameters()}
        optimiser.step()
        for name, parameter in net.named_parameters():
            decay = 0.01 if name.startswith("trunk.1.") else 0.1
            velocities[name] = 0.9 * velocities[name] + gradients[name] + decay * weights[name]
            weights[name] = weights[name] - FACTOR_OF[name] * 0.05 / (1 + step) * velocities[name]
            np.testing.assert_allclose(parameter.detach().numpy(), weights[name], atol=1e-12)


def test_groups_serve_any_optimiser():
    net = Nested()
    groups = parameter_groups(
        net, Sgd(lr=1.0, weight_decay=0.1, norm_weight_decay=0.0), {"head": 3.0}
    )
    found = sorted((g["weight_decay"], g["lr_factor"], len(g["params"])) for g in groups)
    assert found == [(0.0, 1.0, 2), (0.1, 1.0, 5), (0.1, 3.0, 2)]
    adam = torch.optim.AdamW(groups, lr=1.0)
    set_lr(adam, 0.5)
    assert sorted(group["lr"] for group in adam.param_groups) == [0.5, 0.5, 1.5]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("heads", r"lr_factors, name 'heads'.*one of scale, trunk, head, head2.*mean 'head'"),
        ("trunk.2", r"name 'trunk.2': nothing of that name is trained.*such as trunk\.0\.weight"),
        ("frozen", r"nothing of that name is trained"),
        ("tr", r"nothing of that name is trained"),
    ],
)
def test_a_name_that_fits_nothing_is_refused(name, message):
    net = Nested()
    net.frozen = nn.Linear(2, 2).requires_grad_(False)
    with pytest.raises(InputError, match=message):
        sgd(net, Sgd(lr=0.1), {"head": 2.0, name: 3.0})


@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_channels_last_weights_are_moved_in_place_without_a_copy(kind):
    """The fused kernels of a CPU copy what is not contiguous as it is shown to them."""
    make, config = {"sgd": (sgd, Sgd(lr=0.1)), "adam": (adam, Adam(lr=0.1))}[kind]
    nets = {}
    for memory in (torch.contiguous_format, torch.channels_last):
        net = model(torch.float64).to(memory_format=memory)
        optimiser = make(net, config)
        steps(net, optimiser, 0, 2)
        addresses = [parameter.data_ptr() for parameter in net.parameters()]
        optimiser.zero_grad()
        images = torch.ones(4, 3, 5, 5, dtype=torch.float64).to(memory_format=memory)
        net(images).square().mean().backward()
        with torch.profiler.profile(record_shapes=True) as recorder:
            optimiser.step()
        copies = [event for event in recorder.events() if event.name == "aten::copy_"]
        assert not [event for event in copies if len(event.input_shapes[0]) == 4]
        assert [parameter.data_ptr() for parameter in net.parameters()] == addresses
        nets[memory] = net, optimiser
    for (net, optimiser), memory in zip(nets.values(), nets, strict=True):
        assert net[0].weight.shape == net[0].weight.grad.shape == (5, 3, 3, 3)
        assert net[0].weight.is_contiguous(memory_format=memory)
        for value in optimiser.state[net[0].weight].values():
            if value.dim():
                assert value.shape == (5, 3, 3, 3) and value.is_contiguous(memory_format=memory)
    plain, turned = (net for net, _ in nets.values())
    for ours, theirs in zip(turned.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
