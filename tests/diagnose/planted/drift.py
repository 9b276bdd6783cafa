"""A third stage that was drawn anew is found; the same network twice is not."""

from pathlib import Path

from tests.diagnose.networks import fine_tuned, network, nudged, redrawn, world

from whytransfer.diagnose.analyses.drift import Config

QUICK = Config(num_groups=16)


def _runs(second):
    before = network()
    after = nudged(before)
    return [fine_tuned("a", before, after), fine_tuned("b", before, second(after))]


def cause(folder: Path):
    """Runs, data and settings in which something is to be found."""
    return _runs(lambda after: redrawn(after, "layer3")), world(folder), QUICK


def null(folder: Path):
    """The same, in which nothing is."""
    return _runs(lambda after: after), world(folder), QUICK
