"""Times pieces of work against each other: in turns, medians of ratios, because machines drift."""

import argparse
import contextlib
import json
import multiprocessing
import os
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

DRAWS = 2000
"""Resampled sets of rounds behind an interval."""

Times = dict[str, list[float]]
"""Name → seconds per round."""


def time_once(work: Callable[[], object]) -> float:
    """Returns the seconds that one call takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def compare(works: dict[str, Callable[[], object]], rounds: int) -> Times:
    """Times every piece once per round, in turns, after one round that is not counted."""
    return measure({name: partial(time_once, work) for name, work in works.items()}, rounds)


def measure(works: Mapping[str, Callable[[], float]], rounds: int) -> Times:
    """Asks every piece for its own seconds once per round, in turns, after a round not counted."""
    for work in works.values():
        work()
    rounds_of_times = [[work() for work in works.values()] for _ in range(rounds)]
    return dict(zip(works, map(list, zip(*rounds_of_times, strict=True)), strict=True))


class Rounds:
    """Times a loop that asks for its batches against other pieces of work, in turns.

    The loop's own part of a round runs from asking for a batch to asking for the next one; before
    it, every other piece runs once. So a whole training loop is timed as it is.

    Args:
        name: Of the loop.
        peers: What else is timed.
        warm_up: Rounds that are not counted.
        wait: Called where the loop's part of a round ends, for work that goes on elsewhere.
    """

    def __init__(
        self,
        name: str,
        peers: Mapping[str, Callable[[], object]],
        warm_up: int,
        wait: Callable[[], object] = lambda: None,
    ) -> None:
        self.name, self.peers, self.warm_up, self.wait = name, peers, warm_up, wait
        self.times: Times = {piece: [] for piece in (name, *peers)}

    def around(self, batches: Iterator[Any]) -> Iterator[Any]:
        """Passes batches on, and times what happens between them."""
        for number in range(sys.maxsize):
            found = {piece: time_once(work) for piece, work in self.peers.items()}
            started = time.perf_counter()
            batch = next(batches, None)
            if batch is None:
                return
            yield batch
            self.wait()
            found[self.name] = time.perf_counter() - started
            if number >= self.warm_up:
                for piece, seconds in found.items():
                    self.times[piece].append(seconds)


class Apart:
    """A piece of work in a process of its own: what one does to its process is not the other's.

    Our training has the allocator keep what a step frees; a peer's process is as its users' is.

    Args:
        make: Returns the work; as its arguments, one that can be pickled.
        args: Its arguments.
    """

    def __init__(self, make: Callable[..., Callable[[], object]], *args: object) -> None:
        spawning = multiprocessing.get_context("spawn")
        self._pipe, theirs = spawning.Pipe()
        given = theirs, torch.get_num_threads(), make, args
        spawning.Process(target=_work_on_request, args=given, daemon=True).start()
        theirs.close()  # so that its end shows, should it fail
        self._pipe.recv()

    def __call__(self) -> None:
        """Has the work done once, and waits for it."""
        self._pipe.send(None)
        self._pipe.recv()


def _work_on_request(
    pipe: "Connection", threads: int, make: Callable[..., Callable[[], object]], args: Any
) -> None:
    torch.set_num_threads(threads)
    work = make(*args)
    with contextlib.suppress(EOFError):  # nobody asks any more
        while True:
            pipe.send(None)
            pipe.recv()
            work()


def ratio(times: Times, peer: str, ours: str) -> float:
    """Returns how many times as fast ours is as the peer: the median of the rounds' ratios."""
    return statistics.median(a / b for a, b in zip(times[peer], times[ours], strict=True))


def interval(times: Times, peer: str, ours: str) -> tuple[float, float]:
    """Returns the 95 % interval of :func:`ratio`."""
    found = [a / b for a, b in zip(times[peer], times[ours], strict=True)]
    return bootstrap(found, statistics.median)


def bootstrap(rounds: Sequence[Any], of: Callable[[Any], float]) -> tuple[float, float]:
    """Returns the 95 % interval of what is told of a set of rounds, by resampling the rounds."""
    generator = random.Random(0)
    draws = sorted(of(generator.choices(rounds, k=len(rounds))) for _ in range(DRAWS))
    return draws[round(0.025 * (DRAWS - 1))], draws[round(0.975 * (DRAWS - 1))]


def ratios(times: Times, wanted: Mapping[str, tuple[str, str]]) -> dict[str, dict[str, Any]]:
    """Returns ``ratios`` and ``intervals`` for name → (peer, ours)."""
    return {
        "ratios": {name: round(ratio(times, *pair), 3) for name, pair in wanted.items()},
        "intervals": {
            name: [round(end, 3) for end in interval(times, *pair)] for name, pair in wanted.items()
        },
    }


def rates(times: Times, count: int) -> dict[str, float]:
    """Returns how many of what every piece works on, ``count`` in a round, it does per second."""
    return {name: round(count / statistics.median(found), 1) for name, found in times.items()}


def merge(*results: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Joins results entry by entry."""
    joined: dict[str, dict[str, Any]] = {}
    for result in results:
        for name, values in result.items():
            joined.setdefault(name, {}).update(values)
    return joined


def machine() -> str:
    """Names the processor and how many cores this process may use."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = models[0] if models else platform.processor() or platform.machine()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {cores} cores"


def capability() -> dict[str, Any]:
    """Says what the processor computes fast: its vectors as torch names them, and bfloat16."""
    cpu: Any = torch.cpu
    native = cpu._is_avx512_bf16_supported() or cpu._is_amx_tile_supported()
    return {"cpu": torch.backends.cpu.get_cpu_capability(), "native_bfloat16": bool(native)}


def parser(
    text: str | None, rounds: int | None = None, threads: int = 2
) -> argparse.ArgumentParser:
    """Returns the options that benchmarks share; OMP_NUM_THREADS does not count beside them."""
    found = argparse.ArgumentParser(
        description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    found.add_argument("--json", action="store_true", help="print one JSON object")
    if rounds is not None:
        found.add_argument("--rounds", type=int, default=rounds)
    found.add_argument("--threads", type=int, default=threads)
    return found


def report(result: Mapping[str, object]) -> None:
    """Prints a result: one JSON object with ``--json``, else a line per entry.

    ``intervals`` are 95 % intervals of the medians in ``ratios``, by resampling the rounds.
    """
    where = {
        "machine": machine(),
        "capability": capability(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument("--json", action="store_true")
    result = {**where, **result}
    if options.parse_known_args()[0].json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name}: {value}")
