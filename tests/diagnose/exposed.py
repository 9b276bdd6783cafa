"""Photographs of the world in folders, and runs that were pretrained on some of them."""

from functools import cache

import cv2
import numpy as np

from whytransfer.data.dataset import from_spec
from whytransfer.data.world import things

NUM_TEST = 24


@cache
def photograph(index):
    """An (H, W, 3) RGB picture, the same for the same number."""
    return things.render(things.Config(size_px=64), 0, index).image


def save(path, image, quality=95):
    """Writes an RGB picture as JPEG, or as PNG by its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = [cv2.IMWRITE_JPEG_QUALITY, quality] if path.suffix == ".jpg" else []
    cv2.imwrite(str(path), cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2BGR), values)


def data_to_test(folder):
    """A dataset whose test split has ``NUM_TEST`` pictures; its training split has others."""
    for index in range(NUM_TEST):
        save(folder / "val" / "all" / f"{index:03d}.png", photograph(index))
    save(folder / "train" / "all" / "900.png", photograph(900))
    return from_spec({"format": "imagefolder", "root": str(folder)}, None, "test")


def pretraining_data(folder, copies=(), others=16):
    """A dataset to pretrain on: pictures of its own, and copies: name, image, JPEG quality."""
    for index in range(others):
        save(folder / "train" / "all" / f"{index:03d}.png", photograph(100 + index))
    for name, image, quality in copies:
        save(folder / "train" / "all" / name, image, quality)
    save(folder / "val" / "all" / "901.png", photograph(901))
    return from_spec({"format": "imagefolder", "root": str(folder)}, None, "test")


def labelled_data(folder, classes):
    """A dataset to pretrain on that has these classes, a picture of each."""
    for split in ("train", "val"):
        for index, name in enumerate(classes):
            save(folder / split / name / f"{split}_{index}.png", photograph(200 + index))
    return from_spec({"format": "imagefolder", "root": str(folder)}, None, "test")
