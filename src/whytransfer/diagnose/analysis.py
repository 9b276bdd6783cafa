"""The protocol of an analysis, and what it is given.

An analysis is one module in ``diagnose/analyses``: a docstring whose first line says what it is,
``QUESTION``, ``NEEDS`` (kinds of artifacts), a frozen ``Config`` and a plain function
``answer(runs, config, workspace) -> Finding``, which leaves its inputs as they were.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pydantic import BaseModel

from whytransfer.core.records import Finding
from whytransfer.ops.detections import Detections, Truth


@dataclass(frozen=True)
class DetectionRun:
    """The predictions of one fine-tuned detector, with the truth they are held against.

    Attributes:
        arm: The pretraining it started from, as reports name it.
        seed: Seed of pretraining and transfer.
        fingerprint: Of the transfer artifact.
        image_path: Index into ``truth.images`` → the image's file, ``None`` where it is not here.
    """

    arm: str
    seed: int
    fingerprint: str
    truth: Truth
    detections: Detections
    image_path: Callable[[int], Path | None]


class Answer(Protocol):
    """What the module's ``answer`` must look like."""

    def __call__(self, runs: Sequence[DetectionRun], config: BaseModel, workspace: Path) -> Finding:
        """Answers the question from finished runs; pictures go into the workspace folder."""
