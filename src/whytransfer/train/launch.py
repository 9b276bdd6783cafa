"""Starts Lightning Fabric: device and precision of a run, without a word on the terminal."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import torch

from whytransfer.core.errors import InputError

if TYPE_CHECKING:
    from lightning.fabric import Fabric


def launch(device: Literal["auto", "cpu", "cuda"], precision: str) -> "Fabric":
    """Returns a Fabric of one process on one device.

    Lightning's own environment is named, because looking for another one fails in a SLURM shell
    that is no job.

    Raises:
        InputError: A GPU was asked for where there is none.
    """
    found = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and found == "cpu":
        raise InputError("device", "cuda, but no GPU is usable here", "cpu or auto")
    with _quiet():
        from lightning.fabric import Fabric
        from lightning.fabric.plugins.environments.lightning import LightningEnvironment

        return Fabric(
            accelerator=found if device == "auto" else device,
            devices=1,
            precision=precision,  # type: ignore[arg-type]
            plugins=[LightningEnvironment()],
        )


@contextmanager
def _quiet() -> Iterator[None]:
    logger = logging.getLogger("lightning.fabric")
    disabled = logger.disabled
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger.disabled = True
        try:
            yield
        finally:
            logger.disabled = disabled
