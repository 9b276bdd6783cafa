"""Few-shot recognition: how well new classes are told apart after a few images of each.

The backbone is frozen, in evaluation mode, and sees every image once. Then episodes of new classes
are drawn, each learns from a few images and names others; that is scored by itself for every number
of shots. Beside it stands how well the base classes, those that a backbone may have been pretrained
on, are told apart on images of theirs that were kept apart: by the nearest centroid of all their
training images, under the cosine.

Source: Chen et al. 2019 (CloserLookFewShot, test.py; episodes and the fine-tuned head); Chen et al.
2021 (Meta-Baseline; the centroid head); docs/protocols/few_shot.md says what is whose.
Differs: intervals are percentile bootstraps over episodes; CloserLook's stand beside them, as
``..._normal``. The same episodes are asked of every backbone and every seed.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import PositiveInt
from torch import Tensor

from whytransfer.backbone import features as pooling
from whytransfer.backbone.model import Backbone
from whytransfer.core.config import assumed
from whytransfer.core.errors import InputError
from whytransfer.core.records import Metric
from whytransfer.data.episode_predictions import (
    EpisodePredictions,
    read_episodes,
    write_episodes,
)
from whytransfer.data.predictions import (
    ClassPredictions,
    read_classifications,
    write_classifications,
)
from whytransfer.data.sample import Source, Split
from whytransfer.transfer.measure import Measure, means, shares
from whytransfer.transfer.parts import episodes as drawing
from whytransfer.transfer.parts.episode_heads import (
    FineTuned,
    Logistic,
    centroid_guesses,
    fine_tuned_guesses,
    logistic_guesses,
)
from whytransfer.transfer.parts.episodes import Episodes
from whytransfer.transfer.parts.kept_readout import Frozen
from whytransfer.transfer.parts.readout import Unmoved
from whytransfer.transfer.parts.readout_task import labels_of
from whytransfer.transfer.task import PREDICTIONS, Setting, Untrained, UntrainedConfig

BASE = "base_predictions.json"
"""The classes of the base images that were kept apart, best guess first."""

_CHUNK_BYTES = {"centroid": 1 << 22, "logistic": 1 << 26, "fine_tuned": 1 << 26}
"""Of features at a time: what a cache holds, where each is read once; more where a head trains in
many small steps.
"""

_NUM_GUESSES = 5
_NORMAL_95 = 1.96


class Features(pooling.Config):
    """How an image is seen: see :class:`whytransfer.backbone.features.Config`."""

    view: pooling.View = assumed(
        pooling.Squashed(),
        "the paper's image size is not known; CloserLookFewShot tests ResNets so: 1.15 times 224 "
        "on both sides, then the middle 224",
    )


class Config(UntrainedConfig):
    """All settings of the protocol.

    Attributes:
        features: How an image is seen.
        episodes: What an episode is made of.
        num_episodes: How many are drawn; the same for every number of shots.
        head: What learns the classes of an episode.
        logistic: Settings of the logistic head.
        fine_tuned: Settings of the fine-tuned head.
    """

    features: Features = Features()
    episodes: drawing.Config = drawing.Config()
    num_episodes: PositiveInt = assumed(
        600, "the paper's number is not known; CloserLookFewShot draws 600"
    )
    head: Literal["centroid", "logistic", "fine_tuned"] = assumed(
        "centroid", "the paper's classifier is not known; this one has no setting of its own"
    )
    logistic: Logistic = Logistic()
    fine_tuned: FineTuned = FineTuned()


class Task(Untrained):
    """Draws the episodes, and writes what is said of their queries and of the base images."""

    PREDICTS: ClassVar[Literal["episodes"]] = "episodes"
    NEW_CLASSES: ClassVar[bool] = True

    model: Frozen

    def __init__(self, config: Config, backbone: Backbone, setting: Setting) -> None:
        self.config, self.setting = config, setting
        self._labels = labels_of(setting.test).numpy()
        self._episodes = drawing.draw(
            self._labels, setting.test.classes, config.episodes, config.num_episodes
        )
        self._unmoved = Unmoved(backbone)
        self.model = Frozen(backbone)

    def predict(self, folder: Path) -> None:
        """Writes the episodes with all guesses, and those of the base classes.

        Processes share the features; the first one has the episodes.
        """
        test = self.setting.test
        features = self._features(test, "test")
        of_base = self._base_features()
        if not self.setting.processes.leads:
            return
        base = None if of_base is None else self._predict_base(folder, *of_base)
        self._unmoved.require(self.model.backbone)
        drawn = self._episodes
        found = EpisodePredictions(
            names=tuple(test.name(i) for i in range(len(test))),
            classes=test.classes,
            labels=self._labels,
            numbers=drawn.numbers,
            chosen=drawn.classes,
            queries=drawn.queries,
            support=drawn.support,
            guesses={
                shots: guesses(features, drawn, shots, self.config, self.setting.seed)
                for shots in self.config.episodes.shots
            },
            base=base,
        )
        write_episodes(folder / PREDICTIONS, found)

    @staticmethod
    def measure(folder: Path, config: Config) -> Measure:
        """Measures the accuracy of each number of shots over the episodes, and ``base_top1``."""
        found = read_episodes(folder / PREDICTIONS)
        ways = found.chosen.shape[1]
        named = {name_of(ways, shots): values for shots, values in found.accuracies().items()}
        measure = means(named, "episodes")
        if found.base is None:
            return measure
        base = read_classifications(folder / found.base)
        beside = (shares({"base_top1": base.correct(1)}),)
        return Measure(measure.num_images, measure.at, measure.sampled, beside=beside)

    @classmethod
    def score(cls, folder: Path, config: UntrainedConfig) -> tuple[Metric, ...]:
        """Scores those files, and adds CloserLook's interval to every accuracy."""
        return (*super().score(folder, config), *_normal_intervals(folder))

    def _features(self, source: Source, split: Split) -> Tensor:
        found = pooling.features(
            self.model.backbone, source, split, self.config.features,
            cache=self.setting.cache, workers=self.setting.workers,
        )  # fmt: skip
        if len(found) > 1:
            raise InputError("features.levels", f"names {', '.join(found)}", "one level, or none")
        # Where the network is, there the heads are computed.
        device = next(self.model.backbone.parameters()).device
        return next(iter(found.values())).to(device)

    def _base_features(self) -> tuple[Tensor, Tensor] | None:
        """Returns those of the training images and of what is kept apart from them, if anything."""
        train, apart = self.setting.train, self.setting.kept_apart
        if apart is None:
            return None
        return self._features(train, "train"), self._features(apart, "train")

    def _predict_base(self, folder: Path, learned: Tensor, asked: Tensor) -> str:
        train, apart = self.setting.train, self.setting.kept_apart
        assert apart is not None
        scores = nearest_centroids(learned, labels_of(train), len(train.classes), asked)
        order = scores.sort(dim=1, descending=True, stable=True).indices
        found = ClassPredictions(
            names=tuple(apart.name(i) for i in range(len(apart))),
            classes=apart.classes,
            labels=labels_of(apart).numpy(),
            topk=order[:, :_NUM_GUESSES].cpu().numpy(),
        )
        write_classifications(folder / BASE, found)
        return BASE


def name_of(ways: int, shots: int) -> str:
    """Names the accuracy of episodes.

    >>> name_of(5, 1)
    '5way_1shot'
    """
    return f"{ways}way_{shots}shot"


def guesses(
    features: Tensor, episodes: Episodes, shots: int, config: Config, seed: int
) -> NDArray[np.int64]:
    """Returns what a head says of every query after so many shots: (E, W, Q), in [0, W).

    Args:
        features: (N, D) float32, of all images.
        episodes: Which of them each episode holds; at least ``shots`` of support.
        shots: Images of a class that are learned from.
        config: Of the task; its head, and the head's settings.
        seed: Of the fine-tuned head's first weights and orders.
    """
    _, ways, num_queries = episodes.queries.shape
    size = features.shape[1] * features.element_size() * ways * (num_queries + shots)
    found = [
        _chunk_guesses(features, chunk, shots, config, seed)
        for chunk in episodes.chunks(max(1, _CHUNK_BYTES[config.head] // size))
    ]
    return torch.cat(found).reshape(episodes.queries.shape).cpu().numpy()


def _chunk_guesses(
    features: Tensor, episodes: Episodes, shots: int, config: Config, seed: int
) -> Tensor:
    queries = _taken(features, episodes.queries).flatten(1, 2)
    support = _taken(features, episodes.support[:, :, :shots])
    if config.head == "centroid":
        return centroid_guesses(support, queries)
    if config.head == "logistic":
        return logistic_guesses(support, queries, config.logistic)
    numbers = episodes.numbers.tolist()
    return fine_tuned_guesses(support, queries, config.fine_tuned, seed, numbers)


def _taken(features: Tensor, images: NDArray[np.int64]) -> Tensor:
    """Returns the features of images of any shape, in that shape: (..., D)."""
    places = torch.from_numpy(np.ascontiguousarray(images)).to(features.device)
    return features.index_select(0, places.flatten()).reshape(*images.shape, -1)


def nearest_centroids(learned: Tensor, labels: Tensor, num_classes: int, asked: Tensor) -> Tensor:
    """Returns the cosine of each feature (M, D) with the mean feature of each class: (M, C).

    Args:
        learned: (N, D), of which the means are taken, as they are.
        labels: (N,) int64.
        num_classes: C.
        asked: (M, D).
    """
    sums = learned.new_zeros(num_classes, learned.shape[1]).double()
    sums.index_add_(0, labels.to(learned.device), learned.double())
    # A mean and a sum point the same way.
    return F.normalize(asked.double(), dim=1) @ F.normalize(sums, dim=1).T


def _normal_intervals(folder: Path) -> Iterator[Metric]:
    """Yields each accuracy with 1.96 standard errors of its mean over the episodes either way.

    Source: CloserLookFewShot, test.py; the standard deviation's divisor is their number.
    """
    found = read_episodes(folder / PREDICTIONS)
    for shots, accuracies in found.accuracies().items():
        value = 100 * float(accuracies.mean())
        reach = 100 * _NORMAL_95 * float(accuracies.std()) / math.sqrt(len(accuracies))
        yield Metric(
            name=f"{name_of(found.chosen.shape[1], shots)}_normal", value=value, unit="%",
            n=len(accuracies), low=value - reach, high=value + reach,
            interval="episodes: 1.96 std / sqrt(n)",
        )  # fmt: skip
