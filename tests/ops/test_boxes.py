import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from whytransfer.ops.boxes import area_xyxy, intersection_xyxy, iou_xyxy, paired_iou_xyxy

_side = st.integers(0, 12)
_boxes = st.lists(st.tuples(_side, _side, _side, _side), min_size=1, max_size=4)


def _pixels(box, pixel):
    """The cells of a box of whole pixels."""
    x0, y0, x1, y1 = box
    return {(x, y) for x in range(x0, x1 + pixel) for y in range(y0, y1 + pixel)}


@settings(max_examples=60, deadline=None)
@given(_boxes, _boxes, st.sampled_from([0, 1]))
def test_counts_the_pixels(first, second, pixel):
    a, b = np.array(first, dtype=float), np.array(second, dtype=float)
    overlap = iou_xyxy(a, b, pixel=pixel)
    assert overlap.shape == (len(first), len(second))
    for row, one in enumerate(first):
        cells = _pixels(one, pixel)
        assert area_xyxy(a, pixel=pixel)[row] == len(cells)
        for column, other in enumerate(second):
            others = _pixels(other, pixel)
            union = len(cells | others)
            expected = len(cells & others) / union if union else 0.0
            assert overlap[row, column] == expected
            assert intersection_xyxy(a[row], b[column], pixel=pixel) == len(cells & others)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.1, 50), st.floats(-100, 100))
def test_neither_place_nor_scale_nor_order_matters(seed, scale, shift):
    generator = np.random.default_rng(seed)
    a, b = (np.sort(generator.uniform(0, 9, (5, 2, 2)), axis=1).reshape(5, 4) for _ in "ab")
    overlap = iou_xyxy(a, b)
    assert ((overlap >= 0) & (overlap <= 1)).all()
    np.testing.assert_array_equal(overlap, iou_xyxy(b, a).T)
    np.testing.assert_allclose(overlap, iou_xyxy(a * scale + shift, b * scale + shift), atol=1e-9)
    np.testing.assert_array_equal(np.diag(overlap), paired_iou_xyxy(a, b))
    np.testing.assert_array_equal(np.diag(iou_xyxy(a, a)), np.ones(5))


def test_no_boxes_make_an_empty_table():
    assert iou_xyxy(np.zeros((0, 4)), np.zeros((3, 4))).shape == (0, 3)
    assert iou_xyxy(np.zeros((3, 4)), np.zeros((0, 4))).shape == (3, 0)
