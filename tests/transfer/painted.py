"""A format of the tests' own: pictures with a mask for each, one colour per class, some noise.

ROOT/train/0000.png     the picture
ROOT/train/0000.mask    its mask, a PNG
"""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from whytransfer.core.streams import Stream
from whytransfer.data.format import FormatConfig, Report
from whytransfer.data.images import image_size, read_image
from whytransfer.data.sample import IGNORED, Sample, Segmentation, Unannotated

CLASSES = ("ground", "sky", "box", "disc")
COLOURS = np.array([[110, 60, 30], [90, 150, 230], [220, 40, 200], [40, 200, 60]])


class Config(FormatConfig):
    """Where it lies."""


@dataclass(frozen=True)
class _Source(Unannotated):
    folder: Path
    names: tuple[str, ...]
    classes: tuple[str, ...] = CLASSES

    def __len__(self):
        return len(self.names)

    def __getitem__(self, index):
        return Sample(read_image(self.path(index)), self.name(index))

    def name(self, index):
        return self.names[index]

    def path(self, index):
        return self.folder / f"{self.names[index]}.png"

    def size(self, index):
        return image_size(self.path(index))

    def segmentation(self, index):
        data = np.fromfile(self.path(index).with_suffix(".mask"), dtype=np.uint8)
        return Segmentation(cv2.imdecode(data, cv2.IMREAD_UNCHANGED))

    def files(self):
        paths = [self.path(index) for index in range(len(self))]
        return [*paths, *(path.with_suffix(".mask") for path in paths)]


def open(config, split):
    folder = config.root / split
    return _Source(folder, tuple(sorted(path.stem for path in folder.glob("*.png"))))


def check(config):
    return Report("painted", {}, ())


def recognise(path):
    return None


def painted(stream, height, width):
    """Returns a picture and its mask: sky over ground, a box, a disc, a rim that is ignored."""
    labels = np.zeros((height, width), dtype=np.uint8)
    labels[: height // 3 + stream.integer(height // 3)] = 1
    top, left = stream.integer(height // 2), stream.integer(width // 2)
    labels[top : top + height // 3, left : left + width // 3] = 2
    centre = (stream.integer(width), stream.integer(height))
    labels = cv2.circle(labels, centre, height // 5, 3, thickness=-1)
    labels[:, 0] = IGNORED
    noise = stream.uniform(height * width * 3, -15, 15).reshape(height, width, 3)
    colours = COLOURS[np.where(labels == IGNORED, 0, labels)]
    return np.clip(colours + noise, 0, 255).astype(np.uint8), labels


def write(root, counts, size=(48, 64)):
    """Writes ``counts`` pictures per split."""
    for split, count in counts.items():
        folder = root / split
        folder.mkdir(parents=True)
        for number in range(count):
            image, labels = painted(Stream(0, f"painted/{split}", number), *size)
            for suffix, pixels in ((".png", image[..., ::-1]), (".mask", labels)):
                cv2.imencode(".png", pixels)[1].tofile(folder / f"{number:04d}{suffix}")
