"""Images with a label for every pixel, as a segmenter is trained and tested on them.

A training image is scaled, cropped, flipped and distorted in colour, its labels with it; what of
the crop lies outside the image is padding that does not count. The view of image ``i`` in epoch
``e`` is a pure function of (seed, e, i).

Source: mmsegmentation configs/_base_/datasets/cityscapes.py and mmseg/datasets/pipelines, as far
    as the paper says nothing.
Differs: labels are resized by the nearest pixel centre, where OpenCV's plain ``INTER_NEAREST``
    takes the pixel above and to the left, up to half a pixel off from the image; saturation and hue
    are changed in one turn to HSV and back, not in two.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, NamedTuple, Self

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from torch import Tensor

from whytransfer.core.config import Config, assumed
from whytransfer.core.errors import InputError
from whytransfer.core.streams import Stream
from whytransfer.data.sample import IGNORED, Source

_NUM_CROPS = 11
"""One crop, and ten more where a single class fills too much of it."""

_NUM_DRAWS = 2 + 2 * _NUM_CROPS + 9
_MMSEG = "the paper does not say; its author names mmsegmentation (Good_transfer#1), whose it is"

Size = tuple[int, int]
"""Height and width in pixels."""


class PixelViews(Config):
    """How images are shown to a segmenter.

    Attributes:
        crop_px: Height and width of a training crop.
        base_px: Images are scaled to fit this height and width (either way round), in training
            before ``scale``; ``None`` takes each at its own size.
        scale: Smallest and largest factor that a training image is scaled by.
        max_class_share: A crop of which one class has as large a share or larger is drawn again.
        flip_p: Probability of a horizontal flip in training.
        photometric: Whether brightness, contrast, saturation and hue are changed in training.
        test_scales: The test image is looked at at these scales, and the classes' probabilities
            are averaged.
        test_flip: Whether it is also looked at mirrored, at each of them.
    """

    crop_px: tuple[PositiveInt, PositiveInt] = assumed(
        (512, 1024), "the paper's for Cityscapes; of other data it says nothing"
    )
    base_px: tuple[PositiveInt, PositiveInt] | None = assumed(
        None, "the paper does not say; Cityscapes' own 1024 by 2048 in mmsegmentation's recipe"
    )
    scale: tuple[PositiveFloat, PositiveFloat] = assumed((0.5, 2.0), _MMSEG)
    max_class_share: Annotated[float, Field(gt=0, le=1)] = assumed(0.75, _MMSEG)
    flip_p: Annotated[float, Field(ge=0, le=1)] = assumed(0.5, _MMSEG)
    photometric: bool = assumed(True, _MMSEG)
    test_scales: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] = assumed(
        (1.0,), _MMSEG + ", whose first figure is of one scale"
    )
    test_flip: bool = assumed(False, _MMSEG + ", whose first figure is without")

    @model_validator(mode="after")
    def _scale_rises(self) -> Self:
        if self.scale[0] > self.scale[1]:
            raise ValueError(f"scale is {self.scale}, expected the smaller factor first")
        return self


@dataclass(frozen=True)
class Photometry:
    """How the colours of one view are changed; ``None`` leaves that property as it is.

    Attributes:
        brightness: Added to every value, in 8-bit steps.
        contrast: Factor of every value.
        contrast_first: Before saturation and hue, or after them.
        saturation: Factor.
        hue: Added, in steps of 2 degrees.
    """

    brightness: float | None = None
    contrast: float | None = None
    contrast_first: bool = True
    saturation: float | None = None
    hue: int | None = None


@dataclass(frozen=True)
class PixelScene:
    """One image as the segmenter sees it.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        labels: (H, W) uint8, a class or ``IGNORED``; the test needs none, so it is empty there.
        index: Of the image in its source.
        original: Height and width before resizing.
    """

    image: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    index: int
    original: Size


class PixelBatch(NamedTuple):
    """Images of a batch, padded at the right and the bottom to one size.

    Attributes:
        images: (N, H, W, 3) uint8 RGB.
        labels: (N, H, W) uint8, ``IGNORED`` in the padding.
        sizes_px: Each image's height and width without the padding.
        indices: Of the images in their source.
        originals: Each image's height and width before resizing.
    """

    images: Tensor
    labels: Tensor
    sizes_px: tuple[Size, ...]
    indices: tuple[int, ...]
    originals: tuple[Size, ...]


@dataclass(frozen=True)
class TrainingPixels:
    """The training view of an image in an epoch."""

    source: Source
    views: PixelViews
    seed: int

    def __call__(self, epoch: int, index: int) -> PixelScene:
        """Reads one image with its labels, and draws and applies its view."""
        image = self.source[index].image
        labels = labels_of(self.source, index)
        if labels.shape != image.shape[:2]:
            raise InputError(
                self.source.path(index), f"the image is {image.shape[:2]}, its labels "
                f"{labels.shape}", "a label for every pixel", "correct the files",
            )  # fmt: skip
        original = (image.shape[0], image.shape[1])
        draws = Stream(self.seed, "view", epoch, index).uniform(_NUM_DRAWS).tolist()
        image, labels = training_view(image, labels, self.views, draws)
        return PixelScene(image, labels, index, original)


@dataclass(frozen=True)
class TestPixels:
    """The test view of every image of a source: the whole of it."""

    __test__ = False  # not a test case, whatever its name looks like to pytest

    source: Source
    views: PixelViews

    def __call__(self, _epoch: int, index: int) -> PixelScene:
        """Reads one image."""
        image = self.source[index].image
        original = (image.shape[0], image.shape[1])
        image = _resized(image, scaled_size(original, self.views.base_px, 1.0))
        return PixelScene(image, np.zeros((0, 0), dtype=np.uint8), index, original)


def labels_of(source: Source, index: int) -> NDArray[np.uint8]:
    """Reads the labels (H, W) of one image's pixels.

    Raises:
        InputError: It has none.
    """
    found = source.segmentation(index)
    if found is None:
        raise InputError(
            source.path(index), "its pixels have no labels", "data with a mask for every image",
            "give a segmentation dataset",
        )  # fmt: skip
    return found.labels


def require_crop(source: Source, views: PixelViews) -> None:
    """Checks that some training image can fill a crop at the largest scale; no image is decoded.

    Where a scaled image is smaller than the crop, the rest is padding, as in the reference. Where
    none ever fills it, each step would be spent on padding.

    Raises:
        InputError: The crop is higher or wider than every training image at its largest scale.
    """
    largest: Size = (0, 0)
    for index in range(len(source)):
        size = scaled_size(source.size(index), views.base_px, views.scale[1])
        if all(side >= crop for side, crop in zip(size, views.crop_px, strict=True)):
            return
        largest = max(largest, size, key=math.prod)
    height, width = views.crop_px
    raise InputError(
        "views.crop_px", f"is {height} by {width} (height by width), and no training image is as "
        f"large: the largest is {largest[0]} by {largest[1]} at scale {views.scale[1]:g}",
        "at most the size of an image", "make crop_px smaller, or set views.base_px",
    )  # fmt: skip


def scaled_size(size: Size, base_px: Size | None, factor: float) -> Size:
    """Returns the size of an image that is fitted into the base, then scaled.

    >>> scaled_size((760, 1280), (1024, 2048), 0.5)
    (512, 862)
    """
    if base_px is not None:
        factor *= min(max(base_px) / max(size), min(base_px) / min(size))
    height, width = (max(1, int(side * factor + 0.5)) for side in size)
    return height, width


def training_view(
    image: NDArray[np.uint8], labels: NDArray[np.uint8], views: PixelViews, draws: Sequence[float]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Scales, crops, flips and distorts an image, its labels alike; at most a crop in size.

    Args:
        image: (H, W, 3).
        labels: (H, W).
        views: Which changes, and how strong.
        draws: Numbers in [0, 1); the same count is used whatever is switched on.
    """
    low, high = views.scale
    size = scaled_size(labels.shape, views.base_px, low + draws[0] * (high - low))
    image, labels = _resized(image, size), _resized(labels, size)
    area = _crop(labels, views, draws[2 : 2 + 2 * _NUM_CROPS])
    image, labels = image[area], labels[area]
    if draws[1] < views.flip_p:
        image, labels = image[:, ::-1], labels[:, ::-1]
    if views.photometric:
        image = distort(image, sample_photometry(draws[2 + 2 * _NUM_CROPS :]))
    return np.ascontiguousarray(image), np.ascontiguousarray(labels)


def _crop(
    labels: NDArray[np.uint8], views: PixelViews, draws: Sequence[float]
) -> tuple[slice, slice]:
    """Draws a crop in which no class fills too much, or the last one of those tried."""
    height, width = labels.shape
    crop_height, crop_width = views.crop_px
    area = (slice(0), slice(0))
    for y, x in zip(draws[::2], draws[1::2], strict=True):
        top = int(y * (max(0, height - crop_height) + 1))
        left = int(x * (max(0, width - crop_width) + 1))
        area = slice(top, top + crop_height), slice(left, left + crop_width)
        if views.max_class_share == 1 or _mixed(labels[area], views.max_class_share):
            break
    return area


def _mixed(labels: NDArray[np.uint8], share: float) -> bool:
    """Says whether there are several classes, none with that share of the pixels or more."""
    counts = np.bincount(labels.ravel(), minlength=IGNORED + 1)[:IGNORED]
    return bool((counts > 0).sum() > 1 and counts.max() / counts.sum() < share)


def sample_photometry(draws: Sequence[float]) -> Photometry:
    """Draws how colours change: each property with probability one half, from nine numbers.

    Source: mmsegmentation mmseg/datasets/pipelines/transforms.py, ``PhotoMetricDistortion``.
    """
    brightness, contrast, saturation, hue = (
        low + strength * (high - low) if chosen < 0.5 else None
        for chosen, strength, (low, high) in zip(
            draws[:8:2], draws[1:8:2], ((-32, 32), (0.5, 1.5), (0.5, 1.5), (-18, 18)), strict=True
        )
    )
    whole = None if hue is None else int(np.floor(hue))
    return Photometry(brightness, contrast, draws[8] < 0.5, saturation, whole)


def distort(image: NDArray[np.uint8], change: Photometry) -> NDArray[np.uint8]:
    """Changes the colours of an image (H, W, 3); values are cut off at 0 and 255 at each step."""
    if change.brightness is not None:
        image = _levels(image, 1.0, change.brightness)
    if change.contrast is not None and change.contrast_first:
        image = _levels(image, change.contrast, 0.0)
    if change.saturation is not None or change.hue is not None:
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
        if change.saturation is not None:
            hsv[..., 1] = _levels(np.ascontiguousarray(hsv[..., 1]), change.saturation, 0.0)
        if change.hue is not None:
            hsv[..., 0] = (hsv[..., 0].astype(np.int16) + change.hue) % 180
        image = np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), dtype=np.uint8)
    if change.contrast is not None and not change.contrast_first:
        image = _levels(image, change.contrast, 0.0)
    return image


def _levels(values: NDArray[np.uint8], factor: float, shift: float) -> NDArray[np.uint8]:
    """Multiplies and adds by a table of the 256 values; fractions are cut off."""
    table = np.arange(256, dtype=np.float32) * np.float32(factor) + np.float32(shift)
    changed: NDArray[np.uint8] = np.clip(table, 0, 255).astype(np.uint8)[values]
    return changed


def _resized(pixels: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    """Resizes an image (H, W, 3) bilinearly, labels (H, W) by the nearest pixel."""
    if pixels.shape[:2] == size:
        return pixels
    kind = cv2.INTER_LINEAR if pixels.ndim == 3 else cv2.INTER_NEAREST_EXACT
    return np.asarray(cv2.resize(pixels, size[::-1], interpolation=kind), dtype=np.uint8)


def collate(scenes: Sequence[PixelScene], size: Size | None = None) -> PixelBatch:
    """Stacks images, each padded to ``size``, or to the largest of them."""
    sizes: list[Size] = [(scene.image.shape[0], scene.image.shape[1]) for scene in scenes]
    height, width = size or (max(h for h, _ in sizes), max(w for _, w in sizes))
    images = np.zeros((len(scenes), height, width, 3), dtype=np.uint8)
    labels = np.full((len(scenes), height, width), IGNORED, dtype=np.uint8)
    for row, scene in enumerate(scenes):
        images[row, : sizes[row][0], : sizes[row][1]] = scene.image
        labels[row, : scene.labels.shape[0], : scene.labels.shape[1]] = scene.labels
    return PixelBatch(
        images=torch.from_numpy(images),
        labels=torch.from_numpy(labels),
        sizes_px=tuple(sizes),
        indices=tuple(scene.index for scene in scenes),
        originals=tuple(scene.original for scene in scenes),
    )
