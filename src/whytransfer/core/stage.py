"""A stage is a pure step from artifacts to an artifact; this is what all of them have in common.

A :class:`Step` says what is to be computed; its fingerprint names the result before it exists, so
a study can be planned without running it. :func:`materialise` computes it once, whoever asks.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from whytransfer.core import environment, plugins
from whytransfer.core.config import Config, assumptions, to_plain
from whytransfer.core.errors import InputError
from whytransfer.core.fingerprint import fingerprint
from whytransfer.core.processes import ALONE, Processes
from whytransfer.core.records import Metric, Record, Volatile
from whytransfer.core.store import RECORD, Artifact, Store, write_text

Stage = Literal["data", "pretrain", "features", "transfer", "select", "diagnose"]

LIBRARIES: Mapping[Stage, tuple[str, ...]] = {
    "data": ("opencv-python-headless", "numpy"),
    "pretrain": ("torch", "torchvision", "timm"),
    "features": ("torch", "torchvision", "timm"),
    "transfer": ("torch", "torchvision", "timm"),
    "select": (),
    "diagnose": ("numpy",),
}
"""The libraries whose minor version can move a stage's numbers, and so its fingerprint."""

SCHEME: Mapping[Stage, int] = {
    "data": 1, "pretrain": 2, "features": 1, "transfer": 2, "select": 1, "diagnose": 2,
}  # fmt: skip
"""Raised by one when a change outside the plug-ins moves a stage's numbers (see CHANGELOG)."""

_KIND: Mapping[Stage, str] = {
    "data": "world", "pretrain": "method", "features": "task", "transfer": "task", "select": "task",
    "diagnose": "analysis",
}  # fmt: skip


class Execution(Config):
    """How a step runs: what must not change a number, and so enters no fingerprint.

    Attributes:
        workers: Processes that read and augment images; 0 does it in the training process.
        device: ``auto`` takes a GPU where there is one.
        progress: Show a bar on a terminal, plain lines otherwise.
        deterministic: On a GPU, train with kernels that give the same bits each time, which are
            slower; on a CPU they always do.
    """

    workers: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    progress: bool = True
    deterministic: bool = False


@dataclass(frozen=True)
class Step:
    """All that determines an artifact.

    Attributes:
        stage: Which of the stages; ``features`` are a backbone's, kept for several transfers.
        plugin: Name or dotted path of the maker, method, task or analysis.
        config: The resolved configuration, without paths and without execution.
        inputs: Role of each input to its fingerprint, such as ``{"backbone": "3f..."}``.
        seed: The seed of every stream that the step draws from.
        in_force: The configuration that it is run with, where an input decides a part of it. It
            stands in the record; the fingerprint has that input in its place.
    """

    stage: Stage
    plugin: str
    config: BaseModel
    inputs: Mapping[str, str] = field(default_factory=dict)
    seed: int | None = None
    in_force: BaseModel | None = None

    @property
    def name(self) -> str:
        """The plug-in's short name, which the artifact's folder begins with."""
        return self.plugin.rpartition(".")[2]

    @property
    def fingerprint(self) -> str:
        """Names the artifact; two steps with the same fingerprint make the same content."""
        return fingerprint(
            {
                "stage": self.stage,
                "scheme": SCHEME[self.stage],
                "plugin": plugins.identity(_KIND[self.stage], self.plugin),
                "config": to_plain(self.config),
                "inputs": dict(self.inputs),
                "seed": self.seed,
                "libraries": environment.major_versions(*LIBRARIES[self.stage]),
            }
        )

    def find(self, store: Store) -> Artifact | None:
        """Returns the finished, verified artifact, or ``None``."""
        return store.get(self.stage, self.name, self.fingerprint)


Compute = Callable[[Path, Path], tuple[Metric, ...]]
"""Writes the payload into the first folder, keeps checkpoints in the second, returns metrics."""


def materialise(
    store: Store,
    step: Step,
    compute: Compute,
    device: str = "cpu",
    processes: Processes = ALONE,
) -> Artifact:
    """Returns a step's artifact, computing it where nobody has yet.

    Two runs that ask for the same step: one computes, the other waits and takes the result. The
    processes of one run compute together; the first writes and the others write nothing.

    Args:
        store: Where the artifact lies or will lie.
        step: What is to be computed.
        compute: Does it; on a process that does not write it is given the work folder twice.
        device: Where, for the record.
        processes: Those that share the work.

    Raises:
        InputError: The store can't be written, or holds an altered artifact of this step.
        FailedElsewhere: Another of the processes failed.
    """
    if processes.leads:
        artifact = _materialise(store, step, _announced(compute, processes), device)
        processes.share(str)
        return artifact
    if work := processes.share(str):
        compute(Path(work), Path(work))
        processes.share(str)
    return _find_as_told(store, step, processes)


def find_together(store: Store, step: Step, processes: Processes) -> Artifact | None:
    """Returns the finished artifact or ``None``, and the same on all processes."""
    if not processes.leads:
        return _find_as_told(store, step, processes) if processes.share(str) else None
    found = step.find(store)
    processes.share(lambda: "found" if found else "")
    return found


def _find_as_told(store: Store, step: Step, processes: Processes) -> Artifact:
    found = step.find(store)
    if found is None:
        raise InputError(
            store.root, f"process {processes.rank} does not find what process 0 wrote",
            "a store on a file system that all processes share", "give another --store",
        )  # fmt: skip
    return found


def _announced(compute: Compute, processes: Processes) -> Compute:
    """Tells the other processes when there is something to compute, and in which work folder."""

    def announced(folder: Path, work: Path) -> tuple[Metric, ...]:
        processes.share(lambda: str(work))
        return compute(folder, work)

    return announced


def _materialise(store: Store, step: Step, compute: Compute, device: str) -> Artifact:
    if found := step.find(store):
        return found
    with store.lock(step.fingerprint):
        if found := step.find(store):
            return found
        started = time.monotonic()
        begun = store.work_path(step.fingerprint).exists()  # by a study, or an earlier attempt
        work = store.work(step.fingerprint)

        def fill(folder: Path) -> None:
            metrics = compute(folder, work)
            record = describe(step, metrics, time.monotonic() - started, device)
            write_text(folder / RECORD, record.model_dump_json(indent=1))

        try:
            artifact = store.write(step.stage, step.name, step.fingerprint, fill)
        except BaseException:
            if not begun:
                store.drop_empty_work(step.fingerprint)
            raise
        store.drop_work(step.fingerprint)
        return artifact


def describe(step: Step, metrics: tuple[Metric, ...], seconds: float, device: str) -> Record:
    """Writes the record of a finished step."""
    config = step.in_force or step.config
    return Record(
        stage=step.stage,
        plugin=step.plugin,
        fingerprint=step.fingerprint,
        inputs=dict(step.inputs),
        config=to_plain(config),
        assumed=tuple(assumptions(config)),
        seed=step.seed,
        metrics=metrics,
        versions=environment.versions(*LIBRARIES[step.stage]),
        commit=environment.commit(),
        volatile=Volatile(
            device=device,
            host=environment.host(),
            seconds=round(seconds, 3),
            peak_memory_mb=round(environment.peak_memory_mb(), 1),
            finished=datetime.now(UTC).isoformat(timespec="seconds"),
        ),
    )
