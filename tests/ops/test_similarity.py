"""Similarity measures: against loops in float64, and what must not change them."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.oracles import similarity as oracle

from whytransfer.core.streams import Stream
from whytransfer.ops import similarity as ops
from whytransfer.ops.resampling import image_weights

SEEDS = st.integers(0, 10_000)


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def rotation(seed, size):
    return np.linalg.qr(normal(seed, size, size))[0]


def weights_of(seed, num_images, num_draws=3):
    drawn = image_weights(Stream(seed, "draws"), num_images, num_draws)
    return np.concatenate([np.ones((1, num_images)), drawn])


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS, n=st.integers(4, 7), d=st.integers(1, 9), e=st.integers(1, 5))
def test_cka_is_the_oracles(seed, n, d, e):
    first = normal(seed, n, d)
    second = normal(seed + 1, n, e) + first[:, :1]
    grams = ops.gram(first), ops.gram(second)
    assert ops.linear_cka(*grams) == pytest.approx(oracle.cka(first, second), rel=1e-9)
    expected = oracle.unbiased_hsic(first, second)
    assert ops.unbiased_hsic(*grams) == pytest.approx(expected, rel=1e-9, abs=1e-10)
    own = oracle.unbiased_hsic(first, first), oracle.unbiased_hsic(second, second)
    if min(own) > 1e-6:
        expected = oracle.debiased_cka(first, second)
        assert ops.debiased_cka(*grams) == pytest.approx(expected, rel=1e-8, abs=1e-10)


@settings(max_examples=30, deadline=None)
@given(
    seed=SEEDS, d=st.integers(1, 8), scale=st.floats(1e-3, 1e3), shift=st.floats(-10, 10),
)  # fmt: skip
def test_a_rotation_a_scale_and_a_shift_change_no_similarity(seed, d, scale, shift):
    first, second = normal(seed, 12, 5), normal(seed + 1, 12, d)
    moved = scale * second @ rotation(seed + 2, d) + shift
    for measure in (ops.linear_cka, ops.debiased_cka):
        plain = measure(ops.gram(first), ops.gram(second))
        assert measure(ops.gram(first), ops.gram(moved)) == pytest.approx(plain, rel=1e-6, abs=1e-9)
        assert measure(ops.gram(second), ops.gram(moved)) == pytest.approx(1, rel=1e-6)
    own, other = ops.spectrum(ops.gram(second)), ops.spectrum(ops.gram(moved))
    assert ops.effective_rank(other) == pytest.approx(ops.effective_rank(own), rel=1e-5)
    assert ops.num_directions(other) == ops.num_directions(own)


def test_a_map_that_is_no_rotation_changes_cka():
    values = normal(0, 40, 6)
    stretched = values @ np.diag([30.0, 1, 1, 1, 1, 1])
    for measure in (ops.linear_cka, ops.debiased_cka):
        assert measure(ops.gram(values), ops.gram(stretched)) < 0.8


def test_only_the_debiased_form_is_near_0_for_unrelated_features():
    pairs = [(ops.gram(normal(k, 20, 200)), ops.gram(normal(k + 99, 20, 200))) for k in range(20)]
    assert np.mean([ops.linear_cka(*pair) for pair in pairs]) > 0.8
    assert abs(np.mean([ops.debiased_cka(*pair) for pair in pairs])) < 0.05


def test_features_that_are_the_same_for_all_images_have_no_similarity():
    constant, other = ops.gram(np.full((6, 3), 2.0)), ops.gram(normal(0, 6, 3))
    assert math.isnan(ops.linear_cka(constant, other))
    assert math.isnan(ops.debiased_cka(constant, other))
    assert math.isnan(ops.effective_rank(ops.spectrum(constant)))
    assert ops.num_directions(ops.spectrum(constant)) == 0
    with pytest.raises(ValueError, match="at least 4 images, found 3"):
        ops.unbiased_hsic(np.eye(3), np.eye(3))


@settings(max_examples=30, deadline=None)
@given(
    seed=SEEDS, n=st.integers(4, 12), d=st.integers(1, 20), share=st.sampled_from([0.5, 0.9, 0.99])
)
def test_the_rank_is_the_oracles(seed, n, d, share):
    values = normal(seed, n, d) * np.linspace(0.1, 3, d)
    found = ops.spectrum(ops.gram(values))
    expected = oracle.singular_values(values)
    np.testing.assert_allclose(found[: len(expected)], expected[: len(found)], atol=1e-6)
    assert ops.effective_rank(found) == pytest.approx(oracle.effective_rank(values), rel=1e-6)
    assert ops.num_directions(found, share) == oracle.num_directions(values, share)


def test_the_rank_of_equal_directions_is_their_number():
    values = np.concatenate([np.eye(5), -np.eye(5)])
    found = ops.spectrum(ops.gram(values))
    assert ops.effective_rank(found) == pytest.approx(5)
    assert ops.num_directions(found, 0.8) == 4
    assert ops.num_directions(found) == 5


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS, n=st.integers(4, 9), d=st.integers(1, 4))
def test_statistics_over_pairs_are_the_oracles(seed, n, d):
    values, views = normal(seed, n, d), normal(seed + 1, n, d)
    labels = np.arange(n) % 2
    weights = weights_of(seed, n)
    distances = ops.squared_distances(values @ values.T)
    within, between = ops.class_variances(weights, distances, labels)
    moved = ops.alignment(values, views)
    sensitive = ops.sensitivity(weights, moved, distances)
    unit = ops.unit(values)
    even = ops.uniformity(weights, unit, 2.0)
    for draw, row in enumerate(weights):
        expected = oracle.class_variances(row, values, labels)
        np.testing.assert_allclose([within[draw], between[draw]], expected, rtol=1e-9, atol=1e-9)
        if (row > 0).sum() > 1:
            expected = oracle.sensitivity(row, values, views)
            assert sensitive[draw] == pytest.approx(expected, rel=1e-9)
            assert even[draw] == pytest.approx(oracle.uniformity(row, unit, 2.0), abs=1e-9)
    for alpha in (1.0, 2.0):
        expected = oracle.alignment(values, views, alpha)
        np.testing.assert_allclose(ops.alignment(values, views, alpha), expected, rtol=1e-9)


def test_the_category_share_is_fishers_intraclass_correlation():
    labels = np.repeat(np.arange(4), 6)
    values = normal(3, 24, 5) + 2 * normal(4, 4, 5)[labels]
    found = ops.class_variances(np.ones((1, 24)), ops.squared_distances(ops.gram(values)), labels)
    within, between, share = oracle.anova(values, labels)
    assert (found[0][0], found[1][0]) == (pytest.approx(within), pytest.approx(between))
    assert ops.category_share(*found)[0] == pytest.approx(share)


def test_drawing_images_twice_does_not_shift_the_variances():
    """What a plug-in variance would do: with 4 images of a class it falls by a quarter."""
    labels = np.repeat(np.arange(10), 4)
    values = normal(5, 40, 8) + normal(6, 10, 8)[labels]
    weights = weights_of(0, 40, 2000)
    within, between = ops.class_variances(weights, ops.squared_distances(ops.gram(values)), labels)
    assert within[1:].mean() == pytest.approx(within[0], rel=0.03)
    assert between[1:].mean() == pytest.approx(between[0], rel=0.06)


def test_a_statistic_without_a_pair_is_undefined():
    distances = ops.squared_distances(ops.gram(normal(0, 3, 2)))
    within, between = ops.class_variances(np.ones((1, 3)), distances, np.arange(3))
    assert math.isnan(within[0]) and math.isnan(between[0])


def test_weights_are_as_far_as_they_went():
    assert ops.relative_distance(np.array([3.0, 4.0]), np.array([3.0, 5.0])) == pytest.approx(0.2)
    assert math.isnan(ops.relative_distance(np.zeros(2), np.ones(2)))
