"""What a data source gives: samples, and for detection their objects."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from whytransfer.data.masks import Shape

Split = Literal["train", "test"]
"""Which part of a dataset: what is fitted on, or what is scored on (ImageNet's ``val``)."""


@dataclass(frozen=True)
class Objects:
    """The annotated objects of one image, in the order of the annotation.

    Attributes:
        boxes_xyxy: (N, 4) float64, absolute pixels, continuous and 0-based: a box that covers the
            first pixel alone is (0, 0, 1, 1). Each format's reader converts to this.
        labels: (N,) int64 index into the source's ``classes``.
        difficult: (N,) VOC's flag; all false elsewhere.
        crowd: (N,) COCO's flag; all false elsewhere.
        area: (N,) object area in pixels², COCO's own where given, else the box's.
        masks: (N,) masks as annotated, not decoded; ``None`` where the format has none. An object
            whose mask covers nothing was annotated without one.
    """

    boxes_xyxy: NDArray[np.float64]
    labels: NDArray[np.int64]
    difficult: NDArray[np.bool_]
    crowd: NDArray[np.bool_]
    area: NDArray[np.float64]
    masks: Sequence[Shape] | None = None


IGNORED = 255
"""The label of a pixel that counts neither in training nor in a score."""


@dataclass(frozen=True)
class Segmentation:
    """What every pixel of one image shows.

    Attributes:
        labels: (H, W) uint8 index into the source's ``classes``, or ``IGNORED``.
        instances: (H, W) int32, the number of the object that a pixel belongs to, 0 for none;
            ``None`` where the format has no instances.
    """

    labels: NDArray[np.uint8]
    instances: NDArray[np.int32] | None = None


@dataclass(frozen=True)
class Sample:
    """One image of a source, decoded.

    Attributes:
        image: (H, W, 3) uint8, RGB.
        name: Unique within the source; stable over machines (no absolute path).
        label: Index into the source's ``classes``, ``None`` where images have no label.
        objects: Annotated objects, ``None`` where the format has none.
    """

    image: NDArray[np.uint8]
    name: str
    label: int | None = None
    objects: Objects | None = None


class Source(Protocol):
    """One split of a dataset, opened. Cheap to pickle: workers get a copy."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names what ``label`` and ``Objects.labels`` index."""

    def __len__(self) -> int:
        """Counts the images."""

    def __getitem__(self, index: int) -> Sample:
        """Reads and decodes one image."""

    def name(self, index: int) -> str:
        """Names an image without decoding it."""

    def path(self, index: int) -> Path:
        """Returns the image's file."""

    def label(self, index: int) -> int | None:
        """Returns an image's label without decoding it."""

    def size(self, index: int) -> tuple[int, int]:
        """Returns an image's (height, width) without decoding it."""

    def objects(self, index: int) -> Objects | None:
        """Returns an image's objects without decoding it."""

    def landmarks(self, index: int) -> NDArray[np.float64] | None:
        """Returns an image's landmarks, (L, 2) as (x, y) in continuous 0-based pixels."""

    def segmentation(self, index: int) -> Segmentation | None:
        """Reads what each pixel of an image shows."""

    def files(self) -> Iterable[Path]:
        """Lists every file that determines the content, for the manifest of content hashes."""


@runtime_checkable
class KeepsApart(Protocol):
    """A training split that keeps images of its own classes apart, to measure by.

    They are no part of the split, so nothing that trains on it has seen them; its ``files()`` name
    them, for the fingerprint.
    """

    def kept_apart(self) -> Source | None:
        """Opens those images, with the split's classes; ``None`` where there are none."""


class Unannotated:
    """What a source without annotations answers; a format's source overrides what it does have."""

    def label(self, index: int) -> int | None:
        """Returns ``None``: there are no labels."""
        return None

    def objects(self, index: int) -> Objects | None:
        """Returns ``None``: there are no objects."""
        return None

    def landmarks(self, index: int) -> NDArray[np.float64] | None:
        """Returns ``None``: there are no landmarks."""
        return None

    def segmentation(self, index: int) -> Segmentation | None:
        """Returns ``None``: pixels have no labels."""
        return None
