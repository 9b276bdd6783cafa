"""A share of the test images as a metric: percent, with an interval over the images."""

import math

import numpy as np
from numpy.typing import NDArray

from whytransfer.core.records import Metric
from whytransfer.core.streams import Stream
from whytransfer.ops.resampling import image_weights, percentile_interval

_CHUNK = 1 << 22  # entries of a (draws, images) block: 32 MiB of 64-bit integers


def percent(name: str, value: float, draws: NDArray[np.float64], num_images: int) -> Metric:
    """Returns a metric in percent with the 95 % interval of its draws; NaN is undefined."""
    if math.isnan(value):
        return Metric(name=name, value=None, unit="%", n=num_images, interval="none: undefined")
    low, high = percentile_interval(draws)
    return Metric(
        name=name, value=value, unit="%", n=num_images, low=low, high=high, interval="images"
    )


def accuracy(name: str, correct: NDArray[np.bool_], num_draws: int) -> Metric:
    """Returns the share of the images (N,) that are correct, with an interval over images."""
    num_images = len(correct)
    block = max(1, _CHUNK // num_images)
    draws = [
        image_weights(Stream(0, "bootstrap", start), num_images, min(block, num_draws - start))
        @ correct
        for start in range(0, num_draws, block)
    ]
    return percent(
        name, 100.0 * correct.mean(), 100.0 * np.concatenate(draws) / num_images, num_images
    )
