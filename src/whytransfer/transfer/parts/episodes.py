"""Episodes: small classification problems drawn from the images of classes that are new.

Each episode draws some of the classes, and of each class images to learn from (the support) and
images to name (the queries), all different. It is a function of its number, of the labels and of
what it is made of, so a run may compute episodes in any order, and every backbone is asked the same
ones. The queries of an episode are the same for every number of shots, and the support of one shot
is part of that of five.

Letters: E episodes, W ways, K shots, Q queries of a class.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveInt

from whytransfer.core.config import Config as BaseConfig
from whytransfer.core.errors import InputError
from whytransfer.core.streams import Stream


class Config(BaseConfig):
    """What an episode is made of.

    Attributes:
        ways: Classes in an episode.
        shots: Images of a class that are learned from; each number is measured by itself.
        queries: Images of a class that are named.
        seed: Another one draws other episodes; it is not the run's, so that all runs are asked the
            same ones.

    Source: CloserLookFewShot, test.py and io_utils.py (5 ways, 1 or 5 shots, 15 queries).
    """

    ways: PositiveInt = 5
    shots: tuple[PositiveInt, ...] = (1, 5)
    queries: PositiveInt = 15
    seed: int = 0


@dataclass(frozen=True)
class Episodes:
    """Which images some episodes hold.

    Attributes:
        numbers: (E,) int64.
        classes: (E, W) int64, the classes in the order in which the episode numbers them.
        queries: (E, W, Q) int64, images.
        support: (E, W, K) int64, images, of the largest K; fewer shots are the first of them.
    """

    numbers: NDArray[np.int64]
    classes: NDArray[np.int64]
    queries: NDArray[np.int64]
    support: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.numbers)

    def chunks(self, size: int) -> Iterator["Episodes"]:
        """Yields them so many at a time."""
        for start in range(0, len(self), size):
            part = slice(start, start + size)
            yield Episodes(
                self.numbers[part], self.classes[part], self.queries[part], self.support[part]
            )


def draw(
    labels: NDArray[np.int64], classes: tuple[str, ...], config: Config, num_episodes: int
) -> Episodes:
    """Draws the episodes 0, 1, ..., each from a stream of its own.

    Args:
        labels: (N,) the class of every image.
        classes: Their names.
        config: What an episode is made of.
        num_episodes: How many.

    Raises:
        InputError: There are fewer classes than ways, or a class has too few images.
    """
    if not config.shots or len(set(config.shots)) < len(config.shots):
        raise InputError("episodes.shots", f"is {list(config.shots)}", "different numbers of shots")
    members = [np.flatnonzero(labels == label) for label in range(len(classes))]
    most = max(config.shots)
    needed = config.queries + most
    _require(config, classes, members, needed)
    shape = (num_episodes, config.ways)
    chosen = np.empty(shape, dtype=np.int64)
    images = np.empty((*shape, needed), dtype=np.int64)
    for number in range(num_episodes):
        stream = Stream(config.seed, "few_shot/episode", number)
        chosen[number] = stream.permutation(len(classes))[: config.ways]
        # Queries first, so that they are the same whatever the shots.
        for way, label in enumerate(chosen[number].tolist()):
            drawn = stream.permutation(len(members[label]))[:needed]
            images[number, way] = members[label][drawn]
    numbers = np.arange(num_episodes, dtype=np.int64)
    return Episodes(numbers, chosen, images[..., : config.queries], images[..., config.queries :])


def _require(
    config: Config, classes: tuple[str, ...], members: list[NDArray[np.int64]], needed: int
) -> None:
    if len(classes) < config.ways:
        raise InputError(
            "episodes.ways", f"{config.ways} ways, but the test split has {len(classes)} classes",
            f"at most {len(classes)}", "lower it",
        )  # fmt: skip
    sizes = [len(found) for found in members]
    smallest = int(np.argmin(sizes))
    if sizes[smallest] < needed:
        raise InputError(
            "episodes", f"{max(config.shots)} shots and {config.queries} queries, but the class "
            f"{classes[smallest]} has {sizes[smallest]} images in the test split",
            f"at most {sizes[smallest]} together",
            "lower shots or queries, or raise limit where one is set",
        )  # fmt: skip
