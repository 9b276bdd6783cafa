"""How a task's files are scored: read and matched once, then asked under any weights of the images.

The metrics of a record, with their intervals, and the paired comparison of two runs are both made
from this, so they can't disagree.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from whytransfer.core.records import Metric
from whytransfer.core.streams import Stream
from whytransfer.ops.resampling import image_weights, percentile_interval

_CHUNK = 1 << 22  # entries of a (draws, images) block: 32 MiB of 64-bit integers

Values = Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Measure:
    """The scores of one run's files, in percent.

    Attributes:
        num_images: I, the test images.
        at: Weights (B, I) → name → (B,) values; ``None``, for the images as they are → name → ()
            values. NaN where a value is undefined. The first name is the task's headline.
        sampled: What stands for an image where it is something else, such as ``episodes``: it is
            what is counted, weighted and drawn.
        beside: What was measured on other things than these; drawn by itself.
        lower_is_better: Names whose smaller value is the better one: errors.
    """

    num_images: int
    at: Callable[[NDArray[np.int64] | None], Values]
    sampled: str = "images"
    beside: tuple["Measure", ...] = ()
    lower_is_better: frozenset[str] = frozenset()


def shares(correct: Mapping[str, NDArray[np.bool_]]) -> Measure:
    """Measures the share of the images (I,) for which something holds, by name."""
    num_images = len(next(iter(correct.values())))

    def at(weights: NDArray[np.int64] | None) -> Values:
        counts = np.ones(num_images, dtype=np.int64) if weights is None else weights
        return {name: 100.0 * (counts @ held) / num_images for name, held in correct.items()}

    return Measure(num_images, at)


def means(values: Mapping[str, NDArray[np.float64]], sampled: str) -> Measure:
    """Measures the mean of what each thing scored, (I,) in [0, 1], by name."""
    count = len(next(iter(values.values())))

    def at(weights: NDArray[np.int64] | None) -> Values:
        counts = np.ones(count, dtype=np.int64) if weights is None else weights
        return {name: 100.0 * (counts @ found) / count for name, found in values.items()}

    return Measure(count, at, sampled)


def draws(measure: Measure, num_draws: int) -> dict[str, NDArray[np.float64]]:
    """Returns (B,) values per name under resampled images.

    The same draws for every run on as many images: their differences are paired.
    """
    blocks = [measure.at(weights) for weights in _weights(measure.num_images, num_draws)]
    found = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
    for other in measure.beside:
        found |= draws(other, num_draws)
    return found


def metrics(measure: Measure, num_draws: int) -> tuple[Metric, ...]:
    """Returns every value as a metric with its 95 % interval over what was sampled."""
    drawn = draws(measure, num_draws)
    found = (
        _oriented(_percent(name, float(value), drawn[name], part), part)
        for part in (measure, *measure.beside)
        for name, value in part.at(None).items()
    )
    return tuple(found)


def _weights(num_images: int, num_draws: int) -> Iterator[NDArray[np.int64]]:
    """Yields the draws in blocks whose size depends on the number of images alone."""
    block = max(1, _CHUNK // max(1, num_images))
    for start in range(0, num_draws, block):
        stream = Stream(0, "bootstrap", start)
        yield image_weights(stream, num_images, min(block, num_draws - start))


def _percent(name: str, value: float, drawn: NDArray[np.float64], of: Measure) -> Metric:
    """Returns a metric in percent with the interval of its draws; NaN is undefined."""
    count, sampled = of.num_images, of.sampled
    if math.isnan(value):
        return Metric(name=name, value=None, unit="%", n=count, interval="none: undefined")
    if count < 2:
        none = f"none: fewer than two {sampled}"
        return Metric(name=name, value=value, unit="%", n=count, interval=none)
    low, high = percentile_interval(drawn)
    return Metric(name=name, value=value, unit="%", n=count, low=low, high=high, interval=sampled)


def _oriented(metric: Metric, measure: Measure) -> Metric:
    """Returns a metric that says which way is better."""
    higher = metric.name not in measure.lower_is_better
    return metric if higher else metric.model_copy(update={"higher_is_better": False})
