"""How does the time of pretraining grow? Exponents of images, keys, batch and size; 2 processes.

    python benchmarks/scaling.py --json

An exponent is the slope of log time over log quantity: 1 is proportional. Times are those of steps
inside the library's training loop, after it was set up and warmed up; the rounds of all values are
interleaved. MoCo v2 in float32 on a small network (ResNet-10, 16 channels wide, 64 pixels, batch
32, 4,096 keys; 256 for the images) where nothing else is said.

exponent_images  an epoch of JPEG files, over their number, from the first batch asked for to the
                 end of the last step: without listing the files and building the network, with
                 reading, decoding and views
images_x10       how many times as long an epoch of ten times the images takes
exponent_keys    a step, over the length of the queue: below 1, as the network takes the same
exponent_batch   a step, over the images in it
exponent_size    a step, over the side of the view: 2 is proportional to pixels
two_processes    images per second of two processes over those of one, at one thread each: the step
                 of ``pretrain_step.py`` (ResNet-18, 64 pixels, 4,096 keys, BatchNorm in groups of
                 32), 128 images in the global batch, so 64 in each of two processes, and as
                 ``two_processes_256`` at the protocol's global batch of 256; blocks of four steps
                 in turns, after one to warm up, in trainings that stay alive and wait between;
                 ``seconds`` has those of a step, and those that process 0 computed in it
two_apart        the same of two trainings of half the batch at once, which share nothing: what two
                 processes could reach on this machine if they never waited for each other

All of it is on one thread a process, whatever OMP_NUM_THREADS says.
"""

import argparse
import itertools
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np
import torch
from _interleaved import Times, bootstrap, measure, merge, parser, ratios, report
from _moco import R18, Case, config, train, views

from whytransfer.core.processes import ALONE
from whytransfer.core.stage import Execution
from whytransfer.data.dataset import made
from whytransfer.pretrain import stage
from whytransfer.pretrain.method import ViewBatch

SMALL = Case("small", "resnet10", 64, 32, 4096, 16)
NETWORK = {"architecture": {"name": "resnet10", "width": 16}}
IMAGES = (256, 800, 2560)
KEYS = (4096, 16384, 65536)
BATCHES = (16, 32, 64, 128)
SIZES_PX = (32, 64, 96, 128)
GLOBAL_BATCHES = {"two_processes": R18.batch_size, "two_processes_256": 256}
WARM_UP, STEPS = 2, 6
WORKER = Path(__file__).with_name("_process_rate.py")


def main() -> None:
    options = _options()
    torch.set_num_threads(1)
    results = [
        *(_two_processes(*of, options.process_rounds) for of in GLOBAL_BATCHES.items()),
        _images(options.rounds),
    ]
    for name, values, case in (
        ("exponent_keys", KEYS, lambda value: _with(num_keys=value)),
        ("exponent_batch", BATCHES, lambda value: _with(batch_size=value)),
        ("exponent_size", SIZES_PX, lambda value: _with(size_px=value)),
    ):
        works = {str(value): partial(_step, case(value)) for value in values}
        results.append(_exponent(name, values, measure(works, options.rounds)))
    report({**merge(*results), "rounds": options.rounds, "process_rounds": options.process_rounds})


def _options() -> argparse.Namespace:
    options = parser(__doc__, rounds=5, threads=1)
    options.add_argument("--process-rounds", type=int, default=10)
    found = options.parse_args()
    if found.threads != 1:
        options.error("this benchmark is about one thread a process: leave --threads away")
    return found


def _with(**values: Any) -> Case:
    return Case(**{**vars(SMALL), **values})


def _step(case: Case) -> float:
    """Trains a few steps on views made beforehand; returns the median seconds of a step."""
    total = WARM_UP + STEPS + 1  # the last one is not ended by another request
    batch = ViewBatch(views(case), None, torch.arange(case.batch_size))
    asked: list[float] = []

    def batches(_first_step: int) -> Iterator[ViewBatch]:
        for _ in range(total):
            asked.append(time.perf_counter())
            yield batch

    train(config(case, total, "32-true", **NETWORK), batches, "cpu")
    taken = [end - start for start, end in itertools.pairwise(asked)]
    return statistics.median(taken[WARM_UP:])


def _slope(values: Sequence[int], rounds: Sequence[Sequence[float]]) -> float:
    """Returns the slope through the medians of rounds, each of which has a time for every value."""
    medians = [statistics.median(times) for times in zip(*rounds, strict=True)]
    slope, _ = np.polyfit(np.log(values), np.log(medians), 1)
    return float(slope)


def _exponent(name: str, values: tuple[int, ...], times: Times) -> dict[str, dict[str, Any]]:
    rounds = list(zip(*times.values(), strict=True))
    ends = bootstrap(rounds, partial(_slope, values))
    seconds = {value: round(statistics.median(found), 5) for value, found in times.items()}
    return {
        "ratios": {name: round(_slope(values, rounds), 3)},
        "intervals": {name: [round(end, 3) for end in ends]},
        "seconds": {name: seconds},
    }


def write_images(root: Path, count: int) -> None:
    """Writes small JPEG files of noise."""
    folder = root / "train" / "noise"
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for number in range(count):
        pixels = generator.integers(0, 256, (40, 40, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{number:05}.jpg"), pixels)


class Timed(stage.Pretraining):
    """Our stage, of whose training the first epoch is timed."""

    seconds: float

    def _batches(self, first_step: int) -> Iterator[ViewBatch]:
        upcoming = super()._batches(first_step)
        started = time.perf_counter()
        yield from itertools.islice(upcoming, self.order.steps_per_epoch)
        self.seconds = time.perf_counter() - started  # asked again, so the last step is over
        yield from upcoming


def _images(rounds: int) -> dict[str, dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        works = {}
        for count in IMAGES:
            root = Path(folder, str(count))
            write_images(root, count)
            works[str(count)] = _epoch(root, count)
        times = measure(works, rounds)
    few, many = str(IMAGES[0]), str(IMAGES[-1])
    return merge(
        _exponent("exponent_images", IMAGES, times), ratios(times, {"images_x10": (many, few)})
    )


def _epoch(root: Path, count: int) -> Callable[[], float]:
    """Returns a training by the real stage, which gives the seconds of its first epoch."""
    steps = count // SMALL.batch_size + 1  # of a second epoch, for its request ends the first
    recipe = config(_with(num_keys=IMAGES[0]), steps, "32-true", **NETWORK)
    data = made(root, {"format": "imagefolder", "test": None}, "benchmark")
    step = stage.step_for("moco_v2", data.fingerprint, recipe, 0)

    def work() -> float:
        quiet = Execution(progress=False, device="cpu")
        with tempfile.TemporaryDirectory() as folder:
            payload = Path(folder, "payload")
            payload.mkdir()
            training = Timed(step, recipe, data, quiet, ALONE)
            training.compute(payload, Path(folder))
        return training.seconds

    return work


def _two_processes(name: str, batch_size: int, rounds: int) -> dict[str, dict[str, Any]]:
    """Times a training of one process and one of two, in turns."""
    with ExitStack() as stack:
        trainings = {
            which: stack.enter_context(Training(each, size, rounds))
            for which, each, size in (
                ("one", [(0, 1)], batch_size),
                ("two", [(0, 2), (1, 2)], batch_size),
                ("apart", [(0, 1), (0, 1)], batch_size // 2),
            )
        }
        blocks = [
            {which: each.block() for which, each in trainings.items()} for _ in range(rounds + 1)
        ][1:]  # the first warms up
    times = {which: [block[which][0] for block in blocks] for which in trainings}
    seconds = {
        kind: {
            which: round(statistics.median(block[which][number] for block in blocks), 4)
            for which in trainings
        }
        for number, kind in enumerate((name, f"{name}_computing"))
    }
    apart = name.replace("processes", "apart")
    found = ratios(times, {name: ("one", "two"), apart: ("one", "apart")})
    return merge(found, {"seconds": seconds, "global_batch": {name: batch_size}})


class Training:
    """Processes that go on training when told to; see ``_process_rate.py``.

    Args:
        places: Rank and number of processes of each: (0, 1) trains alone.
        batch_size: Images of a batch, over all processes that train together.
        rounds: Blocks to train, after one to warm up.
    """

    def __init__(self, places: Sequence[tuple[int, int]], batch_size: int, rounds: int) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            port = taken.getsockname()[1]
        self.processes = [
            subprocess.Popen(
                [sys.executable, str(WORKER), str(batch_size), str(rounds)],
                env=_environment(rank, count, port),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for rank, count in places
        ]
        paired = zip(self.processes, places, strict=True)
        self.leading = [process for process, (rank, _) in paired if rank == 0]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Waits until it has ended; one that still has blocks to train is killed."""
        for process in self.processes:
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def block(self) -> tuple[float, float]:
        """Trains a block; returns a step's seconds by the clock, and of computing.

        Both are means over the processes that lead, which are all where each trains alone.
        """
        for process in self.processes:
            assert process.stdin
            process.stdin.write("\n")
            process.stdin.flush()
        found = [process.stdout.readline().split() for process in self.leading if process.stdout]
        if not all(found):
            raise SystemExit("a process of the training failed; it says why above")
        by_the_clock, computing = np.array(found, float).mean(0).tolist()
        return by_the_clock, computing


def _environment(rank: int, count: int, port: int) -> dict[str, str]:
    """Returns what torchrun would set."""
    found = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    return {
        **os.environ, **{name: str(value) for name, value in found.items()},
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1",
    }  # fmt: skip


if __name__ == "__main__":
    main()
