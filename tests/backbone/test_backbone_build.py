"""Backbones are torchvision's ResNets, and what they say of their levels is true."""

import pytest
import torch
import torchvision

from whytransfer.backbone.architecture import DEPTHS, levels_of
from whytransfer.backbone.build import Architecture, build
from whytransfer.backbone.preprocessing import Preprocessing
from whytransfer.core.streams import Stream

NARROW = Architecture(name="resnet10", width=16, stem_pool=False)


@pytest.fixture(scope="module", params=["resnet18", "resnet50"])
def pair(request):
    """Our backbone and torchvision's network of the same name, with different random weights."""
    ours = build(Architecture(name=request.param), Stream(1, "weights"))
    with torch.random.fork_rng():
        theirs = getattr(torchvision.models, request.param)()
        theirs.fc = torch.nn.Identity()
        for name, buffer in theirs.named_buffers():
            if name.endswith("running_mean"):
                buffer.uniform_(-0.1, 0.1)
            if name.endswith("running_var"):
                buffer.uniform_(0.5, 1.5)
    return ours, theirs


def images(*shape):
    return torch.from_numpy(Stream(0, "x").uniform(torch.Size(shape).numel())).float().view(shape)


def test_keys_and_shapes_are_torchvisions(pair):
    ours, theirs = ({k: tuple(v.shape) for k, v in net.state_dict().items()} for net in
                    (pair[0].net, pair[1]))  # fmt: skip
    assert ours == theirs
    assert list(ours) == list(theirs)


def test_outputs_are_torchvisions_bit_for_bit_in_both_directions(pair):
    ours, theirs = pair
    x = images(2, 3, 64, 48)
    ours_before, theirs_before = ours.net.state_dict(), theirs.state_dict()
    ours_before = {k: v.clone() for k, v in ours_before.items()}
    ours.eval(), theirs.eval()
    with torch.no_grad():
        assert not torch.equal(ours(x), theirs(x))
        ours.net.load_state_dict(theirs_before)
        assert torch.equal(ours(x), theirs(x))
        theirs.load_state_dict(ours_before)
        ours.net.load_state_dict(ours_before)
        assert torch.equal(ours(x), theirs(x))
    ours.train(), theirs.train()
    assert torch.equal(ours(x), theirs(x))
    for name, value in theirs.state_dict().items():
        assert torch.equal(ours.net.state_dict()[name], value), name


@pytest.mark.parametrize("architecture", [NARROW, Architecture(name="resnet18")])
def test_initialisation_is_torchvisions_recipe(architecture):
    net = build(architecture, Stream(3, "weights")).net
    for name, module in net.named_modules():
        if isinstance(module, torch.nn.Conv2d):
            fan_out = module.out_channels * module.kernel_size[0] * module.kernel_size[1]
            std = module.weight.std().item()
            noise = 4 / (2 * module.weight.numel()) ** 0.5
            assert std == pytest.approx((2 / fan_out) ** 0.5, rel=noise), name
        if isinstance(module, torch.nn.BatchNorm2d):
            assert (module.weight == 1).all() and (module.bias == 0).all(), name


@pytest.mark.parametrize(
    "architecture",
    [
        NARROW,
        Architecture(name="resnet10", width=16),
        Architecture(name="resnet18", width=24, stem_pool=False),
        Architecture(name="resnet50", width=8),
        Architecture(name="resnet10", width=64, stem_pool=False),
    ],
)
def test_levels_are_true_on_a_real_forward(architecture):
    backbone = build(architecture, Stream(0, "weights")).eval()
    x = images(1, 3, 96, 64)
    for level in backbone.levels:
        height, width = 96 // level.stride, 64 // level.stride
        assert backbone.features(x, level.name).shape == (1, level.channels, height, width)
    assert backbone(x).shape == (1, backbone.num_features)
    assert backbone.num_features == backbone.levels[-1].channels


def test_a_narrow_backbone_is_narrow_throughout():
    backbone = build(NARROW, Stream(0, "weights"))
    assert [level.channels for level in backbone.levels] == [16, 16, 32, 64, 128]
    assert [level.stride for level in backbone.levels] == [2, 2, 4, 8, 16]
    assert backbone.net.conv1.weight.shape == (16, 3, 7, 7)


def test_every_shipped_name_has_four_stages_and_true_depth():
    assert set(DEPTHS) >= {"resnet10", "resnet18", "resnet34", "resnet50"}
    backbone = build(Architecture(name="resnet34", width=8), Stream(0, "weights"))
    assert [len(backbone.net.get_submodule(f"layer{i}")) for i in (1, 2, 3, 4)] == [3, 4, 6, 3]
    assert levels_of(Architecture(name="resnet101"))[-1].channels == 2048


def test_running_in_two_pieces_equals_running_through():
    backbone = build(NARROW, Stream(0, "weights")).eval()
    x = images(2, 3, 32, 32)
    whole = backbone.features(x)
    for level in backbone.levels:
        part = backbone.run(x, after=None, upto=level.name)
        before = part.clone()
        assert torch.equal(backbone.run(part, after=level.name, upto="layer4"), whole)
        assert torch.equal(part, before)
    assert torch.equal(backbone(x), whole.mean((2, 3)))


def test_unknown_or_reversed_levels_are_refused():
    backbone = build(NARROW, Stream(0, "weights"))
    with pytest.raises(ValueError, match="no level 'layer5': there are stem, layer1"):
        backbone.features(images(1, 3, 32, 32), "layer5")
    with pytest.raises(ValueError, match="'stem' comes before 'layer2'"):
        backbone.run(images(1, 32, 8, 8), after="layer2", upto="stem")


def test_weights_are_a_function_of_the_stream_and_touch_no_global_state():
    before = torch.get_rng_state()
    first, again, other = (build(NARROW, Stream(seed, "weights")) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    for name, value in first.net.state_dict().items():
        assert torch.equal(again.net.state_dict()[name], value)
    assert not torch.equal(first.net.conv1.weight, other.net.conv1.weight)
    assert not torch.equal(first.net.layer1[0].conv1.weight, other.net.layer1[0].conv1.weight)


def test_normalisation_is_torchvisions_bit_for_bit():
    pixels = torch.from_numpy(Stream(0, "p").integers(2 * 5 * 7 * 3, 256)).view(2, 5, 7, 3)
    pixels = pixels.to(torch.uint8)
    ours = Preprocessing().normalise(pixels)
    functional = torchvision.transforms.functional
    for image, result in zip(pixels, ours, strict=True):
        scaled = functional.to_tensor(image.numpy())
        expected = functional.normalize(scaled, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        assert torch.equal(result, expected)
    assert ours.dtype == torch.float32
    assert ours.is_contiguous(memory_format=torch.channels_last)


def test_channel_order_and_pixel_range_are_those_of_the_backbone():
    pixels = torch.tensor([[[[10, 20, 200]]]], dtype=torch.uint8)
    caffe = Preprocessing(
        mean=(103.53, 116.28, 123.675), std=(1, 1, 1), channel_order="bgr", pixel_max=255
    )
    expected = torch.tensor([200 - 103.53, 20 - 116.28, 10 - 123.675])
    assert torch.allclose(caffe.normalise(pixels).flatten(), expected)
    resized = pixels.float() + 0.25
    assert torch.allclose(caffe.normalise(resized).flatten(), expected + 0.25)
