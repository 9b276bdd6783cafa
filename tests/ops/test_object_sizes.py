import numpy as np
import pytest
from tests.ops.detection_scenes import truth_of

from whytransfer.ops.object_sizes import bands


def square(side, label=0):
    return (0, label, (0, 0, side, side))


def test_percentiles_are_of_each_class():
    small, large = [square(k) for k in range(1, 101)], [square(k, 1) for k in range(101, 201)]
    truth = truth_of(*small, *large, num_classes=3)
    scale = bands(truth, "percentiles")
    band = scale.of(truth.area, truth.label)
    assert scale.names == ("extra small", "small", "medium", "large", "extra large")
    for own in (band[:100], band[100:]):
        assert np.bincount(own).tolist() == [10, 20, 40, 20, 10]
        assert (np.diff(own) >= 0).all()


def test_difficult_objects_and_crowds_shift_no_percentile():
    objects = [square(k) for k in range(1, 11)]
    plain = bands(truth_of(*objects), "percentiles")
    more = truth_of(*objects, *[square(150)] * 20, difficult=range(10, 20), crowd=range(20, 30))
    assert (bands(more, "percentiles").edges == plain.edges).all()


def test_a_class_without_objects_is_all_in_one_band():
    scale = bands(truth_of(square(9), num_classes=2), "percentiles")
    assert scale.of(np.array([1.0, 1e9]), np.array([1, 1])).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("side", "expected"), [(1, 0), (32, 0), (32.1, 1), (96, 1), (96.1, 2), (500, 2)]
)
def test_the_ranges_of_coco(side, expected):
    scale = bands(truth_of(square(5)), "coco")
    assert scale.names == ("small", "medium", "large")
    assert scale.of(np.array([side**2.0]), np.array([0])).tolist() == [expected]
