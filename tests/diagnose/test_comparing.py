"""Measures of several arms: pairing, seeds, Holm's correction, and how often a null is shown."""

from dataclasses import dataclass

import numpy as np
import pytest

from whytransfer.core.errors import InputError
from whytransfer.core.streams import Stream
from whytransfer.diagnose.comparing import (
    Measure,
    by_arm,
    differences,
    estimates,
    few_seeds,
    reference_arm,
    sentence,
)
from whytransfer.diagnose.comparing_tables import difference_table, figures, value_tables
from whytransfer.ops.comparisons import holm
from whytransfer.ops.resampling import image_weights

WEIGHTS = np.concatenate(
    [np.ones((1, 40)), image_weights(Stream(0, "images"), 40, 400).astype(float)]
)


@dataclass
class Run:
    arm: str
    seed: int


def measured(per_image, name="share"):
    """A measure that is a mean over images, from (arm, seed, level) → the images' numbers."""
    measure = Measure(name, "share", 40)
    for key, values in per_image.items():
        measure.add(key, WEIGHTS @ values / WEIGHTS.sum(axis=1))
    return measure


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def test_arms_keep_their_order_and_the_reference_is_found():
    runs = [Run("b", 0), Run("a", 0), Run("b", 1)]
    assert {arm: [run.seed for run in own] for arm, own in by_arm(runs, "x").items()} == {
        "b": [0, 1], "a": [0],
    }  # fmt: skip
    assert reference_arm(["b", "a"], None, "x") == "b"
    assert reference_arm(["b", "random_init"], None, "x") == "random_init"
    assert reference_arm(["b", "random_init"], "b", "x") == "b"
    with pytest.raises(InputError, match=r"b \(seed 1\) stands twice"):
        by_arm([*runs, Run("b", 1)], "x")


def test_differences_are_paired_over_images():
    shared = 100 * normal(0, 40)
    measure = measured({
        ("a", 0, "l"): shared, ("b", 0, "l"): shared + 1 + 0.1 * normal(1, 40),
    })  # fmt: skip
    (found,) = differences([measure], "a")
    assert found.shown and 0.9 < found.metric.low < found.metric.high < 1.1
    assert found.metric.name == "share.l[b - a]"
    assert found.metric.interval == "images (these fixed models)"
    own = estimates(measure)
    assert [metric.name for metric in own] == ["share.l[a]", "share.l[b]"]
    assert own[0].high - own[0].low > 20


def test_seeds_are_paired_where_both_arms_have_three_of_the_same():
    base = {seed: 10 * normal(seed, 1) + normal(9, 40) for seed in range(4)}
    arms = {("a", s, "l"): base[s] for s in range(4)}
    arms |= {("b", s, "l"): base[s] + 1 + 0.1 * normal(20 + s, 40) for s in range(1, 4)}
    (found,) = differences([measured(arms)], "a")
    assert found.metric.interval == "seeds then images" and found.shown
    assert found.metric.value == pytest.approx(1, abs=0.1)
    for seed in (2, 3):
        del arms["b", seed, "l"]
    (alone,) = differences([measured(arms)], "a")
    assert alone.metric.interval == "images (these fixed models)"
    mean = np.mean([base[s].mean() for s in range(4)])
    assert alone.metric.value == pytest.approx(arms["b", 1, "l"].mean() - mean)


def test_all_differences_are_one_family():
    measures = [
        measured({(arm, 0, level): normal(10 * k + i, 40) + (arm == "b") * (level == "m")
                  for i, (arm, level) in enumerate((a, v) for a in "abc" for v in "lm")}, f"m{k}")
        for k in range(2)
    ]  # fmt: skip
    found = differences(measures, "a")
    assert len(found) == 8
    assert [one.corrected for one in found] == holm([one.p_value for one in found])
    said, headline = sentence(found, "a")
    assert said.startswith("Compared with a, b has a higher share at m (+")
    assert said.endswith("(8 comparisons, Holm).") and headline.low > 0
    table = difference_table(found, "t")
    assert [row["shown"] for row in table.rows].count("yes") == sum(d.shown for d in found)


def test_what_has_no_interval_is_neither_shown_nor_counted():
    measure = Measure("weights", "distance", 0)
    for arm, value in (("a", 1.0), ("b", 2.0), ("c", np.nan)):
        measure.add((arm, 0, "l"), np.array([value]))
    found = differences([measure], "a")
    assert [one.metric.value for one in found] == [1.0, None]
    assert not any(one.shown for one in found)
    said, headline = sentence(found, "a")
    assert "No difference shown to a (0 comparisons, Holm)" in said
    assert headline.value == 1.0 and headline.low is None
    (rows,) = figures([measure]).values()
    assert rows[2]["value"] is None and "low" not in rows[0]


def test_few_seeds_are_named():
    runs = {
        arm: [Run(arm, seed) for seed in seeds]
        for arm, seeds in {"a": (1, 2, 3), "b": (1, 2, 3), "c": (1,), "d": (1, 2, 4)}.items()
    }
    assert few_seeds({arm: runs[arm] for arm in "ab"}, "a") == ""
    assert "Fewer than three seeds of c:" in few_seeds({arm: runs[arm] for arm in "ac"}, "a")
    # Three seeds each, but not the same: they can't be paired, so no interval is over seeds.
    said = few_seeds({arm: runs[arm] for arm in "abd"}, "a")
    assert "Fewer than three seeds that d and a have in common" in said and "seeds of" not in said


@pytest.mark.parametrize(("seeds", "over"), [((0,), "none"), ((0, 1, 2), "seeds")])
def test_one_image_says_nothing_of_others(seeds, over):
    measure = Measure("share", "share", 1)
    for arm, value in (("a", 1.0), ("b", 3.0)):
        for seed in seeds:
            measure.add((arm, seed, "x"), np.full(401, value + 0.1 * seed))
    (one,) = differences([measure], "a")
    assert one.metric.value == pytest.approx(2.0)
    assert one.metric.interval.split(" ")[0] == over
    if over == "none":
        assert not one.shown and one.metric.low is None


def test_tables_have_the_points_and_the_spread_of_seeds():
    measure = measured({("a", s, "l"): normal(s, 40) for s in range(3)})
    mean, seeds = value_tables([measure], "t")
    points = [measure.values["a", s, "l"] for s in range(3)]
    assert mean.rows[0]["share"] == pytest.approx(np.mean(points))
    assert [row["share"] for row in seeds.rows[:3]] == points
    assert seeds.rows[3] == {
        "arm": "a",
        "level": "l",
        "seed": "sd",
        "share": np.std(points, ddof=1),
    }


@pytest.mark.parametrize("num_seeds", [3, 5])
def test_of_200_findings_on_nulls_few_show_anything(num_seeds):
    """Two arms of one distribution of networks, at five levels: the whole family at the level."""
    shown = 0
    for trial in range(200):
        generator = np.random.default_rng(trial)
        images = generator.normal(size=40)
        measure = measured({
            (arm, seed, level): images + generator.normal(size=40) + 0.5 * generator.normal()
            for arm in "ab" for seed in range(num_seeds) for level in "vwxyz"
        })  # fmt: skip
        shown += any(one.shown for one in differences([measure], "a"))
    assert shown <= 17
