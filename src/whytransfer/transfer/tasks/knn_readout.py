"""Nearest-neighbour readout: what the most similar training images say that a test image shows.

Nothing is trained, so there is no learning rate that could suit one backbone more than another.

Source: Wu et al. 2018, section 3.4 (temperature 0.07, 200 neighbours); dino eval_knn.py @04c0ad9
    (20 neighbours usually best, features of the middle of each image, scaled to length 1).
Differs: classes that get the same vote come in the order of the class list.
"""

from pathlib import Path

from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor

from whytransfer.backbone.model import Backbone
from whytransfer.core.errors import InputError
from whytransfer.data.predictions import read_classifications
from whytransfer.ops.neighbours import nearest_neighbours, votes
from whytransfer.transfer.measure import Measure, shares
from whytransfer.transfer.parts.kept_readout import KeptConfig, KeptReadout
from whytransfer.transfer.task import PREDICTIONS, Setting


class Config(KeptConfig):
    """All settings of the recipe.

    Attributes:
        neighbours: How many vote; the first number is the headline's.
        temperature: A neighbour's vote is exp(cosine / temperature); ``null`` lets each count 1.
    """

    neighbours: tuple[PositiveInt, ...] = Field((20, 200), min_length=1)
    temperature: PositiveFloat | None = 0.07


class Task(KeptReadout):
    """Lets the neighbours vote and writes their five best guesses for every test image."""

    def __init__(self, config: Config, backbone: Backbone, setting: Setting) -> None:
        self.config = config
        most, num_images = max(config.neighbours), len(setting.train)
        if most > num_images:
            raise InputError(
                "neighbours", f"{most} is more than the {num_images} training images",
                f"at most {num_images}", "ask for fewer, or raise limit where one is set",
            )  # fmt: skip
        super().__init__(config, backbone, setting)

    def scores(
        self, train: Tensor, labels: Tensor, test: Tensor, folder: Path
    ) -> dict[str, Tensor]:
        """Returns the votes for every number of neighbours."""
        wanted, num_classes = self.config.neighbours, len(self.setting.train.classes)
        similarities, numbers = nearest_neighbours(test, train, max(wanted))
        of = labels[numbers]
        return {
            f"k={k}": votes(similarities[:, :k], of[:, :k], num_classes, self.config.temperature)
            for k in wanted
        }

    @staticmethod
    def measure(folder: Path, config: Config) -> Measure:
        """Measures top1 and top5, and where several numbers of neighbours vote top1 of each."""
        predictions = read_classifications(folder / PREDICTIONS)
        correct = {f"top{k}": predictions.correct(k) for k in (1, 5)}
        each = {f"top1[{name}]": predictions.correct(1, name) for name in predictions.further}
        return shares(correct | each)
