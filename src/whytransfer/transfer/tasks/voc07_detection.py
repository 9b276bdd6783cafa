"""Object detection: Faster R-CNN C4 with all layers fine-tuned, on VOC07 as the paper does it.

Three recipes, by the field ``recipe``: ``paper``, MoCo's for detectron2 (R50-C4, synchronised
BatchNorm with one more after the last stage, precise statistics at the end) at the paper's length,
9k steps of 16 images on trainval07; ``moco_24k``, the same for 24k steps, made for trainval07+12;
``detectron2``, its stock C4, also for 07+12. Which images are trained on is the data's to say. Any
detection data will do; the metric's rules are VOC's and COCO's.

Source: Zhao et al. 2021, section 3; moco detection/ @132aea9; detectron2 @02b5c4e. Part by part:
    docs/protocols/detection.md.
Differs: a batch is padded as a whole, where each GPU pads its 2 images; sampling draws from named
    streams; equal scores keep the order of image, then box. Settings that torchvision
    has otherwise (rounded anchors, smooth L1, no norm after stage 5) are the reference's.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import NonNegativeInt, PositiveInt, model_validator

from whytransfer.backbone.model import Backbone
from whytransfer.core.config import assumed
from whytransfer.core.errors import InputError
from whytransfer.core.streams import seeded_torch
from whytransfer.data.loader import EndlessOrder, in_order, load
from whytransfer.data.predictions import require_objects, truth_of, write_detections, write_truth
from whytransfer.data.sample import Source
from whytransfer.ops.detections import Detections
from whytransfer.ops.masks import joined
from whytransfer.train.config import Schedule, Sgd, Training
from whytransfer.transfer.measure import Measure
from whytransfer.transfer.parts.c4 import C4Config, C4Detector
from whytransfer.transfer.parts.detection_score import measure_folder
from whytransfer.transfer.parts.precise_norm import recompute_statistics
from whytransfer.transfer.parts.regions import Found
from whytransfer.transfer.parts.scenes import (
    Scene,
    SceneBatch,
    SceneViews,
    TestScenes,
    TrainingScenes,
    collate,
    trainable,
)
from whytransfer.transfer.sharing import in_turn
from whytransfer.transfer.task import PREDICTIONS, TRUTH, Setting, TaskConfig, require_batch
from whytransfer.transfer.task import Task as TaskProtocol


class DetectionSchedule(Schedule):
    """Linear warm-up, then steps."""

    kind: Literal["constant", "cosine", "multistep", "poly"] = "multistep"
    milestones: tuple[float, ...] = (6000, 8000)
    warmup_steps: int = assumed(
        100, "the paper does not say; MoCo's and detectron2's VOC recipes warm up for 100", ge=0
    )


class DetectionTraining(Training):
    """The paper's 9k steps of 16 images (8 GPUs of 2)."""

    steps: PositiveInt | None = 9000
    batch_size: PositiveInt = 16
    sgd: Sgd = Sgd(lr=0.02, momentum=0.9, weight_decay=1e-4, norm_weight_decay=0.0)
    schedule: DetectionSchedule = DetectionSchedule()


RECIPES: Mapping[str, Mapping[str, Any]] = {
    "paper": {},
    "moco_24k": {"training": {"steps": 24000, "schedule": {"milestones": [18000, 22000]}}},
    "detectron2": {
        "training": {"steps": 18000, "schedule": {"milestones": [12000, 16000]}},
        "detector": {"frozen_levels": 2, "frozen_norms": True, "regions": {"extra_norm": False}},
        "precise_bn_steps": 0,
    },
}
"""Recipe → what it sets otherwise than the defaults, which are the paper's.

Source: moco detection/configs/pascal_voc_R_50_C4_24k.yaml @132aea9; detectron2
    PascalVOC-Detection/faster_rcnn_R_50_C4.yaml and config/defaults.py @02b5c4e (``FREEZE_AT`` 2,
    ``FrozenBN``, ``Res5ROIHeads``, no precise statistics).
"""


class Config(TaskConfig):
    """All settings of the recipe.

    Attributes:
        recipe: Whose settings the other fields have where they are not given: one of ``RECIPES``.
        training: Steps, batch, optimiser and schedule.
        detector: Anchors, matching, sampling, heads, suppression, BatchNorm groups.
        views: Sizes at which images are shown, and flips.
        precise_bn_steps: Batches whose statistics replace the running ones at the end; 0 keeps
            the running ones.
        filter_empty: Leave training images out that show no object.
        aspect_group: So many images of a batch, and again so many, are all wide or all tall; the
            reference's 2 are those of one GPU. ``None`` mixes all.
        keep_difficult: Train on objects that VOC flags as difficult.
        test_batch_size: Images per batch of the test. With 1 nothing is padded, as in the
            reference; with more, images of unequal size are, which moves scores a little.
        voc_rule: ``voc07`` (11 points) for a test set of 2007, ``voc12`` (area) for later ones.
    """

    recipe: str = "paper"
    training: DetectionTraining = DetectionTraining()
    detector: C4Config = C4Config()
    views: SceneViews = SceneViews()
    precise_bn_steps: NonNegativeInt = 200
    filter_empty: bool = True
    aspect_group: PositiveInt | None = 2
    keep_difficult: bool = True
    test_batch_size: PositiveInt = 1
    voc_rule: Literal["voc07", "voc12"] = "voc07"

    @model_validator(mode="after")
    def _groups_fill_batches(self) -> Self:
        batch_size = self.training.batch_size
        sizes = {
            "aspect_group": self.aspect_group,
            "detector.bn_group_size": self.detector.bn_group_size,
        }
        for name, size in sizes.items():
            if size is not None and batch_size % size:
                raise ValueError(
                    f"training.batch_size {batch_size} is not a multiple of {name} {size}: "
                    f"change one of them, or set {name} to null"
                )
        return self


class Task(TaskProtocol):
    """Fine-tunes a detector and writes what it finds in every test image."""

    FINE_TUNES: ClassVar[bool] = True
    PREDICTS: ClassVar[Literal["detections", "classes"]] = "detections"

    model: C4Detector

    def __init__(self, config: Config, backbone: Backbone, setting: Setting) -> None:
        self.config, self.setting = config, setting
        if self._masks:
            _require_masks(setting)
        kept = _kept(setting.train, config)
        require_batch(len(kept), config.training.batch_size, "training images")
        self._scenes = TrainingScenes(
            setting.train, kept, config.views, config.keep_difficult, setting.seed, self._masks
        )
        group = config.aspect_group
        self._order = EndlessOrder(
            len(kept), config.training.batch_size, setting.seed,
            groups=_wide(setting.train, kept) if group else None, group_size=group,
        )  # fmt: skip
        with seeded_torch(setting.stream("detector")):
            self.model = C4Detector(backbone, len(setting.train.classes), config.detector)

    @property
    def steps_per_epoch(self) -> int:
        """How many batches one pass over the training images is, the rest left out."""
        return len(self._scenes.kept) // self.config.training.batch_size

    def batches(self, first_step: int) -> Iterator[SceneBatch]:
        """Yields the batch of every step from one on."""
        return self._load(first_step, self._total_steps - first_step)

    def finish(self) -> None:
        """Recomputes BatchNorm's statistics on the batches that would have come next."""
        steps = range(self._total_steps, self._total_steps + self.config.precise_bn_steps)
        contexts = map(self.setting.context, steps)
        batches = zip(self._load(steps.start, len(steps)), contexts, strict=False)
        self.model.train()
        recompute_statistics(self.model, batches, lambda call: self.model.loss(*call))

    def predict(self, folder: Path) -> None:
        """Writes the detections of all test images, and the test images' objects."""
        setting, views = self.setting, self.config.views
        self.model.eval()
        batches = in_order(
            TestScenes(setting.test, views), len(setting.test), self.config.test_batch_size,
            self._collate, setting.workers, setting.processes,
        )  # fmt: skip
        found = list(in_turn(map(self.model.detect, batches), setting.processes))
        if not setting.processes.leads:
            return
        truth = truth_of(setting.test, masks=self._masks)
        write_truth(folder / TRUTH, truth)
        write_detections(folder / PREDICTIONS, columns(found), truth)

    @staticmethod
    def measure(folder: Path, config: Config) -> Measure:
        """Measures AP, AP50, AP75, coco_AP, coco_AP50, coco_AP75 and AP[class], in percent."""
        return measure_folder(folder, config.voc_rule)

    @property
    def _masks(self) -> bool:
        return self.config.detector.masks is not None

    @property
    def _total_steps(self) -> int:
        return self.config.training.total_steps(self.steps_per_epoch)

    @property
    def _collate(self) -> Callable[[Sequence[Scene]], SceneBatch]:
        return partial(collate, multiple_px=self.config.views.pad_to_multiple_px)

    def _load(self, first_step: int, num_steps: int) -> Iterator[SceneBatch]:
        order, workers = self.setting.part(self._order), self.setting.workers
        return load(self._scenes, order, self._collate, first_step, num_steps, workers)


def columns(found: Sequence[Found]) -> Detections:
    """Returns the detections of all images, one entry of the sequence each, as columns."""
    counts = [len(image.scores) for image in found]
    has_masks = any(image.masks is not None for image in found)
    empty = torch.zeros(0)
    return Detections(
        image=np.repeat(np.arange(len(found)), counts),
        label=torch.cat([empty.long(), *(f.labels.cpu() for f in found)]).numpy(),
        score=torch.cat([empty, *(f.scores.cpu() for f in found)]).double().numpy(),
        boxes_xyxy=torch.cat([empty.reshape(0, 4), *(f.boxes_xyxy.cpu() for f in found)])
        .double()
        .numpy(),
        masks=joined([f.masks for f in found if f.masks is not None]) if has_masks else None,
    )


def _require_masks(setting: Setting) -> None:
    """Checks that both splits have masks.

    Raises:
        InputError: One has none.
    """
    for split, source in (("training", setting.train), ("test", setting.test)):
        objects = [source.objects(index) for index in range(len(source))]
        annotated = [found for found in objects if found is not None and len(found.labels)]
        if annotated and all(found.masks is None for found in annotated):
            raise InputError(
                f"{split} split", "its objects have boxes but no masks",
                "data with masks, such as COCO's", "for boxes alone set detector.masks to null",
            )  # fmt: skip


def _kept(source: Source, config: Config) -> NDArray[np.int64]:
    """Returns the images to train on.

    Raises:
        InputError: None of them shows an object.
    """
    masks = config.detector.masks is not None
    require_objects(source)
    objects = (source.objects(index) for index in range(len(source)))
    shown = [trainable(o, config.keep_difficult, masks).any() for o in objects]
    shows = np.array(shown, dtype=bool)
    if not shows.any():
        raise InputError(
            "training split",
            f"no box in any of its {len(source)} images",
            "images with annotated objects",
            "check the annotations, or that the folder is the right one",
        )
    return np.flatnonzero(shows | (not config.filter_empty))


def _wide(source: Source, kept: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns each image's group: 1 where it is wider than high."""
    sizes = [source.size(int(index)) for index in kept]
    return np.array([int(width > height) for height, width in sizes], dtype=np.int64)
