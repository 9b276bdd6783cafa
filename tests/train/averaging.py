"""What torchrun runs for test_data_parallel.py, in each of its processes.

Argument: a folder. Averages gradients, and gathers tensors, of many shapes and kinds through shared
memory and by gloo; writes what came out, and what each process had, to ``RANK.pt``.
"""

import gc
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from whytransfer.core.processes import Processes, here
from whytransfer.core.streams import Stream
from whytransfer.train.agreement import gather_all, gatherer
from whytransfer.train.data_parallel import SharedGradients
from whytransfer.train.launch import connect
from whytransfer.train.neighbours import neighbours

SHAPES = ((), (1,), (5, 3), (8, 4, 3, 3), (0, 3), (99_999,), (1000,), (64, 16, 3, 3))
TYPES = (torch.float32, torch.float64)
NOWHERE, ON_THE_FIRST = 2, 6
"""Which parameters have no gradient on any process, and on all but the first."""

STEPS = 3
GATHERED = ((4,), (300, 300), (2, 3, 200, 200), (0, 5), (70_000,), (300, 300))


def drawn(shape: tuple[int, ...], *place: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Returns numbers in [-0.5, 0.5) that depend on the place; images lie channels-last."""
    numbers = torch.as_tensor(Stream(place[0], "numbers", *place[1:]).uniform(shape)) - 0.5
    layout = torch.channels_last if len(shape) == 4 else torch.contiguous_format
    return numbers.to(dtype).contiguous(memory_format=layout)


def mapped() -> int:
    """Counts this process's mappings of memory that it shares."""
    return Path("/proc/self/maps").read_text().count("memfd:whytransfer")


def gradients(processes: Processes) -> dict[str, object]:
    """Averages the gradients of some steps, whose gradients differ."""
    parameters = [
        nn.Parameter(drawn(shape, 0, number, dtype=dtype))
        for dtype in TYPES
        for number, shape in enumerate(SHAPES)
    ]
    shared = SharedGradients(parameters, neighbours(processes))
    had, averaged, by_gloo, lies, hooks = [], [], [], [], []
    for step in range(STEPS):
        own = [
            drawn(each.shape, processes.rank, 1 + step, number, dtype=each.dtype)
            for number, each in enumerate(parameters)
        ]
        used = [
            number for number in range(len(parameters))
            if number % len(SHAPES) != NOWHERE
            and (number % len(SHAPES) != ON_THE_FIRST or processes.leads)
        ]  # fmt: skip
        loss = sum((parameters[number] * own[number]).sum().double() for number in used)
        for parameter in parameters:
            parameter.grad = None
        with shared.averaged():
            loss.backward()
        had.append([each if n in used else torch.zeros_like(each) for n, each in enumerate(own)])
        averaged.append([None if each.grad is None else each.grad.clone() for each in parameters])
        lies += [each.grad is None or each.grad.stride() == each.stride() for each in parameters]
        hooks += [bool(each._post_accumulate_grad_hooks) for each in parameters]
        for values in had[-1]:
            sums = values.contiguous() / processes.size
            torch.distributed.all_reduce(sums)
            by_gloo.append(sums)
    return {"had": had, "averaged": averaged, "by_gloo": by_gloo, "lies": lies, "hooks": hooks}


def gathered(processes: Processes) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Gathers in a row what a process has: itself, by gloo, and as a training does."""
    gather, found = gatherer(processes), []
    for turn in range(3):
        for number, shape in enumerate(GATHERED):
            for dtype in (torch.float32, torch.bool, torch.int64):
                own = drawn(shape, processes.rank, turn, number).mul(9).to(dtype)
                found.append((own, gather_all(own), gather(own)))
    return found


def main(folder: Path) -> None:
    processes = here()
    connect("cpu", processes)
    found = {"gradients": gradients(processes), "gathered": gathered(processes)}
    gc.collect()
    torch.save(found | {"mapped": mapped()}, folder / f"{processes.rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
