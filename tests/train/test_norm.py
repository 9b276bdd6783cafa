"""Grouped BatchNorm against plain loops, and what its state dict promises."""

import numpy as np
import pytest
import torch
from tests.oracles import grouped_batch_norm
from torch import nn

from whytransfer.train import norm, running
from whytransfer.train.norm import GroupedBatchNorm2d, convert_groups, regions_of


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


def test_running_statistics_may_be_of_the_first_group_alone():
    mean, first = _layer(2), _layer(2)
    first.running = "first"
    images = _numbers(3, 8, 3, 2, 5) * 2 + 1
    assert torch.equal(mean(images), first(images))
    _, means, variances = grouped_batch_norm.forward(images.numpy(), [1] * 3, [0] * 3, 2, 1e-5)
    np.testing.assert_allclose(first.running_mean.numpy(), 0.1 * means[0], atol=1e-12)
    np.testing.assert_allclose(first.running_var.numpy(), 0.9 + 0.1 * variances[0], atol=1e-12)
    assert not torch.allclose(mean.running_mean, first.running_mean)


def test_several_processes_have_together_what_one_would_have():
    """Four groups in one process, two in each of two: both kinds of layer in one network."""
    images = _numbers(3, 8, 3, 2, 5)

    def network():
        return nn.ModuleList([GroupedBatchNorm2d(3, 2, running=r) for r in ("mean", "first")])

    one, parts = network().double(), [network().double() for _ in range(2)]
    for net, seen in ((one, images), (parts[0], images[:4]), (parts[1], images[4:])):
        for layer in net:
            layer(seen)
    everyone = torch.stack([running.statistics(part) for part in parts])
    found = running.together(one, everyone)
    torch.testing.assert_close(found, running.statistics(one), rtol=0, atol=1e-12)
    assert not torch.allclose(everyone.mean(0), running.statistics(one))


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


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("group_size", [2, 3, 6])
def test_slices_have_the_bits_of_the_plain_form(memory, dtype, group_size, monkeypatch):
    """In values, statistics and gradients; under autocast the inputs alone are bfloat16."""
    images = (_numbers(8, 12, 5, 4, 3) * 2 + 1).to(dtype=dtype, memory_format=memory)
    grad_out = _numbers(9, 12, 5, 4, 3).to(dtype=dtype, memory_format=memory)

    def everything():
        layer = GroupedBatchNorm2d(5, group_size)
        with torch.no_grad():
            layer.weight.copy_(_numbers(1, 5))
        given = images.clone(memory_format=torch.preserve_format).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            out = layer(given)
        out.backward(grad_out)
        assert out.dtype == dtype and out.is_contiguous(memory_format=memory)
        assert given.grad.is_contiguous(memory_format=memory)
        return [out, given.grad, layer.weight.grad, layer.bias.grad, *layer.buffers()]

    fast = everything()
    calls = []
    monkeypatch.setattr(norm, "_in_slices", lambda *a: calls.append(1) or norm.split_and_cat(*a))
    for ours, plain in zip(fast, everything(), strict=True):
        assert torch.equal(ours, plain)
    assert calls


def test_no_gradient_is_computed_that_nobody_wants():
    layer = _layer(4)
    layer.weight.requires_grad_(False)
    images = _numbers(3, 8, 3, 2, 2).requires_grad_()
    layer(images).square().sum().backward()
    assert layer.weight.grad is None and layer.bias.grad is not None and images.grad is not None
    layer.bias.grad = None
    layer(images.detach()).square().sum().backward()
    assert layer.bias.grad is not None


def test_regions_stay_in_the_group_of_their_image():
    """Images of 3, 0, 2 and 4 regions in groups of two: rows 0 to 2, and rows 3 to 8."""
    layer, rows = _layer(2), _numbers(10, 9, 3, 2, 2)
    with regions_of(nn.Sequential(layer, nn.ReLU()), [3, 0, 2, 4]):
        out = layer(rows)
    for part in (slice(0, 3), slice(3, 9)):
        alone = _layer(2)
        with regions_of(alone, [len(rows[part]), 0]):
            assert torch.equal(out[part], alone(rows[part]))
    _, first, _ = grouped_batch_norm.forward(rows[:3].numpy(), [1] * 3, [0] * 3, 3, layer.eps)
    _, rest, _ = grouped_batch_norm.forward(rows[3:].numpy(), [1] * 3, [0] * 3, 6, layer.eps)
    expected = 0.1 * (first[0] + rest[0]) / 2  # groups count equally, however many regions
    np.testing.assert_allclose(layer.running_mean.numpy(), expected, atol=1e-12)
    assert layer.region_counts is None


def test_a_group_without_regions_is_left_out():
    layer, rows = _layer(2), _numbers(11, 5, 3, 2, 2)
    with regions_of(layer, [0, 0, 2, 3]):
        out = layer(rows)
    other = _layer(5)
    assert torch.equal(out, other(rows))
    assert torch.equal(layer.running_mean, other.running_mean)


@pytest.mark.parametrize("counts", [[2, 2], [5], [2, 2, 1], []])
def test_regions_that_do_not_add_up_are_refused(counts):
    layer = _layer(2)
    with regions_of(layer, counts), pytest.raises(ValueError, match=r"regions, but|multiple of"):
        layer(_numbers(12, 5, 3, 2, 2))
    assert layer.region_counts is None


def test_one_value_per_channel_is_refused():
    layer = _layer(2)
    with regions_of(layer, [1, 0, 2, 2]), pytest.raises(ValueError, match="one value per channel"):
        layer(_numbers(13, 5, 3, 1, 1))
