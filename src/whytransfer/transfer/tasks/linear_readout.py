"""Linear readout: how well one linear layer names the image from frozen, pooled features.

The backbone stays in evaluation mode and is compared with itself at the end, bit by bit. A
learning rate of 30 suits MoCo's features; other features may want another one, so a stated grid of
rates, the same for every backbone, is trained beside it, and both are shown.

Source: He et al. 2020, section 4.1; moco main_lincls.py @132aea9.
Differs: the last epoch is scored, never the best one on the test images. The grid is ours; its
best rate is chosen on held-out training images, of each class the same share.
"""

from dataclasses import replace
from pathlib import Path

from pydantic import PositiveFloat, PositiveInt

from whytransfer.backbone import features
from whytransfer.backbone.model import Backbone
from whytransfer.data.predictions import ClassPredictions, read_classifications
from whytransfer.train.config import Schedule, Sgd, Training
from whytransfer.transfer.measure import Measure, shares
from whytransfer.transfer.parts.readout_task import GRID, ReadoutConfig, SgdReadout
from whytransfer.transfer.task import PREDICTIONS, Setting


class ReadoutTraining(Training):
    """100 epochs at learning rate 30, a tenth of it after 60 and again after 80."""

    epochs: PositiveFloat | None = 100.0
    batch_size: PositiveInt = 256
    sgd: Sgd = Sgd(lr=30.0, momentum=0.9, weight_decay=0.0)
    schedule: Schedule = Schedule(kind="multistep", per="epoch", milestones=(60, 80))


class Config(ReadoutConfig):
    """All settings of the recipe.

    Attributes:
        training: Epochs, batch, optimiser and schedule.
    """

    training: ReadoutTraining = ReadoutTraining()


class Task(SgdReadout):
    """Trains the linear layer and writes its five best guesses for every test image."""

    def __init__(self, config: Config, backbone: Backbone, setting: Setting) -> None:
        super().__init__(config, backbone, setting, features.Config())

    @staticmethod
    def measure(folder: Path, config: Config) -> Measure:
        """Measures top1 and top5 at the protocol's learning rate and at the grid's best."""
        predictions = read_classifications(folder / PREDICTIONS)
        correct = {f"top{k}": predictions.correct(k) for k in (1, 5)}
        if GRID in predictions.further:
            correct |= {f"{GRID}_top{k}": predictions.correct(k, GRID) for k in (1, 5)}
        return shares(correct)

    def _named(self, predictions: ClassPredictions) -> ClassPredictions:
        chosen = f"{GRID} {self.levels[-1].name}"
        further = predictions.further
        return replace(predictions, further={GRID: further[chosen]} if chosen in further else {})

    def _stream(self, level: str) -> str:
        return "readout"
