"""The photometry of views, applied to a whole batch at once on any device of torch.

The CPU cuts the crops (``crop_view``); jitter, greyscale, blur and flip follow here, from the same
parameters as on a CPU and to the same type, 8 bits. Every image has operations of its own, in an
order of its own: in each slot of the order the images are grouped by operation, so an image costs
what its own operations cost, and no pixel is touched in Python. The groups are made on the host,
where the parameters are, so the device is never waited for.

What an image becomes does not depend on the rest of its batch. Import this module only where torch
is loaded anyway.

Legend: N images of a batch, G of a group, C = 3 channels, H by W pixels, K taps of a blur.

Source: PIL 12 ImageEnhance, Convert and BoxBlur, by way of torchvision's functions on PIL images.
Differs: blur is a true Gaussian where PIL's is three box filters.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import conv2d, pad

from whytransfer.data.augmentation import ViewParameters

_CODES = {"brightness": 0, "contrast": 1, "saturation": 2, "hue": 3, "grayscale": 4, "none": 5}
_NUM_SLOTS = 6  # greyscale before the jitter, four operations of the jitter, greyscale after it
_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Photometry:
    """The photometric parameters of one view of each image of a batch.

    They stay arrays of the host on the way to the device: which images share an operation decides
    the shapes of the work.

    Attributes:
        operations: (N, 6) uint8, the operation of each slot, in the order of application.
        factors: (N, 6) float64, what it is given.
        blur_sigma: (N,) float64, pixels of the view; 0 for no blur.
        flip: (N,) bool.
    """

    operations: NDArray[np.uint8]
    factors: NDArray[np.float64]
    blur_sigma: NDArray[np.float64]
    flip: NDArray[np.bool_]


def photometry(parameters: Sequence[ViewParameters]) -> Photometry:
    """Stacks the photometric part of views' parameters."""
    operations = np.full((len(parameters), _NUM_SLOTS), _CODES["none"], np.uint8)
    factors = np.zeros((len(parameters), _NUM_SLOTS))
    for row, p in enumerate(parameters):
        if p.grayscale:
            operations[row, 0 if p.grayscale_first else -1] = _CODES["grayscale"]
        for slot, (operation, factor) in enumerate(p.jitter, start=1):
            operations[row, slot], factors[row, slot] = _CODES[operation], factor
    return Photometry(
        operations=operations,
        factors=factors,
        blur_sigma=np.array([p.blur_sigma for p in parameters], np.float64),
        flip=np.array([p.flip for p in parameters], np.bool_),
    )


def apply_photometry(crops: Tensor, given: Photometry) -> Tensor:
    """Makes views, (N, H, W, 3) uint8, of crops of that shape and type, which stay as they were."""
    views: Tensor = _apply(crops, given)
    return views


# What is to be done differs from batch to batch: torch.compile would compile it anew each time.
@torch.compiler.disable  # type: ignore[untyped-decorator]
def _apply(crops: Tensor, given: Photometry) -> Tensor:
    # bfloat16, which may be on around this, has no room for 8 bits.
    with torch.no_grad(), torch.autocast(crops.device.type, enabled=False):
        levels_NCHW = crops.permute(0, 3, 1, 2).to(torch.float32, copy=True)
        for operation, images, factors in _groups(given):
            _update(levels_NCHW, images, factors, operation)
        blurred = np.flatnonzero(given.blur_sigma > 0)
        _update(levels_NCHW, blurred, given.blur_sigma[blurred], _blur)
        flipped = np.flatnonzero(given.flip)
        _update(levels_NCHW, flipped, given.blur_sigma[flipped], _flip)
        return levels_NCHW.to(torch.uint8).permute(0, 2, 3, 1).contiguous()


Operation = Callable[[Tensor, NDArray[np.float64]], Tensor]
"""Makes new levels of (G, C, H, W) levels and (G,) factors; levels are whole numbers to 255."""


def _groups(
    given: Photometry,
) -> Iterator[tuple[Operation, NDArray[np.intp], NDArray[np.float64]]]:
    for slot in range(_NUM_SLOTS):
        operations = given.operations[:, slot]
        for name, apply in _OPERATIONS.items():
            images = np.flatnonzero(operations == _CODES[name])
            yield apply, images, given.factors[images, slot]


def _update(
    levels_NCHW: Tensor,
    images: NDArray[np.intp],
    factors: NDArray[np.float64],
    apply: Operation,
) -> None:
    """Applies an operation to some images of a batch, in place."""
    if len(images):
        rows = _on(levels_NCHW.device, images.astype(np.int64))
        levels_NCHW.index_copy_(0, rows, apply(levels_NCHW.index_select(0, rows), factors))


def _on(device: torch.device, array: NDArray[np.generic]) -> Tensor:
    return torch.from_numpy(array).to(device, non_blocking=True)


def _like(levels: Tensor, factors: NDArray[np.float64]) -> Tensor:
    """Returns factors on the levels' device, shaped to multiply images."""
    return _on(levels.device, factors.astype(np.float32))[:, None, None, None]


def _blend(levels: Tensor, towards: Tensor, factors: NDArray[np.float64]) -> Tensor:
    """Goes from a second image to the first and beyond; fractions are cut off, as PIL does."""
    return ((levels - towards) * _like(levels, factors) + towards).clamp_(0, 255).floor_()


def _brightness(levels: Tensor, factors: NDArray[np.float64]) -> Tensor:
    return (levels * _like(levels, factors)).clamp_(0, 255).floor_()


def _contrast(levels: Tensor, factors: NDArray[np.float64]) -> Tensor:
    mean = _luma(levels).mean(dim=(1, 2, 3), keepdim=True, dtype=torch.float64)
    return _blend(levels, (mean + 0.5).floor_().float(), factors)


def _saturation(levels: Tensor, factors: NDArray[np.float64]) -> Tensor:
    return _blend(levels, _luma(levels), factors)


def _hue(levels: Tensor, factors: NDArray[np.float64]) -> Tensor:
    """Turns the hue by a share of the circle, which has 256 steps as in PIL."""
    value, least = levels.amax(1, keepdim=True), levels.amin(1, keepdim=True)
    chroma = value - least
    saturation = (chroma * 255 / value.clamp(min=1)).floor_() / 255
    steps = np.trunc(factors * 255)
    turned = (_hue_steps(levels, value, chroma) + _like(levels, steps)) % 256
    sixths = turned * (6 / 255)
    # How far each channel lies below the value, by its distance from the hue on the circle.
    distance = (sixths + levels.new_tensor([5.0, 3.0, 1.0])[:, None, None]) % 6
    below = torch.minimum(distance, 4 - distance).clamp_(0, 1)
    return (value - value * saturation * below).round_()


def _hue_steps(levels: Tensor, value: Tensor, chroma: Tensor) -> Tensor:
    """Returns the hue, (G, 1, H, W), in whole steps from 0 to 255; 0 for grey."""
    red, green, blue = levels.chunk(3, dim=1)
    width = chroma.clamp(min=1)
    sixths = torch.where(
        red == value,
        (green - blue) / width,
        torch.where(green == value, 2 + (blue - red) / width, 4 + (red - green) / width),
    )
    return ((sixths / 6 + 1) % 1 * 255).floor_()


def _grayscale(levels: Tensor, _factors: NDArray[np.float64]) -> Tensor:
    return _luma(levels).expand_as(levels)


def _luma(levels: Tensor) -> Tensor:
    weights = levels.new_tensor(_LUMA)[:, None, None]
    return ((levels * weights).sum(dim=1, keepdim=True) + 0.5).floor_()


def _blur(levels_GCHW: Tensor, sigmas: NDArray[np.float64]) -> Tensor:
    """Blurs along each axis in turn, edges continued; an image's taps end at three sigma."""
    num, channels, height, width = levels_GCHW.shape
    reach = math.ceil(3 * sigmas.max())
    taps = _on(levels_GCHW.device, _taps(sigmas, reach)).repeat_interleave(channels, dim=0)
    # One group of the convolution per plane, since every image has taps of its own.
    planes = levels_GCHW.reshape(1, num * channels, height, width)
    across = pad(planes, (reach, reach, 0, 0), mode="replicate")
    across = conv2d(across, taps[:, None, None, :], groups=num * channels)
    down = pad(across, (0, 0, reach, reach), mode="replicate")
    down = conv2d(down, taps[:, None, :, None], groups=num * channels)
    return down.round_().clamp_(0, 255).reshape(levels_GCHW.shape)


def _taps(sigmas: NDArray[np.float64], reach: int) -> NDArray[np.float32]:
    """Returns the weights of each image's blur, (G, K), zero beyond its own reach."""
    place = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (place / sigmas[:, None]) ** 2)
    weights[np.abs(place) > np.ceil(3 * sigmas)[:, None]] = 0
    taps: NDArray[np.float32] = (weights / weights.sum(1, keepdims=True)).astype(np.float32)
    return taps


def _flip(levels: Tensor, _factors: NDArray[np.float64]) -> Tensor:
    return levels.flip(-1)


_OPERATIONS: dict[str, Operation] = {
    "brightness": _brightness,
    "contrast": _contrast,
    "saturation": _saturation,
    "hue": _hue,
    "grayscale": _grayscale,
}
