"""All that a training must keep to go on after an interruption, and where it keeps it."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import nn

from whytransfer.core.config import to_plain
from whytransfer.core.errors import InputError
from whytransfer.core.fingerprint import fingerprint
from whytransfer.core.stage import Execution
from whytransfer.train.checkpoint import Checkpoint, Checkpoints
from whytransfer.train.config import Training
from whytransfer.train.learner import Learner
from whytransfer.train.log import TrainingLog
from whytransfer.train.optimiser import sgd


class TrainingError(RuntimeError):
    """A training can't go on: its loss or a weight is no longer finite."""


@dataclass(frozen=True)
class Run:
    """Where and how one training runs; of it, seed and steps_per_epoch alone move a number.

    Attributes:
        work: Folder of this run alone, for its checkpoints.
        log: The JSONL file to write; see :mod:`whytransfer.train.log`.
        execution: Device and progress.
        seed: Of every stream.
        steps_per_epoch: Steps in one pass over the data.
        title: What progress and messages call it.
    """

    work: Path
    log: Path
    execution: Execution
    seed: int
    steps_per_epoch: int
    title: str


class TrainingState:
    """Model, optimiser, log and position of one run: what a checkpoint holds.

    Attributes:
        learner: The model.
        optimiser: Over its trainable parameters.
        log: The rows so far.
    """

    def __init__(self, model: nn.Module, training: Training, run: Run) -> None:
        model.train()
        if training.channels_last:
            model.to(memory_format=torch.channels_last)
        self.learner = cast(Learner, model)
        self.optimiser = sgd(model, training.sgd)
        self.log = TrainingLog(run.log, training.log_every_steps)
        self._model, self._training, self._run = model, training, run
        self._checkpoints = Checkpoints(run.work / "checkpoints")
        self._last_good = "none yet"

    def resume(self) -> int:
        """Takes up the newest checkpoint where there is one; returns the steps that are done.

        Raises:
            InputError: The checkpoint is of another run.
        """
        found = self._checkpoints.newest()
        if found is None:
            return 0
        self._require_same_run(found)
        self._model.load_state_dict(found.state["model"])
        self.optimiser.load_state_dict(found.state["optimiser"])
        self.log.restore(found.state["log"])
        self._last_good = str(found.path)
        return found.step

    def save(self, step: int) -> None:
        """Writes a checkpoint after that many steps.

        Raises:
            TrainingError: A weight is not finite: no checkpoint shall ever hold one.
            InputError: The folder can't be written.
        """
        finite = [tensor.isfinite().all() for tensor in self._model.parameters()]
        if not torch.stack(finite).all():
            raise self._error(f"a weight is not finite after step {step}")
        state = {
            "run": self._identity(),
            "model": self._model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "log": self.log.state(),
        }
        self._last_good = str(self._checkpoints.save(step, state))

    def require_finite(self, loss: float, step: int, lr: float) -> None:
        """Raises ``TrainingError`` where the loss of a step is infinite or no number."""
        if not math.isfinite(loss):
            raise self._error(f"the loss is {loss} at step {step} (learning rate {lr:.3g})")

    def _error(self, what: str) -> TrainingError:
        return TrainingError(
            f"{self._run.title}: {what}; last good checkpoint: {self._last_good}; "
            "lower training.sgd.lr or look at the data"
        )

    def _identity(self) -> str:
        """Names the run: all settings that move a number, and the shapes of the model."""
        training = to_plain(self._training)
        del training["checkpoint_every_steps"]
        shapes = {name: list(t.shape) for name, t in self._model.state_dict().items()}
        seed, steps = self._run.seed, self._run.steps_per_epoch
        return fingerprint([training, seed, steps, shapes])

    def _require_same_run(self, found: Checkpoint) -> None:
        if found.state["run"] != self._identity():
            raise InputError(
                found.path, "a checkpoint of another run (other settings, seed, data or model)",
                "one of this run", f"remove the folder {found.path.parent} or give another one",
            )  # fmt: skip
