"""Stage readout: how well a linear layer names the image at the end of each of the stages.

Every stage's maps are averaged over a grid, so that each has about the same number of numbers, and
normalised by channel; one layer per stage, all trained in one pass. It shows where in the network
what a class depends on becomes linearly readable.

Source: Goyal et al. 2019 (linear classifiers on the layers of a frozen network); VISSL,
    eval_resnet_8gpu_transfer_in1k_linear.yaml and linear_eval_mlp.py @1465c2c.
Differs: adaptive pooling (VISSL lists windows for 224 px of a ResNet-50), normalisation without
    scale and shift, weights that start as in the linear readout. A grid of learning rates is
    trained beside VISSL's, and chosen from on held-out training images, of each class the same
    share. The last epoch is scored.
"""

from pathlib import Path

from pydantic import PositiveFloat, PositiveInt

from whytransfer.backbone import features
from whytransfer.backbone.model import Backbone
from whytransfer.core.config import assumed
from whytransfer.core.errors import InputError
from whytransfer.data.predictions import read_classifications
from whytransfer.train.config import Schedule, Sgd, Training
from whytransfer.transfer.measure import Measure, shares
from whytransfer.transfer.parts.readout_task import GRID, ReadoutConfig, SgdReadout
from whytransfer.transfer.task import PREDICTIONS, Setting


class StageTraining(Training):
    """28 epochs at learning rate 0.01, a tenth of it after 8, 16 and 24."""

    epochs: PositiveFloat | None = 28.0
    batch_size: PositiveInt = 256
    sgd: Sgd = Sgd(lr=0.01, momentum=0.9, weight_decay=5e-4, nesterov=True)
    schedule: Schedule = Schedule(kind="multistep", per="epoch", milestones=(8, 16, 24))


class Config(ReadoutConfig):
    """All settings of the recipe.

    Attributes:
        training: Epochs, batch, optimiser and schedule.
        levels: The backbone's levels that are read; none names all of them.
        num_values: Numbers per image and level, about: a level of C channels is averaged over
            round(√(num_values / C))² cells, or as many as it has.
        lr_grid: As in the linear readout; features that are normalised want smaller rates.
    """

    training: StageTraining = StageTraining()
    levels: tuple[str, ...] = ()
    num_values: PositiveInt = 9216
    lr_grid: tuple[PositiveFloat, ...] = assumed(
        (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0),
        "the protocol has one rate; half decades around it, since a rate that suits one backbone's "
        "stages need not suit another's",
    )


class Task(SgdReadout):
    """Trains a layer per stage and writes the five best guesses of each for every test image."""

    def __init__(self, config: Config, backbone: Backbone, setting: Setting) -> None:
        if config.training.batch_size < 2:
            raise InputError(
                "training.batch_size", f"is {config.training.batch_size}", "2 or more",
                "the features are normalised over the batch",
            )  # fmt: skip
        names = config.levels or tuple(level.name for level in backbone.levels)
        wanted = features.Config(levels=names, num_values=config.num_values)
        super().__init__(config, backbone, setting, wanted, normalise=True, stores_all=False)

    @staticmethod
    def measure(folder: Path, config: Config) -> Measure:
        """Measures top1 and top5 of the last stage, and top1 of each at both learning rates."""
        predictions = read_classifications(folder / PREDICTIONS)
        correct = {f"top{k}": predictions.correct(k) for k in (1, 5)}
        for name in predictions.further:
            grid, level = name.startswith(f"{GRID} "), name.removeprefix(f"{GRID} ")
            metric = f"{GRID}_top1[{level}]" if grid else f"top1[{level}]"
            correct[metric] = predictions.correct(1, name)
        return shares(correct)
