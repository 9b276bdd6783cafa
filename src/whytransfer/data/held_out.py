"""Which training images are kept back to choose settings on? The same ones for everybody.

A setting that was chosen by its score on the test images makes that score look better than it is.
So it is chosen on images of the training split that nothing was trained on.
"""

from collections import defaultdict
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from whytransfer.core.errors import InputError
from whytransfer.core.streams import Stream
from whytransfer.data.dataset import subset
from whytransfer.data.sample import Source


def held_out(train: Source, share: float) -> tuple[Source, Source]:
    """Splits the training images in two: those to train on, and those to score on.

    Args:
        train: The training split.
        share: Of its images that are held out, in (0, 1).

    Raises:
        InputError: One side would have no image, or no image of a class.
    """
    for name, members in _strata(train):
        count = _count(len(members), share)
        if not 0 < count < len(members):
            raise _empty(name, len(members), share, count)
    kept_back = held_out_mask(train, share)
    return subset(train, np.flatnonzero(~kept_back)), subset(train, np.flatnonzero(kept_back))


def held_out_mask(train: Source, share: float) -> NDArray[np.bool_]:
    """Says of each training image whether it is held out, (N,).

    Where all images have a label, each class gives that share of its images; where a class is too
    small to give any, or all of them, the share is drawn from all images alike, one at least. The
    choice depends on the images alone, not on seed, backbone or task.

    Args:
        train: The training split.
        share: Of its images that are held out, in (0, 1).
    """
    strata = [members for _, members in _strata(train)]
    if not all(0 < _count(len(members), share) < len(members) for members in strata):
        strata = [np.arange(len(train), dtype=np.int64)]
    kept_back = np.zeros(len(train), dtype=np.bool_)
    for number, members in enumerate(strata):
        count = min(max(1, _count(len(members), share)), len(members) - 1)
        order = Stream(0, "held out", number).permutation(len(members))
        kept_back[members[order[:count]]] = True
    return kept_back


def _count(num_images: int, share: float) -> int:
    return int(share * num_images + 0.5)


def _strata(train: Source) -> Iterable[tuple[str, NDArray[np.int64]]]:
    """Yields the images of each class that has any, or all images where one has no label."""
    members: dict[int | None, list[int]] = defaultdict(list)
    for index in range(len(train)):
        members[train.label(index)].append(index)
    if not members or None in members:
        yield "the training split", np.arange(len(train), dtype=np.int64)
        return
    for label in sorted(label for label in members if label is not None):
        yield f"class {train.classes[label]!r}", np.array(members[label], dtype=np.int64)


def _empty(name: str, num_images: int, share: float, count: int) -> InputError:
    """Says which side is left without an image, and which share would do."""
    side = "train on" if count else "hold out"
    found = f"{share} of the {num_images} images of {name} leaves none to {side}"
    if num_images < 2:
        return InputError(
            "validation", found, "two images of every class or more",
            "add images, or set validation to null and give the settings by hand",
        )  # fmt: skip
    low, high = 1 / num_images, 1 - 1 / num_images
    return InputError(
        "validation", found, "at least one image on either side",
        f"give a share from {low:.2g} to {high:.2g}",
    )  # fmt: skip
