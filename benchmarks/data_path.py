"""How fast do JPEG files become pairs of views? One core: ours against PIL, by interleaved rounds.

    python benchmarks/data_path.py --json

The files are JPEGs of 500x375 pixels and about 40 kB, made of the photographs that scikit-image and
scikit-learn bundle, in the file cache. Every pipeline makes two views of 224 pixels of each.

pil      as MoCo's reference code does: PIL decodes, two chains of torchvision transforms on PIL
         images, to tensors of float32, normalised; then stacked into batches
cpu      ours, all on the CPU: decoded once, OpenCV on 8 bits, stacked into batches of uint8
         (normalising is the model's work, on the device)
crops    ours with the photometry left to the device: decoded once, two crops, stacked, with the
         parameters of their photometry

What bounds them is told by the parts that are timed beside: decoding, drawing the parameters of
both views, and resizing both crops; what is left of ``cpu`` is photometry.

The views are those of ``tests/data/test_views_likeness.py``, which holds them to PIL's.
"""

import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from _interleaved import compare, parser, ratios, report
from _pil import Files, two_views

from whytransfer.data.formats import imagefolder
from whytransfer.data.sample import Source
from whytransfer.data.views import (
    Augmentation,
    ViewParameters,
    crop_view,
    resize,
    sample_view,
    view_stream,
)
from whytransfer.data.world.photos import PHOTOGRAPHS
from whytransfer.pretrain.views import Views, collate

HEIGHT, WIDTH, FILE_BYTES, COPIES = 375, 500, 42_000, 4


def write_files(root: Path) -> int:
    """Writes each photograph at the size wanted, at the quality that gives about 40 kB."""
    total = 0
    for photograph in PHOTOGRAPHS:
        pixels = photograph.pixels()
        height, width = pixels.shape[:2]
        scale = max(HEIGHT / height, WIDTH / width)
        size = max(HEIGHT, round(height * scale)), max(WIDTH, round(width * scale))
        pixels = np.ascontiguousarray(resize(pixels, *size)[:HEIGHT, :WIDTH, ::-1])
        qualities = range(95, 20, -3)
        files = (
            cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, q])[1].tobytes()
            for q in qualities
        )
        data = next(file for file in files if len(file) <= FILE_BYTES)
        folder = root / "train" / photograph.name
        folder.mkdir(parents=True)
        for copy in range(COPIES):
            (folder / f"{copy}.jpg").write_bytes(data)
            total += len(data)
    return total


def parts(source: Source) -> dict[str, Callable[[], object]]:
    """Returns what our pipelines are made of, each alone."""
    images = [source[index].image for index in range(len(source))]

    def draw() -> list[ViewParameters]:
        streams = [view_stream(0, 0, i, view) for i in range(len(images)) for view in (0, 1)]
        return [sample_view(Augmentation(), stream, HEIGHT, WIDTH) for stream in streams]

    boxes = draw()
    return {
        "decoding": lambda: [source[index].image for index in range(len(source))],
        "drawing": draw,
        "resizing": lambda: [crop_view(images[i // 2], box, 224) for i, box in enumerate(boxes)],
    }


def main() -> None:
    options = parser(__doc__, rounds=15, threads=1).parse_args()
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        num_bytes = write_files(Path(folder))
        config = imagefolder.Config(root=folder, test=None)
        source = imagefolder.open(config, "train")
        paths = [source.path(index) for index in range(len(source))]
        images = Files(paths, two_views(224))
        epoch = iter(range(10_000))  # other parameters in every round

        def pil() -> list[torch.Tensor]:
            pairs = [images[index] for index in range(len(images))]
            return [torch.stack(view) for view in zip(*pairs, strict=True)]

        def ours(crops_only: bool) -> Callable[[], Any]:
            views = Views(source, Augmentation(), 2, 0, cache_bytes=0, crops_only=crops_only)

            def batch() -> Any:
                number = next(epoch)
                return collate([views(number, index) for index in range(len(source))])

            return batch

        works = {"pil": pil, "cpu": ours(crops_only=False), "crops": ours(crops_only=True)}
        times = compare({**works, **parts(source)}, options.rounds)
    seconds = {name: statistics.median(found) / len(paths) for name, found in times.items()}
    report(
        {
            **ratios(times, {f"{name}_vs_pil": ("pil", name) for name in ("cpu", "crops")}),
            "images_per_second_and_core": {name: round(1 / seconds[name]) for name in works},
            "milliseconds_per_image": {name: round(1000 * t, 2) for name, t in seconds.items()},
            "kilobytes_per_file": round(num_bytes / len(paths) / 1000, 1),
            "rounds": options.rounds,
        }
    )


if __name__ == "__main__":
    main()
