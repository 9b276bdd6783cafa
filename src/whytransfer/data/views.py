"""Augmented views of an image, applied on a CPU; the parameters are drawn elsewhere.

Images are (H, W, 3) uint8, RGB, before and after. A view is a crop, which is geometry, and then
its photometry; a run whose photometry the device applies makes the crops alone here.

Source: torchvision transforms of 0.29 on PIL images.
Differs: photometric operations are OpenCV's on 8 bits, several times as fast as PIL's and on
average within 1/255 of them; blur is a true Gaussian where PIL's is three box filters.
"""

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from whytransfer.data.augmentation import Augmentation as Augmentation
from whytransfer.data.augmentation import CropFlip as CropFlip
from whytransfer.data.augmentation import ViewParameters as ViewParameters
from whytransfer.data.augmentation import sample_view as sample_view
from whytransfer.data.augmentation import view_stream as view_stream

Image = NDArray[np.uint8]


def apply_view(image: Image, parameters: ViewParameters, crop_px: int) -> Image:
    """Makes one view, (crop_px, crop_px, 3), of an image; the image is left as it was."""
    p = parameters
    view = crop_view(image, p, crop_px)
    if p.grayscale and p.grayscale_first:
        view = _grayscale(view)
    for operation, factor in p.jitter:
        view = _JITTER[operation](view, factor)
    if p.grayscale and not p.grayscale_first:
        view = _grayscale(view)
    if p.blur_sigma > 0:
        view = _blur(view, p.blur_sigma)
    # cv2.flip is several times faster than a mirrored slice, which every reader would copy.
    return _pixels(cv2.flip(view, 1)) if p.flip else view


def crop_view(image: Image, parameters: ViewParameters, crop_px: int) -> Image:
    """Cuts a view's crop out of an image and resizes it: all that needs the whole image."""
    p = parameters
    return resize(image[p.top : p.top + p.height, p.left : p.left + p.width], crop_px, crop_px)


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

    if not image.flags.writeable or min(image.strides) < 0:
        image = np.array(image)  # torch takes neither
    pixels = torch.from_numpy(image)[None].permute(0, 3, 1, 2)
    resized = interpolate(pixels, size=(height, width), mode="bilinear", antialias=True)
    # Interleaved already where torch keeps the order of its input, as it does here.
    return np.ascontiguousarray(resized[0].permute(1, 2, 0).numpy())


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
