import math

import numpy as np
import pytest
from scipy.stats import t as student

from whytransfer.core.streams import Stream
from whytransfer.ops.resampling import (
    image_weights,
    percentile_interval,
    resample_seeds,
    seed_spread,
    smallest_detectable,
    student_quantile,
)


class TestImageWeights:
    def test_every_draw_has_as_many_images_as_there_are(self):
        weights = image_weights(Stream(0, "draws"), 7, 500)
        assert weights.shape == (500, 7)
        assert (weights.sum(axis=1) == 7).all()

    def test_is_multinomial(self):
        weights = image_weights(Stream(1, "draws"), 10, 4000)
        assert weights.mean(axis=0) == pytest.approx(np.ones(10), abs=0.06)
        assert weights.var(axis=0) == pytest.approx(np.full(10, 0.9), abs=0.09)
        assert (weights == 0).mean() == pytest.approx(0.9**10, abs=0.01)

    def test_is_a_function_of_the_stream_and_grows_by_adding(self):
        first = image_weights(Stream(2, "draws"), 6, 20)
        np.testing.assert_array_equal(first, image_weights(Stream(2, "draws"), 6, 20))
        np.testing.assert_array_equal(first, image_weights(Stream(2, "draws"), 6, 50)[:20])
        assert (first != image_weights(Stream(3, "draws"), 6, 20)).any()


class TestPercentileInterval:
    def test_holds_the_middle(self):
        assert percentile_interval(np.arange(101.0), 0.9) == pytest.approx((5.0, 95.0))

    def test_leaves_out_draws_without_a_value(self):
        draws = np.append(np.arange(101.0), [math.nan, math.nan])
        assert percentile_interval(draws, 0.9) == pytest.approx((5.0, 95.0))
        assert all(math.isnan(end) for end in percentile_interval(np.array([math.nan])))

    def test_covers_the_truth_of_simulated_nulls(self):
        # 300 times two equal arms on 60 images: the paired difference has mean 0.
        generator = np.random.default_rng(0)
        covered = 0
        for null in range(300):
            shared = generator.normal(0, 5, 60)
            first, second = shared + generator.normal(0, 1, (2, 60))
            weights = image_weights(Stream(null, "null"), 60, 400) / 60
            low, high = percentile_interval(weights @ first - weights @ second)
            assert high - low < 1.5  # the shared part is gone: the arms are paired
            covered += low <= 0 <= high
        assert 0.91 <= covered / 300 <= 0.98


class TestSeeds:
    def test_shows_points_without_an_interval_below_three(self):
        assert seed_spread([4.0]).deviation is None
        two = seed_spread([4.0, 6.0])
        assert (two.points, two.mean, two.interval) == ((4.0, 6.0), 5.0, None)
        assert two.deviation == pytest.approx(math.sqrt(2))

    def test_has_students_interval_from_three_on(self):
        spread = seed_spread([4.0, 5.0, 9.0])
        reach = student.ppf(0.975, 2) * np.std([4, 5, 9], ddof=1) / math.sqrt(3)
        assert spread.interval == pytest.approx((6 - reach, 6 + reach))

    def test_covers_the_mean_over_seeds_of_simulated_nulls(self):
        values = np.random.default_rng(1).normal(0, 3, (2000, 3))
        ends = np.array([seed_spread(row).interval for row in values.tolist()])
        assert ((ends[:, 0] <= 0) & (ends[:, 1] >= 0)).mean() == pytest.approx(0.95, abs=0.015)

    def test_no_seed_is_refused(self):
        with pytest.raises(ValueError, match="at least one"):
            seed_spread([])

    @pytest.mark.parametrize("degrees", [1, 2, 3, 4, 9, 30])
    def test_quantiles_are_students(self, degrees):
        for probability in (0.2, 0.5, 0.9, 0.975, 0.999):
            expected = student.ppf(probability, degrees)
            assert student_quantile(probability, degrees) == pytest.approx(expected, abs=1e-9)


class TestResampleSeeds:
    def test_adds_the_spread_of_seeds_to_that_of_images(self):
        images = np.random.default_rng(2).normal(0, 2.0, 20000)
        seeds = np.array([-1.0, 0.0, 1.0])
        means = resample_seeds(Stream(0, "seeds"), seeds[:, None] + images)
        # All seeds share the images of a draw, so their part of the variance is not divided.
        assert means.mean() == pytest.approx(0, abs=0.05)
        assert means.var() == pytest.approx(4.0 + seeds.var() / 3, rel=0.03)

    def test_one_seed_changes_nothing(self):
        images = np.random.default_rng(3).normal(size=(1, 50))
        np.testing.assert_array_equal(resample_seeds(Stream(0, "seeds"), images), images[0])

    def test_is_a_function_of_the_stream(self):
        scores = np.arange(12.0).reshape(3, 4)
        first, again, other = (
            resample_seeds(Stream(seed, "seeds"), scores).tolist() for seed in (0, 0, 1)
        )
        assert first == again
        assert first != other


class TestSmallestDetectable:
    def test_is_found_with_that_power(self):
        difference = smallest_detectable(2.0, level=0.9, power=0.7)
        estimates = np.random.default_rng(4).normal(difference, 2.0, 20000)
        shown = estimates > 2.0 * 1.6449  # the 90 % interval lies above 0
        assert shown.mean() == pytest.approx(0.7, abs=0.015)

    def test_is_2_80_standard_errors(self):
        assert smallest_detectable(1.0) == pytest.approx(2.8016, abs=1e-4)
