"""Landmark errors: values worked by hand, the plain oracle, and what must not change them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.oracles.landmarks import inter_ocular

from whytransfer.core.streams import Stream
from whytransfer.ops.landmark_error import failures, point_errors

TRUE = np.array([[[30.0, 40], [70, 40], [50, 60], [35, 80], [65, 80]]])


def drawn(seed, count=4):
    stream = Stream(seed, "points")
    true = stream.uniform(count * 10, 0, 178).reshape(count, 5, 2)
    return true + stream.uniform(count * 10, -20, 20).reshape(count, 5, 2), true


def test_worked_by_hand():
    """Eyes 40 apart; points off by 4, 0, 5 (3-4-5), 13 (5-12-13) and 2."""
    off = np.array([[[4.0, 0], [0, 0], [3, 4], [-5, 12], [0, -2]]])
    errors = point_errors(TRUE + off, TRUE)
    assert errors.tolist() == [[0.1, 0.0, 0.125, 0.325, 0.05]]
    assert 100 * errors.mean() == pytest.approx(12.0)


def test_eyes_that_are_not_level():
    true = np.array([[[0.0, 0], [30, 40], [10, 10], [0, 0], [0, 0]]])
    assert point_errors(true + np.array([0.0, 5.0]), true).tolist() == [[0.1] * 5]


def test_the_eyes_are_the_true_ones_and_can_be_others():
    predicted = TRUE.copy()
    predicted[0, 0] = [70, 40]  # the predicted eyes are at one place, which does not matter
    assert point_errors(predicted, TRUE)[0, 0] == 1.0
    assert point_errors(predicted, TRUE, (3, 4))[0, 0] == 40 / 30


def test_images_count_alike_whatever_their_size():
    both = np.concatenate([TRUE, 10 * TRUE])
    off = np.array([[[4.0, 0]], [[4.0, 0]]])
    assert point_errors(both + off, both).mean(axis=1).tolist() == pytest.approx([0.1, 0.01])


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_equals_the_oracle(seed):
    predicted, true = drawn(seed)
    found = 100 * point_errors(predicted, true, (1, 3)).mean(axis=1)
    np.testing.assert_allclose(found, inter_ocular(predicted, true, (1, 3)), rtol=1e-12)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), turn=st.floats(-3, 3), factor=st.floats(0.1, 10))
def test_any_view_of_the_image_has_the_same_errors(seed, turn, factor):
    predicted, true = drawn(seed)
    linear = factor * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    seen = [points @ linear.T + [12.0, -7.0] for points in (predicted, true)]
    np.testing.assert_allclose(point_errors(*seen), point_errors(predicted, true), rtol=1e-9)


def test_perfect_is_zero_and_failures_are_above_the_threshold():
    assert not point_errors(TRUE, TRUE).any()
    errors = np.array([[0.1, 0.1], [0.1, 0.1000001], [0.0, 0.3]])
    assert failures(errors, 0.1).tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("predicted", "true", "words"),
    [
        (TRUE[:, :4], TRUE, "the prediction is"),
        (TRUE * np.nan, TRUE, "not finite"),
        (TRUE, np.zeros_like(TRUE), "both eyes of image 0 are at one place"),
    ],
)
def test_what_has_no_error_is_refused(predicted, true, words):
    with pytest.raises(ValueError, match=words):
        point_errors(predicted, true)
