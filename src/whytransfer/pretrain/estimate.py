"""What a pretraining would take: ten steps of the real path, measured; nothing is kept of them.

Memory is asked first of two small batches, and a straight line through both says what the whole
batch needs: so a run that would not fit is not begun, and the largest batch that fits is named.
"""

import contextlib
import gc
import logging
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from whytransfer.core import plugins
from whytransfer.core.config import build
from whytransfer.core.environment import peak_memory_mb
from whytransfer.core.errors import InputError
from whytransfer.core.processes import ALONE, here
from whytransfer.core.stage import Execution, Step
from whytransfer.core.store import Store
from whytransfer.data import stage as data_stage
from whytransfer.data.dataset import Dataset, limited, parse_reference
from whytransfer.data.loader import EpochOrder
from whytransfer.data.make import configure
from whytransfer.data.sample import Source
from whytransfer.pretrain import stage
from whytransfer.pretrain.method import TrainedConfig, ViewBatch
from whytransfer.pretrain.views import CACHE_BYTES
from whytransfer.train.capabilities import on_gpu

WARM_UP_STEPS, MEASURED_STEPS = 2, 10
_PROBE_STEPS = 2
_LOOKED_AT = 16
_MB = 1 << 20


@dataclass(frozen=True)
class Estimate:
    """What a run would take on this machine.

    Attributes:
        steps: Of the whole run.
        seconds: Of the whole run, at the pace of the measured steps. They are of the first epoch,
            in which every image is read; kept images may make later ones faster.
        images_per_second: Source images, however many views each has.
        loader_share: Share of the time that was spent in waiting for images, in [0, 1].
        memory_mb: Peak of the training process, MiB: of its memory, or on a GPU of the GPU's.
        cache_mb: That decoded images will fill besides, MiB of the machine's memory.
        available_mb: What there is, for both on a CPU.
        batch_size: That was asked for.
        fitting_batch_size: The largest divisor of it, by whole BatchNorm groups, that fits; 0
            where none does.
        measured_batch_size: Of the steps that were timed: the one asked for, where it fits.
        settled: Device, precision, memory format, compilation and applier of the run.
    """

    steps: int
    seconds: float
    images_per_second: float
    loader_share: float
    memory_mb: float
    cache_mb: float
    available_mb: float
    batch_size: int
    fitting_batch_size: int
    measured_batch_size: int
    settled: dict[str, str]

    @property
    def fits(self) -> bool:
        """Whether the batch asked for fits into memory."""
        return self.fitting_batch_size == self.batch_size


def estimate(
    method: str,
    data: str | Path | Dataset,
    *,
    seed: int = 0,
    store: str | Path = "runs",
    execution: dict[str, Any] | None = None,
    **settings: Any,
) -> Estimate:
    """Measures ten steps of a pretraining and says what all of it would take.

    Arguments are those of :func:`whytransfer.pretrain.run`. Nothing is written into the store, nor
    are files hashed; data of the world that the store lacks are made in a temporary folder.

    Raises:
        InputError: Something given can't be used, the method does not train, or several processes
            were started.
    """
    where = f"pretrain {method} --dry-run"
    how = build(Execution, {**(execution or {}), "progress": False}, "execution")
    config = stage.resolve(method, settings, f"pretrain {method}", how.device)
    if not isinstance(config, TrainedConfig):
        raise InputError(where, f"{method} does not train", "a method that takes time")
    if here().size > 1:
        raise InputError(where, f"{here().size} processes", "one process", "start it alone")
    with tempfile.TemporaryDirectory() as folder:
        dataset = _opened(data, Store(store), Store(folder))
        step = stage.step_for(method, "dry run", config, seed)
        stage.Pretraining(step, config, dataset, how, ALONE).warn()
        with _silent():  # else every trial would say again what was said just now
            return _measured(_Trial(step, config, dataset, how))


def lines(found: Estimate) -> list[str]:
    """Writes an estimate for a person."""
    hours, minutes = divmod(round(found.seconds / 60), 60)
    took = f"{hours} h {minutes} min" if hours else f"{found.seconds:.0f} s"
    settled = ", ".join(f"{name} {value}" for name, value in found.settled.items())
    told = [
        f"settled   {settled}",
        f"steps     {found.steps} of {found.batch_size} images",
        f"time      {took}: {found.images_per_second:.4g} images/s over {MEASURED_STEPS} steps of "
        f"{found.measured_batch_size} images, {100 * found.loader_share:.0f} % of it waiting for "
        "them; in the first epoch, when no image is kept yet",
        f"memory    {found.memory_mb:.0f} MiB, and up to {found.cache_mb:.0f} MiB of decoded "
        f"images, of {found.available_mb:.0f} MiB",
    ]
    if not found.fits:
        todo = (
            f"training.batch_size={found.fitting_batch_size} fits; scale training.sgd.lr with it"
            if found.fitting_batch_size
            else "no part of it by whole BatchNorm groups does: lower bn_group_size or crop_px"
        )
        told.append(f"too much  a batch of {found.batch_size} does not fit; {todo}")
    return told


@dataclass(frozen=True)
class _Pace:
    """Seconds per step and in it of waiting; peak in MiB."""

    seconds: float
    waited: float
    peak_mb: float


class _Timed(stage.Pretraining):
    """A pretraining whose batches are timed."""

    def __init__(self, clock: "_Clock", *args: Any) -> None:
        super().__init__(*args)
        self._clock = clock

    def _batches(self, first_step: int) -> Iterator[ViewBatch]:
        return self._clock.timed(super()._batches(first_step))


@dataclass(frozen=True)
class _Trial:
    """Runs a few steps of a pretraining, at its batch size or a smaller one."""

    step: Step
    config: TrainedConfig
    data: Dataset
    execution: Execution

    def run(self, batch_size: int, steps: int) -> _Pace:
        """Returns the pace of so many steps, after the warm-up."""
        clock = _Clock()
        config = self._at(batch_size, steps)
        part = _Timed(clock, self.step, config, self.data, self.execution, ALONE)
        gpu = on_gpu(self.execution.device)
        _forget_peak(gpu)
        with tempfile.TemporaryDirectory() as folder:
            payload = Path(folder, "payload")
            payload.mkdir()
            part.compute(payload, Path(folder))
        return clock.pace(_peak_mb(gpu))

    def _at(self, batch_size: int, steps: int) -> TrainedConfig:
        group = self.config.bn_group_size
        # One step more, whose beginning ends the last one that is measured.
        length = {"epochs": None, "steps": WARM_UP_STEPS + steps + 1}
        training = self.config.training.model_copy(update={"batch_size": batch_size, **length})
        # Groups move no memory, and part of the batch need not be a multiple of them.
        whole_groups = group is None or batch_size % group == 0
        return self.config.model_copy(
            update={"training": training, "bn_group_size": group if whole_groups else None}
        )


class _Clock:
    """Notes when batches are asked for and when they come."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self.came: list[float] = []

    def timed(self, batches: Iterator[Any]) -> Iterator[Any]:
        """Passes batches on."""
        while True:
            self.asked.append(time.perf_counter())
            batch = next(batches, None)
            if batch is None:
                return
            self.came.append(time.perf_counter())
            yield batch

    def pace(self, peak_mb: float) -> _Pace:
        """Returns the mean over the steps after the warm-up, without the last one."""
        asked, came = self.asked[WARM_UP_STEPS:], self.came[WARM_UP_STEPS:]
        steps = len(came) - 1
        waits = [end - start for start, end in zip(asked, came, strict=False)][:steps]
        return _Pace((asked[steps] - asked[0]) / steps, sum(waits) / steps, peak_mb)


def _measured(trial: _Trial) -> Estimate:
    config, how = trial.config, trial.execution
    asked, gpu = config.training.batch_size, on_gpu(how.device)
    source = limited(trial.data.open("train"), config.limit)
    order = EpochOrder(len(source), asked, 0)
    cache = _cache_mb(source)
    available = _available_mb(gpu)
    line = _Line.through([(size, trial.run(size, _PROBE_STEPS).peak_mb) for size in _probes(asked)])
    room = available if gpu else available - cache
    sizes = _whole_groups(asked, config.bn_group_size)
    fitting = max((size for size in sizes if line.at(size) <= room), default=0)
    timed = fitting or min(_probes(asked))
    pace = trial.run(timed, MEASURED_STEPS)
    steps = config.training.total_steps(order.steps_per_epoch)
    return Estimate(
        steps=steps,
        seconds=pace.seconds * asked / timed * steps,
        images_per_second=timed / pace.seconds,
        loader_share=pace.waited / pace.seconds,
        memory_mb=pace.peak_mb if timed == asked else line.at(asked),
        cache_mb=cache,
        available_mb=available,
        batch_size=asked,
        fitting_batch_size=fitting,
        measured_batch_size=timed,
        settled={
            "device": "cuda" if gpu else "cpu",
            "precision": config.training.precision,
            "memory format": config.training.memory_format,
            "convolution": config.training.convolution,
            "compile": config.training.compile,
            "applier": config.applier,
        },
    )


@dataclass(frozen=True)
class _Line:
    """MiB as a straight line over the batch size."""

    start: float
    slope: float

    @classmethod
    def through(cls, points: list[tuple[int, float]]) -> "_Line":
        """Returns the line through the first and the last point; a falling one is level."""
        (first, low), (last, high) = points[0], points[-1]
        slope = max(0.0, (high - low) / (last - first)) if last > first else 0.0
        return cls(high - slope * last, slope)

    def at(self, batch_size: int) -> float:
        """Returns the MiB of a batch."""
        return self.start + self.slope * batch_size


def _divisors(batch_size: int) -> list[int]:
    return [size for size in range(2, batch_size + 1) if batch_size % size == 0] or [batch_size]


def _probes(batch_size: int) -> list[int]:
    """Returns two batch sizes of which the larger is at most a quarter, where there are such."""
    sizes = _divisors(batch_size)
    small = [size for size in sizes if size <= batch_size // 4]
    return (small or sizes)[-2:]


def _whole_groups(batch_size: int, group: int | None) -> list[int]:
    return [size for size in _divisors(batch_size) if size % (group or 1) == 0]


def _opened(data: str | Path | Dataset, store: Store, other: Store) -> Dataset:
    """Opens data without hashing them; what the world has to make goes into the other store."""
    if isinstance(data, Dataset):
        return data
    kind, _, maker = str(data).partition(":")
    if kind == "world":
        step = data_stage.step_for(maker, configure(maker, {}, str(data)), 0)
        there = store.has(step.stage, step.name, step.fingerprint)
        return data_stage.open_reference(data, store if there else other)
    fields = parse_reference(str(data))
    name = str(fields.pop("format"))
    config = build(plugins.find("format", name).Config, fields, str(data))
    return Dataset(name, config, "dry run")


def _cache_mb(source: Source) -> float:
    """Returns how much of the cache the decoded images will fill, by the first of them."""
    looked_at = range(min(len(source), _LOOKED_AT))
    mean = sum(source[index].image.nbytes for index in looked_at) / len(looked_at)
    return min(CACHE_BYTES, mean * len(source)) / _MB


def _available_mb(gpu: bool) -> float:
    """Returns what a run may fill: free memory, and what this process holds already."""
    if gpu:
        gc.collect()
        torch.cuda.empty_cache()
        return torch.cuda.mem_get_info()[0] / _MB
    free = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / _MB - _held_mb()]
    meminfo = _fields(Path("/proc/meminfo"))
    if "MemAvailable" in meminfo:
        free.append(meminfo["MemAvailable"] / 1024)
    limit, used = (Path("/sys/fs/cgroup", name) for name in ("memory.max", "memory.current"))
    if limit.is_file() and used.is_file() and limit.read_text().strip() != "max":
        free.append((int(limit.read_text()) - int(used.read_text())) / _MB)
    return min(free) + _held_mb()


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Runs a block whose warnings are not logged."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(disabled)


def _forget_peak(gpu: bool) -> None:
    gc.collect()
    if gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        return
    # Linux counts the peak anew from here on; where it can't, the peak is of the whole process.
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak_mb(gpu: bool) -> float:
    if gpu:
        return torch.cuda.max_memory_reserved() / _MB
    peak = _fields(Path("/proc/self/status")).get("VmHWM")
    return peak_memory_mb() if peak is None else peak / 1024


def _held_mb() -> float:
    held = _fields(Path("/proc/self/status")).get("VmRSS")
    return peak_memory_mb() if held is None else held / 1024


def _fields(path: Path) -> dict[str, float]:
    """Reads ``Name:  number kB`` lines; nothing where the system has no such file."""
    if not path.is_file():
        return {}
    found = (line.split() for line in path.read_text().splitlines())
    return {
        words[0].rstrip(":"): float(words[1])
        for words in found
        if len(words) == 3 and words[2] == "kB"
    }
