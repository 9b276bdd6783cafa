"""The training loop, for pretraining and fine-tuning alike: everything that happens in a step.

A learner is parameters and a loss; the loop knows nothing else of it. A run that was interrupted,
at whatever instant and in whatever way, goes on from its last checkpoint and ends with the same
bits as one that was not (on a CPU, and on a GPU where ``execution.deterministic`` is set). Several
processes, started by torchrun, train what one does, to rounding.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from whytransfer.core.devices import on_gpu
from whytransfer.core.environment import num_cores
from whytransfer.core.streams import Stream, seeded_torch
from whytransfer.train.agreement import agree
from whytransfer.train.config import Training
from whytransfer.train.kept_memory import kept_memory
from whytransfer.train.launch import compiled, launch, same_bits
from whytransfer.train.learner import Call, Objective, numbers, place
from whytransfer.train.learner import Context as Context
from whytransfer.train.learner import Learner as Learner
from whytransfer.train.memory import enough_memory
from whytransfer.train.optimiser import set_lr
from whytransfer.train.progress import TrainingProgress
from whytransfer.train.state import Run as Run
from whytransfer.train.state import TrainingError as TrainingError
from whytransfer.train.state import TrainingState
from whytransfer.train.stopping import Interrupted as Interrupted
from whytransfer.train.stopping import StopRequest
from whytransfer.train.waiting import Waiting


@dataclass(frozen=True)
class FitResult:
    """What came of a training.

    Attributes:
        steps: Optimiser steps of the whole run.
        seconds: That this process took, after an interruption the rest alone.
        means: Each logged scalar's mean over the last tenth of the steps.
        waited: Share of the time that was spent in waiting for batches, in [0, 1].
    """

    steps: int
    seconds: float
    means: dict[str, float]
    waited: float = 0.0


def fit(
    model: nn.Module, batches: Callable[[int], Iterator[Any]], training: Training, run: Run
) -> FitResult:
    """Trains a model in place, on the device it then stays on; takes up an interrupted run.

    Several processes call it alike, each with its part of every batch; they leave the same model.

    Args:
        model: A :class:`Learner`.
        batches: Gives the batches from a step on; a pure function of that step. Tensors inside
            them are moved to the device.
        training: Optimiser, schedule, duration.
        run: Where and how.

    Raises:
        Interrupted: SIGINT or SIGTERM came; the step was finished and a checkpoint written.
        TrainingError: The loss or a weight is not finite.
        InputError: The work folder holds checkpoints of another run, or can't be written; or a
            step needs more memory than there is.
    """
    started = time.monotonic()
    how, processes = run.execution, run.processes
    cores = max(1, num_cores() // processes.local_size)
    total_steps = training.total_steps(run.steps_per_epoch)
    # Nothing of ours draws from the global generator, but other people's modules do (dropout): it
    # is seeded for every step, and stands afterwards where it stood before.
    bar = TrainingProgress(run.title, total_steps, how.progress and processes.leads)
    with (
        seeded_torch(Stream(run.seed, "fit")), same_bits(how.deterministic), StopRequest() as stop,
        kept_memory(on_cpu=not on_gpu(how.device)), bar as progress,
    ):  # fmt: skip
        fabric = launch(how.device, training.precision, processes)
        state = TrainingState(model, training, run)
        loss_of: nn.Module = Objective(model)
        if training.compile == "always":
            loss_of = compiled(loss_of)
        objective, optimiser = fabric.setup(loss_of, state.optimiser)
        gather = state.gather
        to_device = run.cpu_photometry and fabric.device.type == "cuda"
        first_step = state.resume()
        upcoming = Waiting(batches(first_step))
        progress.begin(first_step)
        for step in range(first_step, total_steps):
            context = Context(step, run.seed, gather, processes.rank, processes.size)
            torch.manual_seed(context.torch_seed())
            factor = training.schedule.factor(step, total_steps, run.steps_per_epoch)
            lr = training.lr * factor
            set_lr(state.optimiser, lr)
            with enough_memory(training, fabric.device, run):
                batch = place(next(upcoming), fabric.device, training.channels_last)
                scalars = objective(Call(batch, context))
                state.optimiser.zero_grad()
                fabric.backward(scalars["loss"])
                # Read after the backward: a GPU computes it meanwhile, and processes that wait for
                # each other there do so once.
                values, signal = agree(numbers(scalars), stop.signal, processes)
                state.require_finite(values["loss"], step, lr, batch)
                optimiser.step()
                state.after_step()

            done = step + 1
            ended = done == total_steps
            position = {"step": done, "epoch": done / run.steps_per_epoch, "lr": lr}
            state.log.add(position, values, last=ended)
            progress.update(done, values["loss"])
            if finding := upcoming.finding(how.workers, cores, to_device):
                progress.say(finding)
            if ended or signal or done % training.checkpoint_every_steps == 0:
                state.save(done)
            if signal:
                raise Interrupted(f"{run.title}: {signal.name}, stopped after step {done}")
        state.finish()
    seconds = time.monotonic() - started
    means = state.log.means(after_step=0.9 * total_steps)
    return FitResult(total_steps, seconds, means, upcoming.share)
