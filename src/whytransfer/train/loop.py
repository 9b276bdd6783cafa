"""The training loop, for pretraining and fine-tuning alike: everything that happens in a step.

A learner is parameters and a loss; the loop knows nothing else of it. A run that was interrupted,
at whatever instant and in whatever way, goes on from its last checkpoint and ends with the same
bits as one that was not (on a CPU, and on a GPU where its kernels are deterministic).
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from whytransfer.core.streams import Stream, seeded_torch
from whytransfer.train.config import Training
from whytransfer.train.launch import launch
from whytransfer.train.learner import Call, Objective, numbers, place
from whytransfer.train.learner import Context as Context
from whytransfer.train.learner import Learner as Learner
from whytransfer.train.optimiser import set_lr
from whytransfer.train.progress import TrainingProgress
from whytransfer.train.state import Run as Run
from whytransfer.train.state import TrainingError as TrainingError
from whytransfer.train.state import TrainingState
from whytransfer.train.stopping import Interrupted as Interrupted
from whytransfer.train.stopping import StopRequest


@dataclass(frozen=True)
class FitResult:
    """What came of a training.

    Attributes:
        steps: Optimiser steps of the whole run.
        seconds: That this process took, after an interruption the rest alone.
        means: Each logged scalar's mean over the last tenth of the steps.
    """

    steps: int
    seconds: float
    means: dict[str, float]


def fit(
    model: nn.Module, batches: Callable[[int], Iterator[Any]], training: Training, run: Run
) -> FitResult:
    """Trains a model in place, on the device it then stays on; takes up an interrupted run.

    Args:
        model: A :class:`Learner`.
        batches: Gives the batches from a step on; a pure function of that step. Tensors inside
            them are moved to the device.
        training: Optimiser, schedule, duration.
        run: Where and how.

    Raises:
        Interrupted: SIGINT or SIGTERM came; the step was finished and a checkpoint written.
        TrainingError: The loss or a weight is not finite.
        InputError: The work folder holds checkpoints of another run, or can't be written.
    """
    started = time.monotonic()
    total_steps = training.total_steps(run.steps_per_epoch)
    # Nothing of ours draws from the global generator, but other people's modules do (dropout): it
    # is seeded for every step, and stands afterwards where it stood before.
    bar = TrainingProgress(run.title, total_steps, run.execution.progress)
    with seeded_torch(Stream(run.seed, "fit")), StopRequest() as stop, bar as progress:
        fabric = launch(run.execution.device, training.precision)
        state = TrainingState(model, training, run)
        objective, optimiser = fabric.setup(Objective(model), state.optimiser)
        gather = cast(Callable[[Tensor], Tensor], fabric.all_gather)
        first_step = state.resume()
        upcoming = batches(first_step)
        progress.begin(first_step)
        for step in range(first_step, total_steps):
            context = Context(step, run.seed, gather)
            torch.manual_seed(context.stream("torch").torch_seed())
            factor = training.schedule.factor(step, total_steps, run.steps_per_epoch)
            lr = training.sgd.lr * factor
            set_lr(state.optimiser, lr)
            batch = place(next(upcoming), fabric.device, training.channels_last)

            scalars = objective(Call(batch, context))
            values = numbers(scalars)
            state.require_finite(values["loss"], step, lr)
            state.optimiser.zero_grad()
            fabric.backward(scalars["loss"])
            optimiser.step()
            state.learner.after_step()

            done = step + 1
            ended = done == total_steps
            position = {"step": done, "epoch": done / run.steps_per_epoch, "lr": lr}
            state.log.add(position, values, last=ended)
            progress.update(done, values["loss"])
            if ended or stop.signal or done % training.checkpoint_every_steps == 0:
                state.save(done)
            if stop.signal:
                raise Interrupted(f"{run.title}: {stop.signal.name}, stopped after step {done}")
    seconds = time.monotonic() - started
    return FitResult(total_steps, seconds, state.log.means(after_step=0.9 * total_steps))
