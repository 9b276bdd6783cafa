"""Starts Lightning Fabric: device, processes and precision of a run, silently."""

import atexit
import functools
import inspect
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from whytransfer.core.errors import InputError
from whytransfer.core.processes import ALONE, Processes, any_failed, key_value_store
from whytransfer.core.streams import Stream

if TYPE_CHECKING:
    from lightning.fabric import Fabric


def launch(
    device: Literal["auto", "cpu", "cuda"], precision: str, processes: Processes = ALONE
) -> "Fabric":
    """Returns a Fabric of one device in each process.

    Lightning's own environment is named, because looking for another one fails in a SLURM shell
    that is no job.

    Raises:
        InputError: A GPU was asked for where there is none, or there are too few.
    """
    accelerator = connect(device, processes)
    with _quiet():
        from lightning.fabric import Fabric
        from lightning.fabric.plugins.environments.lightning import LightningEnvironment

        if processes.size > 1:
            return _launch_all(accelerator, precision, processes)
        return Fabric(
            accelerator=accelerator,
            devices=1,
            precision=precision,  # type: ignore[arg-type]
            plugins=[LightningEnvironment()],
        )


def _launch_all(accelerator: str, precision: str, processes: Processes) -> "Fabric":
    from lightning.fabric import Fabric
    from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

    from whytransfer.train.data_parallel import data_parallel

    fabric = Fabric(
        accelerator=accelerator,
        devices=processes.local_size,
        num_nodes=processes.size // processes.local_size,
        strategy=data_parallel(processes, accelerator == "cpu"),
        precision=precision,  # type: ignore[arg-type]
        plugins=[TorchElasticEnvironment()],
    )
    fabric.launch()
    return fabric


def connect(device: Literal["auto", "cpu", "cuda"], processes: Processes) -> Literal["cpu", "cuda"]:
    """Joins the processes, if there are several, and returns the kind of device that each has.

    Tensors of a GPU go by nccl, those of the CPU by gloo, or within one machine as
    :mod:`whytransfer.train.neighbours` says; ``cuda`` is the process's own GPU.

    Raises:
        InputError: A GPU was asked for where there is none, or there are too few.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("device", "cuda, but no GPU is usable here", "cpu or auto")
    uses_gpu = device != "cpu" and torch.cuda.is_available()
    found: Literal["cpu", "cuda"] = "cuda" if uses_gpu else "cpu"
    if processes.size == 1:
        return found
    if uses_gpu:
        num_gpus = torch.cuda.device_count()
        if num_gpus < processes.local_size:
            raise InputError(
                "torchrun --nproc-per-node",
                f"{processes.local_size} processes on {num_gpus} GPU(s)",
                "one process per GPU", f"start {num_gpus}, or give --device cpu",
            )  # fmt: skip
        torch.cuda.set_device(processes.local_rank)
    if torch.distributed.is_initialized():
        return found
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    torch.distributed.init_process_group(
        backend, store=key_value_store(), rank=processes.rank, world_size=processes.size
    )
    atexit.register(_disconnect)
    return found


def _disconnect() -> None:
    # After a failure the others may never answer, and a GPU's connections would wait for them.
    if torch.distributed.is_initialized() and not any_failed():
        torch.distributed.destroy_process_group()


def compiled(objective: nn.Module) -> nn.Module:
    """Returns the objective fused by ``torch.compile``."""
    _leave_streams_alone()
    found: nn.Module = torch.compile(objective)  # type: ignore[assignment]
    return found


@functools.cache
def _leave_streams_alone() -> None:
    """Has random streams called as they are, between two compiled parts.

    They are NumPy's work, at which the compiler fails; what they return stays the same.
    """
    for name, method in list(vars(Stream).items()):
        if inspect.isfunction(method):
            setattr(Stream, name, torch.compiler.disable(method))  # type: ignore[no-untyped-call]


@contextmanager
def same_bits(asked: bool) -> Iterator[None]:
    """Runs a block with kernels that give the same bits each time, where that is asked for.

    On a CPU they do so anyway. On a GPU an operation without such a kernel is an error of torch,
    not silence; what was set before is set again afterwards.
    """
    if not asked:
        yield
        return
    # Read by cuBLAS when it starts, which must not have happened before.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    cudnn: Any = torch.backends.cudnn
    before = torch.are_deterministic_algorithms_enabled(), cudnn.deterministic, cudnn.benchmark
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True)
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=warn_only)
        cudnn.deterministic, cudnn.benchmark = before[1:]


@contextmanager
def _quiet() -> Iterator[None]:
    disabled = logging.root.manager.disable
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(disabled)
