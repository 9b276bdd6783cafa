"""Numbers as they are written: decimals, signs, undefined values."""

import math

import pytest

from whytransfer.report.numbers import Scale, plain, scale_of


@pytest.mark.parametrize(
    ("values", "unit", "decimals"),
    [
        ([94.1, 15.2], "%", 1),
        ([100.0], "%", 1),
        ([0.512, 0.4], "", 3),
        ([0.034], "", 4),
        ([5.25], "", 2),
        ([412.0, 7.0], "", 0),
        ([None, math.nan], "", 0),
        ([0.0], "%", 1),
    ],
)
def test_decimals_follow_the_largest_value(values, unit, decimals):
    assert scale_of(values, unit).decimals == decimals


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_undefined_is_never_zero(value):
    scale = Scale(1)
    assert scale.value(value) == scale.signed(value) == plain(value) == "undefined"
    assert scale.interval(value, 1.0) == ""


def test_signs_and_small_numbers():
    scale = Scale(1, "%")
    assert scale.signed(3.14) == "+3.1"
    assert scale.signed(-3.14) == "−3.1"
    assert scale.signed(0.0) == scale.signed(-0.0) == "0.0"
    assert scale.interval(0.04, 1.3) == "[0.04, 1.3]", "a bound beside 0 must not look like 0"
    assert scale.difference_unit == " points"
    assert Scale(3).difference_unit == ""
