import numpy as np
import pytest
from tests.ops.detection_scenes import detections_of, random_scene, truth_of

from whytransfer.ops.boxes import iou_xyxy
from whytransfer.ops.matching import Pairs, claim_in_turn, overlaps, rank_within


@pytest.mark.parametrize("same_label", [True, False])
@pytest.mark.parametrize("minimum", [0.0, 0.3])
def test_finds_the_pairs_that_plain_loops_find(same_label, minimum):
    for seed in range(10):
        found, truth = random_scene(seed)
        iou = iou_xyxy(found.boxes_xyxy, truth.boxes_xyxy, pixel=1.0)
        expected = [
            (row, column, iou[row, column])
            for row in range(len(found))
            for column in range(len(truth))
            if found.image[row] == truth.image[column]
            and (found.label[row] == truth.label[column] or not same_label)
            and iou[row, column] >= minimum
        ]
        pairs = overlaps(found, truth, minimum=minimum, pixel=1.0, same_label=same_label)
        assert list(zip(pairs.detection, pairs.truth, pairs.iou, strict=True)) == expected


def test_a_crowd_is_overlapped_by_the_share_of_the_detection():
    truth = truth_of((0, 0, (0, 0, 100, 100)), (0, 0, (0, 0, 100, 100)), crowd=[1])
    found = detections_of((0, 0, 0.9, (90, 0, 110, 10)), (0, 0, 0.9, (5, 5, 5, 9)))
    plain = overlaps(found, truth)
    assert plain.iou.tolist() == [100 / 10100] * 2 + [0, 0]
    shared = overlaps(found, truth, crowd_by_detection=True)
    assert shared.iou.tolist() == [100 / 10100, 0.5, 0, 0]


def test_claims_go_by_turn_then_preference():
    # Two detections want object 0 first; the second in turn gets its other choice, or none.
    pairs = Pairs(np.array([0, 1, 1]), np.array([0, 0, 1]), np.array([0.9, 0.8, 0.7]))
    eligible = np.array([[True, True, True], [True, True, False], [False, True, True]])
    plain = np.array([False, False])
    claimed = claim_in_turn(pairs, eligible, np.array([0, 1]), plain)
    assert claimed.tolist() == [[0, 1], [0, -1], [-1, 0]]
    claimed = claim_in_turn(pairs, eligible, np.array([1, 0]), plain)
    assert claimed.tolist() == [[-1, 0], [-1, 0], [-1, 0]]
    claimed = claim_in_turn(pairs, eligible, np.array([0, 1]), np.array([True, False]))
    assert claimed.tolist() == [[0, 0], [0, 0], [-1, 0]]


def test_ranks_count_the_equal_ones_before():
    assert rank_within(np.array([3, 1, 3, 3, 1])).tolist() == [0, 0, 1, 2, 1]
    assert rank_within(np.array([], dtype=np.int64)).tolist() == []
