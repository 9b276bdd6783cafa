"""A network that sees nothing but what makes the categories is found; the same one twice is not."""

from pathlib import Path

from tests.diagnose.networks import colour_only, network, seen, tinted

from whytransfer.diagnose.analyses.invariance import Config

QUICK = Config(num_draws=200, levels=("layer2", "layer4"))


def cause(folder: Path):
    """Runs, data and settings in which something is to be found."""
    runs = [seen("a", network()), seen("b", colour_only(network()))]
    return runs, tinted(folder), QUICK


def null(folder: Path):
    """The same, in which nothing is."""
    return [seen("a", network()), seen("b", network())], tinted(folder), QUICK
