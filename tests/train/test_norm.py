"""Grouped BatchNorm against plain loops, and what its state dict promises."""

import numpy as np
import pytest
import torch
from tests.oracles import grouped_batch_norm
from torch import nn

from whytransfer.train.norm import GroupedBatchNorm2d, convert_groups


def _numbers(seed, *shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def _layer(group_size, num_features=3):
    layer = GroupedBatchNorm2d(num_features, group_size).double()
    with torch.no_grad():
        layer.weight.copy_(_numbers(1, num_features))
        layer.bias.copy_(_numbers(2, num_features))
    return layer


@pytest.mark.parametrize("group_size", [2, 4, 8])
@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_equals_plain_loops_in_values_statistics_and_gradients(group_size, memory):
    layer = _layer(group_size)
    images = (_numbers(3, 8, 3, 2, 5) * 2 + 1).to(memory_format=memory).requires_grad_()
    grad_out = _numbers(4, 8, 3, 2, 5)
    out = layer(images)
    out.backward(grad_out)
    weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    plain = images.detach().numpy()
    expected, means, variances = grouped_batch_norm.forward(
        plain, weight, bias, group_size, layer.eps
    )
    np.testing.assert_allclose(out.detach().numpy(), expected, atol=1e-12)
    np.testing.assert_allclose(layer.running_mean.numpy(), 0.1 * means.mean(0), atol=1e-12)
    np.testing.assert_allclose(layer.running_var.numpy(), 0.9 + 0.1 * variances.mean(0), atol=1e-12)
    gradients = grouped_batch_norm.backward(grad_out, plain, weight, group_size, layer.eps)
    found = (images.grad, layer.weight.grad, layer.bias.grad)
    for ours, theirs in zip(found, gradients, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-11)
    assert out.is_contiguous(memory_format=memory)


def test_statistics_stay_within_a_group():
    layer = _layer(4)
    images = _numbers(5, 8, 3, 2, 2)
    changed = images.clone()
    changed[4:] += 100
    assert torch.equal(layer(images)[:4], layer(changed)[:4])


def test_one_group_normalises_as_plain_batch_norm_to_the_bit():
    plain = nn.BatchNorm2d(3)
    grouped = GroupedBatchNorm2d(3, 6)
    for step in range(3):
        images = _numbers(step, 6, 3, 4, 4).float()
        assert torch.equal(plain(images), grouped(images))
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(grouped.state_dict()[name], value, rtol=0, atol=5e-7)


def test_eval_mode_is_plain_batch_norm_for_any_batch():
    grouped, plain = _layer(4).eval(), nn.BatchNorm2d(3).double().eval()
    plain.load_state_dict(grouped.state_dict())
    images = _numbers(6, 3, 3, 2, 2)
    assert torch.equal(grouped(images), plain(images))


@pytest.mark.parametrize("num_images", [2, 6])
def test_a_batch_that_groups_do_not_divide_is_refused(num_images):
    with pytest.raises(ValueError, match="multiple of groups of 4"):
        _layer(4)(_numbers(7, num_images, 3, 2, 2))


def test_conversion_keeps_parameters_and_goes_back():
    net = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Sequential(nn.BatchNorm2d(2, eps=1e-3)))
    before = dict(net.named_parameters())
    state = {name: value.clone() for name, value in net.state_dict().items()}
    convert_groups(net, 4)
    assert isinstance(net[1][0], GroupedBatchNorm2d)
    assert (net[1][0].group_size, net[1][0].eps) == (4, 1e-3)
    assert all(parameter is before[name] for name, parameter in net.named_parameters())
    convert_groups(net, None)
    assert type(net[1][0]) is nn.BatchNorm2d
    assert net.state_dict().keys() == state.keys()
    assert all(torch.equal(net.state_dict()[name], value) for name, value in state.items())


def test_a_norm_without_running_statistics_is_refused():
    with pytest.raises(ValueError, match="running statistics"):
        convert_groups(nn.Sequential(nn.BatchNorm2d(2, track_running_stats=False)), 4)
