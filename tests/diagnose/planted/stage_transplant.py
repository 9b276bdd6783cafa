"""What breaks where layer3 or layer2 is taken away is found; cuts that change nothing are not."""

from pathlib import Path

from tests.diagnose.simulated import class_runs

from whytransfer.diagnose.analyses.stage_transplant import Config, variants

CONFIG = Config()


def rates(cut):
    """The arm is right in 70 %, the reference in 50; ``cut`` says how often a variant is."""
    own = {("a", ""): 0.7, ("random_init", ""): 0.5}
    return own | {("a", variant.name): cut(variant.transplant) for variant in variants(CONFIG)}


def falls(transplant):
    """Right less often wherever layer3 was initialised again."""
    after = transplant["level"] in ("layer3", "layer4")
    kept = after if transplant["keep"] == "up_to" else transplant["level"] != "layer4"
    return 0.7 if kept else 0.55


def cause(folder: Path):
    """Runs, data and settings in which something is to be found."""
    # As many seeds as a family of so many comparisons takes to show anything.
    return class_runs(rates(falls), seeds=range(5)), None, CONFIG


def null(folder: Path):
    """The same, in which nothing is: cut or whole, the arm is right as often, by its own chance."""
    return class_runs(rates(lambda _: 0.7), seeds=range(5), spread=0.01), None, CONFIG
