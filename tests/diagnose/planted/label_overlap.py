"""A gain in the categories of the pretraining alone is found; one in all of them is not."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from tests.diagnose.exposed import labelled_data
from tests.ops.planted_scenes import CLASSES, perfect, planted_truth, shifted

from whytransfer.core.streams import Stream
from whytransfer.diagnose.analyses.label_overlap import Config
from whytransfer.diagnose.analysis import ExposedRun

SEEN = ("cat", "dog")


def detector(arm, seed, on, right, num_images=24):
    """A detector whose boxes fit in a share of the objects of each class.

    Args:
        right: Share of the objects of each class that it finds, in [0, 1].
    """
    truth = planted_truth(num_images)
    good = perfect(truth)
    drawn = Stream(seed, f"right/{arm}").uniform(len(good))
    fits = drawn < np.array(right)[good.label]
    boxes = np.where(fits[:, None], good.boxes_xyxy, shifted(good).boxes_xyxy)
    return ExposedRun(arm, seed, f"{arm}{seed}", on, truth, replace(good, boxes_xyxy=boxes))


def runs(on, seen, unseen, seeds=(0, 1, 2)):
    """An arm that finds these shares of the objects of both kinds, and one that finds little."""
    right = [seen if name in SEEN else unseen for name in CLASSES]
    low = [0.3] * len(CLASSES)
    arms = [detector("a", seed, on, right) for seed in seeds]
    return arms + [detector("random_init", seed, (), low) for seed in seeds]


def cause(folder: Path):
    """Runs, data and settings in which something is to be found."""
    data = labelled_data(folder / "pretraining", ["Cat", "dog", "zebra"])
    return runs((data,), 0.95, 0.3), None, Config()


def null(folder: Path):
    """The same, in which nothing is: as much is found of each category, by each run's chance."""
    data = labelled_data(folder / "pretraining", ["Cat", "dog", "zebra"])
    return runs((data,), 0.8, 0.8), None, Config()
