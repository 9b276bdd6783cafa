"""Intervals of seeds and images: by hand, against formulas, and whether they cover on nulls."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from whytransfer.core.streams import Stream
from whytransfer.diagnose.analysis import DetectionRun
from whytransfer.diagnose.error_differences import in_parts
from whytransfer.diagnose.error_estimates import IMAGES, SEEDS, Measured, differences, estimates
from whytransfer.diagnose.error_profile import ErrorRules, error_profile
from whytransfer.ops.boxes import area_xyxy
from whytransfer.ops.comparisons import student_p_value
from whytransfer.ops.detections import Detections, Truth
from whytransfer.ops.resampling import image_weights, satterthwaite_degrees

NUM_NULLS, NUM_IMAGES, NUM_SEEDS, NUM_DRAWS = 200, 16, 3, 120
ENOUGH = 183


def measured(values, seeds=None, spread=1.0, num_draws=400):
    """One quantity with normal draws around each seed's value, shared by the seeds."""
    values = np.array(values, dtype=float)[:, None]
    noise = stats.norm.ppf((np.arange(num_draws) + 0.5) / num_draws)
    draws = values[:, None, :] + spread * noise[None, :, None]
    return Measured(tuple(seeds or range(len(values))), values, draws)


class TestIntervals:
    def test_below_three_seeds_only_images_are_drawn(self):
        (found,) = estimates(measured([4.0, 6.0]))
        assert (found.value, found.interval) == (5.0, IMAGES)
        assert (found.low, found.high) == pytest.approx((5 - 1.96, 5 + 1.96), abs=0.05)

    def test_from_three_on_seeds_then_images(self):
        own = measured([4.0, 6.0, 11.0])
        (found,) = estimates(own)
        seeds, images = np.var([4, 6, 11], ddof=1) / 3, own.draws[0, :, 0].var(ddof=1)
        degrees = math.floor((seeds + images) ** 2 / (seeds**2 / 2))
        reach = stats.t.ppf(0.975, degrees) * math.sqrt(seeds + images)
        assert found.interval == SEEDS
        assert (found.low, found.high) == pytest.approx((7 - reach, 7 + reach))
        assert found.p_value == pytest.approx(
            2 * stats.t.sf(7 / math.sqrt(seeds + images), degrees)
        )

    def test_the_same_seeds_are_paired_and_others_are_not(self):
        shared = np.array([0.0, 10.0, 20.0])
        other = measured(shared, seeds=(2, 1, 0))
        paired = measured(np.add(shared[::-1], [1.0, 1.1, 0.9]), seeds=(0, 1, 2))
        (found,) = differences(paired, other)
        assert found.value == pytest.approx(1.0)
        assert found.high - found.low < 1
        (apart,) = differences(replace(paired, seeds=(3, 4, 5)), other)
        assert apart.value == pytest.approx(1.0)
        assert apart.high - apart.low > 20

    def test_welch_of_two_arms_with_seeds_of_their_own(self):
        first, second = [1.0, 2.0, 4.0], [2.0, 2.5, 6.0, 9.0]
        own, other = measured(first, spread=0.0), measured(second, (5, 6, 7, 8), spread=0.0)
        (found,) = differences(own, other)
        expected = stats.ttest_ind(first, second, equal_var=False)
        degrees = math.floor(expected.df)
        assert found.p_value == pytest.approx(2 * stats.t.sf(abs(expected.statistic), degrees))

    def test_few_seeds_in_either_arm_leave_fixed_models(self):
        (found,) = differences(measured([1.0, 2.0, 3.0]), measured([1.0, 2.0]))
        assert found.interval == IMAGES

    def test_what_is_undefined_stays_so(self):
        own = measured([math.nan, 1.0, 2.0])
        (found,) = estimates(own)
        assert found.metric("x", "", 3).model_dump(include={"value", "low", "interval"}) == {
            "value": None, "low": None, "interval": "none",
        }  # fmt: skip

    def test_many_comparisons_have_p_values_below_what_draws_can_show(self):
        own, other = measured([9.0]), measured([0.0])
        other = replace(other, draws=other.draws[:, ::-1])
        (few,), (many,) = differences(own, other), differences(own, other, many=True)
        assert few.p_value == pytest.approx(2 / 401)
        assert many.p_value < 1e-4
        assert (few.low, few.high) == (many.low, many.high)


def test_degrees_and_p_values_at_their_ends():
    assert satterthwaite_degrees([(0.0, 2)], 1.0) == satterthwaite_degrees([], 1.0) == 10_000
    assert satterthwaite_degrees([(1.0, 2)], 0.0) == 2
    assert student_p_value(0.0, 0.0, 3) == 1.0
    assert student_p_value(1.0, 0.0, 3) == 0.0
    assert student_p_value(-4.303, 1.0, 2) == pytest.approx(0.05, abs=1e-4)


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
    rows = [d.metric for d in in_parts(profiles, "a", NUM_IMAGES, "class") if d.type == "Loc"]
    assert len(rows) == NUM_NULLS
    assert {row.interval for row in rows} == {SEEDS}
    assert np.median([abs(row.value) for row in rows]) > 1
    covered = sum(row.low <= 0 <= row.high for row in rows)
    assert covered >= ENOUGH
    fixed = {
        arm: replace(p, seeds=(0,), parts={k: _as_one(m) for k, m in p.parts.items()})
        for arm, p in profiles.items()
    }
    rows = [d.metric for d in in_parts(fixed, "a", NUM_IMAGES, "class") if d.type == "Loc"]
    assert sum(row.low <= 0 <= row.high for row in rows) < ENOUGH


def _as_one(own):
    """The mean model, as if there were no seeds."""
    return Measured((0,), own.mean[None], own.draws.mean(axis=0)[None])
