"""Augmented views of an image: first the parameters are drawn, as plain numbers, then applied.

The views of MoCo v2, in this order: random resized crop, colour jitter, greyscale, blur, flip. The
meaning of every parameter is torchvision's; drawing takes a named stream, so a view is a pure
function of (seed, epoch, index, view). Each view draws the same count of numbers in the same places
whatever is switched on, so arms that differ in their augmentation see the same crops.

Images are (H, W, 3) uint8, RGB, before and after.

Source: moco main_moco.py and moco/loader.py @132aea9; torchvision transforms of 0.29.
Differs: photometric operations are OpenCV's on 8 bits, several times as fast as PIL's and on
average within 1/255 of them; blur is a true Gaussian where PIL's is three box filters.
"""

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from whytransfer.core.config import Config
from whytransfer.core.streams import Stream

Image = NDArray[np.uint8]
Probability = Annotated[float, Field(ge=0, le=1)]
Operation = Literal["brightness", "contrast", "saturation", "hue"]

_OPERATIONS: tuple[Operation, ...] = ("brightness", "contrast", "saturation", "hue")
_NUM_TRIES = 10
_NUM_DRAWS = 4 * _NUM_TRIES + 13


class Augmentation(Config):
    """The augmentation of MoCo v2; its parts can be changed or switched off.

    Attributes:
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

    crop_scale: tuple[float, float] = (0.08, 1.0)
    jitter_p: Probability = 0.0
    grayscale_p: Probability = 0.0
    blur_p: Probability = 0.0


@dataclass(frozen=True)
class ViewParameters:
    """All that distinguishes one view of an image.

    Attributes:
        top, left, height, width: The crop, in pixels of the image.
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
    )


def _sample_crop(
    augmentation: Augmentation, draws: list[float], height: int, width: int
) -> tuple[int, int, int, int]:
    """Draws (top, left, height, width) as ``RandomResizedCrop`` does: ten tries, or the middle."""
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


def apply_view(image: Image, parameters: ViewParameters, crop_px: int) -> Image:
    """Makes one view, (crop_px, crop_px, 3), of an image; the image is left as it was."""
    p = parameters
    view = resize(image[p.top : p.top + p.height, p.left : p.left + p.width], crop_px, crop_px)
    for operation, factor in p.jitter:
        view = _JITTER[operation](view, factor)
    if p.grayscale:
        view = _grayscale(view)
    if p.blur_sigma > 0:
        view = _blur(view, p.blur_sigma)
    # cv2.flip is several times faster than a mirrored slice, which every reader would copy.
    return _pixels(cv2.flip(view, 1)) if p.flip else view


def center_view(image: Image, resize_px: int, crop_px: int) -> Image:
    """Makes the view that is scored: short side to ``resize_px``, then the middle square.

    As torchvision's ``Resize`` and ``CenterCrop``; a crop larger than the resized image gets black
    borders.
    """
    height, width = image.shape[:2]
    if width <= height:
        height, width = int(resize_px * height / width), resize_px
    else:
        height, width = resize_px, int(resize_px * width / height)
    resized = resize(image, height, width)
    pad_y, pad_x = max(0, crop_px - height), max(0, crop_px - width)
    if pad_y or pad_x:
        sides = ((pad_y // 2, (pad_y + 1) // 2), (pad_x // 2, (pad_x + 1) // 2), (0, 0))
        resized = np.pad(resized, sides)
        height, width = resized.shape[:2]
    top, left = round((height - crop_px) / 2), round((width - crop_px) / 2)
    return np.ascontiguousarray(resized[top : top + crop_px, left : left + crop_px])


def resize(image: Image, height: int, width: int) -> Image:
    """Resizes with the antialiased bilinear filter of PIL, within 1/255 of it.

    OpenCV's own filters differ from it by several levels on average, torch's does not.
    """
    if image.shape[:2] == (height, width):
        return np.array(image)
    import torch
    from torch.nn.functional import interpolate

    # torch answers in planes; OpenCV interleaves them many times faster than a NumPy copy does.
    pixels = torch.from_numpy(np.array(image)[None]).permute(0, 3, 1, 2)
    planes = interpolate(pixels, size=(height, width), mode="bilinear", antialias=True)[0]
    return _pixels(cv2.merge([*planes.numpy()]))


def _brightness(image: Image, factor: float) -> Image:
    return _map_levels(image, 0.0, factor)


def _contrast(image: Image, factor: float) -> Image:
    mean = math.floor(float(cv2.mean(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))[0]) + 0.5)
    return _map_levels(image, float(mean), factor)


def _map_levels(image: Image, towards: float, factor: float) -> Image:
    """Blends with a constant by a table; fractions are cut off, as PIL does."""
    levels = np.float32(towards) + np.float32(factor) * (_LEVELS - np.float32(towards))
    return _pixels(cv2.LUT(image, np.clip(levels, 0, 255).astype(np.uint8)))


def _saturation(image: Image, factor: float) -> Image:
    return _pixels(cv2.addWeighted(image, factor, _grayscale(image), 1 - factor, 0))


def _hue(image: Image, shift: float) -> Image:
    """Turns the hue by a share of the circle, which has 256 steps as in PIL."""
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)
    hsv[:, :, 0] += np.uint8(int(shift * 255) % 256)
    return _pixels(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL))


def _grayscale(image: Image) -> Image:
    return _pixels(cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB))


def _blur(image: Image, sigma: float) -> Image:
    size = 2 * math.ceil(3 * sigma) + 1
    blurred = cv2.GaussianBlur(image, (size, size), sigma, borderType=cv2.BORDER_REPLICATE)
    return _pixels(blurred)


def _pixels(array: NDArray[Any]) -> Image:
    """Narrows the type that OpenCV's annotations give; an 8-bit array is not copied."""
    return np.asarray(array, dtype=np.uint8)


_LEVELS = np.arange(256, dtype=np.float32)
_JITTER = {"brightness": _brightness, "contrast": _contrast, "saturation": _saturation, "hue": _hue}
