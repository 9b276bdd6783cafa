"""The protocol of a downstream task, and what it is given.

A task is one module in ``transfer/tasks``: a docstring whose first line says what it is, a frozen
``Config`` that holds every default, and a class ``Task``. It knows of the backbone only what the
backbone says of itself. What it predicts goes into files, and its score is a pure function of
those files.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, PositiveInt
from torch import nn

from whytransfer.backbone.features import Cache
from whytransfer.backbone.model import Backbone
from whytransfer.core.config import Config
from whytransfer.core.errors import InputError
from whytransfer.core.processes import ALONE, Processes
from whytransfer.core.records import Metric
from whytransfer.core.streams import Stream
from whytransfer.data.loader import Order
from whytransfer.data.part import Part
from whytransfer.data.sample import Source, Split
from whytransfer.train.agreement import gatherer
from whytransfer.train.config import Training
from whytransfer.train.learner import Context
from whytransfer.transfer.measure import Measure, metrics

PREDICTIONS = "predictions.json"
"""What the trained model says of every test image; classes stand there with the truth, and so do
episodes.
"""

TRUTH = "truth.json"
"""The objects of the test images, beside detections; the classes of their pixels, beside segments;
their landmarks, beside landmarks.
"""

DIVERGED = "diverged"
"""The one metric, without a value, of a run on held-out images whose training could not go on."""

Predicts = Literal["detections", "classes", "segments", "episodes", "landmarks"]
"""Boxes with classes and scores; the classes of each image, best first; the class of each pixel;
the classes of the images of each episode, among those of the episode; named points.
"""


class UntrainedConfig(Config):
    """What the configuration of a task that trains nothing by gradient steps holds.

    Attributes:
        validation: Share of the training images, in (0, 1), that is held out: the task learns from
            the rest and is scored on them, and the test split is never opened. For the choice of
            settings; ``None`` learns from all and scores on the test split.
        limit: Use that many training and that many test images only, for a smoke run.
        num_draws: Resamplings of the test images (or episodes) behind every interval.
    """

    validation: float | None = Field(default=None, gt=0, lt=1)
    limit: PositiveInt | None = None
    num_draws: PositiveInt = 1000


class TaskConfig(UntrainedConfig):
    """What the configuration of every other task holds.

    Attributes:
        training: How the task's model is trained.
    """

    training: Training


@dataclass(frozen=True)
class Setting:
    """What a task is built for.

    Attributes:
        train: The images that are trained on.
        test: The images that are scored on; the same classes, or new ones where the task has
            ``NEW_CLASSES``.
        seed: Of every stream that the task draws from.
        workers: Processes that read and augment images; moves no number.
        processes: Those that train and predict together.
        cache: Where features of this backbone on these data are kept; ``None`` keeps none.
        kept_apart: Images of the training classes that the data keep apart from ``train``; ``None``
            where they keep none.
        test_split: The split that ``test`` is taken from, by which kept features are named.
    """

    train: Source
    test: Source
    seed: int = 0
    workers: int = 0
    processes: Processes = ALONE
    cache: Cache | None = None
    kept_apart: Source | None = None
    test_split: Split = "test"

    def part(self, order: Order) -> Order:
        """Returns the order of this process's equal part of every batch."""
        return Part(order, self.processes)

    def context(self, step: int) -> Context:
        """Returns what a loss is given in one step, for a loss that is called beside training."""
        processes = self.processes
        return Context(step, self.seed, gatherer(processes), processes.rank, processes.size)

    def stream(self, name: str) -> Stream:
        """Returns the stream for one part of the initialisation."""
        return Stream(self.seed, f"init/{name}")


class Task(ABC):
    """A downstream task on one backbone: a model, its training data, its predictions.

    Several processes work on it together. So its batches come in the order that
    :meth:`Setting.part` gives; its loss takes a mean by
    :meth:`~whytransfer.train.learner.Context.average` over what parts of a batch may have unequally
    many of; what each process predicts is put together by
    :func:`whytransfer.transfer.sharing.in_turn`, and the first one writes.

    Args:
        config: The module's ``Config``.
        backbone: Trained further in place where the task fine-tunes.
        setting: Data and seed.

    Attributes:
        TRAINS: Whether there is anything to train; where not, its configuration has no
            ``training``, and nobody asks for batches.
        FINE_TUNES: Whether the backbone's weights are trained, too; a task that leaves it to a
            setting says it in :meth:`fine_tunes`.
        PREDICTS: What the prediction file holds.
        NEW_CLASSES: Whether no class of the test split may be one of the training split; else both
            must have the same.
        model: What is trained, a :class:`whytransfer.train.loop.Learner`.

    Raises:
        InputError: The data or the backbone are not what the task needs.
    """

    TRAINS: ClassVar[bool] = True
    FINE_TUNES: ClassVar[bool]
    PREDICTS: ClassVar[Predicts]
    NEW_CLASSES: ClassVar[bool] = False

    model: nn.Module

    @abstractmethod
    def __init__(self, config: Any, backbone: Backbone, setting: Setting) -> None: ...

    @property
    @abstractmethod
    def steps_per_epoch(self) -> int:
        """How many batches one pass over the training images is."""

    @abstractmethod
    def batches(self, first_step: int) -> Iterator[Any]:
        """Yields the batch of every step from one on; a pure function of seed and step."""

    @abstractmethod
    def finish(self) -> None:
        """Runs once after the last step, before anything is predicted."""

    @abstractmethod
    def predict(self, folder: Path) -> None:
        """Writes what the model says of the test images, and what is true of them, as files."""

    @staticmethod
    @abstractmethod
    def measure(folder: Path, config: Any) -> Measure:
        """Reads the files that :meth:`predict` wrote, ready to be scored under any weights.

        Raises:
            InputError: A file is missing, not readable, or does not belong to the other.
        """

    @classmethod
    def fine_tunes(cls, config: Any) -> bool:
        """Says whether the backbone's weights are trained, too, under a configuration."""
        return cls.FINE_TUNES

    @classmethod
    def score(cls, folder: Path, config: UntrainedConfig) -> tuple[Metric, ...]:
        """Scores those files: every metric with its interval, the headline first."""
        return metrics(cls.measure(folder, config), config.num_draws)


class Untrained(Task):
    """A task with nothing to train by gradient steps: what it needs it works out in ``predict``."""

    TRAINS: ClassVar[bool] = False
    FINE_TUNES: ClassVar[bool] = False

    @property
    def steps_per_epoch(self) -> int:
        """There are none."""
        return 0

    def batches(self, first_step: int) -> Iterator[Any]:
        """There are none; raises ``NotImplementedError``: ``TRAINS`` says that nobody may ask."""
        raise NotImplementedError(f"{type(self).__module__} does not train")

    def finish(self) -> None:
        """There is nothing to end."""


def require_batch(num_images: int, batch_size: int, what: str) -> None:
    """Checks that a batch can be filled.

    Raises:
        InputError: It is larger than the data.
    """
    if batch_size > num_images:
        raise InputError(
            "training.batch_size",
            f"{batch_size} is more than the {num_images} {what}",
            f"at most {num_images}",
            "make it smaller, or raise limit where one is set",
        )
