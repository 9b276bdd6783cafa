"""A network that is blind to colour is found; two arms of random networks are not."""

from pathlib import Path

from tests.diagnose.networks import alike, colour_blind, network, seen, world

from whytransfer.diagnose.analyses.localisation_content import Config

QUICK = Config(num_draws=200, levels=("layer1", "layer3"), num_values=128)


def _world(folder):
    return world(folder, num_train=160, num_test=80)


def cause(folder: Path):
    """Runs, data and settings in which something is to be found."""
    runs = [seen("a", network()), seen("b", colour_blind(network()))]
    return runs, _world(folder), QUICK


def null(folder: Path):
    """The same, in which nothing is: two arms of random networks."""
    return alike(), _world(folder), QUICK
