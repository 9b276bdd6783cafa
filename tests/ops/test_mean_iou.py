"""Mean IoU against plain loops over random maps, and under weights of the images."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.oracles import mean_iou as oracle

from whytransfer.core.streams import Stream
from whytransfer.ops.mean_iou import IGNORED, class_iou, count_pixels, mean_iou, pixel_accuracy
from whytransfer.ops.resampling import image_weights


@st.composite
def scenes(draw):
    """A number of classes, and per image a predicted and a true map of a size of its own."""
    num_classes = draw(st.integers(1, 5))
    stream = Stream(draw(st.integers(0, 10**6)), "maps")
    labels = np.array([*range(num_classes), IGNORED], dtype=np.uint8)
    pairs = []
    for _ in range(draw(st.integers(1, 4))):
        size = draw(st.integers(1, 4)), draw(st.integers(1, 4))
        chosen = stream.integers(2 * size[0] * size[1], len(labels)).reshape(2, *size)
        pairs.append((labels[chosen[0]], labels[chosen[1]]))
    return num_classes, pairs


def same(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-14, equal_nan=True)


@settings(max_examples=200, deadline=None)
@given(scenes())
def test_is_the_plain_definition(scene):
    num_classes, pairs = scene
    matrix = oracle.confusion(*zip(*pairs, strict=True), num_classes)
    counts = count_pixels(pairs, num_classes)
    same(class_iou(counts), oracle.class_iou(matrix))
    same(mean_iou(class_iou(counts)), oracle.mean_iou(matrix))
    same(pixel_accuracy(counts), oracle.pixel_accuracy(matrix))


@settings(max_examples=50, deadline=None)
@given(scenes(), st.integers(0, 1000))
def test_a_weight_is_how_often_an_image_occurs(scene, seed):
    num_classes, pairs = scene
    counts = count_pixels(pairs, num_classes)
    weights = image_weights(Stream(seed, "w"), len(pairs), 5)
    found = class_iou(counts, weights)
    assert found.shape == (5, num_classes)
    for row, drawn in enumerate(weights):
        repeated = [pairs[i] for i in np.repeat(np.arange(len(pairs)), drawn)]
        matrix = oracle.confusion(*zip(*repeated, strict=True), num_classes)
        same(found[row], oracle.class_iou(matrix))
        same(mean_iou(found)[row], oracle.mean_iou(matrix))
        same(pixel_accuracy(counts, weights)[row], oracle.pixel_accuracy(matrix))


@settings(max_examples=50, deadline=None)
@given(scenes(), st.integers(0, 1000))
def test_neither_the_order_of_images_nor_the_numbering_of_classes_matters(scene, seed):
    num_classes, pairs = scene
    stream = Stream(seed, "order")
    order = stream.permutation(len(pairs))
    numbers = np.full(256, IGNORED, dtype=np.uint8)
    numbers[:num_classes] = stream.permutation(num_classes)
    moved = [(numbers[pairs[i][0]], numbers[pairs[i][1]]) for i in order]
    before = class_iou(count_pixels(pairs, num_classes))
    after = class_iou(count_pixels(moved, num_classes))
    same(after[numbers[:num_classes]], before)
    same(mean_iou(after), mean_iou(before))


def test_worked_by_hand():
    true = np.array([[0, 0, 1, 1, IGNORED]], dtype=np.uint8)
    predicted = np.array([[0, 1, 1, IGNORED, 0]], dtype=np.uint8)
    counts = count_pixels([(predicted, true)], 3)
    # Class 0: one hit of two true, one predicted. Class 1: one hit, two true, two predicted.
    same(class_iou(counts), [1 / 2, 1 / 3, np.nan])
    assert mean_iou(class_iou(counts)) == pytest.approx(5 / 12)
    assert pixel_accuracy(counts) == 0.5


def test_an_absent_class_that_is_predicted_scores_0_and_one_that_is_not_has_no_value():
    true = np.zeros((2, 2), dtype=np.uint8)
    predicted = np.array([[0, 0], [0, 1]], dtype=np.uint8)
    same(class_iou(count_pixels([(predicted, true)], 3)), [3 / 4, 0.0, np.nan])


def test_without_a_pixel_that_counts_nothing_has_a_value():
    ignored = np.full((2, 2), IGNORED, dtype=np.uint8)
    counts = count_pixels([(ignored, ignored)], 2)
    assert np.isnan(class_iou(counts)).all()
    assert np.isnan(mean_iou(class_iou(counts))) and np.isnan(pixel_accuracy(counts))


def test_other_sizes_and_unknown_labels_are_refused():
    one, two = np.zeros((1, 1), dtype=np.uint8), np.zeros((1, 2), dtype=np.uint8)
    with pytest.raises(ValueError, match="is \\(1, 1\\), the truth \\(1, 2\\)"):
        count_pixels([(one, two)], 2)
    with pytest.raises(ValueError, match="label 7, and there are 2 classes"):
        count_pixels([(one + np.uint8(7), one)], 2)
