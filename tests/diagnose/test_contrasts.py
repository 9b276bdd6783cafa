"""Contrasts of scores: paired over images and seeds, covered as promised, refused where unequal."""

from dataclasses import replace

import numpy as np
import pytest
from tests.diagnose.simulated import class_runs
from tests.ops.planted_scenes import perfect, planted_truth, shifted

from whytransfer.core.errors import InputError
from whytransfer.core.streams import Stream
from whytransfer.diagnose.analysis import DetectionRun
from whytransfer.diagnose.contrasts import (
    Key,
    Term,
    family,
    largest,
    on_same_images,
    require_variants,
    score,
    scorer,
    weights_for,
)
from whytransfer.ops.average_precision import average_precision, summary, voc_matches

PAIR = {("a", ""): 0.6, ("b", ""): 0.6}


def contrast(runs, *terms, num_draws=200):
    weights = weights_for(Stream(0, "test"), len(runs[0].images), num_draws, 1)
    return score(runs, weights, "AP").contrast("test", *terms)


def difference(runs, **kwargs):
    return contrast(runs, Term(1, "a"), Term(-1, "b"), **kwargs)


def test_a_contrast_is_the_sum_of_its_terms_at_each_seed():
    runs = class_runs({("a", ""): 0.7, ("b", ""): 0.5, ("a", "x"): 0.6})
    by_key = {Key(r.arm, r.seed, r.variant): 100 * r.correct.mean() for r in runs}
    found = contrast(runs, Term(1, "a"), Term(-1, "b"), Term(-0.5, "a", "x"))
    expected = [
        by_key["a", s, ""] - by_key["b", s, ""] - 0.5 * by_key["a", s, "x"] for s in range(3)
    ]
    assert found.seeds == (0, 1, 2)
    np.testing.assert_allclose(found.points, expected, rtol=1e-12)
    assert found.value == pytest.approx(np.mean(expected))


def test_only_seeds_that_all_terms_have_count():
    runs = [r for r in class_runs(PAIR) if (r.arm, r.seed) != ("b", 1)]
    assert difference(runs).seeds == (0, 2)
    lone = [r for r in runs if (r.arm, r.seed) in (("a", 1), ("b", 0))]
    with pytest.raises(InputError, match="no seed has all of a, b"):
        difference(lone)


@pytest.mark.parametrize(("num_seeds", "spread"), [(1, 0.0), (3, 0.02), (5, 0.02)])
def test_on_200_nulls_the_intervals_cover_as_often_as_they_say(num_seeds, spread):
    """Models of two seeds differ, so with several of them the seeds' spread has to count."""
    covered = 0
    for draw in range(200):
        runs = class_runs(PAIR, 150, range(num_seeds), draw, spread)
        found = difference(runs).certainty
        # One seed: its interval is over images; the truth for these two fixed rules is 0.
        covered += found.low <= 0 <= found.high
    assert covered >= 183


def test_intervals_that_forget_the_seeds_cover_less():
    covered = 0
    for draw in range(100):
        runs = [r for r in class_runs(PAIR, 150, (0,), draw, 0.05) if r.seed == 0]
        found = difference(runs).certainty
        covered += found.low <= 0 <= found.high
    assert covered < 90


def test_below_three_seeds_the_interval_is_of_these_models():
    assert difference(class_runs(PAIR, seeds=(0, 1))).certainty.over == (
        "images (these fixed models)"
    )
    assert difference(class_runs(PAIR)).certainty.over == "seeds then images"


def test_a_family_is_corrected_together_and_the_largest_shown_one_is_chosen():
    rates = {("ref", ""): 0.5, ("a", ""): 0.5, ("b", ""): 0.7, ("c", ""): 0.9}
    runs = class_runs(rates)
    weights = weights_for(Stream(0, "test"), len(runs[0].images), 200, 3)
    scores = score(runs, weights, "AP")
    found = family([scores.contrast(arm, Term(1, arm), Term(-1, "ref")) for arm in "abc"])
    assert [c.shown for c in found] == [False, True, True]
    assert all(c.corrected >= c.certainty.p_value for c in found)
    assert largest(found).label == "c"


@pytest.mark.parametrize("rule", ["voc07", "voc12"])
@pytest.mark.parametrize("precision", ["AP", "AP50", "AP75"])
def test_detections_score_as_the_task_scores_them(rule, precision):
    truth = planted_truth(12)
    found = shifted(perfect(truth), 0.2)
    at = scorer(DetectionRun("a", 0, "a", truth, found, rule=rule), precision)
    expected = summary(average_precision(voc_matches(found, truth), metric=rule))[precision]
    assert float(at(None)) == pytest.approx(float(expected))
    weights = np.eye(12, dtype=np.int64)[:3]
    drawn = summary(average_precision(voc_matches(found, truth), weights, metric=rule))
    np.testing.assert_array_equal(at(weights), drawn[precision])


def test_other_images_other_kinds_and_runs_given_twice_are_refused():
    runs = class_runs(PAIR, 20)
    other = replace(runs[-1], images=tuple(reversed(runs[-1].images)))
    with pytest.raises(InputError, match=r"b \(seed 2\) was tested on other images than a"):
        on_same_images([*runs[:-1], other], "here")
    truth = planted_truth(4)
    boxes = DetectionRun("c", 0, "c", truth, perfect(truth))
    with pytest.raises(InputError, match="other images"):
        on_same_images([*runs, boxes], "here")
    with pytest.raises(InputError, match=r"a \(seed 0\) stands twice"):
        on_same_images([*runs, runs[0]], "here")


def test_every_missing_run_is_named():
    runs = [
        r
        for r in class_runs({**PAIR, ("a", "x"): 0.5})
        if (r.arm, r.seed, r.variant) not in (("a", 1, "x"), ("a", 2, ""))
    ]
    with pytest.raises(InputError, match="2 runs are missing: a/seed1 x, a/seed2 itself; expected"):
        require_variants(runs, ["", "x"], "b", "somewhere")


def test_on_200_nulls_differences_of_differences_cover_too():
    rates = {(arm, part): 0.5 + 0.1 * (arm == "a") for arm in "ab" for part in ("x", "y")}
    terms = Term(1, "a", "x"), Term(-1, "b", "x"), Term(-1, "a", "y"), Term(1, "b", "y")
    covered = 0
    for draw in range(200):
        found = contrast(class_runs(rates, 150, (0, 1, 2), draw, 0.02), *terms).certainty
        covered += found.low <= 0 <= found.high
    assert covered >= 183
