"""The protocol of an analysis, and what it is given.

An analysis is one module in ``diagnose/analyses``: a docstring whose first line says what it is,
``QUESTION``, ``NEEDS`` (which kind of runs it reads), a frozen ``Config`` and a plain function
``answer(runs, data, config, workspace) -> Finding``, which leaves its inputs as they were.

detections    :class:`DetectionRun`, of finished detectors; the data are for pictures alone
backbones     :class:`BackboneRun`, of pretrained networks; the data are the images they look at
fine_tuned    :class:`FineTunedRun`, networks before and after a transfer; data as above
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from pydantic import BaseModel

from whytransfer.core.records import Finding
from whytransfer.data.dataset import Dataset
from whytransfer.ops.detections import Detections, Truth

if TYPE_CHECKING:
    from whytransfer.backbone.model import Backbone

Kind = Literal["detections", "backbones", "fine_tuned"]


@dataclass(frozen=True)
class DetectionRun:
    """The predictions of one fine-tuned detector, with the truth they are held against.

    Attributes:
        arm: The pretraining it started from, as reports name it.
        seed: Seed of pretraining and transfer.
        fingerprint: Of the transfer artifact.
        variant: Empty for the run that stands for the arm; else the name of a further complete
            run of it, such as a shorter schedule.
    """

    arm: str
    seed: int
    fingerprint: str
    truth: Truth
    detections: Detections
    variant: str = ""


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
    """

    arm: str
    seed: int
    fingerprint: str
    before: "Callable[[], Backbone]"
    after: "Callable[[], Backbone]"


class Answer(Protocol):
    """What the module's ``answer`` must look like; the runs are of the kind that ``NEEDS`` says."""

    def __call__(
        self, runs: Sequence[Any], data: Dataset | None, config: BaseModel, workspace: Path
    ) -> Finding:
        """Answers the question from finished runs; pictures go into the workspace folder."""
