"""All that a training must keep to go on after an interruption, and where it keeps it."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from whytransfer.core.config import to_plain
from whytransfer.core.errors import InputError
from whytransfer.core.errors import TrainingError as TrainingError
from whytransfer.core.fingerprint import fingerprint
from whytransfer.core.processes import ALONE, Processes
from whytransfer.core.stage import Execution
from whytransfer.train.adam import adam
from whytransfer.train.agreement import gather_all
from whytransfer.train.checkpoint import Checkpoint, Checkpoints
from whytransfer.train.config import Training
from whytransfer.train.learner import Learner
from whytransfer.train.log import TrainingLog
from whytransfer.train.optimiser import sgd
from whytransfer.train.running import set_statistics, statistics

_NAMED_INDICES = 8


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
        processes: Those that train together.
    """

    work: Path
    log: Path
    execution: Execution
    seed: int
    steps_per_epoch: int
    title: str
    processes: Processes = ALONE


class TrainingState:
    """Model, optimiser, log and position of one run: what a checkpoint holds.

    Of several processes the first writes it; all read it. Each has running statistics of its own:
    the checkpoint's model holds their mean, and beside it stands what each had.

    Args:
        model: A learner.
        training: All settings.
        run: Where and how.

    Attributes:
        learner: The model.
        optimiser: Over its trainable parameters.
        log: The rows so far.
        gather: Collects a tensor from all processes; see :class:`Context`.
    """

    def __init__(self, model: nn.Module, training: Training, run: Run) -> None:
        model.train()
        if training.channels_last:
            model.to(memory_format=torch.channels_last)
        self.learner = cast(Learner, model)
        self.optimiser: torch.optim.Optimizer = (
            adam(model, training.adam) if training.adam else sgd(model, training.sgd)
        )
        self.log = TrainingLog(run.log, training.log_every_steps, run.processes.leads)
        alone = run.processes.size == 1
        self.gather: Callable[[Tensor], Tensor] = _itself if alone else gather_all
        self._model, self._training, self._run = model, training, run
        self._processes = run.processes
        self._checkpoints = Checkpoints(run.work / "checkpoints")
        self._last_good = "none yet"

    def resume(self) -> int:
        """Takes up the newest checkpoint where there is one; returns the steps that are done.

        Raises:
            InputError: The checkpoint is of another run.
        """
        found = self._newest()
        if found is None:
            return 0
        self._require_same_run(found)
        self._model.load_state_dict(found.state["model"])
        self.optimiser.load_state_dict(found.state["optimiser"])
        self.log.restore(found.state["log"])
        own = found.state.get("statistics")
        if own is not None and len(own) == self._processes.size:
            set_statistics(self._model, own[self._processes.rank])
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
        if self._processes.size == 1:
            self._last_good = self._write(step, {})
            return
        everyone = self.gather(statistics(self._model))
        set_statistics(self._model, everyone.mean(0))
        more = {"statistics": everyone}
        self._last_good = self._processes.share(lambda: self._write(step, more))
        set_statistics(self._model, everyone[self._processes.rank])

    def finish(self) -> None:
        """Leaves the model with the running statistics of all processes."""
        if self._processes.size > 1:
            set_statistics(self._model, self.gather(statistics(self._model)).mean(0))

    def require_finite(self, loss: float, step: int, lr: float, batch: Any) -> None:
        """Raises ``TrainingError`` where the loss of a step is infinite or no number.

        Args:
            loss: Mean over the processes, so that all of them raise or none.
            step: Number of the step.
            lr: Its learning rate.
            batch: Its images are named, where it has ``indices``.
        """
        if not math.isfinite(loss):
            images = self._images(batch)
            raise self._error(f"the loss is {loss} at step {step} (learning rate {lr:.3g}{images})")

    def _newest(self) -> Checkpoint | None:
        if not self._processes.leads:
            name = self._processes.share(str)
            return self._checkpoints.read(name) if name else None
        found = self._checkpoints.newest()
        self._processes.share(lambda: found.path.name if found else "")
        return found

    def _write(self, step: int, more: dict[str, Any]) -> str:
        state = {
            "run": self._identity(),
            "model": self._model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "log": self.log.state(),
        }
        return str(self._checkpoints.save(step, state | more))

    def _images(self, batch: Any) -> str:
        """Names the images of a batch by their numbers in the data, the first few of them."""
        indices = getattr(batch, "indices", None)
        if not isinstance(indices, Tensor):
            return ""
        numbers = self.gather(indices).flatten().tolist()
        named = ", ".join(map(str, numbers[:_NAMED_INDICES]))
        rest = ", ..." if len(numbers) > _NAMED_INDICES else ""
        return f"; a batch of {len(numbers)} images, numbers {named}{rest}"

    def _error(self, what: str) -> TrainingError:
        return TrainingError(
            f"{self._run.title}: {what}; last good checkpoint: {self._last_good}; "
            f"lower {self._training.lr_field} or look at the data"
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


def _itself(tensor: Tensor) -> Tensor:
    return tensor
