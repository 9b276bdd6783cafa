"""How does the time of pretraining grow? Exponents of images, keys, batch and size; 2 processes.

    python benchmarks/scaling.py --json

An exponent is the slope of log time over log quantity: 1 is proportional. MoCo v2 on a small
network (ResNet-10, 16 channels wide), one thread; the rounds of all values are interleaved.

exponent_images  an epoch, over the number of images
exponent_keys    a step, over the length of the queue
exponent_batch   a step, over the images in it
exponent_size    a step, over the side of the view: 2 is proportional to pixels
images_x10       how many times as long an epoch of ten times the images takes
two_processes    images per second of two processes (torchrun, gloo) over those of one, at one
                 thread each, same recipe and global batch: ResNet-18 at 64 pixels, batch 64
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from _interleaved import compare, merge, ratios, report
from _moco import Case, config, train, views

from whytransfer.core.processes import ALONE
from whytransfer.core.stage import Execution
from whytransfer.data.dataset import made
from whytransfer.pretrain import stage
from whytransfer.pretrain.method import ViewBatch

SMALL = Case("small", "resnet10", 32, 32, 512, 16)
NETWORK = {"architecture": {"name": "resnet10", "width": 16}}
IMAGES = (256, 768, 2560)
KEYS = (4096, 16384, 65536)
BATCHES = (16, 32, 64, 128)
SIZES_PX = (32, 64, 96, 128)
STEPS = 6
WORKER = Path(__file__).with_name("_process_rate.py")


def main() -> None:
    options = _options()
    torch.set_num_threads(1)
    results = [_images(options.rounds)]
    for name, values, case in (
        ("exponent_keys", KEYS, lambda value: _with(num_keys=value)),
        ("exponent_batch", BATCHES, lambda value: _with(batch_size=value)),
        ("exponent_size", SIZES_PX, lambda value: _with(size_px=value)),
    ):
        works = {str(value): _steps(case(value)) for value in values}
        results.append(_exponent(name, values, compare(works, options.rounds)))
    results.append(_two_processes(options.process_rounds))
    report({**merge(*results), "torch": torch.__version__, "threads": 1, "rounds": options.rounds})


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--process-rounds", type=int, default=3)
    return parser.parse_args()


def _with(**values: Any) -> Case:
    return Case(**{**vars(SMALL), **values})


def _steps(case: Case) -> Callable[[], object]:
    """Returns a training of a few steps on views made beforehand."""
    recipe = config(case, STEPS, "32-true", **NETWORK)
    batch = ViewBatch(views(case), None, torch.arange(case.batch_size))

    def batches(first_step: int) -> Iterator[ViewBatch]:
        return iter([batch] * (STEPS - first_step))

    return lambda: train(recipe, batches, "cpu")


def _slope(values: tuple[int, ...], seconds: list[float]) -> float:
    slope, _ = np.polyfit(np.log(values), np.log(seconds), 1)
    return float(slope)


def _exponent(
    name: str, values: tuple[int, ...], times: dict[str, list[float]]
) -> dict[str, dict[str, Any]]:
    """Returns the slope through the medians, and the range of the rounds' slopes."""
    medians = [statistics.median(times[str(value)]) for value in values]
    slopes = [_slope(values, list(row)) for row in zip(*times.values(), strict=True)]
    return {
        "ratios": {name: round(_slope(values, medians), 3)},
        "intervals": {name: [round(min(slopes), 3), round(max(slopes), 3)]},
        "seconds": {name: dict(zip(map(str, values), (round(m, 4) for m in medians), strict=True))},
    }


def write_images(root: Path, count: int) -> None:
    """Writes small JPEG files of noise."""
    folder = root / "train" / "noise"
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for number in range(count):
        pixels = generator.integers(0, 256, (40, 40, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{number:05}.jpg"), pixels)


def _images(rounds: int) -> dict[str, dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        works = {}
        for count in IMAGES:
            root = Path(folder, str(count))
            write_images(root, count)
            works[str(count)] = _epoch(root, count)
        times = compare(works, rounds)
    few, many = str(IMAGES[0]), str(IMAGES[-1])
    return merge(
        _exponent("exponent_images", IMAGES, times), ratios(times, {"images_x10": (many, few)})
    )


def _epoch(root: Path, count: int) -> Callable[[], object]:
    """Returns one epoch of the real stage, with all that it does before and after."""
    recipe = config(SMALL, count // SMALL.batch_size, "32-true", **NETWORK)
    data = made(root, {"format": "imagefolder", "test": None}, "benchmark")
    step = stage.step_for("moco_v2", data.fingerprint, recipe, 0)

    def work() -> None:
        quiet = Execution(progress=False, device="cpu")
        with tempfile.TemporaryDirectory() as folder:
            payload = Path(folder, "payload")
            payload.mkdir()
            training = stage.Pretraining(step, recipe, data, quiet, ALONE)
            training.compute(payload, Path(folder))

    return work


def _two_processes(rounds: int) -> dict[str, dict[str, Any]]:
    """Times one process and two, in turns."""
    times: dict[str, list[float]] = {"one": [], "two": []}
    for _ in range(rounds):
        for name, count in (("one", 1), ("two", 2)):
            times[name].append(_seconds_per_step(count))
    found = ratios(times, {"two_processes": ("one", "two")})
    return merge(found, {"seconds": {k: round(statistics.median(v), 4) for k, v in times.items()}})


def _seconds_per_step(num_processes: int) -> float:
    """Runs the worker under torchrun and returns its median seconds per step."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder, "seconds.json")
        command = [
            sys.executable, "-m", "torch.distributed.run", "--standalone",
            f"--nproc-per-node={num_processes}", str(WORKER), str(result),
        ]  # fmt: skip
        if num_processes == 1:
            command = [sys.executable, str(WORKER), str(result)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run(command, check=True, env=environment, stdout=sys.stderr)
        return float(json.loads(result.read_text())["seconds_per_step"])


if __name__ == "__main__":
    main()
