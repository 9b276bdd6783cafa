"""Detection as on COCO: Mask R-CNN C4, boxes and masks, at COCO's sizes and schedule.

The detector, its sampling and its BatchNorm are those of ``voc07_detection``, with a mask head;
what else differs are the sizes at which images are shown, the schedule, and which AP come first.
With ``detector.masks: null`` it is Faster R-CNN C4, for data without masks.

Source: Zhao et al. 2021, section 3; moco detection/configs/coco_R_50_C4_2x.yaml @132aea9;
    detectron2 configs/Base-RCNN-C4.yaml @02b5c4e (1x).
Differs: masks that are annotated as pixels, of which the reference takes none beside polygons, are
    trained on by its rule for masks of pixels.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import PositiveInt

from whytransfer.core.config import assumed
from whytransfer.transfer.measure import Measure
from whytransfer.transfer.parts.c4 import C4Config
from whytransfer.transfer.parts.instance_score import measure_instances
from whytransfer.transfer.parts.mask_head import MaskConfig
from whytransfer.transfer.parts.scenes import SceneViews
from whytransfer.transfer.tasks import voc07_detection

_LENGTH = "the paper does not say 1x or 2x; MoCo's configuration is 2x"

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


class CocoDetector(C4Config):
    """A detector with a mask head."""

    masks: MaskConfig | None = MaskConfig()


class Config(voc07_detection.Config):
    """All settings of the recipe; those that are not here are ``voc07_detection``'s.

    Attributes:
        recipe: ``2x`` or ``1x``.
        training: Steps, batch, optimiser and schedule.
        detector: Anchors, matching, sampling, heads, suppression, BatchNorm groups.
        views: Sizes at which images are shown, and flips.
    """

    recipe: str = assumed("2x", _LENGTH)
    training: CocoTraining = CocoTraining()
    detector: CocoDetector = CocoDetector()
    views: CocoViews = CocoViews()


class Task(voc07_detection.Task):
    """Fine-tunes a detector and writes what it finds in every test image."""

    @staticmethod
    def measure(folder: Path, config: voc07_detection.Config) -> Measure:
        """Measures COCO's AP of boxes and of masks, then AP, AP50, AP75 and AP[class] by VOC's."""
        masks = config.detector.masks is not None
        return measure_instances(folder, config.voc_rule, masks=masks)
