import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.ops.detection_scenes import choose_images, detections_of, take, truth_of
from tests.ops.planted_scenes import (
    OTHER_LABEL,
    SIMILAR,
    SIMILAR_LABEL,
    dense_scene,
    fainter_copies,
    noise,
    perfect,
    plain_rows,
    planted_truth,
    relabelled,
    shifted,
    together,
)
from tests.oracles import hoiem as oracle

from whytransfer.ops.boxes import iou_xyxy
from whytransfer.ops.hoiem import (
    TYPES,
    VOC_GROUPS,
    VOC_SIMILAR,
    ap_by_size,
    counted_rows,
    hoiem_types,
    impact,
    similar_classes,
    type_counts,
)

SQUARE = (0, 0, 10, 10)
SETS = (("class0", "class1"),)
RULES = ("top_npos", "npos_false", "first_100_false")


def names(found, truth, similar=SETS):
    return [TYPES[code] for code in hoiem_types(found, truth, similar).counted]


class TestTheRulesByHand:
    @pytest.mark.parametrize(
        ("box", "expected"),
        [
            ((0, 0, 10, 5), "correct"),  # IoU 1/2 exactly
            ((0, 0, 10, 4.9), "localisation"),
            ((0, 0, 10, 1), "localisation"),  # IoU 1/10 exactly
            ((0, 0, 10, 0.9), "background"),
        ],
    )
    def test_thresholds_are_inclusive(self, box, expected):
        assert names(detections_of((0, 0, 0.9, box)), truth_of((0, 0, SQUARE))) == [expected]

    def test_a_difficult_object_is_correct_but_not_positive(self):
        truth = truth_of((0, 0, SQUARE), difficult=[0])
        types = hoiem_types(detections_of((0, 0, 0.9, SQUARE)), truth)
        assert types.match.tolist() == [0]
        assert TYPES[types.counted[0]] == "correct"

    def test_a_duplicate_is_a_localisation_error_however_well_it_lies(self):
        found = detections_of((0, 0, 0.8, SQUARE), (0, 0, 0.9, (0, 0, 10, 9)))
        types = hoiem_types(found, truth_of((0, 0, SQUARE)))
        assert [TYPES[code] for code in types.counted] == ["localisation", "correct"]
        assert types.loose_match.tolist() == [0, 1]

    def test_a_detection_takes_the_best_object_that_is_free(self):
        # The second box fits the first object best, but that one is taken: it gets the other.
        truth = truth_of((0, 0, SQUARE), (0, 0, (0, 0, 10, 14)))
        found = detections_of((0, 0, 0.9, SQUARE), (0, 0, 0.8, (0, 0, 10, 11)))
        assert names(found, truth) == ["correct", "correct"]

    def test_localisation_goes_before_confusion(self):
        truth = truth_of((0, 0, (0, 0, 10, 2)), (0, 1, SQUARE), num_classes=2)
        assert names(detections_of((0, 0, 0.9, SQUARE)), truth) == ["localisation"]

    def test_the_largest_overlap_decides_the_counts_any_similar_one_the_impact(self):
        truth = truth_of((0, 1, (0, 0, 10, 3)), (0, 2, SQUARE), num_classes=3)
        types = hoiem_types(detections_of((0, 0, 0.9, SQUARE)), truth, SETS)
        assert TYPES[types.counted[0]] == "other"
        assert TYPES[types.impact[0]] == "similar"
        assert types.confused_with.tolist() == [2]

    def test_other_objects_are_background_for_the_impact(self):
        truth = truth_of((0, 2, SQUARE), num_classes=3)
        types = hoiem_types(detections_of((0, 0, 0.9, SQUARE)), truth, SETS)
        assert (TYPES[types.counted[0]], TYPES[types.impact[0]]) == ("other", "background")

    def test_each_class_claims_for_itself(self):
        # The detected class0 uses up no object of class1 for the detected class1.
        truth = truth_of((0, 1, SQUARE), num_classes=2)
        found = detections_of((0, 0, 0.9, SQUARE), (0, 1, 0.8, SQUARE))
        assert names(found, truth) == ["similar", "correct"]

    def test_the_overlap_that_decides_is_with_the_object_it_gets(self):
        # The nearest class1 is taken by the first box, so the second one is left a poor class1,
        # and overlaps a class2 more than that.
        truth = truth_of(
            (0, 1, SQUARE), (0, 1, (0, 0, 10, 2)), (0, 2, (0, 0, 10, 5)), num_classes=3
        )
        found = detections_of((0, 0, 0.9, SQUARE), (0, 0, 0.8, SQUARE))
        assert names(found, truth) == ["similar", "other"]

    def test_objects_of_other_images_do_not_count(self):
        truth = truth_of((1, 0, SQUARE), num_images=2)
        assert names(detections_of((0, 0, 0.9, SQUARE)), truth) == ["background"]

    def test_nothing_at_all(self):
        empty, objects = detections_of(), truth_of((0, 0, SQUARE))
        assert names(empty, objects) == []
        assert names(detections_of((0, 0, 0.9, SQUARE)), truth_of()) == ["background"]
        types = hoiem_types(empty, objects)
        assert impact(types, empty, objects)["all"].tolist() == [0]


def test_plain_iou_is_the_inclusive_one_of_the_released_code():
    found, truth = dense_scene(1)
    plain = iou_xyxy(found.boxes_xyxy, truth.boxes_xyxy)
    inclusive = np.array([1.0, 1.0, 0.0, 0.0])
    ones = iou_xyxy(found.boxes_xyxy + inclusive, truth.boxes_xyxy + inclusive, pixel=1.0)
    assert (plain == ones).all()


def test_similar_sets_of_voc():
    every = {name for names in VOC_SIMILAR for name in names}
    classes = sorted(every | {"bottle", "pottedplant", "tvmonitor"})
    assert len(classes) == 20
    table = similar_classes(classes, VOC_SIMILAR)
    rows = zip(classes, table, strict=True)
    similar = {name: {classes[k] for k in np.flatnonzero(row)} for name, row in rows}
    vehicles = {"boat", "bus", "car", "train", "bicycle", "motorbike", "aeroplane"}
    animals = {"bird", "cat", "cow", "dog", "horse", "person", "sheep"}
    assert similar["aeroplane"] == (vehicles | {"bird"}) - {"aeroplane"}
    assert similar["bird"] == (animals | {"aeroplane"}) - {"bird"}
    assert similar["sofa"] == {"chair", "diningtable"}
    assert not similar["bottle"] | similar["pottedplant"] | similar["tvmonitor"]
    assert "person" not in VOC_GROUPS["animals"]
    assert (table == table.T).all()


class TestAgainstTheOracle:
    def test_types_prefixes_and_impact(self):
        similar = (("a", "b"), ("b", "c", "d"))
        seen = set()
        for seed in range(30):
            found, truth = dense_scene(seed)
            dets, objs = plain_rows(found, truth, oracle.Det, oracle.Obj, ["difficult"])
            types = hoiem_types(found, truth, similar)
            expected = oracle.types(dets, objs, truth.classes, similar)
            seen |= {(counted, cost) for counted, cost, _ in expected}
            assert expected == [
                (TYPES[a], TYPES[b], None if c < 0 else c)
                for a, b, c in zip(types.counted, types.impact, types.confused_with, strict=True)
            ]
            for rule in RULES[:2]:
                rows = np.flatnonzero(counted_rows(types, found, truth, rule))
                top = [oracle.top(dets, objs, c, rule) for c in range(len(truth.classes))]
                assert sorted(rows) == sorted(itertools.chain(*top))
        assert len(seen) == 6  # every pair of types that the rules allow

    @pytest.mark.parametrize("normalised", [False, True])
    def test_impact(self, normalised):
        for seed in range(8):
            found, truth = dense_scene(seed)
            dets, objs = plain_rows(found, truth, oracle.Det, oracle.Obj, ["difficult"])
            similar = (("a", "b"), ("b", "c", "d"))
            after = impact(hoiem_types(found, truth, similar), found, truth, normalised=normalised)
            norm = 0.15 * len(truth.images) if normalised else None
            for c in range(len(truth.classes)):
                if not any(o.label == c and not o.difficult for o in objs):
                    assert np.isnan(after["all"][c])
                    continue
                expected = oracle.impact(dets, objs, truth.classes, similar, c, norm)
                for repair, value in expected.items():
                    assert after[repair][c] == pytest.approx(100 * value), repair

    def test_ap_by_size(self):
        known = 0
        for seed in range(20):
            found, truth = dense_scene(seed, num_objects=24)
            dets, objs = plain_rows(found, truth, oracle.Det, oracle.Obj, ["difficult"])
            band = np.arange(len(truth)) * 7 % 3
            types = hoiem_types(found, truth)
            after = ap_by_size(types, found, truth, band, 3)
            for wanted, c in itertools.product(range(3), range(len(truth.classes))):
                norm = 0.15 * len(truth.images)
                expected = oracle.ap_of_size(dets, objs, c, band, wanted, norm)
                if expected is None:
                    assert np.isnan(after[wanted, c])
                    continue
                assert after[wanted, c] == pytest.approx(100 * expected)
                known += expected > 0
        assert known > 100


class TestWeights:
    """An image counts as often as its weight says, as if it stood there as often."""

    def draws(self, seed, num_images):
        return np.random.default_rng(seed).integers(0, 4, (3, num_images)).astype(float)

    @pytest.mark.parametrize("normalised", [False, True])
    def test_of_impact(self, normalised):
        similar = (("a", "b"), ("b", "c", "d"))
        for seed in range(6):
            found, truth = dense_scene(seed, ties=False)
            types, weights = hoiem_types(found, truth, similar), self.draws(seed, len(truth.images))
            drawn = impact(types, found, truth, weights=weights, normalised=normalised)
            for draw, counts in enumerate(weights.astype(int)):
                again = choose_images(found, truth, np.repeat(np.arange(len(counts)), counts))
                plain = impact(hoiem_types(*again, similar), *again, normalised=normalised)
                for repair, value in plain.items():
                    assert drawn[repair][draw] == pytest.approx(value, nan_ok=True), repair

    def test_of_ap_by_size(self):
        for seed in range(6):
            found, truth = dense_scene(seed, ties=False)
            # Sizes keep their band in a draw, so it is written into what a repetition copies.
            truth = replace(truth, area=np.arange(len(truth)) % 2.0)
            types, weights = hoiem_types(found, truth), self.draws(seed, len(truth.images))
            drawn = ap_by_size(types, found, truth, truth.area.astype(int), 2, weights)
            for draw, counts in enumerate(weights.astype(int)):
                again = choose_images(found, truth, np.repeat(np.arange(len(counts)), counts))
                band = again[1].area.astype(int)
                plain = ap_by_size(hoiem_types(*again), *again, band, 2)
                assert drawn[draw] == pytest.approx(plain, nan_ok=True)

    def test_one_each_is_the_plain_value(self):
        found, truth = dense_scene(5)
        types = hoiem_types(found, truth, (("a", "b"),))
        plain = impact(types, found, truth)
        drawn = impact(types, found, truth, weights=np.ones((2, len(truth.images))))
        for repair, value in plain.items():
            assert np.array_equal(drawn[repair], np.stack([value, value]), equal_nan=True)


class TestCounting:
    def test_the_prefixes(self):
        truth = truth_of((0, 0, SQUARE), (1, 0, SQUARE), num_images=2)
        far = (50, 50, 60, 60)
        found = detections_of(
            (0, 0, 0.9, far), (0, 0, 0.8, SQUARE), (1, 0, 0.7, far), (1, 0, 0.6, SQUARE)
        )
        types = hoiem_types(found, truth)
        rows = {rule: counted_rows(types, found, truth, rule).tolist() for rule in RULES}
        assert rows["top_npos"] == [True, True, False, False]
        assert rows["npos_false"] == [True, True, True, False]
        assert rows["first_100_false"] == [True] * 4

    def test_the_first_hundred_false_ones(self):
        truth = truth_of((0, 0, SQUARE))
        far = [(0, 0, 1 - k / 1000, (50, 50, 60, 60)) for k in range(150)]
        found = detections_of((0, 0, 2.0, SQUARE), *far)
        types = hoiem_types(found, truth)
        rows = counted_rows(types, found, truth, "first_100_false")
        assert np.flatnonzero(rows).tolist() == list(range(101))

    def test_weights_count_an_image_as_often_as_they_say(self):
        found, truth = dense_scene(3)
        types = hoiem_types(found, truth)
        rows = counted_rows(types, found, truth)
        plain = type_counts(types, found, truth, rows=rows)
        assert plain.sum() == rows.sum()
        weights = np.array([[1, 1, 1, 1], [2, 0, 1, 3]], dtype=float)
        drawn = type_counts(types, found, truth, rows=rows, weights=weights)
        assert (drawn[0] == plain).all()
        assert drawn[1].sum() == weights[1][found.image[rows]].sum()


def test_normalised_precision_by_hand():
    # Two images: Nnorm = .3, Npos = 1, one false before the true one: .3 / (.3 + 1).
    truth = truth_of((0, 0, SQUARE), num_images=2)
    found = detections_of((0, 0, 0.9, (50, 50, 60, 60)), (0, 0, 0.8, SQUARE))
    types = hoiem_types(found, truth)
    assert impact(types, found, truth)["all"][0] == pytest.approx(100 * 0.3 / 1.3)
    assert impact(types, found, truth, normalised=False)["all"][0] == pytest.approx(50)
    assert impact(types, found, truth)["background"][0] == pytest.approx(100)


def test_ap_by_size_by_hand():
    # Three images: Nnorm = .45. In score order: a small one, a false one, a large one.
    large, far = (20, 20, 60, 60), (80, 80, 90, 90)
    truth = truth_of((0, 0, SQUARE), (1, 0, large), (2, 0, large), num_images=3)
    found = detections_of((0, 0, 0.9, SQUARE), (2, 0, 0.8, far), (1, 0, 0.7, large))
    types = hoiem_types(found, truth)
    assert types.claimed.tolist() == [0, -1, 1]
    small, others = ap_by_size(types, found, truth, np.array([0, 1, 1]), 2)[:, 0]
    assert small == pytest.approx(100)
    # One of two is found, scaled by .45 / 2, behind one false; the small one before it is left out.
    assert others == pytest.approx(100 / 2 * 0.225 / 1.225)
    weights = np.array([[1.0, 3.0, 1.0], [0.0, 1.0, 1.0]])
    drawn = ap_by_size(types, found, truth, np.array([0, 1, 1]), 2, weights)[:, :, 0]
    assert drawn[0] == pytest.approx([100, 100 * 3 / 4 * (3 * 0.75 / 4) / (3 * 0.75 / 4 + 1)])
    assert np.isnan(drawn[1, 0])
    assert drawn[1, 1] == pytest.approx(100 / 2 * 0.15 / 1.15)


TRUTH = planted_truth()
GOOD = perfect(TRUTH)
CAUSES = {
    "correct": GOOD,
    "localisation": shifted(GOOD),
    "similar": relabelled(GOOD, SIMILAR_LABEL),
    "other": relabelled(GOOD, OTHER_LABEL),
    "background": noise(TRUTH),
}


@pytest.mark.parametrize("cause", CAUSES)
def test_a_planted_cause_is_found(cause):
    found = names(CAUSES[cause], TRUTH, SIMILAR)
    assert len(found) > 100
    assert found.count(cause) >= 0.99 * len(found)


def test_planted_duplicates_are_localisation_errors():
    copies = fainter_copies(GOOD)
    found = names(together(GOOD, copies), TRUTH, SIMILAR)
    assert found == ["correct"] * len(GOOD) + ["localisation"] * len(copies)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_the_order_of_rows_does_not_matter_where_scores_differ(seed):
    found, truth = dense_scene(seed, ties=False)
    order = np.argsort(found.boxes_xyxy.sum(axis=1) * 7 % 5, kind="stable")
    original = hoiem_types(found, truth, (("a", "b"),))
    reordered = hoiem_types(take(found, order), truth, (("a", "b"),))
    for name in ("counted", "impact", "match", "claimed", "loose_match"):
        assert (getattr(original, name)[order] == getattr(reordered, name)).all()


def test_inputs_are_left_alone():
    found, truth = dense_scene(2)
    before = replace(found, score=found.score.copy(), boxes_xyxy=found.boxes_xyxy.copy())
    hoiem_types(found, truth, (("a", "b"),))
    assert (found.score == before.score).all()
    assert (found.boxes_xyxy == before.boxes_xyxy).all()
