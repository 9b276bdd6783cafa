"""Convolutions as products of matrices: the numbers of torch's own, in every geometry."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from whytransfer.train.convolution import MAX_PIXELS, ProductConv2d, convert_convolutions


def numbers(seed, *shape, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def pair(layer, dtype=torch.float64, max_pixels=16):
    """Returns a plain layer and its product, with the same values in weights of their own."""
    plain = nn.Sequential(layer).to(dtype)
    product = copy.deepcopy(plain)
    convert_convolutions(product, max_pixels)
    assert type(product[0]) is ProductConv2d and type(plain[0]) is nn.Conv2d
    return plain, product


def results(net, images, grad_seed=9):
    images = images.clone(memory_format=torch.preserve_format).requires_grad_()
    out = net(images)
    out.backward(numbers(grad_seed, *out.shape).to(out.dtype))
    return [out.detach(), images.grad, *(parameter.grad for parameter in net.parameters())]


@pytest.fixture
def kernels(monkeypatch):
    """Lists the convolutions by torch's kernels, which a product has none of."""
    calls, forward = [], nn.Conv2d.forward
    monkeypatch.setattr(
        nn.Conv2d, "forward", lambda self, images: calls.append(1) or forward(self, images)
    )
    return calls


@settings(deadline=None)
@given(
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    size=st.tuples(st.integers(4, 8), st.integers(4, 8)),
    bias=st.booleans(),
    memory=st.sampled_from([torch.contiguous_format, torch.channels_last]),
)
def test_any_geometry_gives_torchs_numbers(kernel, stride, padding, size, bias, memory):
    layer = nn.Conv2d(3, 5, kernel, stride, padding, bias=bias)
    with torch.no_grad():
        for number, parameter in enumerate(layer.parameters()):
            parameter.copy_(numbers(number, *parameter.shape))
    plain, product = (net.to(memory_format=memory) for net in pair(layer))
    images = numbers(5, 2, 3, *size).to(memory_format=memory)
    for ours, theirs in zip(results(product, images), results(plain, images), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(
    ("layer", "size", "products"),
    [
        (nn.Conv2d(4, 6, 3, padding=1), 2, ["product", "product_4"]),  # 4 pixels
        (nn.Conv2d(4, 6, 3, padding=1), 3, ["product"]),
        (nn.Conv2d(4, 6, 3, padding=1), 4, ["product"]),  # 16 pixels
        (nn.Conv2d(4, 6, 3, padding=1), 5, []),
        (nn.Conv2d(4, 6, 3, stride=2, padding=1), 8, ["product"]),
        (nn.Conv2d(4, 6, 1), 20, ["product", "product_4"]),
        (nn.Conv2d(4, 6, 1, stride=2), 20, ["product", "product_4"]),
        (nn.Conv2d(4, 6, 1, padding=1), 20, []),
        (nn.Conv2d(4, 6, 3, padding=1, groups=2), 2, []),
        (nn.Conv2d(4, 6, 3, padding=2, dilation=2), 2, []),
        (nn.Conv2d(4, 6, 3, padding="same"), 2, []),
        (nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"), 2, []),
    ],
)
@pytest.mark.parametrize("convolution", MAX_PIXELS)
def test_what_is_a_product(kernels, layer, size, products, convolution):
    plain, product = pair(layer, max_pixels=MAX_PIXELS[convolution])
    images = numbers(5, 2, 4, size, size)
    out = product(images)
    assert bool(kernels) != (convolution in products)
    if convolution in products:
        torch.testing.assert_close(out, plain(images), rtol=1e-11, atol=1e-11)
        assert out.is_contiguous(memory_format=torch.channels_last)
    else:
        assert torch.equal(out, plain(images))


@pytest.mark.parametrize("kernel", [1, 3])
def test_without_images_there_is_nothing(kernel):
    plain, product = pair(nn.Conv2d(4, 6, kernel, padding=kernel // 2))
    images = torch.zeros(0, 4, 4, 4, dtype=torch.float64)
    assert product(images).shape == plain(images).shape == (0, 6, 4, 4)


@pytest.mark.parametrize("shape", [(2, 3, 4, 4), (2, 4, 1, 4), (4,)])
def test_a_wrong_input_is_refused_as_torch_does(shape):
    plain, product = pair(nn.Conv2d(4, 6, 3))
    with pytest.raises(RuntimeError) as expected:
        plain(torch.zeros(shape, dtype=torch.float64))
    with pytest.raises(RuntimeError) as found:
        product(torch.zeros(shape, dtype=torch.float64))
    assert str(found.value) == str(expected.value)


@pytest.mark.parametrize("size", [2, 4])
def test_under_mixed_precision_it_rounds_as_often_as_torch(size):
    """Rounding once more, as in sums of bfloat16 numbers, shows in how well a network learns."""
    plain, product = pair(nn.Conv2d(128, 64, 3, padding=1), torch.float32)
    for net in (plain, product):
        net[0].weight.data = net[0].weight.bfloat16().float()
    images = numbers(5, 32, 128, size, size, dtype=torch.float32).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        ours, theirs = results(product, images), results(plain, images)
    exact = results(copy.deepcopy(plain).double().apply(without_gradient), images.double())
    assert [each.dtype for each in ours] == [each.dtype for each in theirs]
    assert ours[0].dtype == torch.bfloat16
    for found, expected, truth in zip(ours, theirs, exact, strict=True):
        errors = [(each.double() - truth).square().mean().sqrt() for each in (found, expected)]
        assert 0 < errors[0] < 1.05 * errors[1]


def without_gradient(module):
    module.zero_grad(set_to_none=True)


def test_a_conversion_keeps_parameters_names_modes_and_the_generator():
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.Sequential(nn.ReLU(), nn.Conv2d(8, 4, 1, bias=False))
    )
    net.eval()
    before, state = dict(net.named_parameters()), torch.get_rng_state()
    convert_convolutions(net, 16)
    assert torch.equal(torch.get_rng_state(), state)
    after = dict(net.named_parameters())
    assert before.keys() == after.keys()
    assert all(after[name] is before[name] for name in before)
    assert not any(module.training for module in net.modules())
    assert [type(module) for module in net.modules()].count(ProductConv2d) == 2


def test_other_peoples_convolutions_stay_what_they_are():
    class Theirs(nn.Conv2d):
        pass

    net = nn.Sequential(Theirs(3, 8, 1))
    convert_convolutions(net, 16)
    assert type(net[0]) is Theirs


def test_gradients_lie_as_the_weights_do():
    """The fused optimiser copies every gradient that does not."""
    _, product = pair(nn.Conv2d(8, 6, 3, padding=1), torch.float32)
    product.to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        product(numbers(1, 4, 8, 2, 2, dtype=torch.float32)).float().sum().backward()
    weight = product[0].weight
    assert weight.grad.stride() == weight.stride()
    assert weight.grad.abs().sum() > 0
