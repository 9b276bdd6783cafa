"""The DeepLab-v3 segmenter: a dilated backbone, a pyramid of spread kernels, a class per pixel."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt
from torch import Tensor, nn

from whytransfer.backbone.model import Backbone
from whytransfer.core.config import Config, assumed
from whytransfer.core.errors import InputError
from whytransfer.data.sample import IGNORED
from whytransfer.train.learner import Context
from whytransfer.train.norm import convert_groups
from whytransfer.transfer.parts.dilated import dilate
from whytransfer.transfer.parts.frozen import frozen_modules
from whytransfer.transfer.parts.pixels import PixelBatch

_MIDDLE, _LAST = "layer3", "layer4"
_MMSEG = "the paper does not say; mmsegmentation's value, torchvision has "


class DeepLabConfig(Config):
    """The segmenter's settings.

    Attributes:
        output_stride: Pixels of the image between two neighbours of the last map.
        rates: Spread of the pyramid's 3×3 kernels; a 1×1 kernel and the mean over the image are
            always beside them.
        channels: Of each branch of the pyramid, and of what is made of them.
        fusion: ``3x3`` joins the branches by one 3×3 convolution; ``1x1-3x3`` by a 1×1, then a 3×3.
        dropout_p: Probability that a channel is left out before the classifier in training.
        auxiliary_weight: Weight of a second classifier's loss on stage 3; 0 for none.
        auxiliary_channels: Of that classifier's 3×3 convolution.
        bn_group_size: Images whose statistics a BatchNorm in training shares; ``None`` is all of
            a batch, which is what synchronised BatchNorm computes on any number of GPUs.
        frozen_levels: This many levels, the stem being the first, keep their weights and use
            their running statistics; all layers are fine-tuned in the paper.
    """

    output_stride: Literal[8, 16] = assumed(
        8, "the paper does not say; mmsegmentation and torchvision have 8, detectron2 has 16"
    )
    rates: tuple[PositiveInt, ...] = assumed((12, 24, 36), _MMSEG + "the same")
    channels: PositiveInt = assumed(512, _MMSEG + "256")
    fusion: Literal["3x3", "1x1-3x3"] = assumed("3x3", _MMSEG + "1x1-3x3")
    dropout_p: Annotated[float, Field(ge=0, lt=1)] = assumed(0.1, _MMSEG + "0.5 of the values")
    auxiliary_weight: NonNegativeFloat = assumed(0.4, _MMSEG + "0.5")
    auxiliary_channels: PositiveInt = assumed(256, _MMSEG + "a quarter of the stage's")
    bn_group_size: int | None = None
    frozen_levels: NonNegativeInt = 0


class PyramidHead(nn.Module):
    """Class logits from a map that is looked at by kernels of several spreads.

    Args:
        inputs: Channels of the map.
        num_classes: Of the logits.
        config: Channels, spreads, fusion, dropout.

    Source: Chen et al. 2017, section 3.3; mmsegmentation mmseg/models/decode_heads/aspp_head.py;
        torchvision models/segmentation/deeplabv3.py (``1x1-3x3``).
    """

    def __init__(self, inputs: int, num_classes: int, config: DeepLabConfig) -> None:
        super().__init__()
        channels = config.channels
        self.branches = nn.ModuleList(
            [_unit(inputs, channels, 1), *(_unit(inputs, channels, 3, r) for r in config.rates)]
        )
        self.pooled = _unit(inputs, channels, 1)
        joined = channels * (len(config.rates) + 2)
        self.fuse = (
            _unit(joined, channels, 3)
            if config.fusion == "3x3"
            else nn.Sequential(_unit(joined, channels, 1), _unit(channels, channels, 3))
        )
        self.classify = _classifier(channels, num_classes)

    def forward(self, features: Tensor, kept: Tensor | None = None) -> Tensor:
        """Returns logits (N, classes, H, W) of features (N, inputs, H, W).

        Args:
            features: The last map.
            kept: (N, channels) what each channel is multiplied with before the classifier.
        """
        # The mean of one value per channel, resized, is that value everywhere.
        mean = self.pooled(features.mean(dim=(2, 3), keepdim=True))
        seen = [branch(features) for branch in self.branches]
        fused = self.fuse(torch.cat([*seen, mean.expand_as(seen[0])], dim=1))
        logits: Tensor = self.classify(fused if kept is None else fused * kept[:, :, None, None])
        return logits


class PlainHead(nn.Module):
    """The auxiliary classifier: one 3×3 convolution, then a class per place.

    Source: mmsegmentation mmseg/models/decode_heads/fcn_head.py with ``num_convs=1``.
    """

    def __init__(self, inputs: int, channels: int, num_classes: int) -> None:
        super().__init__()
        self.read = _unit(inputs, channels, 3)
        self.classify = _classifier(channels, num_classes)

    def forward(self, features: Tensor, kept: Tensor | None = None) -> Tensor:
        """Returns logits (N, classes, H, W); ``kept`` as in :class:`PyramidHead`."""
        read = self.read(features)
        logits: Tensor = self.classify(read if kept is None else read * kept[:, :, None, None])
        return logits


class Segmenter(nn.Module):
    """DeepLab-v3 on a ResNet.

    Channels are dropped by streams named by step and image, so the loss depends neither on the
    number of processes nor on the other images of the batch.

    Args:
        backbone: Dilated and fine-tuned in place.
        num_classes: C.
        config: All its settings.
    """

    def __init__(self, backbone: Backbone, num_classes: int, config: DeepLabConfig) -> None:
        super().__init__()
        dilate(backbone, config.output_stride)
        self.backbone, self.config = backbone, config
        self.head = PyramidHead(backbone.num_features, num_classes, config)
        middle = backbone.level(_MIDDLE).channels
        self.auxiliary = (
            PlainHead(middle, config.auxiliary_channels, num_classes)
            if config.auxiliary_weight
            else None
        )
        convert_groups(self, config.bn_group_size)
        for module in frozen_modules(backbone, config.frozen_levels):
            module.requires_grad_(False)

    def train(self, mode: bool = True) -> "Segmenter":
        """Sets the mode of everything but the frozen levels, which stay in evaluation mode."""
        super().train(mode)
        for module in frozen_modules(self.backbone, self.config.frozen_levels):
            module.eval()
        return self

    def loss(self, batch: PixelBatch, context: Context) -> dict[str, Tensor]:
        """Returns the losses of both classifiers and their weighted sum, and the accuracy."""
        middle, last = self._maps(batch)
        labels = batch.labels.to(last.device)
        kept = self._kept("dropout", self.config.channels, batch, context, last)
        logits = _at_size(self.head(last, kept), labels)
        losses = {"loss_pixels": _cross_entropy(logits, labels)}
        total = losses["loss_pixels"]
        if self.auxiliary is not None:
            channels = self.config.auxiliary_channels
            kept = self._kept("dropout/auxiliary", channels, batch, context, last)
            beside = _at_size(self.auxiliary(middle, kept), labels)
            losses["loss_auxiliary"] = _cross_entropy(beside, labels)
            total = total + self.config.auxiliary_weight * losses["loss_auxiliary"]
        return {"loss": total, **losses, "accuracy": _accuracy(logits, labels, context)}

    def after_step(self) -> None:
        """Nothing is left to do after an optimiser step."""

    @torch.no_grad()
    def predict(
        self, batch: PixelBatch, scales: Sequence[float] = (1.0,), flip: bool = False
    ) -> list[NDArray[np.uint8]]:
        """Returns each image's classes (H, W) at its original size.

        Args:
            batch: Whole images.
            scales: Each image is looked at at these scales; probabilities are averaged.
            flip: Also mirrored, at each scale.

        Raises:
            InputError: A score is not finite.
        """
        if tuple(scales) == (1.0,) and not flip:
            logits = _at_size(self.head(self._maps(batch)[1]), batch.labels)
            scores = [
                _resized(image[:, :height, :width], original)
                for image, (height, width), original in zip(
                    logits, batch.sizes_px, batch.originals, strict=True
                )
            ]
        else:
            scores = [self._averaged(one, scales, flip) for one in _one_by_one(batch)]
        return [_classes(*pair) for pair in zip(scores, batch.indices, strict=True)]

    def _averaged(self, batch: PixelBatch, scales: Sequence[float], flip: bool) -> Tensor:
        """Returns the probabilities (C, H, W) of one image, summed over scales and mirroring."""
        total = torch.zeros(())
        for scale in scales:
            seen = _scaled(batch, scale)
            for mirrored in (False, True) if flip else (False,):
                images = seen.images.flip(2) if mirrored else seen.images
                logits = self.head(self._maps(seen._replace(images=images))[1])
                shown = _at_size(logits.flip(3) if mirrored else logits, seen.labels)[0]
                total = total.to(shown.device) + _resized(shown, batch.originals[0]).softmax(dim=0)
        return total

    def _maps(self, batch: PixelBatch) -> tuple[Tensor, Tensor]:
        """Returns the maps of stages 3 and 4; padding enters as zeros, the mean colour."""
        device = self.head.classify.weight.device
        assert isinstance(device, torch.device)
        images = self.backbone.preprocessing.normalise(batch.images.to(device))
        for image, (height, width) in zip(images, batch.sizes_px, strict=True):
            image[:, height:] = 0.0
            image[:, :, width:] = 0.0
        middle = self.backbone.features(images, upto=_MIDDLE)
        return middle, self.backbone.run(middle, after=_MIDDLE, upto=_LAST)

    def _kept(
        self, name: str, channels: int, batch: PixelBatch, context: Context, like: Tensor
    ) -> Tensor | None:
        """Draws which channels of each image stay, scaled so that their mean does: (N, channels).

        Whole channels are dropped, as mmsegmentation does.
        """
        p = self.config.dropout_p
        if not p:
            return None
        drawn = [context.stream(name, index).uniform(channels) for index in batch.indices]
        return _precise(torch.from_numpy((np.array(drawn) >= p) / (1.0 - p)), like)


def _unit(inputs: int, outputs: int, kernel: int, rate: int = 1) -> nn.Sequential:
    """A convolution that keeps the size, BatchNorm and ReLU."""
    padding = rate * (kernel // 2)
    conv = nn.Conv2d(inputs, outputs, kernel, padding=padding, dilation=rate, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


def _classifier(channels: int, num_classes: int) -> nn.Conv2d:
    conv = nn.Conv2d(channels, num_classes, 1)
    nn.init.normal_(conv.weight, std=0.01)
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return conv


def _precise(values: Tensor, like: Tensor) -> Tensor:
    """Returns values where ``like`` is, in its precision, but not below 32 bits."""
    return values.to(like.device, torch.promote_types(like.dtype, torch.float32))


def _at_size(logits: Tensor, labels: Tensor) -> Tensor:
    """Resizes logits to the labels' height and width."""
    size = labels.shape[-2:]
    return F.interpolate(_precise(logits, logits), size=size, mode="bilinear", align_corners=False)


def _one_by_one(batch: PixelBatch) -> Iterator[PixelBatch]:
    """Yields each image as a batch of its own, without padding."""
    for row, (height, width) in enumerate(batch.sizes_px):
        yield PixelBatch(
            batch.images[row : row + 1, :height, :width],
            batch.labels[row : row + 1, :height, :width],
            batch.sizes_px[row : row + 1],
            batch.indices[row : row + 1],
            batch.originals[row : row + 1],
        )


def _scaled(batch: PixelBatch, scale: float) -> PixelBatch:
    """Resizes the images of a batch of equal ones, bilinearly; labels only in size."""
    size = tuple(max(1, int(side * scale + 0.5)) for side in batch.sizes_px[0])
    if size == batch.sizes_px[0]:
        return batch
    images = batch.images.permute(0, 3, 1, 2).float()
    images = F.interpolate(images, size=size, mode="bilinear", align_corners=False)
    labels = batch.labels.new_full((len(images), *size), IGNORED)
    sizes = tuple((size[0], size[1]) for _ in batch.sizes_px)
    return batch._replace(images=images.permute(0, 2, 3, 1), labels=labels, sizes_px=sizes)


def _classes(scores: Tensor, index: int) -> NDArray[np.uint8]:
    """Returns the class (H, W) with the highest of the scores (C, H, W); of equal ones the first.

    Raises:
        InputError: A score is not finite.
    """
    if not scores.isfinite().all():
        raise InputError(
            f"test image {index}", "the scores of its pixels are not finite", "finite numbers",
            "the model diverged: lower its learning rate",
        )  # fmt: skip
    return scores.argmax(dim=0).to(torch.uint8).cpu().numpy()


def _resized(logits: Tensor, size: Sequence[int]) -> Tensor:
    """Resizes the logits (C, H, W) of one image."""
    if tuple(logits.shape[1:]) == tuple(size):
        return logits
    return F.interpolate(logits[None], size=tuple(size), mode="bilinear", align_corners=False)[0]


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Returns the cross entropy summed over the pixels that count, by the number of all pixels.

    Source: mmsegmentation mmseg/models/losses/cross_entropy_loss.py (``avg_non_ignore=False``): so
        the mean over parts of a batch is the loss of the batch. torchvision divides by the pixels
        that count.
    """
    each = F.cross_entropy(logits, labels.long(), ignore_index=IGNORED, reduction="none")
    return each.mean()


@torch.no_grad()
def _accuracy(logits: Tensor, labels: Tensor, context: Context) -> Tensor:
    counted = labels != IGNORED
    right = (logits.argmax(dim=1) == labels) & counted
    return context.average(right.sum().double(), counted.sum())
