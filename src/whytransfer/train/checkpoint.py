"""Checkpoints of a running training: a kill at any instant leaves the last whole one in force.

    FOLDER/checkpoint-<steps done, 8 digits>-<SHA-256 of the file, 16 digits>.pt

A checkpoint is written aside, flushed and renamed; its name holds its checksum, so a file that was
cut short or altered is recognised and passed over. The newest two are kept.
"""

import hashlib
import io
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from whytransfer.core.errors import InputError
from whytransfer.core.store import writing

_KEPT = 2
_DIGITS = 16
_PART = ".part"

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """One whole checkpoint that was read back.

    Attributes:
        path: Its file.
        step: Optimiser steps that were done.
        state: What :meth:`Checkpoints.save` was given, all tensors on the CPU.
    """

    path: Path
    step: int
    state: dict[str, Any]


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one run.

    Attributes:
        folder: Where they lie; made on the first save. No two runs share one.
    """

    folder: Path

    def save(self, step: int, state: Mapping[str, Any]) -> Path:
        """Writes the state after that many steps: tensors, plain numbers, text, containers.

        Raises:
            InputError: The folder can't be written (read-only, full); earlier ones still stand.
        """
        buffer = io.BytesIO()
        torch.save(dict(state), buffer)
        data = buffer.getbuffer()
        path = self.folder / f"checkpoint-{step:08d}-{_digest(data)}.pt"
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            _replace(path, data)
            for stale in self._newest_first()[_KEPT:]:
                stale.unlink()
        return path

    def newest(self) -> Checkpoint | None:
        """Reads the newest whole checkpoint; removes what a kill or a bad disk left behind."""
        for part in self.folder.glob(f"*{_PART}"):
            part.unlink()
        for path in self._newest_first():
            if found := self.read(path.name):
                return found
            _logger.warning("%s: altered or cut short; passed over and removed", path)
            path.unlink()
        return None

    def read(self, name: str) -> Checkpoint | None:
        """Reads the checkpoint of that file name; ``None`` where it was altered or cut short.

        Raises:
            InputError: There is no such file.
        """
        path = self.folder / name
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise InputError(
                path, "no such file for this process", "a checkpoint that another process found",
                "give a --store on a file system that all processes share",
            ) from None  # fmt: skip
        if path.stem.rpartition("-")[2] != _digest(data):
            return None
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        return Checkpoint(path, int(path.stem.split("-")[1]), state)

    def steps_done(self) -> int:
        """Returns how many steps the newest one has, by its name; 0 where there is none."""
        return max((int(path.stem.split("-")[1]) for path in self._newest_first()), default=0)

    def _newest_first(self) -> list[Path]:
        return sorted(self.folder.glob("checkpoint-*.pt"), reverse=True)


def _digest(data: bytes | memoryview) -> str:
    return hashlib.sha256(data).hexdigest()[:_DIGITS]


def _replace(path: Path, data: memoryview) -> None:
    aside = path.with_suffix(_PART)
    try:
        with aside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    # The rename itself is on the disk only once the folder is.
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
