"""Shifted boxes are found; detectors that err as often, each by its own chance, are not."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from tests.ops.planted_scenes import perfect, planted_truth, shifted

from whytransfer.core.streams import Stream
from whytransfer.diagnose.analyses.detection_errors import Config
from whytransfer.diagnose.analysis import DetectionRun
from whytransfer.ops.detections import Detections


def erring(truth, arm, seed) -> Detections:
    """Shifts a fifth of the boxes, gives another fifth the next class, and ranks all anew."""
    found, stream = perfect(truth), Stream(seed, f"erring/{arm}")
    drawn = stream.uniform(len(found))
    boxes = np.where((drawn < 0.2)[:, None], shifted(found).boxes_xyxy, found.boxes_xyxy)
    swapped = (drawn >= 0.2) & (drawn < 0.4)
    label = np.where(swapped, (found.label + 1) % len(truth.classes), found.label)
    score = 0.5 + 0.4 * stream.permutation(len(found)) / len(found)
    return replace(found, boxes_xyxy=boxes, label=label, score=score)


def cause(folder: Path):
    """Runs, data and settings in which something is to be found."""
    truth = planted_truth(24)
    pairs = {"a": perfect(truth), "b": shifted(perfect(truth))}
    return [DetectionRun(arm, 0, arm, truth, found) for arm, found in pairs.items()], None, Config()


def null(folder: Path):
    """The same, in which nothing is."""
    truth = planted_truth(24)
    runs = [
        DetectionRun(arm, seed, f"{arm}{seed}", truth, erring(truth, arm, seed))
        for arm in "ab"
        for seed in range(3)
    ]
    return runs, None, Config()
