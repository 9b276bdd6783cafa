"""A gap that is still there at the longest length is found; arms as good as each other are not."""

from pathlib import Path

from tests.diagnose.simulated import class_runs

from whytransfer.diagnose.analyses.convergence import Config
from whytransfer.diagnose.analysis import name_of_length

CONFIG = Config()


def rates(arm, reference):
    """(arm, variant) → how often it is right, of the rates at each length."""
    pairs = zip(CONFIG.lengths, arm, reference, strict=True)
    return {
        key: rate
        for length, own, its in pairs
        for key, rate in (
            (("a", name_of_length(length)), own),
            (("random_init", name_of_length(length)), its),
        )
    }


def cause(folder: Path):
    """Runs, data and settings in which something is to be found."""
    return class_runs(rates((0.6, 0.7, 0.8, 0.8), (0.3, 0.4, 0.6, 0.7))), None, CONFIG


def null(folder: Path):
    """The same, in which nothing is: both arms are as often right, each in guesses of its own."""
    same = (0.4, 0.5, 0.6, 0.6)
    return class_runs(rates(same, same), spread=0.01), None, CONFIG
