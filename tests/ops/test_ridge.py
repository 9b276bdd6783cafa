"""Ridge readouts: against the normal equations, the hat matrix and scikit-learn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge as TheirRidge
from tests.oracles import ridge as oracle

from whytransfer.ops.ridge import decompose, fit, r_squared

PENALTIES = tuple(10.0**power for power in range(-5, 4))


def problem(seed, n, d, t=2, noise=0.5):
    generator = np.random.default_rng(seed)
    features = generator.normal(size=(n, d)) * generator.uniform(0.1, 5, d) + 3
    return features, features @ generator.normal(size=(d, t)) + noise * generator.normal(
        size=(n, t)
    )


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 9999), n=st.integers(4, 30), d=st.integers(1, 40),
    noise=st.sampled_from([0.1, 3.0, 50.0]),
)  # fmt: skip
def test_the_fit_and_its_penalty_are_the_oracles(seed, n, d, noise):
    features, targets = problem(seed, n, d, noise=noise)
    found = fit(decompose(features), targets, PENALTIES)
    errors = {p: oracle.gcv(features, targets, p) for p in PENALTIES}
    assert errors[found.penalty] <= min(errors.values()) * (1 + 1e-6)
    weights, intercept = oracle.fitted(features, targets, found.penalty)
    expected = (features - features.mean(axis=0)) @ weights + intercept
    scale = np.abs(targets).max()
    np.testing.assert_allclose(found.predict(features), expected, atol=1e-6 * scale)
    assert found.at_edge == (found.penalty in (PENALTIES[0], PENALTIES[-1]))


@pytest.mark.parametrize("d", [5, 60])
def test_it_predicts_as_scikit_learn_does(d):
    features, targets = problem(1, 40, d)
    found = fit(decompose(features), targets, (0.1,))
    squares = ((features - features.mean(axis=0)) ** 2).sum()
    theirs = TheirRidge(alpha=0.1 * squares / min(39, d)).fit(features, targets)
    np.testing.assert_allclose(found.predict(features), theirs.predict(features), rtol=1e-7)
    fresh = problem(2, 7, d)[0]
    np.testing.assert_allclose(found.predict(fresh), theirs.predict(fresh), rtol=1e-7)


def test_constant_features_are_no_features():
    features, targets = problem(3, 20, 4)
    more = np.concatenate([features, np.full((20, 2), 0.1)], axis=1)
    strict = fit(decompose(features), targets, (1e-9,)).predict(features)
    np.testing.assert_allclose(fit(decompose(more), targets, (1e-9,)).predict(more), strict)
    alone = fit(decompose(np.full((20, 2), 0.1)), targets, PENALTIES)
    expected = np.repeat(targets.mean(axis=0)[None], 20, axis=0)
    np.testing.assert_allclose(alone.predict(np.full((20, 2), 0.1)), expected)


def test_a_rotation_and_a_scale_of_the_features_change_nothing():
    features, targets = problem(4, 30, 6)
    turned = 100 * features @ np.linalg.qr(problem(5, 6, 6)[0])[0]
    first, second = (fit(decompose(x), targets, PENALTIES) for x in (features, turned))
    assert first.penalty == second.penalty
    np.testing.assert_allclose(first.predict(features), second.predict(turned), rtol=1e-6)


def test_a_feature_that_one_training_image_has_does_not_rule_the_test_images():
    """Dead but for one image, as rectified features often are: no prediction runs away."""
    features, targets = problem(6, 60, 3)
    rare = np.zeros((60, 40))
    rare[np.arange(40), np.arange(40)] = 1e-3
    found = fit(decompose(np.concatenate([features, rare], axis=1)), targets, PENALTIES)
    fresh, truth = problem(6, 60, 3)
    active = np.concatenate([fresh, np.full((60, 40), 1e-2)], axis=1)
    assert r_squared(np.ones((1, 60)), found.predict(active), truth)[0] > 0.9


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 9999), n=st.integers(2, 12), shift=st.sampled_from([0.0, 1e4]))
def test_r_squared_is_the_oracles(seed, n, shift):
    generator = np.random.default_rng(seed)
    targets = generator.normal(size=(n, 2)) + shift
    predicted = targets + generator.normal(size=(n, 2))
    weights = np.stack([np.ones(n), generator.integers(1, 4, n).astype(float)])
    expected = [oracle.r_squared(row, predicted, targets) for row in weights]
    np.testing.assert_allclose(r_squared(weights, predicted, targets), expected, rtol=1e-6)


def test_r_squared_of_targets_that_do_not_vary_is_undefined():
    weights = np.array([[1.0, 1, 1], [3.0, 0, 0]])
    found = r_squared(weights, np.zeros((3, 1)), np.array([[1.0], [2], [3]]))
    assert found[0] < 0 and np.isnan(found[1])
