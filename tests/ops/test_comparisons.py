import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whytransfer.ops.comparisons import bootstrap_p_value, fewest_draws, holm


class TestPValue:
    def test_draws_on_one_side_give_the_least_value(self):
        assert bootstrap_p_value(np.arange(1.0, 100.0)) == 2 / 100
        assert bootstrap_p_value(-np.arange(1.0, 100.0)) == 2 / 100

    def test_draws_of_exactly_nothing_show_nothing(self):
        assert bootstrap_p_value(np.zeros(99)) == 1

    def test_the_rarer_side_counts_twice(self):
        assert bootstrap_p_value(np.array([-1.0] * 4 + [1.0] * 95)) == pytest.approx(0.1)

    def test_draws_without_a_value_are_left_out(self):
        assert bootstrap_p_value(np.array([1.0, np.nan, 2.0, 3.0])) == pytest.approx(2 / 4)


@pytest.mark.parametrize("num_comparisons", [1, 6, 18, 54])
def test_enough_draws_can_show_something(num_comparisons):
    draws = fewest_draws(num_comparisons)
    assert num_comparisons * bootstrap_p_value(np.ones(draws)) < 0.05
    assert num_comparisons * bootstrap_p_value(np.ones(draws - 1)) >= 0.05 - 1e-12


class TestHolm:
    def test_by_hand(self):
        assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
        assert holm([0.6, 0.7]) == [1, 1]
        assert holm([]) == []

    @settings(max_examples=50)
    @given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
    def test_it_keeps_the_order_and_never_lowers_a_value(self, p_values):
        corrected = holm(p_values)
        assert all(c >= p for c, p in zip(corrected, p_values, strict=True))
        assert max(corrected) <= 1
        order = np.argsort(p_values, kind="stable")
        assert (np.diff(np.array(corrected)[order]) >= 0).all()
