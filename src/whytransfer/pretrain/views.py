"""The images of a training run as augmented views: a pure function of (seed, epoch, index)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from whytransfer.data.sample import Source
from whytransfer.data.views import Augmentation, apply_view, sample_view, view_stream
from whytransfer.pretrain.method import ViewBatch

CACHE_BYTES = 512 << 20
"""Decoded images are kept in memory up to this size, whatever their number."""


@dataclass(frozen=True)
class Viewed:
    """One image's views, each (crop, crop, 3) uint8, with its label and its number."""

    views: tuple[NDArray[np.uint8], ...]
    label: int | None
    index: int


class Views:
    """Reads and augments one image at a time.

    Decoded images are kept, first come first kept, until they fill the cache. That changes no
    number: the pixels of an image are the same in every epoch, and each view draws from a stream
    of its own.

    Args:
        source: The images.
        augmentation: How a view is made.
        num_views: Views per image.
        seed: Of every view's stream.
        cache_bytes: Room for decoded images; 0 decodes them each time.
    """

    def __init__(
        self,
        source: Source,
        augmentation: Augmentation,
        num_views: int,
        seed: int,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self.source = source
        self.augmentation = augmentation
        self.num_views = num_views
        self.seed = seed
        self._room = cache_bytes
        self._decoded: dict[int, NDArray[np.uint8]] = {}

    def __call__(self, epoch: int, index: int) -> Viewed:
        """Returns the views of one image in one epoch."""
        image = self._image(index)
        views = tuple(self._view(image, epoch, index, view) for view in range(self.num_views))
        return Viewed(views, self.source.label(index), index)

    def _view(
        self, image: NDArray[np.uint8], epoch: int, index: int, view: int
    ) -> NDArray[np.uint8]:
        stream = view_stream(self.seed, epoch, index, view)
        height, width = image.shape[:2]
        parameters = sample_view(self.augmentation, stream, height, width)
        return apply_view(image, parameters, self.augmentation.crop_px)

    def _image(self, index: int) -> NDArray[np.uint8]:
        found = self._decoded.get(index)
        if found is not None:
            return found
        image = self.source[index].image
        if image.nbytes <= self._room:
            self._room -= image.nbytes
            self._decoded[index] = image
        return image


def collate(items: Sequence[Viewed]) -> ViewBatch:
    """Stacks the views of a batch's images."""
    views = tuple(
        torch.from_numpy(np.stack(view)) for view in zip(*(i.views for i in items), strict=True)
    )
    labels = [item.label for item in items]
    return ViewBatch(
        views=views,
        labels=None if None in labels else torch.tensor(labels),
        indices=torch.tensor([item.index for item in items]),
    )
