"""A network that was trained until it collapsed the classes is found; random ones are not."""

from pathlib import Path

from tests.diagnose.networks import alike, collapsed, network, seen, tinted

from whytransfer.diagnose.analyses.invariance import Config

QUICK = Config(num_draws=200, levels=("layer2", "layer4"))


def cause(folder: Path):
    """Runs, data and settings in which something is to be found."""
    runs = [seen("a", network()), seen("b", collapsed())]
    return runs, tinted(folder), QUICK


def null(folder: Path):
    """The same, in which nothing is: two arms of random networks."""
    return alike(), tinted(folder), QUICK
