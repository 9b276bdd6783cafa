"""The batched inversion against the authors' procedure, one image at a time."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.oracles import inversion as oracle
from torch import nn

from whytransfer.backbone.build import Architecture, build
from whytransfer.backbone.folding import folded
from whytransfer.core.config import build as checked
from whytransfer.core.errors import InputError
from whytransfer.core.streams import Stream
from whytransfer.diagnose.deep_image_prior import Fit, Group, Prior, generator, noise

SMALL = Prior(
    widths=(6, 5, 7), filters=(7, 5, 3), skip_width=2, noise_channels=4, canvas_px=32, num_steps=10
)


def used(seed, name="resnet18", width=8):
    """A backbone in evaluation mode whose BatchNorm has seen something."""
    backbone = build(Architecture(name=name, width=width), Stream(seed, "weights")).double()
    generator = torch.Generator().manual_seed(seed)
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values, low in ((module.weight, 0.5), (module.running_var, 0.5), (module.bias, -1)):
                values.data.uniform_(low, 1.5, generator=generator)
            module.running_mean.uniform_(-1, 1, generator=generator)
    return backbone.eval().requires_grad_(False)


def images(count, side=24):
    drawn = torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(7))
    return drawn.double()


def plain_network(prior, ours):
    net = oracle.skip_network(prior.widths, prior.filters, prior.skip_width, prior.noise_channels)
    net = net.double()
    oracle.copy_weights(net, ours)
    return net


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
@pytest.mark.parametrize("stem_pool", [True, False])
def test_a_folded_backbone_computes_the_same_at_every_level(name, stem_pool):
    backbone = used(3, name)
    if not stem_pool:
        backbone.net.maxpool = nn.Identity()
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    small = folded(backbone, torch.float64)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in small.modules())
    assert not any(parameter.requires_grad for parameter in small.parameters())
    for level in backbone.levels:
        expected = backbone.features(images(2), level.name)
        torch.testing.assert_close(small.features(images(2), level.name), expected)
    for key, value in backbone.state_dict().items():
        assert torch.equal(value, before[key])


@given(
    depth=st.integers(1, 3),
    side=st.sampled_from([1, 3, 5, 7]),
    width=st.integers(1, 5),
    skip_width=st.integers(1, 3),
)
@settings(max_examples=20, deadline=None)
def test_the_generator_is_the_authors_network(depth, side, width, skip_width):
    prior = Prior(
        widths=(width,) * depth, filters=(side,) * depth, skip_width=skip_width,
        noise_channels=2, canvas_px=16,
    )  # fmt: skip
    ours = generator(prior, Stream(width, "test")).double()
    z = noise(prior, Stream(0, "noise"))
    torch.testing.assert_close(ours(z), plain_network(prior, ours)(z), rtol=1e-9, atol=1e-9)


def test_the_default_generator_has_the_authors_shape():
    ours = generator(Prior(), Stream(0, "test"))
    plain = oracle.skip_network((16, 32, 64, 128, 128, 128), (7, 7, 5, 5, 3, 3), 4, 32)
    biases = sum(
        module.bias.numel() for module in plain[0].modules() if isinstance(module, nn.Conv2d)
    )
    count = sum(parameter.numel() for parameter in ours.parameters())
    assert count == sum(parameter.numel() for parameter in plain.parameters()) - biases


@pytest.mark.parametrize("together", [False, True])
def test_ten_steps_in_a_batch_equal_one_image_at_a_time(together):
    """Two images under two backbones at two levels, BatchNorm not folded on the slow side."""
    pictures, crop_px = images(2), 24
    cases = [(used(1), "layer2"), (used(2, "resnet50"), "layer4")]
    generators = [generator(SMALL, Stream(k, "generator")).double() for k in range(4)]
    noises = [noise(SMALL, Stream(k, "noise")) for k in range(4)]
    plain = [plain_network(SMALL, ours) for ours in generators]
    groups = []
    for backbone, level in cases:
        small = folded(backbone, torch.float64)
        see = lambda x, net=small, at=level: net.features(x, at)  # noqa: E731
        groups.append(Group(see, see(pictures)))
    fit = Fit(SMALL, generators, noises, groups, crop_px, together=together)
    losses = torch.stack([fit.step() for _ in range(10)])
    for k in range(4):
        backbone, level = cases[k // 2]
        picture, slow = oracle.invert(
            lambda x, net=backbone, at=level: net.features(x, at),
            pictures[[k % 2]], plain[k], noises[k], crop_px, SMALL.learning_rate, 10,
        )  # fmt: skip
        torch.testing.assert_close(fit.pictures()[[k]], picture, rtol=0, atol=1e-5)
        torch.testing.assert_close(losses[:, k].tolist(), slow, rtol=1e-5, atol=0)
        assert slow[-1] < slow[0]


def test_side_by_side_in_bfloat16_they_begin_alike():
    backbone = folded(used(1))
    see = lambda x: backbone.features(x, "layer1")  # noqa: E731
    found = {}
    for together in (False, True):
        generators = [generator(SMALL, Stream(k, "generator")) for k in range(3)]
        noises = [noise(SMALL, Stream(k, "noise")).float() for k in range(3)]
        groups = [Group(see, see(images(3).float()))]
        fit = Fit(SMALL, generators, noises, groups, 24, mixed=True, together=together)
        found[together] = fit.pictures(), fit.step()
    for one, other in zip(*found.values(), strict=True):
        torch.testing.assert_close(one.float(), other.float(), rtol=0.02, atol=0.02)


@pytest.mark.parametrize("together", [False, True])
def test_each_generator_normalises_over_its_own_picture(together):
    """What one generator makes does not depend on which others are fitted beside it."""
    backbone = folded(used(1), torch.float64)
    see = lambda x: backbone.features(x, "layer1")  # noqa: E731

    def fitted(which):
        generators = [generator(SMALL, Stream(k, "generator")).double() for k in which]
        noises = [noise(SMALL, Stream(k, "noise")) for k in which]
        groups = [Group(see, see(images(3)[list(which)]))]
        fit = Fit(SMALL, generators, noises, groups, 24, together=together)
        for _ in range(3):
            fit.step()
        return fit.pictures()

    torch.testing.assert_close(fitted((0, 1, 2))[1:2], fitted((1,)), rtol=0, atol=1e-8)


@pytest.mark.parametrize("together", [False, True])
def test_a_fit_goes_on_from_its_state_to_the_bit(together):
    backbone = folded(used(1))
    see = lambda x: backbone.features(x, "layer1")  # noqa: E731

    def new():
        generators = [generator(SMALL, Stream(k, "generator")) for k in range(2)]
        noises = [noise(SMALL, Stream(k, "noise")).float() for k in range(2)]
        groups = [Group(see, see(images(2).float()))]
        return Fit(SMALL, generators, noises, groups, 24, together=together)

    whole, first, second = new(), new(), new()
    for _ in range(6):
        whole.step()
    for _ in range(3):
        first.step()
    second.restore(first.state())
    for _ in range(3):
        second.step()
    assert torch.equal(whole.pictures(), second.pictures())


def test_noise_and_weights_are_functions_of_the_stream():
    first, second = (generator(SMALL, Stream(5, "generator")) for _ in range(2))
    assert all(map(torch.equal, first.parameters(), second.parameters()))
    drawn = noise(SMALL, Stream(5, "noise"))
    assert torch.equal(drawn, noise(SMALL, Stream(5, "noise")))
    assert drawn.shape == (1, 4, 32, 32)
    assert drawn.min() >= 0 and drawn.max() < 0.1 and abs(drawn.mean() - 0.05) < 0.002


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"filters": (3, 3)}, "6 widths need as many filters"),
        ({"widths": (4, 4), "filters": (3, 4)}, "odd side"),
        ({"canvas_px": 96}, "multiple of their stride 64 px, and at least 128 px"),
        ({"canvas_px": 64}, "multiple of their stride 64 px, and at least 128 px"),
        ({"widths": ()}, "at least 1 item"),
    ],
)
def test_a_generator_that_cannot_be_is_refused(values, said):
    with pytest.raises(InputError, match=said):
        checked(Prior, values, "test")
