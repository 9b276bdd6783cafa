"""Test images that were copied into the pretraining data are found; other images are not."""

from pathlib import Path

from tests.diagnose.exposed import data_to_test, photograph, pretraining_data

from whytransfer.diagnose.analyses.leakage import Config
from whytransfer.diagnose.analysis import ExposedRun


def copies():
    """Three test images: the same pixels, saved again at two qualities, one of half the size."""
    yield "copy_0.png", photograph(0), 0
    yield "copy_1.jpg", photograph(1), 80
    yield "copy_2.jpg", photograph(2)[::2, ::2], 90


def _runs(data):
    return [ExposedRun("a", 0, "a", (data,)), ExposedRun("random_init", 0, "r", ())]


def cause(folder: Path):
    """Runs, data and settings in which something is to be found."""
    data = pretraining_data(folder / "leaky", copies())
    return _runs(data), data_to_test(folder / "test"), Config()


def null(folder: Path):
    """The same, in which nothing is."""
    data = pretraining_data(folder / "clean")
    return _runs(data), data_to_test(folder / "test"), Config()
