"""The protocol of an analysis, and what it is given.

An analysis is one module in ``diagnose/analyses``: a docstring whose first line says what it is,
``QUESTION``, ``NEEDS`` (which kind of runs it reads), a frozen ``Config`` and a plain function
``answer(runs, data, config, workspace) -> Finding``, which leaves its inputs as they were.

detections    :class:`DetectionRun`, of finished detectors; the data are for pictures alone
backbones     :class:`BackboneRun`, of pretrained networks; the data are the images they look at
fine_tuned    :class:`FineTunedRun`, networks before and after a transfer; data as above
scored        a :data:`ScoredRun`: detections, guesses, label maps or landmarks
exposed       :class:`ExposedRun`, with what the pretraining was trained on; the data are the test's

One that needs further runs names them: ``variants(config) -> Sequence[Variant]``. A study makes
each for every arm and seed of the analysis' task, and they reach ``answer`` among the others, told
apart by ``run.variant``.

Two things more, for those that need them. A long analysis says ``RESUMES = True`` and takes a
further argument ``work``, a folder that survives a kill and is dropped when the answer is there.
One with settings that the machine or a file decides has ``settled(config) -> Config``, so that
fingerprint and record hold what was decided.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from whytransfer.core.records import Finding
from whytransfer.data.dataset import Dataset
from whytransfer.ops.average_precision import Metric
from whytransfer.ops.detections import Detections, Truth
from whytransfer.ops.mean_iou import PixelCounts

if TYPE_CHECKING:
    from whytransfer.backbone.model import Backbone

Kind = Literal["detections", "backbones", "fine_tuned", "scored", "exposed"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")


@dataclass(frozen=True)
class Variant:
    """A further run of an arm, and how it differs from the study's own.

    Attributes:
        name: Unique within the analysis; what ``run.variant`` says. Letters, digits, ``_.+-``.
        transplant: Settings of the method ``transplant``, which changes the pretrained backbone
            before the task begins; empty leaves it as it is.
        length: What the task's training is long, in lengths of the study's own. The schedule is
            stretched with it, so that the run is a complete one.
        overrides: Dotted name of a setting of the task → its value.
        except_for: Arms of which there is none.
    """

    name: str
    transplant: Mapping[str, Any] = field(default_factory=dict)
    length: float = 1.0
    overrides: Mapping[str, Any] = field(default_factory=dict)
    except_for: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"the name of a variant is of letters, digits and _.+-: {self.name!r}")
        if not self.length > 0:
            raise ValueError(f"variant {self.name}: length must be above 0, not {self.length}")


def name_of_length(length: float) -> str:
    """Names the variant that is so long as that many of the study's own runs, which has no name.

    >>> name_of_length(0.5), name_of_length(1.0)
    ('length_0.5', '')
    """
    return "" if length == 1.0 else f"length_{length:g}"


def of_lengths(lengths: Sequence[float]) -> list[Variant]:
    """Lists the complete runs of other lengths than the study's own, for ``variants``.

    Analyses that ask for the same lengths share the runs.
    """
    found = ((name_of_length(length), length) for length in lengths)
    return [Variant(name, length=length) for name, length in found if name]


@dataclass(frozen=True)
class DetectionRun:
    """The predictions of one fine-tuned detector, with the truth they are held against.

    Attributes:
        arm: The pretraining it started from, as reports name it.
        seed: Seed of pretraining and transfer.
        fingerprint: Of the transfer artifact.
        variant: Name of the further run that it is; empty for the study's own.
        rule: By which the task averages precision; ``coco101`` where its headline is COCO's.
    """

    arm: str
    seed: int
    fingerprint: str
    truth: Truth
    detections: Detections
    variant: str = ""
    rule: Metric = "voc07"


@dataclass(frozen=True)
class ClassRun:
    """The guesses of one classifier.

    Attributes:
        arm, seed, fingerprint, variant: As in :class:`DetectionRun`.
        images: Names of the test images.
        correct: (I,) whether the first guess was right.
    """

    arm: str
    seed: int
    fingerprint: str
    images: tuple[str, ...]
    correct: NDArray[np.bool_]
    variant: str = ""


@dataclass(frozen=True)
class PixelRun:
    """The label maps of one segmenter, counted.

    Attributes:
        arm, seed, fingerprint, variant: As in :class:`DetectionRun`.
        images: Names of the test images.
        counts: Of their pixels, image by image.
    """

    arm: str
    seed: int
    fingerprint: str
    images: tuple[str, ...]
    counts: PixelCounts
    variant: str = ""


@dataclass(frozen=True)
class PointRun:
    """How far the landmarks of one regressor are from the true ones.

    Attributes:
        arm, seed, fingerprint, variant: As in :class:`DetectionRun`.
        images: Names of the test images.
        errors: (I,) mean over an image's landmarks, in percent of the distance between the eyes.
    """

    arm: str
    seed: int
    fingerprint: str
    images: tuple[str, ...]
    errors: NDArray[np.float64]
    variant: str = ""


ScoredRun = DetectionRun | ClassRun | PixelRun | PointRun
"""Whatever has a score under any weights of the test images."""


@dataclass(frozen=True)
class ExposedRun:
    """What one arm was pretrained on, and its detections where it was fine-tuned to detect.

    Attributes:
        arm, seed, fingerprint, variant, rule: As in :class:`DetectionRun`.
        pretrained_on: The datasets whose training splits pretraining saw; empty for a network that
            was not trained, ``None`` where nobody said.
        truth, detections: Of the test; ``None`` where the run detects nothing.
    """

    arm: str
    seed: int
    fingerprint: str
    pretrained_on: tuple[Dataset, ...] | None
    truth: Truth | None = None
    detections: Detections | None = None
    variant: str = ""
    rule: Metric = "voc07"


@dataclass(frozen=True)
class BackboneRun:
    """One pretrained network, which is read when it is asked for.

    Attributes:
        arm: The pretraining, as reports name it.
        seed: Of pretraining; 0 for a checkpoint from elsewhere.
        fingerprint: Of the artifact, or of the checkpoint's file.
        load: Reads the network anew, in evaluation mode.
    """

    arm: str
    seed: int
    fingerprint: str
    load: "Callable[[], Backbone]"


@dataclass(frozen=True)
class FineTunedRun:
    """One network before and after a transfer that trained it, each read when asked for.

    Attributes:
        arm: The pretraining it started from, as reports name it.
        seed: Of pretraining and transfer.
        fingerprint: Of the transfer artifact.
        before, after: Read the network anew, in evaluation mode.
        variant: Name of the further run that it is; empty for the study's own.
    """

    arm: str
    seed: int
    fingerprint: str
    before: "Callable[[], Backbone]"
    after: "Callable[[], Backbone]"
    variant: str = ""


class Answer(Protocol):
    """What the module's ``answer`` must look like; the runs are of the kind that ``NEEDS`` says."""

    def __call__(
        self, runs: Sequence[Any], data: Dataset | None, config: BaseModel, workspace: Path
    ) -> Finding:
        """Answers the question from finished runs; pictures go into the workspace folder."""
