"""Facial landmarks: five points of a face, regressed from frozen features or fine-tuned.

How the paper regresses landmarks (frozen or fine-tuned, head, image size, length) is not known, so
every setting here is assumed: the regressor and its training are DVE's for MAFL, the image size and
the hypercolumn ContrastLandmark's, which is DVE's protocol for ResNets. Any data with landmarks
will do. Errors are distances in percent of the distance between the eyes, so low is good.

Source: Thewlis et al. 2019 and DVE configs/mafl-keypoints; Cheng et al. 2021 (ContrastLandmark);
    Zhao et al. 2021, section 3, for the task.
Differs: the last epoch is scored, where ContrastLandmark keeps the best one on the test images;
    pixels are normalised as the backbone's own preprocessing says, not by a mean of faces.
"""

from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from torch import Tensor

from whytransfer.backbone.model import Backbone
from whytransfer.core.config import assumed
from whytransfer.core.errors import InputError
from whytransfer.core.processes import ALONE, Processes
from whytransfer.core.streams import seeded_torch
from whytransfer.data.landmark_files import Landmarks, require_eyes, write_landmarks
from whytransfer.data.loader import EpochOrder, in_order, load
from whytransfer.train.config import Adam, Schedule, Sgd, Training
from whytransfer.train.norm import convert_groups
from whytransfer.transfer.measure import Measure
from whytransfer.transfer.parts.landmark_regressor import (
    LandmarkModel,
    RegressorConfig,
    precise,
)
from whytransfer.transfer.parts.landmark_score import measure_folder
from whytransfer.transfer.parts.landmark_views import (
    FaceBatch,
    FaceView,
    FaceViews,
    LandmarkViews,
    Pose,
    collate,
    image_points,
    in_pixels,
    landmarks_of,
    require_square,
)
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

_DVE = "the paper does not say; DVE's for MAFL"


class LandmarkAdam(Adam):
    """DVE's optimiser."""

    lr: PositiveFloat = assumed(1e-3, _DVE)
    weight_decay: Annotated[float, Field(ge=0)] = assumed(5e-4, _DVE)
    amsgrad: bool = assumed(True, _DVE)


class LandmarkSchedule(Schedule):
    """A tenth of the learning rate twice."""

    kind: Literal["constant", "cosine", "multistep", "poly"] = assumed("multistep", _DVE)
    per: Literal["step", "epoch"] = "epoch"
    milestones: tuple[float, ...] = assumed((100, 250), _DVE)


class LandmarkTraining(Training):
    """300 epochs of Adam; ``sgd`` is there for those who set ``adam: null``."""

    epochs: PositiveFloat | None = assumed(300.0, _DVE + "; ContrastLandmark stops at 120")
    batch_size: PositiveInt = assumed(32, _DVE)
    sgd: Sgd = Sgd(lr=0.01)
    adam: LandmarkAdam | None = LandmarkAdam()
    schedule: LandmarkSchedule = LandmarkSchedule()


class Config(TaskConfig):
    """All settings of the recipe.

    Attributes:
        training: Epochs, batch, optimiser and schedule.
        mode: ``frozen`` trains the regressor alone on the backbone in evaluation mode;
            ``fine_tuned`` trains all layers with it.
        regressor: Levels, size of the map, virtual points, temperature.
        views: Which part of an image is seen at which size, and how training views differ.
        landmarks: Names of the images' landmarks, in their order; ``None`` numbers them.
        eyes: The two landmarks whose distance errors are measured in.
        failure_percent: An image whose error is above it counts as a failure.
        cached_views: With k > 0, what a frozen backbone makes of k views of each training image is
            computed once and epoch e shows view e modulo k. Where training views are not changed
            at random, 1 is the reference up to rounding.
        bn_group_size: Images whose statistics a BatchNorm shares in fine-tuning; ``None`` is all
            of a batch.
    """

    training: LandmarkTraining = LandmarkTraining()
    mode: Literal["frozen", "fine_tuned"] = assumed(
        "frozen", "the paper does not say; DVE and ContrastLandmark keep the features as they are"
    )
    regressor: RegressorConfig = RegressorConfig()
    views: LandmarkViews = LandmarkViews()
    landmarks: tuple[str, ...] | None = (
        "left_eye", "right_eye", "nose", "left_mouth", "right_mouth",
    )  # fmt: skip
    eyes: tuple[NonNegativeInt, NonNegativeInt] = (0, 1)
    failure_percent: PositiveFloat = assumed(10.0, "the paper gives no failure rate; the usual one")
    cached_views: NonNegativeInt = 0
    bn_group_size: PositiveInt | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.eyes[0] == self.eyes[1]:
            raise ValueError(f"eyes are landmark {self.eyes[0]} twice: give two of them")
        if self.mode == "fine_tuned" and self.cached_views:
            raise ValueError(
                "cached_views keeps what a frozen backbone makes of images, and mode is "
                "fine_tuned: set it to 0"
            )
        group = self.bn_group_size
        if group is not None and self.training.batch_size % group:
            raise ValueError(
                f"training.batch_size {self.training.batch_size} is not a multiple of "
                f"bn_group_size {group}: change one of them, or set the latter to null"
            )
        return self


class Task(TaskProtocol):
    """Trains the regressor and writes the landmarks of every test image."""

    FINE_TUNES: ClassVar[bool] = False
    PREDICTS: ClassVar[Predicts] = "landmarks"

    model: LandmarkModel

    def __init__(self, config: Config, backbone: Backbone, setting: Setting) -> None:
        self.config, self.setting = config, setting
        require_batch(len(setting.train), config.training.batch_size, "training images")
        self._truth = _require_landmarks(config, setting)
        self._order = EpochOrder(len(setting.train), config.training.batch_size, setting.seed)
        frozen = config.mode == "frozen"
        self._before = {n: v.clone() for n, v in backbone.state_dict().items()} if frozen else {}
        with seeded_torch(setting.stream("regressor")):
            num_landmarks = len(self._truth.landmarks)
            self.model = LandmarkModel(backbone, num_landmarks, config.regressor, frozen)
        if not frozen:
            convert_groups(self.model, config.bn_group_size)

    @classmethod
    def fine_tunes(cls, config: Any) -> bool:
        """Says whether the backbone's weights are trained, too."""
        return bool(config.mode == "fine_tuned")

    @property
    def steps_per_epoch(self) -> int:
        """How many whole batches the training images make."""
        return self._order.steps_per_epoch

    def batches(self, first_step: int) -> Iterator[FaceBatch]:
        """Yields the batch of every step from one on."""
        num_steps = self.config.training.total_steps(self.steps_per_epoch) - first_step
        if self.config.cached_views:
            return self._cached(first_step, num_steps)
        order, workers = self.setting.part(self._order), self.setting.workers
        return load(self._views, order, collate, first_step, num_steps, workers)

    def finish(self) -> None:
        """Makes sure that a frozen backbone is still the one that was given.

        Raises:
            RuntimeError: A weight or a running statistic has changed.
        """
        found = self.model.backbone.state_dict()
        moved = [n for n, v in self._before.items() if not torch.equal(v.cpu(), found[n].cpu())]
        if moved:
            raise RuntimeError(f"the frozen backbone's {moved[0]} has changed")

    def predict(self, folder: Path) -> None:
        """Writes the landmarks of all test images, and the true ones, in pixels of the images."""
        views, truth = self.config.views, self._truth
        self.model.eval()
        processes = self.setting.processes
        faces = FaceViews(self.setting.test, views)
        batches = self._in_order(faces, len(self.setting.test), processes)
        with torch.no_grad():
            own = (self.model(batch.inputs).double() for batch in batches)
            found = list(in_turn(own, processes))
        if not processes.leads:
            return
        points = image_points(in_pixels(torch.stack(found).numpy(), views.size_px), views, Pose())
        write_landmarks(folder / TRUTH, truth)
        write_landmarks(
            folder / PREDICTIONS, Landmarks(truth.images, truth.landmarks, np.asarray(points))
        )

    @staticmethod
    def measure(folder: Path, config: Config) -> Measure:
        """Measures inter_ocular_error, failure_rate and error[landmark], in percent."""
        return measure_folder(folder, config.eyes, config.failure_percent)

    @property
    def _views(self) -> FaceViews:
        return FaceViews(self.setting.train, self.config.views, self.setting.seed)

    def _in_order(
        self, views: Any, num_images: int, processes: Processes = ALONE
    ) -> Iterator[FaceBatch]:
        batch_size, workers = self.config.training.batch_size, self.setting.workers
        return in_order(views, num_images, batch_size, collate, workers, processes)

    def _cached(self, first_step: int, num_steps: int) -> Iterator[FaceBatch]:
        """Yields batches of maps, all of which are computed before the first one."""
        kept = [self._maps(epoch) for epoch in range(self.config.cached_views)]
        for places in islice(self.setting.part(self._order).batches(first_step), num_steps):
            indices = torch.tensor([index for _, index in places])
            maps, points = kept[places[0][0] % len(kept)]
            yield FaceBatch(tuple(level[indices] for level in maps), points[indices], indices)

    @torch.no_grad()
    def _maps(self, epoch: int) -> tuple[tuple[Tensor, ...], Tensor]:
        """Returns the maps and the points of all training images as one epoch shows them."""
        views = partial(_at_epoch, self._views, epoch)
        found, points = [], []
        for batch in self._in_order(views, len(self.setting.train)):
            assert isinstance(batch.inputs, Tensor)
            found.append([precise(level).cpu() for level in self.model.maps(batch.inputs)])
            points.append(batch.points)
        return tuple(torch.cat(level) for level in zip(*found, strict=True)), torch.cat(points)


def _at_epoch(views: FaceViews, epoch: int, _epoch: int, index: int) -> FaceView:
    return views(epoch, index)


def _require_landmarks(config: Config, setting: Setting) -> Landmarks:
    """Returns the true landmarks of the test images.

    Raises:
        InputError: Images lack landmarks, have different numbers of them or are too small, or what
            the configuration says of landmarks does not fit to them.
    """
    train, test = (landmarks_of(s, config.landmarks) for s in (setting.train, setting.test))
    count = len(train.landmarks)
    if len(test.landmarks) != count:
        raise InputError(
            setting.test.path(0), f"has {len(test.landmarks)} landmarks, a training image {count}",
            "the same landmarks in both splits", "correct the annotations",
        )  # fmt: skip
    if config.views.flip_p and len(config.views.mirrored) != count:
        raise InputError(
            "views.mirrored", f"names {len(config.views.mirrored)} landmarks, the images have "
            f"{count}", "for each landmark the one that it becomes in a mirror",
            "give as many, or set views.flip_p to 0",
        )  # fmt: skip
    require_eyes(test, config.eyes, "the test images")
    for source in (setting.train, setting.test):
        require_square(source, 0, source.size(0), config.views)
    return test
