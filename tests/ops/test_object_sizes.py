from dataclasses import replace

import numpy as np
import pytest
from tests.ops.detection_scenes import truth_of
from tests.oracles import hoiem as oracle

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


@pytest.mark.parametrize("count", [1, 2, 4, 5, 7, 15, 23, 35, 45, 155])
def test_bands_are_those_of_the_released_analysis(count):
    sides = np.random.default_rng(count).integers(1, 60, count)  # some are equal
    scale = bands(truth_of(*map(square, sides.tolist())), "percentiles")
    assert scale.objects.tolist() == oracle.size_labels((sides**2.0).tolist())


def test_an_edge_is_an_object_s_area_and_halves_are_rounded_up():
    # Of five objects: .5, 1.5, 3.5 and 4.5, so the first, second, fourth and fifth.
    scale = bands(truth_of(*map(square, (5, 1, 4, 2, 3))), "percentiles")
    assert scale.edges[0].tolist() == [1, 4, 16, 25]
    assert scale.objects.tolist() == [3, 0, 2, 1, 2]


def test_percentiles_are_of_boxes_and_coco_s_ranges_of_what_the_truth_says():
    truth = truth_of(*map(square, (10, 20, 30, 40, 50)))
    smaller = replace(truth, area=truth.area[::-1].copy())
    plain, other = bands(truth, "percentiles"), bands(smaller, "percentiles")
    assert (plain.edges == other.edges).all() and (plain.objects == other.objects).all()
    assert bands(truth, "coco").objects.tolist() == [0, 0, 0, 1, 1]
    assert bands(smaller, "coco").objects.tolist() == [1, 1, 0, 0, 0]


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
