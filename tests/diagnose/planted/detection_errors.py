"""Shifted boxes are found; the same detections twice are not."""

from pathlib import Path

from tests.ops.planted_scenes import perfect, planted_truth, shifted

from whytransfer.diagnose.analyses.detection_errors import Config
from whytransfer.diagnose.analysis import DetectionRun


def _runs(second):
    truth = planted_truth(24)
    found = perfect(truth)
    pairs = {"a": found, "b": second(found)}
    return [DetectionRun(arm, 0, arm, truth, detections) for arm, detections in pairs.items()]


def cause(folder: Path):
    """Runs, data and settings in which something is to be found."""
    return _runs(shifted), None, Config()


def null(folder: Path):
    """The same, in which nothing is."""
    return _runs(lambda found: found), None, Config()
