"""Logistic readout: the best linear classifier of frozen features, found by L-BFGS.

The problem is convex, so there is no learning rate and no schedule: what is left is the penalty,
which is chosen on held-out training images; the chosen one is then fitted to all of them.

Source: Kornblith et al. 2019, section 3 (logistic regression by L-BFGS on fixed features, the
    penalty chosen on a validation set).
Differs: the grid of penalties, and scaling each feature by the training images' mean and deviation.
"""

import logging
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field, PositiveFloat, PositiveInt, field_validator
from torch import Tensor

from whytransfer.backbone.model import Backbone
from whytransfer.core.config import assumed
from whytransfer.data.held_out import held_out_mask
from whytransfer.data.predictions import read_classifications
from whytransfer.ops.logistic_regression import Logistic, fit_logistic
from whytransfer.transfer.measure import Measure, shares
from whytransfer.transfer.parts.choice import Choice, write_choices
from whytransfer.transfer.parts.kept_readout import KeptConfig, KeptReadout
from whytransfer.transfer.task import PREDICTIONS, Setting

_log = logging.getLogger(__name__)


class Config(KeptConfig):
    """All settings of the recipe.

    Attributes:
        inverse_penalties: That are tried: scikit-learn's C, which multiplies the summed loss.
        held_out: Share of the training images that the best of them is chosen on.
        standardise: Scale each feature by its mean and standard deviation over the training images.
        max_iterations: Of every fit.
        tolerance: A fit ends where no entry of the mean loss's gradient is larger, or the loss
            falls no more.
    """

    inverse_penalties: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] = assumed(
        (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0),
        "decades that reach from too strong to too weak for a thousand images and for a million",
    )
    held_out: float = assumed(0.1, "a tenth is usual", gt=0, lt=1)
    standardise: bool = True
    max_iterations: PositiveInt = 1000
    tolerance: PositiveFloat = 1e-5

    @field_validator("inverse_penalties")
    @classmethod
    def _rising(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if list(values) != sorted(set(values)):
            raise ValueError("the inverse penalties must rise")
        return values


class Task(KeptReadout):
    """Fits the classifier and writes its five best guesses for every test image."""

    def __init__(self, config: Config, backbone: Backbone, setting: Setting) -> None:
        self.config = config
        super().__init__(config, backbone, setting)

    def scores(
        self, train: Tensor, labels: Tensor, test: Tensor, folder: Path
    ) -> dict[str, Tensor]:
        """Returns the logits of the classifier that was chosen."""
        if self.config.standardise:
            mean, deviation = train.mean(0), train.std(0, correction=0)
            scale = torch.where(deviation > 0, deviation, 1.0)
            train, test = (train - mean) / scale, (test - mean) / scale
        mask = held_out_mask(self.setting.train, self.config.held_out)
        held = torch.from_numpy(mask).to(train.device)
        choice = self._choose(train, labels, held)
        write_choices(folder, [choice])
        _log.info("C = %g reads best", choice.value)
        return {"lbfgs": self._fit(train, labels, choice.value).logits(test)}

    def _choose(self, train: Tensor, labels: Tensor, held: Tensor) -> Choice:
        """Tries every penalty, the strongest first, each from where the one before ended."""
        correct, fitted = [], None
        rest, rest_labels = train[~held], labels[~held]
        for inverse_penalty in self.config.inverse_penalties:
            fitted = self._fit(rest, rest_labels, inverse_penalty, fitted)
            guesses = fitted.logits(train[held]).argmax(1)
            correct.append(int((guesses == labels[held]).sum()))
        tried = self.config.inverse_penalties
        return Choice("lbfgs", "C", tried, tuple(correct), int(held.sum()))

    def _fit(
        self, train: Tensor, labels: Tensor, inverse_penalty: float, start: Logistic | None = None
    ) -> Logistic:
        found = fit_logistic(
            train, labels, len(self.setting.train.classes), inverse_penalty, start=start,
            max_iterations=self.config.max_iterations, tolerance=self.config.tolerance,
        )  # fmt: skip
        if not found.converged:
            _log.warning(
                "C = %g: cut short by max_iterations, the gradient is still %.1g",
                inverse_penalty, found.largest_gradient,
            )  # fmt: skip
        return found

    @staticmethod
    def measure(folder: Path, config: Config) -> Measure:
        """Measures top1 and top5."""
        predictions = read_classifications(folder / PREDICTIONS)
        return shares({f"top{k}": predictions.correct(k) for k in (1, 5)})
