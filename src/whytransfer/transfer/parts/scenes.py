"""Images with boxes and masks, as a detector is trained and tested on them: resized, flipped.

The view of image ``i`` in epoch ``e`` is a pure function of (seed, e, i).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from whytransfer.core.config import Config
from whytransfer.core.streams import Stream
from whytransfer.data.masks import Shape
from whytransfer.data.sample import Objects, Sample, Source
from whytransfer.train.learner import Context

_MIN_SIDE_PX = 1e-5


class SceneViews(Config):
    """How images are shown to a detector; the defaults are the reference's for VOC.

    Attributes:
        short_sides_px: The shorter side of a training image is one of these, each as likely.
        max_side_px: The longer side is at most this; the shorter one gives way.
        test_short_side_px: The shorter side of a test image.
        flip_p: Probability of a horizontal flip in training.
        pad_to_multiple_px: Sides of a batch are padded to a multiple of this; 1 pads to the
            largest image only, as the reference does.

    Source: moco detection/configs/pascal_voc_R_50_C4_24k.yaml @132aea9; detectron2
        augmentation_impl.py @02b5c4e, ``ResizeShortestEdge``.
    """

    short_sides_px: tuple[int, ...] = tuple(range(480, 801, 32))
    max_side_px: int = 1333
    test_short_side_px: int = 800
    flip_p: float = 0.5
    pad_to_multiple_px: int = 1


@dataclass(frozen=True)
class Scene:
    """One image as the detector sees it.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        boxes_xyxy: (G, 4) float32 pixels of ``image``; without crowds.
        labels: (G,) int64.
        index: Of the image in its source.
        original: Height and width before resizing.
        shapes: (G,) masks; empty where none are wanted.
    """

    image: Tensor
    boxes_xyxy: Tensor
    labels: Tensor
    index: int
    original: tuple[int, int]
    shapes: tuple[Shape, ...] = ()


class SceneBatch(NamedTuple):
    """Scenes of a batch, their images padded at the right and the bottom to one size.

    Attributes:
        images: (N, H, W, 3) uint8 RGB.
        sizes_px: Each image's height and width without the padding.
        boxes_xyxy: Each image's (G, 4) objects.
        labels: Each image's (G,) classes.
        indices: Of the images in their source.
        originals: Each image's height and width before resizing.
        shapes: Each image's (G,) masks; each empty where none are wanted.
    """

    images: Tensor
    sizes_px: tuple[tuple[int, int], ...]
    boxes_xyxy: tuple[Tensor, ...]
    labels: tuple[Tensor, ...]
    indices: tuple[int, ...]
    originals: tuple[tuple[int, int], ...]
    shapes: tuple[tuple[Shape, ...], ...] = ()


@dataclass(frozen=True)
class TrainingScenes:
    """The training view of image ``position`` of those that are trained on, in an epoch.

    Attributes:
        source: The training split.
        kept: (N,) indices into the source: position → image.
        views: How images are shown.
        keep_difficult: Train on objects that VOC flags as difficult.
        seed: Of the stream that the views draw from.
        masks: Show the objects' masks, and leave out those without one.
    """

    source: Source
    kept: NDArray[np.int64]
    views: SceneViews
    keep_difficult: bool
    seed: int
    masks: bool = False

    def __call__(self, epoch: int, position: int) -> Scene:
        """Reads, resizes and flips one image, its boxes and masks."""
        index = int(self.kept[position])
        stream = Stream(self.seed, "view", epoch, index)
        short_side = self.views.short_sides_px[stream.integer(len(self.views.short_sides_px))]
        sample = self.source[index]
        kept = trainable(sample.objects, self.keep_difficult, self.masks)
        scene = _resized(sample, index, (short_side, self.views.max_side_px), kept, self.masks)
        return flipped(scene) if stream.one() < self.views.flip_p else scene


@dataclass(frozen=True)
class TestScenes:
    """The test view of every image of a source."""

    __test__ = False  # not a test case, whatever its name looks like to pytest

    source: Source
    views: SceneViews

    def __call__(self, _epoch: int, index: int) -> Scene:
        """Reads and resizes one image."""
        short_side = self.views.test_short_side_px
        sample = self.source[index]
        kept = trainable(sample.objects, True)
        return _resized(sample, index, (short_side, self.views.max_side_px), kept, False)


def resized_size(height: int, width: int, short_side: int, max_side: int) -> tuple[int, int]:
    """Returns the height and width in pixels at which the shorter side has the wanted length.

    >>> resized_size(375, 500, 800, 1333)
    (800, 1067)
    """
    scale = short_side / min(height, width)
    wanted = (short_side, scale * width) if height < width else (scale * height, short_side)
    shrink = min(1.0, max_side / max(wanted))
    return int(wanted[0] * shrink + 0.5), int(wanted[1] * shrink + 0.5)


def flipped(scene: Scene) -> Scene:
    """Mirrors an image, its boxes and masks left to right."""
    x1, y1, x2, y2 = scene.boxes_xyxy.unbind(1)
    height, width = scene.image.shape[:2]
    return Scene(
        image=scene.image.flip(1),
        boxes_xyxy=torch.stack([width - x2, y1, width - x1, y2], dim=1),
        labels=scene.labels,
        index=scene.index,
        original=scene.original,
        shapes=tuple(shape.flipped((height, width)) for shape in scene.shapes),
    )


def trainable(
    objects: Objects | None, keep_difficult: bool, masks: bool = False
) -> NDArray[np.bool_]:
    """Says of each object whether a detector is trained on it: (G,).

    Args:
        objects: Of one image.
        keep_difficult: Whether those that VOC flags as difficult are.
        masks: Whether only those with a mask are.
    """
    if objects is None:
        return np.zeros(0, dtype=bool)
    kept = ~objects.crowd if keep_difficult else ~(objects.crowd | objects.difficult)
    if masks:
        kept &= np.array([not shape.empty for shape in objects.masks or ()], dtype=bool)
    return kept


def collate(scenes: Sequence[Scene], multiple_px: int = 1) -> SceneBatch:
    """Stacks scenes into a batch."""
    sizes = tuple((scene.image.shape[0], scene.image.shape[1]) for scene in scenes)
    height, width = (
        -(-max(side) // multiple_px) * multiple_px for side in zip(*sizes, strict=True)
    )
    images = torch.zeros(len(scenes), height, width, 3, dtype=torch.uint8)
    for target, scene, (h, w) in zip(images, scenes, sizes, strict=True):
        target[:h, :w] = scene.image
    return SceneBatch(
        images=images,
        sizes_px=sizes,
        boxes_xyxy=tuple(scene.boxes_xyxy for scene in scenes),
        labels=tuple(scene.labels for scene in scenes),
        indices=tuple(scene.index for scene in scenes),
        originals=tuple(scene.original for scene in scenes),
        shapes=tuple(scene.shapes for scene in scenes),
    )


def alike(batch: SceneBatch, context: Context) -> SceneBatch:
    """Returns a process's part of a batch, padded to the size of the whole batch."""
    sides = context.gather(torch.tensor(batch.images.shape[1:3])).reshape(-1, 2).amax(0)
    right, below = int(sides[1]) - batch.images.shape[2], int(sides[0]) - batch.images.shape[1]
    if not right and not below:
        return batch
    return batch._replace(images=F.pad(batch.images, (0, 0, 0, right, 0, below)))


def _resized(
    sample: Sample, index: int, sides: tuple[int, int], kept: NDArray[np.bool_], masks: bool
) -> Scene:
    """Resizes as the reference does, with PIL's bilinear kernel.

    Args:
        sample: Image and objects.
        index: Of the image.
        sides: The length wanted of the shorter side, and the most that the longer may have.
        kept: (G,) the objects to show.
        masks: Whether their masks are shown.
    """
    original = (sample.image.shape[0], sample.image.shape[1])
    height, width = resized_size(*original, *sides)
    image = sample.image
    if (height, width) != original:
        picture = Image.fromarray(image)
        image = np.array(picture.resize((width, height), Image.Resampling.BILINEAR))
    boxes, rows = _resized_boxes(sample.objects, original, (height, width), kept)
    labels = np.zeros(0, dtype=np.int64)
    shapes: tuple[Shape, ...] = ()
    if sample.objects is not None:
        labels = sample.objects.labels[rows]
    if masks and sample.objects is not None and sample.objects.masks is not None:
        own = sample.objects.masks
        shapes = tuple(own[row].resized(original, (height, width)) for row in rows.tolist())
    return Scene(
        image=torch.from_numpy(np.ascontiguousarray(image)),
        boxes_xyxy=torch.from_numpy(boxes.astype(np.float32)),
        labels=torch.from_numpy(labels),
        index=index,
        original=original,
        shapes=shapes,
    )


def _resized_boxes(
    objects: Objects | None, old: tuple[int, int], new: tuple[int, int], kept: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Returns the boxes that still have a size, and their rows in the annotation."""
    if objects is None:
        return np.zeros((0, 4)), np.zeros(0, dtype=np.int64)
    scale = np.array([new[1] / old[1], new[0] / old[0]] * 2)
    limit = np.array([new[1], new[0]] * 2, dtype=np.float64)
    boxes = np.clip(objects.boxes_xyxy[kept] * scale, 0.0, limit)
    visible = (boxes[:, 2:] - boxes[:, :2] > _MIN_SIDE_PX).all(axis=1)
    return boxes[visible], np.flatnonzero(kept)[visible]
