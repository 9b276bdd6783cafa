"""PSNR, SSIM and the distance of features, in plain loops over one picture."""

import math

import numpy as np


def psnr(picture, original):
    """10 log10(1 / mean squared error) of arrays (C, H, W) in [0, 1]."""
    errors = [
        (float(a) - float(b)) ** 2 for a, b in zip(picture.ravel(), original.ravel(), strict=True)
    ]
    return 10 * math.log10(1 / (math.fsum(errors) / len(errors)))


def ssim(picture, original):
    """Wang et al. 2004, equation 13, at every place of an 11 x 11 Gaussian window of 1.5 px."""
    channels, height, width = picture.shape
    offsets = range(-5, 6)
    weights = {(i, j): math.exp(-(i * i + j * j) / (2 * 1.5**2)) for i in offsets for j in offsets}
    whole = math.fsum(weights.values())
    c1, c2 = 0.01**2, 0.03**2
    found = []
    for c in range(channels):
        for y in range(5, height - 5):
            for x in range(5, width - 5):
                window = [
                    (w / whole, float(picture[c, y + i, x + j]), float(original[c, y + i, x + j]))
                    for (i, j), w in weights.items()
                ]
                mean_a = math.fsum(w * a for w, a, _ in window)
                mean_b = math.fsum(w * b for w, _, b in window)
                var_a = math.fsum(w * (a - mean_a) ** 2 for w, a, _ in window)
                var_b = math.fsum(w * (b - mean_b) ** 2 for w, _, b in window)
                both = math.fsum(w * (a - mean_a) * (b - mean_b) for w, a, b in window)
                found.append(
                    (2 * mean_a * mean_b + c1) * (2 * both + c2)
                    / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
                )  # fmt: skip
    return math.fsum(found) / len(found)


def feature_distance(maps, original, weights=None):
    """Unit length over the channels at each place, squared difference, sum, mean over places."""
    channels, height, width = maps.shape
    weights = np.ones(channels) if weights is None else weights
    found = []
    for y in range(height):
        for x in range(width):
            a, b = maps[:, y, x], original[:, y, x]
            a, b = (v / (math.sqrt(math.fsum(float(s) ** 2 for s in v)) + 1e-10) for v in (a, b))
            found.append(
                math.fsum(float(w) * (p - q) ** 2 for w, p, q in zip(weights, a, b, strict=True))
            )
    return math.fsum(found) / len(found)
