"""From JPEG files to a trained network: ours against PIL, torchvision and the reference's step.

    python benchmarks/pretrain_end_to_end.py --json

The files are cut from the photographs that scikit-image and scikit-learn bundle: 500x375 pixels for
R50 at 224, 96x96 for R18 at 64. Everybody reads them in the training process (no workers) and
computes on the same number of threads, each in a process of its own, with BatchNorm over the whole
batch.

ours       the library's own stage: its loader, its views on the CPU, its training loop, in the
           precision that ``auto`` settles on; under ``_fp32`` in float32
reference  PIL decodes, two chains of torchvision transforms, DataLoader; the reference's step
lightly    its LightlyDataset and MoCoV2Transform, DataLoader; the step of its documented example

A round is one step of each, in turns, from asking for the batch on. Ours reads no image twice, so
nothing comes from our cache of decoded images; later epochs of data that fit into it (512 MiB) are
faster. ``images_per_second`` has ours under both precisions, each with the peers of its own rounds.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from _interleaved import Apart, Rounds, merge, parser, rates, ratios, report
from _moco import LIGHTLY_ABSENT, R18, R50, Case, Lightly, Reference, config, lightly_installed
from _pil import Files, two_views
from torch.utils.data import DataLoader, Dataset

from whytransfer.core.processes import ALONE
from whytransfer.core.stage import Execution
from whytransfer.data.dataset import made
from whytransfer.data.views import resize
from whytransfer.data.world.photos import PHOTOGRAPHS
from whytransfer.pretrain import stage
from whytransfer.pretrain.method import ViewBatch

WARM_UP = 2
SIZES_PX = {"r18": (96, 96), "r50": (375, 500)}


class Timed(stage.Pretraining):
    """Our stage, whose steps are timed in turns with the peers'."""

    rounds: Rounds

    def _batches(self, first_step: int) -> Iterator[ViewBatch]:
        return self.rounds.around(super()._batches(first_step))


def write_files(root: Path, case: Case, count: int) -> int:
    """Writes crops of photographs as JPEG files; returns their mean size in bytes."""
    height, width = SIZES_PX[case.name]
    photographs = [photograph.pixels() for photograph in PHOTOGRAPHS]
    generator = np.random.default_rng(0)
    folder = root / "train" / "photographs"
    folder.mkdir(parents=True)
    total = 0
    for number in range(count):
        pixels = photographs[number % len(photographs)]
        scale = generator.uniform(0.6, 1.0) * min(pixels.shape[0] / height, pixels.shape[1] / width)
        cut = max(2, int(height * scale)), max(2, int(width * scale))
        top, left = (
            generator.integers(0, whole - part + 1)
            for whole, part in zip(pixels.shape, cut, strict=False)
        )
        crop = resize(pixels[top : top + cut[0], left : left + cut[1]], height, width)
        data = cv2.imencode(".jpg", np.ascontiguousarray(crop[:, :, ::-1]))[1].tobytes()
        (folder / f"{number:05}.jpg").write_bytes(data)
        total += len(data)
    return total // count


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    results = [_compare(case, options) for case in (R18, R50)]
    joined = merge(*results)
    if not lightly_installed():
        names = ("r18_vs_lightly", "r18_vs_lightly_fp32")
        reasons = dict.fromkeys(names, LIGHTLY_ABSENT)
        joined = merge(joined, {"ratios": dict.fromkeys(names), "reasons": reasons})
    report(
        {
            **joined,
            "workers": 0,
            "rounds": options.rounds,
        }
    )


def _options() -> argparse.Namespace:
    return parser(__doc__, rounds=8).parse_args()


def _compare(case: Case, options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    steps = WARM_UP + options.rounds + 1  # the last one is not ended by another request
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        mean_bytes = write_files(root, case, steps * case.batch_size)
        photographs = root / "train" / "photographs"
        peers = {"reference": Apart(_reference, photographs, case)}
        if lightly_installed() and case is R18:
            peers["lightly"] = Apart(_lightly, photographs, case)
        found, paces = [], {}
        for suffix, precision in (("", "auto"), ("_fp32", "32-true")):
            times = _run(root, case, steps, precision, peers).times
            wanted = {f"{case.name}_vs_{peer}{suffix}": (peer, "ours") for peer in peers}
            found.append(ratios(times, wanted))
            paces[f"{case.name}{suffix}"] = rates(times, case.batch_size)
    return merge(*found, {"images_per_second": paces, "bytes_per_file": {case.name: mean_bytes}})


def _run(root: Path, case: Case, steps: int, precision: str, peers: dict[str, Apart]) -> Rounds:
    recipe = config(case, steps, precision)
    data = made(root, {"format": "imagefolder", "test": None}, "benchmark")
    step = stage.step_for("moco_v2", data.fingerprint, recipe, 0)
    training = Timed(step, recipe, data, Execution(progress=False, device="cpu"), ALONE)
    training.rounds = Rounds("ours", peers, WARM_UP)
    with tempfile.TemporaryDirectory() as folder:
        payload = Path(folder, "payload")
        payload.mkdir()
        training.compute(payload, Path(folder))
    return training.rounds


def _reference(photographs: Path, case: Case) -> Callable[[], object]:
    images = Files(photographs.iterdir(), two_views(case.size_px))
    return _peer(images, case, Reference(case))


def _lightly(photographs: Path, case: Case) -> Callable[[], object]:
    from lightly.data import LightlyDataset
    from lightly.transforms import MoCoV2Transform

    transform = MoCoV2Transform(input_size=case.size_px)
    dataset = LightlyDataset(str(photographs), transform=transform)
    return _peer(dataset, case, Lightly(case))


def _peer(images: Dataset[Any], case: Case, peer: Reference | Lightly) -> Callable[[], object]:
    """Returns a step of a peer: its loader's next batch, and training on it."""
    loader = DataLoader(images, case.batch_size, shuffle=True, drop_last=True)

    def endless() -> Iterator[Any]:
        while True:
            yield from loader

    batches = endless()

    def step() -> None:
        batch = next(batches)
        first, second = batch[0] if isinstance(peer, Lightly) else batch
        peer.step((first, second))

    return step


if __name__ == "__main__":
    main()
