"""The images of a training run as augmented views: a pure function of (seed, epoch, index)."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from whytransfer.core.errors import InputError, UnreadableImage
from whytransfer.data.device_views import photometry
from whytransfer.data.sample import Source
from whytransfer.data.views import (
    Augmentation,
    ViewParameters,
    apply_view,
    crop_view,
    sample_view,
    view_stream,
)
from whytransfer.pretrain.method import ViewBatch

_log = logging.getLogger(__name__)

CACHE_BYTES = 512 << 20
"""Decoded images are kept in memory up to this size, whatever their number."""


@dataclass(frozen=True)
class Viewed:
    """One image's views, with its label and its number.

    Attributes:
        views: Each (crop, crop, 3) uint8.
        label: ``None`` where images have none.
        index: Of the image that is seen.
        to_apply: Per view the parameters whose photometry the device applies; empty where it is
            applied already.
        unreadable: Whether this image stands in for one that can't be read.
    """

    views: tuple[NDArray[np.uint8], ...]
    label: int | None
    index: int
    to_apply: tuple[ViewParameters, ...] = ()
    unreadable: bool = False


class Views:
    """Reads and augments one image at a time: decoded once for all its views.

    Decoded images are kept, first come first kept, until they fill the cache. That changes no
    number: the pixels of an image are the same in every epoch, and each view draws from a stream
    of its own. Which image stands in for one that can't be read depends on the files alone.

    Args:
        source: The images.
        augmentation: How a view is made.
        num_views: Views per image.
        seed: Of every view's stream.
        cache_bytes: Room for decoded images; 0 decodes them each time.
        crops_only: Whether photometry is left to the device.
        skip_unreadable: Whether an image that can't be read is replaced by the next one, in the
            order of the source, that can be; else it is an error. A shard that is damaged or a
            server that is down is one in any case: it would pass for thousands of bad images.
    """

    def __init__(
        self,
        source: Source,
        augmentation: Augmentation,
        num_views: int,
        seed: int,
        cache_bytes: int = CACHE_BYTES,
        *,
        crops_only: bool = False,
        skip_unreadable: bool = False,
    ) -> None:
        self.source = source
        self.augmentation = augmentation
        self.num_views = num_views
        self.seed = seed
        self.crops_only = crops_only
        self.skip_unreadable = skip_unreadable
        self._room = cache_bytes
        self._decoded: dict[int, NDArray[np.uint8]] = {}
        self._bad: set[int] = set()

    def __call__(self, epoch: int, index: int) -> Viewed:
        """Returns the views of one image in one epoch.

        Raises:
            InputError: It can't be read, and is not to be skipped; or no image can be; or where
                images lie can't be read.
        """
        try:
            image, shown = self._readable(index)
        except InputError as error:
            found = f"{error.found} in epoch {epoch}"
            raise InputError(error.where, found, error.expected, error.todo) from None
        # The views are drawn for the image that was asked for: one that stands in for another is
        # then seen in other views than its own.
        streams = (view_stream(self.seed, epoch, index, view) for view in range(self.num_views))
        drawn = tuple(sample_view(self.augmentation, s, *image.shape[:2]) for s in streams)
        make = crop_view if self.crops_only else apply_view
        return Viewed(
            views=tuple(make(image, p, self.augmentation.crop_px) for p in drawn),
            label=self.source.label(shown),
            index=shown,
            to_apply=drawn if self.crops_only else (),
            unreadable=shown != index,
        )

    def _readable(self, index: int) -> tuple[NDArray[np.uint8], int]:
        """Returns the image, or the first after it that can be read, and its number."""
        if not self.skip_unreadable:
            return self._image(index), index
        num_images, problem = len(self.source), None
        for shown in ((index + ahead) % num_images for ahead in range(num_images)):
            if shown in self._bad:
                continue
            try:
                return self._image(shown), shown
            except UnreadableImage as error:
                self._bad.add(shown)
                problem = error
                _log.warning("%s; another image is shown in its place", error)
        where = problem.where if problem else self.source.name(index)
        raise InputError(where, "not one image of the data can be read", "images")

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
    to_apply = tuple(photometry(view) for view in zip(*(i.to_apply for i in items), strict=True))
    return ViewBatch(
        views=views,
        labels=None if None in labels else torch.tensor(labels),
        indices=torch.tensor([item.index for item in items]),
        photometry=to_apply or None,
        unreadable=torch.tensor([item.unreadable for item in items]),
    )
