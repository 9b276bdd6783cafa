"""A readout that trains nothing by steps: all features at once, and what follows from them."""

from abc import abstractmethod
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import PositiveInt, model_validator
from torch import Tensor, nn

from whytransfer.backbone import features
from whytransfer.backbone.model import Backbone
from whytransfer.data.predictions import ClassPredictions, write_classifications
from whytransfer.data.sample import Source, Split
from whytransfer.transfer.parts.readout import Unmoved
from whytransfer.transfer.parts.readout_task import best, labels_of, require_classes
from whytransfer.transfer.task import PREDICTIONS, Setting, Untrained, UntrainedConfig


class KeptConfig(UntrainedConfig):
    """What the configuration of every such readout holds.

    Attributes:
        resize_px: Shorter side of an image, of the training images as of the test images.
        crop_px: Middle square of it that is looked at.
        precision: Of the backbone; ``bf16-mixed`` computes in bfloat16 where that is safe.
    """

    resize_px: PositiveInt = 256
    crop_px: PositiveInt = 224
    precision: Literal["32-true", "bf16-mixed"] = "32-true"

    @model_validator(mode="after")
    def _crop_lies_inside(self) -> Self:
        features.require_inside(self.crop_px, self.resize_px)
        return self


class Frozen(nn.Module):
    """A frozen backbone alone."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone.requires_grad_(False).eval()


class KeptReadout(Untrained):
    """Reads classes from the features of the last level, averaged over space.

    Args:
        config: Of the task.
        backbone: Never trained, and compared with itself at the end.
        setting: Data and seed; nothing is drawn.
    """

    PREDICTS: ClassVar[Literal["classes"]] = "classes"

    model: Frozen

    def __init__(self, config: KeptConfig, backbone: Backbone, setting: Setting) -> None:
        for source in (setting.train, setting.test):
            require_classes(source)
        self.setting = setting
        self._view = features.Centre(resize_px=config.resize_px, crop_px=config.crop_px)
        self._precision = config.precision
        self._unmoved = Unmoved(backbone)
        self.model = Frozen(backbone)

    @abstractmethod
    def scores(
        self, train: Tensor, labels: Tensor, test: Tensor, folder: Path
    ) -> dict[str, Tensor]:
        """Returns the scores (N, K) of the test images' classes, by readout, the headline first.

        Args:
            train: Features (M, C) of the training images, on the model's device.
            labels: Their classes (M,), on the same.
            test: Features (N, C) of the test images, on the same.
            folder: Where anything else that was found is written.
        """

    def predict(self, folder: Path) -> None:
        """Writes the five best guesses of every readout for all test images.

        Processes share the features; what follows from them takes the first one no time to speak
        of.
        """
        train, test = self.setting.train, self.setting.test
        device = next(self.model.backbone.parameters()).device
        of_train = self._features(train, "train").to(device)
        of_test = self._features(test, self.setting.test_split).to(device)
        if not self.setting.processes.leads:
            return
        found = self.scores(of_train, labels_of(train).to(device), of_test, folder)
        guesses = {name: best(scores).numpy() for name, scores in found.items()}
        headline, *_ = guesses
        self._unmoved.require(self.model.backbone)
        predictions = ClassPredictions(
            names=tuple(test.name(i) for i in range(len(test))),
            classes=test.classes,
            labels=labels_of(test).numpy(),
            topk=guesses[headline],
            further=guesses if len(guesses) > 1 else {},
        )
        write_classifications(folder / PREDICTIONS, predictions)

    def _features(self, source: Source, split: Split) -> Tensor:
        config = features.Config(view=self._view, precision=self._precision)
        (found,) = features.features(
            self.model.backbone, source, split, config,
            cache=self.setting.cache, workers=self.setting.workers,
        ).values()  # fmt: skip
        return found
