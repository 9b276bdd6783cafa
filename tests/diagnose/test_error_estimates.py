"""Intervals of seeds and images: by hand, against formulas, and whether they cover on nulls."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from whytransfer.core.streams import Stream
from whytransfer.diagnose.analysis import DetectionRun
from whytransfer.diagnose.error_differences import IN_TIDE, as_they_are, in_parts
from whytransfer.diagnose.error_estimates import Measured, differences, estimates, metric
from whytransfer.diagnose.error_profile import ErrorRules, error_profile
from whytransfer.ops.boxes import area_xyxy
from whytransfer.ops.detections import Detections, Truth
from whytransfer.ops.resampling import image_weights

NUM_NULLS, NUM_IMAGES, NUM_SEEDS, NUM_DRAWS = 200, 16, 3, 120
ENOUGH = 183
IMAGES, SEEDS = "images (these fixed models)", "seeds then images"


def measured(values, seeds=None, spread=1.0, num_draws=400):
    """One quantity with normal draws around each seed's value, shared by the seeds."""
    values = np.array(values, dtype=float)[:, None]
    noise = stats.norm.ppf((np.arange(num_draws) + 0.5) / num_draws)
    draws = values[:, None, :] + spread * noise[None, :, None]
    return Measured(tuple(seeds or range(len(values))), values, draws)


class TestIntervals:
    def test_below_three_seeds_only_images_are_drawn(self):
        (found,) = estimates(measured([4.0, 6.0]))
        assert (found.value, found.over) == (5.0, IMAGES)
        assert (found.low, found.high) == pytest.approx((5 - 1.96, 5 + 1.96), abs=0.05)

    def test_from_three_on_seeds_then_images(self):
        own = measured([4.0, 6.0, 11.0])
        (found,) = estimates(own)
        seeds, images = np.var([4, 6, 11], ddof=1) / 3, own.draws[0, :, 0].var(ddof=1)
        degrees = math.floor((seeds + images) ** 2 / (seeds**2 / 2))
        reach = stats.t.ppf(0.975, degrees) * math.sqrt(seeds + images)
        assert found.over == SEEDS
        assert (found.low, found.high) == pytest.approx((7 - reach, 7 + reach))

    def test_the_same_seeds_are_paired(self):
        shared = np.array([0.0, 10.0, 20.0])
        other = measured(shared, seeds=(2, 1, 0))
        paired = measured(np.add(shared[::-1], [1.0, 1.1, 0.9]), seeds=(0, 1, 2))
        (found,) = differences(paired, other)
        assert found.value == pytest.approx(1.0)
        assert found.over == SEEDS
        assert found.high - found.low < 1

    def test_only_the_seeds_that_both_have_are_paired(self):
        own = measured([1.0, 2.0, 3.0, 100.0], seeds=(0, 1, 2, 7))
        (found,) = differences(own, measured([0.0, 1.0, 2.0]))
        assert (found.value, found.over) == (1.0, SEEDS)

    @pytest.mark.parametrize("seeds", [(0, 1), (5, 6, 7)])
    def test_too_few_seeds_in_common_leave_fixed_models(self, seeds):
        own = measured([1.0, 2.0, 3.0][: len(seeds)], seeds=seeds)
        (found,) = differences(measured([4.0, 5.0, 6.0]), own)
        assert found.over == IMAGES
        assert found.value == pytest.approx(5.0 - own.values.mean())

    def test_what_is_undefined_stays_so(self):
        (found,) = estimates(measured([math.nan, 1.0, 2.0]))
        assert metric(found, "x", "", 3).model_dump(include={"value", "low", "interval"}) == {
            "value": None, "low": None, "interval": "none",
        }  # fmt: skip

    def test_below_two_images_there_is_no_interval(self):
        own = replace(measured([4.0, 6.0, 5.0]), num_images=1)
        for found in (*estimates(own), *differences(measured([4.0]), own)):
            assert (found.low, found.high, found.p_value) == (None, None, None)
            assert found.over == "none (fewer than two images with objects)"
        assert estimates(own)[0].value == 5.0

    def test_many_comparisons_have_p_values_below_what_draws_can_show(self):
        own, other = measured([9.0]), measured([0.0])
        other = replace(other, draws=other.draws[:, ::-1])
        (few,), (many,) = differences(own, other), differences(own, other, many=True)
        assert few.p_value == pytest.approx(2 / 401)
        assert many.p_value == pytest.approx(2 * stats.norm.sf(9 / many.error))
        assert many.p_value < 1e-4
        assert (few.low, few.high) == (many.low, many.high)

    def test_without_error_a_difference_is_0_or_it_is_not(self):
        own, other = measured([1.0], spread=0.0), measured([0.0], spread=0.0)
        assert differences(own, other, many=True)[0].p_value == 0.0
        assert differences(own, own, many=True)[0].p_value == 1.0


def nulls():
    """Truth of many worlds at once, each a class in a corner of its own: no two classes touch."""
    label = np.tile(np.arange(NUM_NULLS), NUM_IMAGES)
    corner = np.stack([label % 20, label // 20], axis=1) * 100.0
    boxes = np.concatenate([corner, corner + 40], axis=1)
    nothing = np.zeros(len(label), dtype=bool)
    return Truth(
        images=tuple(map(str, range(NUM_IMAGES))),
        sizes=np.full((NUM_IMAGES, 2), 2000),
        classes=tuple(map(str, range(NUM_NULLS))),
        image=np.repeat(np.arange(NUM_IMAGES), NUM_NULLS),
        label=label,
        boxes_xyxy=boxes,
        difficult=nothing,
        crowd=nothing,
        area=area_xyxy(boxes),
    )


def detector(truth, arm, seed, difficulty):
    """A detection per object; how many lie badly is drawn by world and seed, from one law."""
    stream = Stream(seed, f"null detector/{arm}")
    skill = stream.uniform(NUM_NULLS, 0.0, 0.4)[truth.label]
    badly = stream.uniform(len(truth)) < skill + difficulty
    shift = np.where(badly, 22.0, 0.0)[:, None] * np.array([1.0, 0.0, 1.0, 0.0])
    score = stream.uniform(len(truth))
    return Detections(truth.image, truth.label, score, truth.boxes_xyxy + shift)


def loc_by_class(profiles):
    found = in_parts(as_they_are(profiles, "a", NUM_IMAGES), "class", IN_TIDE)
    return [one.metric for one in found if one.type == "Loc"]


def test_on_200_nulls_the_intervals_cover_and_those_of_fixed_models_do_not():
    truth = nulls()
    difficulty = Stream(0, "difficulty").uniform(len(truth), 0.0, 0.5)
    rules = ErrorRules(0.5, 0.1, 10_000, (), "top_npos", groups={}, sizes=None)
    weights = image_weights(Stream(0, "null images"), NUM_IMAGES, NUM_DRAWS)
    profiles = {}
    for arm in ("a", "b"):
        found = [detector(truth, arm, seed, difficulty) for seed in range(NUM_SEEDS)]
        runs = [DetectionRun(arm, s, f"{arm}{s}", truth, one) for s, one in enumerate(found)]
        profiles[arm] = error_profile(runs, rules, weights)
    rows = loc_by_class(profiles)
    assert len(rows) == NUM_NULLS
    assert {row.interval for row in rows} == {SEEDS}
    assert np.median([abs(row.value) for row in rows]) > 1
    covered = sum(row.low <= 0 <= row.high for row in rows)
    assert covered >= ENOUGH
    fixed = {
        arm: replace(p, parts={part: own.as_one() for part, own in p.parts.items()})
        for arm, p in profiles.items()
    }
    rows = loc_by_class(fixed)
    assert sum(row.low <= 0 <= row.high for row in rows) < ENOUGH
