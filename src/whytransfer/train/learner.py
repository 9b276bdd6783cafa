"""What can be trained, what its loss is given, and how a batch gets to the device."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from whytransfer.core.streams import Stream

Average = Callable[[Tensor, int], Tensor]
"""Makes a mean of a sum and the number of what it sums."""


def own_average(total: Tensor, count: int) -> Tensor:
    """Returns a sum over one process's batch by what it has of what is counted, at least one."""
    return total / max(1, count)


@dataclass(frozen=True)
class Context:
    """What a loss may know beside its batch.

    Attributes:
        step: Optimiser steps done before this one.
        seed: Of the run.
        gather: Collects a tensor from all processes: (processes, ...) of (...); with one process
            it returns the tensor as it is. No gradient flows through it.
        rank: Number of this process, from 0; it holds the rank-th equal part of the batch.
        world_size: Number of processes.
    """

    step: int
    seed: int
    gather: Callable[[Tensor], Tensor]
    rank: int = 0
    world_size: int = 1

    def stream(self, name: str, *counters: int) -> Stream:
        """Returns the random stream of that name for this step."""
        return Stream(self.seed, name, self.step, *counters)

    def average(self, total: Tensor, count: Tensor | int) -> Tensor:
        """Returns a mean over the whole batch, as this process's share of it.

        The loop takes the mean over the processes of loss and gradient. Where each one's sum is
        divided by the mean of their counts, that is the sum over the whole batch by the count of
        the whole batch, however unequally its parts have of what is counted.

        Args:
            total: The sum over this process's part of the batch.
            count: How many of what is averaged over stand in this part: sampled regions, pixels
                that count. A batch without any counts as one.
        """
        counts = self.gather(torch.as_tensor(count, dtype=torch.float64))
        return total / counts.mean().clamp(min=1.0 / self.world_size).to(total)

    def torch_seed(self) -> int:
        """Returns the seed for torch's own generator: of dropout, so each process has another."""
        return self.stream("torch", *([self.rank] if self.rank else [])).torch_seed()


class Learner(Protocol):
    """What an ``nn.Module`` must have to be trained.

    All that one step leaves to the next must be in its ``state_dict``. What stays in evaluation
    mode during training is kept there by overriding ``train``.
    """

    def loss(self, batch: Any, context: Context) -> Mapping[str, Tensor]:
        """Returns scalars by name: ``loss`` is minimised, all are logged."""

    def after_step(self) -> None:
        """Runs after each optimiser step."""


class Call:
    """One call of a loss.

    A class of its own, because Fabric and DDP reach into tuples and dataclasses and would cast
    every float in them to bfloat16, box coordinates included.
    """

    def __init__(self, batch: Any, context: Context) -> None:
        self.batch, self.context = batch, context


class Objective(nn.Module):
    """Makes the loss a module's ``forward``, which is what autocast and DDP wrap."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, call: Call) -> Mapping[str, Tensor]:
        """Returns the loss's scalars."""
        return cast(Learner, self.model).loss(call.batch, call.context)


def place(value: Any, device: torch.device, channels_last: bool) -> Any:
    """Returns a batch with its tensors on a device, through containers and dataclasses.

    Args:
        value: A tensor, or tensors inside tuples, lists, dictionaries and dataclasses; anything
            else is left as it is.
        device: Where to.
        channels_last: Whether 4-d tensors of floats shall lie channels-last in memory.
    """
    if isinstance(value, Tensor):
        image = channels_last and value.dim() == 4 and value.is_floating_point()
        layout = torch.channels_last if image else torch.preserve_format
        return value.to(device, non_blocking=True, memory_format=layout)
    if isinstance(value, dict):
        return {key: place(item, device, channels_last) for key, item in value.items()}
    if isinstance(value, tuple | list):
        items = [place(item, device, channels_last) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value) if field.init]
        placed = {name: place(getattr(value, name), device, channels_last) for name in names}
        return dataclasses.replace(value, **placed)
    return value


def numbers(scalars: Mapping[str, Tensor]) -> dict[str, float]:
    """Returns a loss's scalars as numbers, with one transfer from the device."""
    stacked = torch.stack([value.detach().double() for value in scalars.values()])
    return dict(zip(scalars, stacked.tolist(), strict=True))
