"""What is done to an image to make a view of it, and how the parameters of one view are drawn.

One :class:`Augmentation` serves every method: MoCo v2's in full, with fields for MoCo v1's order
and for the rungs of Table 1 (:data:`LADDER`). The meaning of every parameter is torchvision's;
drawing takes a named stream, so a view is a pure function of (seed, epoch, index, view). Each view
draws the same count of numbers in the same places whatever is switched on, so arms that differ in
their augmentation see the same draws. Applying is apart: :mod:`whytransfer.data.views` on a CPU,
:mod:`whytransfer.data.device_views` on any device of torch.

Source: moco main_moco.py and moco/loader.py @132aea9; torchvision transforms of 0.29.
"""

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from whytransfer.core.config import Config, assumed
from whytransfer.core.streams import Stream

Probability = Annotated[float, Field(ge=0, le=1)]
Operation = Literal["brightness", "contrast", "saturation", "hue"]

_OPERATIONS: tuple[Operation, ...] = ("brightness", "contrast", "saturation", "hue")
CENTER_SHARE = 224 / 256
"""The share of the short side that a centre crop keeps."""

_NUM_TRIES = 10
_NUM_DRAWS = 4 * _NUM_TRIES + 13


class Augmentation(Config):
    """The augmentation of MoCo v2; its parts can be changed or switched off.

    Attributes:
        order: Of the operations: ``v2`` is crop, jitter, greyscale, blur, flip; ``v1`` has
            greyscale before the jitter.
        crop: ``random`` is the random resized crop; ``center`` the middle square of 224/256 of the
            short side, which ``Resize(256)`` and ``CenterCrop(224)`` show too, in whole pixels.
        crop_px: Height and width of a view.
        crop_scale: Smallest and largest share of the image's area that a crop has.
        crop_ratio: Smallest and largest width by height of a crop.
        flip_p: Probability of a horizontal flip.
        jitter: Strength of brightness, contrast, saturation and hue: factors are drawn from 1 ± s,
            the hue shift from ± s of a full turn.
        jitter_p: Probability of the jitter as a whole; its four operations come in random order.
        grayscale_p: Probability of greyscale.
        blur_p: Probability of the blur.
        blur_sigma: Smallest and largest standard deviation of the blur, in pixels of the view.
    """

    order: Literal["v1", "v2"] = "v2"
    crop: Literal["random", "center"] = assumed(
        "random", "how Table 1's flip-only row cuts images is not stated; center is taken for it"
    )
    crop_px: int = Field(224, ge=1)
    crop_scale: tuple[float, float] = (0.2, 1.0)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip_p: Probability = 0.5
    jitter: tuple[float, float, float, float] = (0.4, 0.4, 0.4, 0.1)
    jitter_p: Probability = 0.8
    grayscale_p: Probability = 0.2
    blur_p: Probability = 0.5
    blur_sigma: tuple[float, float] = (0.1, 2.0)

    @model_validator(mode="after")
    def _ranges(self) -> Self:
        for name, largest in (("crop_scale", 1.0), ("crop_ratio", 100.0), ("blur_sigma", 100.0)):
            low, high = getattr(self, name)
            if not 0 < low <= high <= largest:
                raise ValueError(f"{name} is ({low}, {high}), expected 0 < low ≤ high ≤ {largest}")
        if min(self.jitter) < 0 or self.jitter[3] > 0.5:
            raise ValueError(f"jitter is {self.jitter}, expected 0 or more, and hue at most 0.5")
        return self


class CropFlip(Augmentation):
    """Random resized crop and flip alone: how linear readouts are trained, moco main_lincls.py."""

    crop: Literal["random", "center"] = "random"
    crop_scale: tuple[float, float] = (0.08, 1.0)
    jitter_p: Probability = 0.0
    grayscale_p: Probability = 0.0
    blur_p: Probability = 0.0


MOCO_V1 = Augmentation(order="v1", jitter=(0.4, 0.4, 0.4, 0.4), jitter_p=1.0, blur_p=0.0)
"""The augmentation of MoCo v1: greyscale before a jitter that is always there, and no blur."""


def ladder(full: Augmentation) -> dict[str, Augmentation]:
    """Returns the rungs of Table 1, each of which switches on one part more of an augmentation.

    Keys are the ends of the published checkpoints' names: ``f`` flips; ``fr`` crops at random too;
    ``frc`` jitters the colour; ``frcg`` removes it from some; ``frcgb`` blurs, and is the whole.

    >>> ladder(Augmentation())["frcgb"] == Augmentation()
    True

    Source: Zhao et al. 2021, Table 1.
    """
    off: dict[str, Any] = {"blur_p": 0.0, "grayscale_p": 0.0, "jitter_p": 0.0, "crop": "center"}
    rungs = {}
    for name in ("f", "fr", "frc", "frcg", "frcgb"):
        rungs[name] = full.model_copy(update=off)
        if off:
            off.popitem()
    return rungs


LADDER = ladder(Augmentation())
"""The rungs of Table 1 for MoCo v2's augmentation, by name."""


@dataclass(frozen=True)
class ViewParameters:
    """All that distinguishes one view of an image.

    Attributes:
        top, left, height, width: The crop, in pixels of the image.
        grayscale_first: Whether colour is removed before the jitter, as in MoCo v1.
        jitter: The operations with their factors, in the order in which they are applied.
        grayscale: Whether colour is removed.
        blur_sigma: Standard deviation in pixels of the view; 0 for no blur.
        flip: Whether the view is mirrored.
    """

    top: int
    left: int
    height: int
    width: int
    jitter: tuple[tuple[Operation, float], ...] = ()
    grayscale: bool = False
    blur_sigma: float = 0.0
    flip: bool = False
    grayscale_first: bool = False


def view_stream(seed: int, epoch: int, index: int, view: int) -> Stream:
    """Returns the stream that a view of an image is drawn from."""
    return Stream(seed, "view", epoch, index, view)


def sample_view(
    augmentation: Augmentation, stream: Stream, height: int, width: int
) -> ViewParameters:
    """Draws the parameters of one view of an image of that height and width."""
    draws = stream.uniform(_NUM_DRAWS).tolist()
    crop_draws, rest = draws[: 4 * _NUM_TRIES], draws[4 * _NUM_TRIES :]
    jitter, order, factors = rest[0], rest[1:5], rest[5:9]
    grayscale, blur, sigma, flip = rest[9:]
    top, left, crop_height, crop_width = _sample_crop(augmentation, crop_draws, height, width)
    low, high = augmentation.blur_sigma
    return ViewParameters(
        top=top,
        left=left,
        height=crop_height,
        width=crop_width,
        jitter=_sample_jitter(augmentation.jitter, order, factors)
        if jitter < augmentation.jitter_p
        else (),
        grayscale=grayscale < augmentation.grayscale_p,
        blur_sigma=low + sigma * (high - low) if blur < augmentation.blur_p else 0.0,
        flip=flip < augmentation.flip_p,
        grayscale_first=augmentation.order == "v1",
    )


def _sample_crop(
    augmentation: Augmentation, draws: list[float], height: int, width: int
) -> tuple[int, int, int, int]:
    """Draws (top, left, height, width) as ``RandomResizedCrop`` does: ten tries, or the middle."""
    if augmentation.crop == "center":
        side = max(1, round(min(height, width) * CENTER_SHARE))
        return (height - side) // 2, (width - side) // 2, side, side
    smallest, largest = augmentation.crop_scale
    low, high = (math.log(ratio) for ratio in augmentation.crop_ratio)
    for attempt in range(_NUM_TRIES):
        share, shape, y, x = draws[4 * attempt : 4 * attempt + 4]
        area = height * width * (smallest + share * (largest - smallest))
        ratio = math.exp(low + shape * (high - low))
        crop_width, crop_height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            top, left = int(y * (height - crop_height + 1)), int(x * (width - crop_width + 1))
            return top, left, crop_height, crop_width
    crop_width, crop_height = width, height
    if width / height < augmentation.crop_ratio[0]:
        crop_height = round(width / augmentation.crop_ratio[0])
    elif width / height > augmentation.crop_ratio[1]:
        crop_width = round(height * augmentation.crop_ratio[1])
    return (height - crop_height) // 2, (width - crop_width) // 2, crop_height, crop_width


def _sample_jitter(
    strengths: tuple[float, ...], order: list[float], factors: list[float]
) -> tuple[tuple[Operation, float], ...]:
    """Gives each operation of some strength its factor, in the order of random numbers."""
    drawn: list[tuple[Operation, float]] = []
    for place in sorted(range(4), key=order.__getitem__):
        operation, strength = _OPERATIONS[place], strengths[place]
        if strength == 0:
            continue
        if operation == "hue":
            low, high = -strength, strength
        else:
            low, high = max(0.0, 1 - strength), 1 + strength
        drawn.append((operation, low + factors[place] * (high - low)))
    return tuple(drawn)
