"""The segmenter in float64 against plain sums: dilations, pyramid, losses, both output strides."""

import numpy as np
import pytest
import torch
from tests.oracles import deeplab as oracle
from tests.oracles import schedules

from whytransfer.backbone.build import Architecture, build
from whytransfer.core.streams import Stream
from whytransfer.data.sample import IGNORED
from whytransfer.train.learner import Context
from whytransfer.transfer.parts.deeplab import DeepLabConfig, Segmenter
from whytransfer.transfer.parts.dilated import dilate
from whytransfer.transfer.parts.pixels import PixelBatch
from whytransfer.transfer.tasks import cityscapes_segmentation, semantic_segmentation

NUM_CLASSES = 5
CASES = [("resnet10", False, 8), ("resnet18", True, 16), ("resnet50", True, 8)]


def made(name, pool, stride, **settings):
    """A small segmenter whose BatchNorm statistics are those of some images."""
    config = DeepLabConfig(
        output_stride=stride, rates=(1, 2, 4), channels=6, auxiliary_channels=4, dropout_p=0.0,
        **settings,
    )  # fmt: skip
    backbone = build(Architecture(name=name, width=8, stem_pool=pool), Stream(0, "b"))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Segmenter(backbone, NUM_CLASSES, config).double()
        for norm in (m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)):
            norm.running_mean.normal_(0, 0.1)
            norm.running_var.uniform_(0.5, 1.5)
            torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
            torch.nn.init.normal_(norm.bias, 0, 0.1)
        torch.nn.init.normal_(model.head.classify.weight, 0, 0.3)
    return model


def batch_of(size=(32, 40)):
    stream = Stream(1, "batch")
    images = stream.integers(2 * size[0] * size[1] * 3, 256).reshape(2, *size, 3).astype(np.uint8)
    labels = stream.integers(2 * size[0] * size[1], NUM_CLASSES + 1).reshape(2, *size)
    labels = np.where(labels == NUM_CLASSES, IGNORED, labels).astype(np.uint8)
    images[1, 24:] = images[1, :, 30:] = 0
    labels[1, 24:] = labels[1, :, 30:] = IGNORED
    sizes = (size, (24, 30))
    return PixelBatch(torch.from_numpy(images), torch.from_numpy(labels), sizes, (0, 1), sizes)


def plain(model, training):
    """The oracle with the model's weights, stages under torchvision's names."""
    weights = {
        name.removeprefix("backbone.net."): value.detach().numpy().astype(np.float64)
        for name, value in model.state_dict().items()
    }
    return oracle.Network(weights, training)


def normalised(batch):
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    scaled = ((batch.images.numpy() / 255.0 - mean) / std).transpose(0, 3, 1, 2)
    for image, (height, width) in zip(scaled, batch.sizes_px, strict=True):
        image[:, height:] = image[:, :, width:] = 0.0
    return scaled


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("name", "pool", "stride"), CASES)
def test_losses_are_sums_written_out(name, pool, stride, training):
    model, batch = made(name, pool, stride, auxiliary_weight=0.4), batch_of()
    network, images = plain(model, training), normalised(batch)
    # Without the stem's pooling a stage of that stride is one stage later.
    middle, last = network.stages(images, stride if pool else 2 * stride, pool)
    labels = batch.labels.numpy()
    expected = [
        oracle.cross_entropy(oracle.bilinear(logits, labels.shape[1:]), labels)
        for logits in (network.pyramid(last, (1, 2, 4)), network.auxiliary(middle))
    ]
    model.train(training)
    found = model.loss(batch, Context(step=0, seed=0, gather=lambda x: x))
    # The normalised image is float32 before the network's float64.
    assert found["loss_pixels"].item() == pytest.approx(expected[0], rel=2e-6)
    assert found["loss_auxiliary"].item() == pytest.approx(expected[1], rel=2e-6)
    assert found["loss"].item() == pytest.approx(expected[0] + 0.4 * expected[1], rel=2e-6)


@pytest.mark.parametrize(("name", "pool", "stride"), CASES)
def test_the_pyramid_and_the_resizing_are_exact_in_float64(name, pool, stride):
    model = made(name, pool, stride).eval()
    channels = model.backbone.num_features
    features = Stream(2, "map").uniform(2 * channels * 30, -1, 1).reshape(2, channels, 5, 6)
    expected = oracle.bilinear(plain(model, False).pyramid(features, (1, 2, 4)), (33, 41))
    with torch.no_grad():
        logits = model.head(torch.from_numpy(features))
        found = torch.nn.functional.interpolate(
            logits, size=(33, 41), mode="bilinear", align_corners=False
        )
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-11, atol=1e-12)


def test_predictions_are_the_best_class_of_each_pixel_at_the_original_size():
    model, batch = made(*CASES[0]).eval(), batch_of()
    batch = batch._replace(originals=((45, 50), (24, 30)))
    network = plain(model, False)
    logits = network.pyramid(network.stages(normalised(batch), 16, False)[1], (1, 2, 4))
    shown = oracle.bilinear(logits, batch.labels.shape[1:])
    maps = model.predict(batch)
    for number, (height, width) in enumerate(batch.sizes_px):
        whole = oracle.bilinear(shown[number : number + 1, :, :height, :width], maps[number].shape)
        assert maps[number].shape == batch.originals[number]
        assert (maps[number] == whole[0].argmax(axis=0)).mean() > 0.999


@pytest.mark.parametrize(
    ("stride", "strides", "dilations"),
    [(8, (1, 2, 1, 1), (1, 1, 2, 4)), (16, (1, 2, 2, 1), (1, 1, 1, 2))],
)
def test_strides_and_dilations_are_the_protocols(stride, strides, dilations):
    """Of resnet50, kernel by kernel: the first one of a dilated stage is contracted."""
    backbone = build(Architecture(name="resnet50"), Stream(0, "b"))
    dilate(backbone, stride)
    for stage, (step, spread) in enumerate(zip(strides, dilations, strict=True), start=1):
        blocks = list(backbone.net.get_submodule(f"layer{stage}").children())
        for number, block in enumerate(blocks):
            own = max(1, spread // 2) if number == 0 else spread
            assert block.conv2.dilation == block.conv2.padding == (own, own), (stage, number)
            assert block.conv2.stride == ((step, step) if number == 0 else (1, 1))
            assert block.conv1.dilation == block.conv3.dilation == (1, 1)
        shortcut = next(m for m in blocks[0].downsample if isinstance(m, torch.nn.Conv2d))
        assert shortcut.stride == (step, step)
    assert [level.stride for level in backbone.levels][-1] == stride
    maps = backbone.eval().features(torch.zeros(1, 3, 64, 96))
    assert maps.shape[-2:] == (64 // stride, 96 // stride)


@pytest.mark.parametrize("task", [cityscapes_segmentation, semantic_segmentation])
def test_the_learning_rate_of_every_step_is_mmcvs(task):
    """From 0.01 to the floor of 1e-4, step by step over the paper's 40k."""
    training = task.Config().training
    rates = [
        training.sgd.lr * training.schedule.factor(step, 40000, steps_per_epoch=371)
        for step in range(40001)
    ]
    expected = [schedules.mmcv_poly(0.01, step, 40000, 0.9, 1e-4) for step in range(40001)]
    np.testing.assert_allclose(rates, expected, rtol=1e-12)
    assert rates[0] == 0.01 and rates[-1] == pytest.approx(1e-4)
    assert (np.diff(rates) < 0).all()
