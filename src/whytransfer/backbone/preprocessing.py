"""What a backbone expects of its input pixels; it travels inside the backbone's artifact."""

from typing import Literal

import torch
from torch import Tensor

from whytransfer.core.config import Config


class Preprocessing(Config):
    """From uint8 RGB pixels to what a backbone was trained on.

    Attributes:
        mean: Subtracted from each channel, in units of ``pixel_max``, in ``channel_order``.
        std: Each channel is divided by it after that.
        channel_order: What the first channel is; most of Caffe's heirs are ``bgr``.
        pixel_max: What white is scaled to before the mean is subtracted.

    Source: MoCo, main_moco.py @132aea9 (ImageNet's mean and std of RGB in [0, 1]).
    """

    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    channel_order: Literal["rgb", "bgr"] = "rgb"
    pixel_max: Literal[1, 255] = 1

    def normalise(self, images: Tensor) -> Tensor:
        """Returns a network's input of images as they are decoded.

        Args:
            images: (N, H, W, 3), RGB in [0, 255]: uint8, or floats of a resized image.

        Returns:
            (N, 3, H, W) float32 that lies channels-last in memory, as the images do.
        """
        scaled = images.permute(0, 3, 1, 2).to(torch.float32)
        if self.pixel_max == 1:
            scaled = scaled / 255
        if self.channel_order == "bgr":
            scaled = scaled.flip(1)
        mean = scaled.new_tensor(self.mean).view(1, 3, 1, 1)
        std = scaled.new_tensor(self.std).view(1, 3, 1, 1)
        return ((scaled - mean) / std).contiguous(memory_format=torch.channels_last)
