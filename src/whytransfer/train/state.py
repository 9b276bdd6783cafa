"""All that a training must keep to go on after an interruption, and where it keeps it."""

import math
from collections.abc import Callable, Sequence
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
from whytransfer.core.store import write_text
from whytransfer.train.agreement import gatherer
from whytransfer.train.checkpoint import Checkpoint, Checkpoints
from whytransfer.train.config import Training
from whytransfer.train.convolution import MAX_PIXELS, convert_convolutions
from whytransfer.train.learner import Learner
from whytransfer.train.log import TrainingLog
from whytransfer.train.optimiser import optimiser
from whytransfer.train.running import (
    agree_on_statistics,
    set_statistics,
    statistics,
    together,
)
from whytransfer.train.weight_average import WeightAverage

_NAMED_IMAGES = 4


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
        image_name: Names an image of a batch in messages, by its number in the source.
        lighter: Says what to set for a step that needs less memory, each a part of an advice.
        cpu_photometry: Whether the CPU applies photometry that the device could apply.
    """

    work: Path
    log: Path
    execution: Execution
    seed: int
    steps_per_epoch: int
    title: str
    processes: Processes = ALONE
    image_name: Callable[[int], str] = str
    lighter: Callable[[], Sequence[str]] = tuple
    cpu_photometry: bool = False


class TrainingState:
    """Model, optimiser, log and position of one run: what a checkpoint holds.

    Of several processes the first writes it; all read it. Each has running statistics of its own:
    the checkpoint's model holds what one process would have, and beside it stands what each had.

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
        if training.convolution in MAX_PIXELS:
            convert_convolutions(model, MAX_PIXELS[training.convolution])
        if training.channels_last:
            model.to(memory_format=torch.channels_last)
        self.learner = cast(Learner, model)
        self.optimiser = optimiser(model, training)
        self.log = TrainingLog(run.log, training.log_every_steps, run.processes.leads)
        self.gather = gatherer(run.processes)
        self._model, self._training, self._run = model, training, run
        self._processes = run.processes
        self._checkpoints = Checkpoints(run.work / "checkpoints")
        self._last_good = "none yet"
        self._average: WeightAverage | None = None

    def resume(self) -> int:
        """Takes up the newest checkpoint where there is one; returns the steps that are done.

        The model must be on its device by now.

        Raises:
            InputError: The checkpoint is of another run.
        """
        found = self._newest()
        if found is None:
            self._begin_average(None)
            return 0
        self._require_same_run(found)
        self._model.load_state_dict(found.state["model"])
        self.optimiser.load_state_dict(found.state["optimiser"])
        self.log.restore(found.state["log"])
        self._begin_average(found.state.get("average"))
        own = found.state.get("statistics")
        if own is not None and len(own) == self._processes.size:
            set_statistics(self._model, own[self._processes.rank])
        self._last_good = str(found.path)
        return found.step

    def after_step(self) -> None:
        """Runs after each optimiser step."""
        self.learner.after_step()
        if self._average is not None:
            self._average.update()

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
        set_statistics(self._model, together(self._model, everyone))
        more = {"statistics": everyone}
        self._last_good = self._processes.share(lambda: self._write(step, more))
        set_statistics(self._model, everyone[self._processes.rank])

    def finish(self) -> None:
        """Leaves the model as it is to be evaluated: averages, statistics of all processes.

        Without gradients: they may lie in memory that other processes share.
        """
        self.optimiser.zero_grad()
        if self._average is not None:
            self._average.apply()
        agree_on_statistics(self._model, self._processes)

    def require_finite(self, loss: float, step: int, lr: float, batch: Any) -> None:
        """Raises ``TrainingError`` where the loss of a step is infinite or no number.

        Args:
            loss: Mean over the processes, so that all of them raise or none.
            step: Number of the step.
            lr: Its learning rate.
            batch: Its images are named, where it has ``indices``; all of them in a file beside
                the checkpoints.
        """
        if not math.isfinite(loss):
            what, rate = f"the loss is {loss} at step {step}", f"learning rate {lr:.3g}"
            named = f"{what} ({rate}{self._images(batch, step)})"
            raise self._error(named, f"{what} ({rate})")

    def _newest(self) -> Checkpoint | None:
        if not self._processes.leads:
            name = self._processes.share(str)
            return self._checkpoints.read(name) if name else None
        found = self._checkpoints.newest()
        self._processes.share(lambda: found.path.name if found else "")
        return found

    def _write(self, step: int, more: dict[str, Any]) -> str:
        state: dict[str, Any] = {
            "run": self._identity(),
            "model": self._model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "log": self.log.state(),
        }
        if self._average is not None:
            state["average"] = self._average.state()
        return str(self._checkpoints.save(step, state | more))

    def _begin_average(self, kept: list[Tensor] | None) -> None:
        if (decay := self._training.ema_decay) is not None:
            self._average = WeightAverage(self._model, decay, kept)

    def _images(self, batch: Any, step: int) -> str:
        """Names the first few images of a batch, and the file that all are written to."""
        indices = getattr(batch, "indices", None)
        if indices is None:
            return ""
        numbers = self.gather(torch.as_tensor(indices)).flatten().tolist()
        names = [self._run.image_name(number) for number in numbers]
        named = f"; a batch of {len(names)} images, {', '.join(names[:_NAMED_IMAGES])}"
        if len(names) <= _NAMED_IMAGES:
            return named
        file = self._run.work / f"batch-{step}.txt"
        if self._processes.leads:
            write_text(file, "\n".join(names) + "\n")
        return f"{named}, ...: all of them in {file}"

    def _error(self, what: str, briefly: str = "") -> TrainingError:
        return TrainingError(
            f"{self._run.title}: {what}; last good checkpoint: {self._last_good}; "
            f"lower {self._training.lr_field} or look at the data",
            briefly or what,
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
