"""How close is a picture to its original? In pixels, in structure, and in a network's eyes.

Letters: N pictures, C channels, H × W pixels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

SSIM_WINDOW_PX = 11
_SIGMA_PX = 1.5
_K1, _K2 = 0.01, 0.03


def psnr(pictures: Tensor, originals: Tensor) -> Tensor:
    """Returns each picture's peak signal-to-noise ratio in dB, (N,); infinite where they agree.

    10 log₁₀(1 / mean squared error), over all pixels and channels.

    Args:
        pictures: (N, C, H, W) floats in [0, 1].
        originals: The same shape.
    """
    error = (pictures - originals).square().mean(dim=(1, 2, 3))
    return -10.0 * torch.log10(error)


def ssim(pictures: Tensor, originals: Tensor) -> Tensor:
    """Returns each picture's structural similarity, (N,), at most 1, which means equal.

    Local means, variances and covariance under a Gaussian window (11 × 11, σ 1.5 px), for each
    channel; the mean over channels and all places where the whole window lies in the picture.

    Args:
        pictures: (N, C, H, W) floats in [0, 1], H and W at least 11.
        originals: The same shape.

    Source: Wang, Bovik, Sheikh and Simoncelli 2004, equation 13 and section III-C.
    """
    x, y = (images.flatten(0, 1)[:, None] for images in (pictures, originals))
    mean_x, mean_y = _blurred(x), _blurred(y)
    variance_x = _blurred(x * x) - mean_x**2
    variance_y = _blurred(y * y) - mean_y**2
    covariance = _blurred(x * y) - mean_x * mean_y
    light = (2 * mean_x * mean_y + _K1**2) / (mean_x**2 + mean_y**2 + _K1**2)
    structure = (2 * covariance + _K2**2) / (variance_x + variance_y + _K2**2)
    return (light * structure).mean(dim=(1, 2, 3)).view(pictures.shape[:2]).mean(dim=1)


def feature_distance(maps: Tensor, originals: Tensor, weights: Tensor | None = None) -> Tensor:
    """Returns how far two maps of a network's level are apart, (N,), 0 to 4 without weights.

    Each place is scaled to length 1 over the channels; squared differences, summed over the
    channels, with weights where they are given; mean over the places.

    Args:
        maps: (N, C, H, W) of the pictures.
        originals: Of the originals.
        weights: (C,) one per channel; LPIPS's linear layer.

    Source: Zhang et al. 2018, equation 1; PerceptualSimilarity, lpips/lpips.py @v0.1.4 (without
        weights: ``lpips=False``).
    """
    squared = (_of_length_one(maps) - _of_length_one(originals)).square()
    if weights is not None:
        squared = squared * weights[:, None, None]
    return squared.sum(dim=1).mean(dim=(1, 2))


def _of_length_one(maps: Tensor) -> Tensor:
    return maps / (maps.square().sum(dim=1, keepdim=True).sqrt() + 1e-10)


def _blurred(images: Tensor) -> Tensor:
    """Averages (N, 1, H, W) under the Gaussian window, where it lies inside."""
    away = torch.arange(SSIM_WINDOW_PX, dtype=images.dtype, device=images.device)
    away = away - SSIM_WINDOW_PX // 2
    window = torch.exp(-(away**2) / (2 * _SIGMA_PX**2))
    window = window / window.sum()
    return F.conv2d(F.conv2d(images, window.view(1, 1, -1, 1)), window.view(1, 1, 1, -1))
