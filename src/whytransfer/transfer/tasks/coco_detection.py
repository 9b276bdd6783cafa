"""Object detection as on COCO: Faster R-CNN C4 at COCO's sizes and schedule, scored by its rules.

The detector, its sampling and its BatchNorm are those of ``voc07_detection``; what differs are the
sizes at which images are shown, the schedule, and which AP comes first. Boxes alone: masks of
objects are neither trained nor scored.

Source: Zhao et al. 2021, section 3; moco detection/configs/coco_R_50_C4_2x.yaml @132aea9.
Differs: there is no mask head.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import PositiveInt

from whytransfer.core.config import assumed
from whytransfer.transfer.measure import Measure
from whytransfer.transfer.parts.scenes import SceneViews
from whytransfer.transfer.tasks import voc07_detection

_LENGTH = "the paper does not say 1x or 2x; MoCo's configuration is 2x"
_FIRST = "coco_"

RECIPES: Mapping[str, Mapping[str, Any]] = {
    "2x": {},
    "1x": {"training": {"steps": 90000, "schedule": {"milestones": [60000, 80000]}}},
}
"""Recipe → what it sets otherwise than the defaults.

Source: moco detection/configs/coco_R_50_C4_2x.yaml @132aea9; detectron2 Base-RCNN-C4.yaml @02b5c4e.
"""


class CocoSchedule(voc07_detection.DetectionSchedule):
    """A longer warm-up, then steps."""

    milestones: tuple[float, ...] = assumed((120000, 160000), _LENGTH)
    warmup_steps: int = assumed(
        1000, "the paper does not say; detectron2 warms up for 1000 steps", ge=0
    )


class CocoTraining(voc07_detection.DetectionTraining):
    """Batches and learning rate of VOC."""

    steps: PositiveInt | None = assumed(180000, _LENGTH)
    schedule: CocoSchedule = CocoSchedule()


class CocoViews(SceneViews):
    """Shorter sides from 640 to 800 pixels."""

    short_sides_px: tuple[int, ...] = tuple(range(640, 801, 32))


class Config(voc07_detection.Config):
    """All settings of the recipe; those that are not here are ``voc07_detection``'s.

    Attributes:
        recipe: ``2x`` or ``1x``.
        training: Steps, batch, optimiser and schedule.
        views: Sizes at which images are shown, and flips.
    """

    recipe: str = assumed("2x", _LENGTH)
    training: CocoTraining = CocoTraining()
    views: CocoViews = CocoViews()


class Task(voc07_detection.Task):
    """Fine-tunes a detector and writes what it finds in every test image."""

    @staticmethod
    def measure(folder: Path, config: voc07_detection.Config) -> Measure:
        """Measures coco_AP, coco_AP50 and coco_AP75, then what ``voc07_detection`` does."""
        measure = voc07_detection.Task.measure(folder, config)
        # A sort is stable: what COCO's rules give moves to the front, and no order else changes.
        return Measure(
            measure.num_images,
            lambda weights: dict(
                sorted(measure.at(weights).items(), key=lambda m: not m[0].startswith(_FIRST))
            ),
        )
