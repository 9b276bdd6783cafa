"""A gap that is still there at the longest length is found; the same guesses twice are not."""

from dataclasses import replace
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
    """The same, in which nothing is: both arms make the same guesses at every length."""
    runs = class_runs({("a", name_of_length(length)): 0.6 for length in CONFIG.lengths})
    return runs + [replace(run, arm="random_init") for run in runs], None, CONFIG
