"""Semantic segmentation: DeepLab-v3 with all layers fine-tuned, a class for every pixel.

Any data with a label for every pixel will do; the classes are the data's. The segmenter, its views,
its test and its score are here; the recipe is that of ``cityscapes_segmentation``, the paper's, but
of other data the paper says nothing, so all of it is marked as assumed.

Source: Zhao et al. 2021, section 3; Chen et al. 2017; mmsegmentation
    configs/deeplabv3/deeplabv3_r50-d8_512x1024_40k_cityscapes.py.
Differs: the stem is the backbone's own 7×7, where mmsegmentation trains a deep stem; channels are
    dropped by named streams.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import PositiveFloat, PositiveInt, model_validator

from whytransfer.backbone.model import Backbone
from whytransfer.core.config import assumed
from whytransfer.core.streams import seeded_torch
from whytransfer.data.loader import EpochOrder, in_order, load
from whytransfer.data.predictions import write_label_maps
from whytransfer.train.config import Schedule, Sgd, Training
from whytransfer.transfer.measure import Measure
from whytransfer.transfer.parts.deeplab import DeepLabConfig, Segmenter
from whytransfer.transfer.parts.dilated import require_stages
from whytransfer.transfer.parts.pixels import (
    PixelBatch,
    PixelViews,
    TestPixels,
    TrainingPixels,
    collate,
    labels_of,
    require_crop,
)
from whytransfer.transfer.parts.segmentation_score import measure_folder
from whytransfer.transfer.sharing import in_turn
from whytransfer.transfer.task import (
    PREDICTIONS,
    TRUTH,
    Predicts,
    Setting,
    TaskConfig,
    require_batch,
)
from whytransfer.transfer.task import Task as TaskProtocol

_MMSEG = "the paper does not say; its author names mmsegmentation (Good_transfer#1), whose it is"
_PAPER = "the paper's for Cityscapes; of other data it says nothing"


class SegmentationSchedule(Schedule):
    """Polynomial decay without warm-up."""

    kind: Literal["constant", "cosine", "multistep", "poly"] = "poly"
    power: PositiveFloat = assumed(0.9, _MMSEG)
    floor: float = assumed(0.01, _MMSEG + ": it ends at 1e-4", ge=0, lt=1)
    warmup_steps: int = assumed(0, _MMSEG, ge=0)


class SegmentationSgd(Sgd):
    """One learning rate and decay for all layers, norms included."""

    lr: PositiveFloat = assumed(0.01, _PAPER)
    momentum: float = assumed(0.9, _MMSEG, ge=0, lt=1)
    weight_decay: float = assumed(5e-4, _MMSEG, ge=0)


class SegmentationTraining(Training):
    """As long as the paper trains on Cityscapes."""

    steps: PositiveInt | None = assumed(40000, _PAPER)
    batch_size: PositiveInt = assumed(8, _PAPER)
    sgd: SegmentationSgd = SegmentationSgd()
    schedule: SegmentationSchedule = SegmentationSchedule()


class Config(TaskConfig):
    """All settings of the recipe.

    Attributes:
        training: Steps, batch, optimiser and schedule.
        segmenter: Stride, pyramid, auxiliary classifier, BatchNorm groups.
        views: Crop, scales, flips and colours.
        test_batch_size: Images per batch of the test. With 1 nothing is padded; with more, images
            of unequal size are, which moves scores a little.
    """

    training: SegmentationTraining = SegmentationTraining()
    segmenter: DeepLabConfig = DeepLabConfig()
    views: PixelViews = PixelViews()
    test_batch_size: PositiveInt = 1

    @model_validator(mode="after")
    def _groups_fill_batches(self) -> Self:
        batch_size, group = self.training.batch_size, self.segmenter.bn_group_size
        if group is not None and (group < 1 or batch_size % group):
            raise ValueError(
                f"training.batch_size {batch_size} is not a multiple of segmenter.bn_group_size "
                f"{group}: change one of them, or set the latter to null"
            )
        if (group or batch_size) < 2:
            raise ValueError(
                "BatchNorm of the image's mean needs two images: make training.batch_size and "
                "segmenter.bn_group_size at least 2"
            )
        return self


class Task(TaskProtocol):
    """Fine-tunes a segmenter and writes the class of every pixel of the test images."""

    FINE_TUNES: ClassVar[bool] = True
    PREDICTS: ClassVar[Predicts] = "segments"

    model: Segmenter

    def __init__(self, config: Config, backbone: Backbone, setting: Setting) -> None:
        self.config, self.setting = config, setting
        require_batch(len(setting.train), config.training.batch_size, "training images")
        for source in (setting.train, setting.test):
            labels_of(source, 0)
        require_crop(setting.train, config.views)
        require_stages(backbone, config.segmenter.output_stride)
        num_images, seed = len(setting.train), setting.seed
        self._order = EpochOrder(num_images, config.training.batch_size, seed)
        with seeded_torch(setting.stream("segmenter")):
            self.model = Segmenter(backbone, len(setting.train.classes), config.segmenter)

    @property
    def steps_per_epoch(self) -> int:
        """How many whole batches the training images make."""
        return self._order.steps_per_epoch

    def batches(self, first_step: int) -> Iterator[PixelBatch]:
        """Yields the batch of every step from one on."""
        setting, views = self.setting, self.config.views
        num_steps = self.config.training.total_steps(self.steps_per_epoch) - first_step
        item = TrainingPixels(setting.train, views, setting.seed)
        padded = partial(collate, size=views.crop_px)
        order = setting.part(self._order)
        return load(item, order, padded, first_step, num_steps, setting.workers)

    def finish(self) -> None:
        """Nothing: the running statistics of the training are used."""

    def predict(self, folder: Path) -> None:
        """Writes the classes of all pixels of the test images, and the true ones."""
        test, config, processes = self.setting.test, self.config, self.setting.processes
        names = [test.name(index) for index in range(len(test))]
        self.model.eval()
        batches = in_order(
            TestPixels(test, config.views), len(test), config.test_batch_size, collate,
            self.setting.workers, processes,
        )  # fmt: skip
        scales, flip = config.views.test_scales, config.views.test_flip
        predicted = (self.model.predict(batch, scales, flip) for batch in batches)
        found = in_turn(predicted, processes)
        if not processes.leads:
            return
        write_label_maps(folder / PREDICTIONS, names, test.classes, found)
        truth = (labels_of(test, index) for index in range(len(test)))
        write_label_maps(folder / TRUTH, names, test.classes, truth)

    @staticmethod
    def measure(folder: Path, config: Config) -> Measure:
        """Measures mIoU, pixel_accuracy and IoU[class], in percent."""
        return measure_folder(folder)
