"""A third stage that was drawn anew is found; as large a step in other directions is not."""

import itertools
from pathlib import Path

from tests.diagnose.networks import fine_tuned, network, nudged, redrawn, world

from whytransfer.diagnose.analyses.drift import Config

QUICK = Config(num_groups=16)


def cause(folder: Path):
    """Runs, data and settings in which something is to be found."""
    before = network()
    after = nudged(before)
    runs = [
        fine_tuned("a", before, after), fine_tuned("b", before, redrawn(after, "layer3")),
    ]  # fmt: skip
    return runs, world(folder), QUICK


def null(folder: Path):
    """The same, in which nothing is: other networks, each nudged in a direction of its own."""
    runs = []
    for number, (arm, seed) in enumerate(itertools.product("ab", range(3))):
        before = network(number)
        runs.append(fine_tuned(arm, before, nudged(before, number), seed))
    return runs, world(folder), QUICK
