"""The views of MoCo v1 and v2 by PIL and torchvision's PIL functions, given their parameters."""

import numpy as np
import torchvision.transforms.functional as F
from PIL import Image, ImageFilter
from torchvision.transforms import InterpolationMode

JITTER = {
    "brightness": F.adjust_brightness,
    "contrast": F.adjust_contrast,
    "saturation": F.adjust_saturation,
    "hue": F.adjust_hue,
}


def view(image, parameters, crop_px):
    p = parameters
    picture = F.resized_crop(
        Image.fromarray(image), p.top, p.left, p.height, p.width, [crop_px, crop_px],
        InterpolationMode.BILINEAR,
    )  # fmt: skip
    if p.grayscale and p.grayscale_first:
        picture = F.rgb_to_grayscale(picture, num_output_channels=3)
    for operation, factor in p.jitter:
        picture = JITTER[operation](picture, factor)
    if p.grayscale and not p.grayscale_first:
        picture = F.rgb_to_grayscale(picture, num_output_channels=3)
    if p.blur_sigma > 0:
        picture = picture.filter(ImageFilter.GaussianBlur(radius=p.blur_sigma))
    return np.asarray(F.hflip(picture) if p.flip else picture)


def center_view(image, resize_px, crop_px):
    return np.asarray(F.center_crop(F.resize(Image.fromarray(image), resize_px), crop_px))
