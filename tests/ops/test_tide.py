from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.ops.detection_scenes import choose_images, detections_of, take, truth_of
from tests.ops.planted_scenes import (
    OTHER_LABEL,
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
from tests.oracles import tide as oracle

from whytransfer.ops.average_precision import average_precision, coco_matches
from whytransfer.ops.tide import HIT, MAIN_TYPES, TYPES, tide_errors, tide_gains

SQUARE = (0, 0, 10, 10)
FAR = (50, 50, 60, 60)


def kinds(found, truth, **rules):
    """The types in the order of the detections; None beyond the limit per image."""
    errors = tide_errors(found, truth, **rules)
    names = [None] * len(found)
    for row, kind in zip(errors.row, errors.kind, strict=True):
        names[row] = "hit" if kind == HIT else TYPES[kind]
    return names


def gain(found, truth, **rules):
    """dAP of every type in all, in points."""
    in_all = tide_gains(tide_errors(found, truth, **rules)).in_all()
    return dict(zip(TYPES, in_all.tolist(), strict=True))


class TestTheRulesByHand:
    @pytest.mark.parametrize(
        ("box", "expected"),
        [
            ((0, 0, 10, 5), "hit"),  # IoU 1/2 exactly
            ((0, 0, 10, 4.9), "Loc"),
            ((0, 0, 10, 1), "Loc"),  # IoU 1/10 exactly
            ((0, 0, 10, 0.9), "Bkg"),
        ],
    )
    def test_thresholds_within_the_class(self, box, expected):
        assert kinds(detections_of((0, 0, 0.9, box)), truth_of((0, 0, SQUARE))) == [expected]

    @pytest.mark.parametrize(
        ("box", "expected"),
        [
            ((0, 0, 10, 5), "Cls"),
            ((0, 0, 10, 4.9), "Both"),
            ((0, 0, 10, 1), "Bkg"),  # IoU 1/10 exactly is background still
        ],
    )
    def test_thresholds_across_classes(self, box, expected):
        truth = truth_of((0, 1, SQUARE), num_classes=2)
        assert kinds(detections_of((0, 0, 0.9, box)), truth) == [expected]

    def test_loc_goes_before_cls_and_cls_before_dupe(self):
        truth = truth_of((0, 0, (0, 0, 10, 2)), (0, 1, SQUARE), num_classes=2)
        assert kinds(detections_of((0, 0, 0.9, SQUARE)), truth) == ["Loc"]
        truth = truth_of((0, 0, SQUARE), (0, 1, SQUARE), num_classes=2)
        found = detections_of((0, 0, 0.9, SQUARE), (0, 0, 0.8, SQUARE))
        assert kinds(found, truth) == ["hit", "Cls"]

    def test_a_second_hit_is_a_duplicate(self):
        found = detections_of((0, 0, 0.8, SQUARE), (0, 0, 0.9, (0, 0, 10, 9)))
        assert kinds(found, truth_of((0, 0, SQUARE))) == ["Dupe", "hit"]

    def test_half_of_a_taken_object_is_a_localisation_error(self):
        # In [background, foreground] both ends belong: IoU 1/2 with an object that is taken.
        found = detections_of((0, 0, 0.9, SQUARE), (0, 0, 0.8, (0, 0, 10, 5)))
        assert kinds(found, truth_of((0, 0, SQUARE))) == ["hit", "Loc"]

    def test_an_image_without_objects_has_background_errors(self):
        truth = truth_of((1, 0, SQUARE), num_images=2)
        assert kinds(detections_of((0, 0, 0.9, SQUARE)), truth) == ["Bkg"]

    def test_only_the_best_detections_of_an_image_take_part(self):
        truth = truth_of((0, 0, SQUARE), num_images=2)
        found = detections_of((0, 0, 0.7, SQUARE), (0, 0, 0.9, FAR), (1, 0, 0.1, FAR))
        assert kinds(found, truth, max_per_image=1) == [None, "Bkg", "Bkg"]

    def test_missed_is_what_no_other_fix_repairs(self):
        truth = truth_of((0, 0, SQUARE), (0, 0, (20, 0, 30, 10)), (0, 0, (40, 0, 50, 10)))
        found = detections_of((0, 0, 0.9, SQUARE), (0, 0, 0.8, (20, 0, 30, 3)))
        assert tide_errors(found, truth).missed.tolist() == [False, False, True]

    def test_difficult_objects_and_crowds_absorb_what_nothing_else_takes(self):
        region = (0, 0, 100, 100)
        found = detections_of((0, 0, 0.9, SQUARE), (0, 0, 0.8, region))
        crowd = tide_errors(found, truth_of((0, 0, region), crowd=[0]))
        assert crowd.ignored.tolist() == [True, True]  # within it, whatever the IoU
        difficult = tide_errors(found, truth_of((0, 0, region), difficult=[0]))
        assert difficult.ignored.tolist() == [False, True]
        assert not crowd.objects.any()
        assert not difficult.missed.any()


class TestTheFixesByHand:
    def test_one_repair_per_object_at_its_own_score(self):
        # Two poor boxes on one object: the better-scored one becomes true, the other goes.
        poor = (0, 0, 10, 4)
        found = detections_of((0, 0, 0.9, FAR), (0, 0, 0.8, poor), (0, 0, 0.7, poor))
        errors = tide_errors(found, truth_of((0, 0, SQUARE)))
        assert errors.repairs.tolist() == [False, True, False]
        gains = tide_gains(errors)
        assert gains.before.tolist() == [0]
        assert gains.after[1, 0] == pytest.approx(50)  # true at rank 2, after the false one

    def test_the_best_of_cls_and_loc_repairs_the_other_only_goes(self):
        truth = truth_of((0, 1, SQUARE), num_classes=2)
        found = detections_of((0, 0, 0.9, SQUARE), (0, 1, 0.8, (0, 0, 10, 4)))
        errors = tide_errors(found, truth)
        assert errors.repairs.tolist() == [True, False]
        after = dict(zip(TYPES, tide_gains(errors).after[:, 1], strict=True))
        assert after["Cls"] == pytest.approx(100)
        assert after["Loc"] == 0

    def test_a_fixed_class_error_moves_to_its_class(self):
        truth = truth_of((0, 0, FAR), (0, 1, SQUARE), num_classes=2)
        found = detections_of((0, 0, 0.9, SQUARE), (0, 0, 0.8, FAR))
        gains = tide_gains(tide_errors(found, truth))
        assert gains.before == pytest.approx([50, 0])
        assert gains.after[TYPES.index("Cls")] == pytest.approx([100, 100])

    def test_a_missed_object_leaves_the_count(self):
        truth = truth_of((0, 0, SQUARE), (0, 0, FAR))
        gains = gain(detections_of((0, 0, 0.9, SQUARE)), truth)
        assert gains["Miss"] == pytest.approx(100 - 100 * 51 / 101)
        assert gains["FalseNeg"] == pytest.approx(gains["Miss"])

    def test_a_class_that_nothing_hits_gains_nothing_from_leaving_its_objects_out(self):
        gains = gain(detections_of(), truth_of((0, 0, SQUARE)))
        assert gains == dict.fromkeys(TYPES, 0.0)

    def test_false_positives_ranked_last(self):
        found = detections_of((0, 0, 0.9, FAR), (0, 0, 0.8, SQUARE))
        gains = gain(found, truth_of((0, 0, SQUARE)))
        assert gains["FalsePos"] == gains["Bkg"] == pytest.approx(50)

    def test_perfect_detections_lose_nothing(self):
        truth = planted_truth(5)
        errors = tide_errors(perfect(truth), truth)
        assert (errors.kind == HIT).all()
        assert tide_gains(errors).before == pytest.approx(100)
        assert not tide_gains(errors).in_all().any()

    def test_a_class_without_objects_is_undefined(self):
        truth = truth_of((0, 0, SQUARE), num_classes=2)
        gains = tide_gains(tide_errors(detections_of((0, 1, 0.9, FAR)), truth))
        assert np.isnan(gains.before).tolist() == [False, True]
        assert np.isnan(gains.per_class()[:, 1]).all()
        assert not np.isnan(gains.in_all()).any()


class TestAgainstTheOracle:
    def test_types_and_gains(self):
        seen = set()
        for seed in range(12):
            found, truth = dense_scene(seed, num_classes=3)
            if seed % 3 == 1:
                truth = replace(truth, crowd=truth.difficult, difficult=np.zeros(len(truth), bool))
            dets, objs = plain_rows(found, truth, oracle.Det, oracle.Obj, ["difficult", "crowd"])
            outcome, _, _, ignored, repair, missed = oracle.analyse(dets, objs, 4)
            errors = tide_errors(found, truth)
            rows = errors.row.tolist()
            names = ["hit" if kind == HIT else TYPES[kind] for kind in errors.kind]
            assert dict(zip(rows, names, strict=True)) == outcome
            assert {row for row, out in zip(rows, errors.ignored, strict=True) if out} == ignored
            assert {rows[k] for k in np.flatnonzero(errors.repairs)} == set(repair.values())
            assert np.flatnonzero(errors.missed).tolist() == sorted(missed)
            seen |= set(outcome.values())
            gains = tide_gains(errors)
            per_class, in_all = gains.per_class(), gains.in_all()
            for k, (name, (classes, mean)) in enumerate(oracle.gains(dets, objs, 4, 3).items()):
                assert name == TYPES[k]
                assert in_all[k] == pytest.approx(mean, abs=1e-9), (seed, name)
                expected = [np.nan if value is None else value for value in classes]
                assert per_class[k] == pytest.approx(expected, abs=1e-9, nan_ok=True)
        assert seen == {"hit", *MAIN_TYPES} - {"Miss"}


# Seed of the scene: AP, dAP by type, count by type. Computed by tidecv 1.0.1 (unmodified). The
# odd seeds have crowd regions. No recall here is one of the ten at which the two grids differ.
TIDECV = {
    3: (50.86798, [2.584478, 17.556245, 2.433836, 5.78498, 4.018571, 2.662266, 32.63037, 9.942494],
        [9, 15, 8, 24, 10, 1]),
    4: (36.810974, [15.051664, 9.102513, 2.958844, 3.804301, 0.127468, 4.972635, 28.865593,
                    17.819815], [13, 16, 10, 27, 4, 4]),
    7: (43.249275, [7.671619, 4.24409, 9.082959, 1.576392, 2.030971, 5.39604, 35.958646, 10.549911],
        [15, 14, 14, 15, 13, 3]),
    8: (45.219282, [5.327185, 8.01806, 1.548264, 1.782347, 7.422004, 5.989535, 29.368177,
                    15.663475], [10, 15, 7, 17, 18, 3]),
    9: (36.811841, [14.812356, 11.655177, 2.207208, 2.218848, 1.96026, 4.70173, 42.726113,
                    7.943746], [12, 13, 19, 16, 9, 3]),
    10: (55.251897, [2.950559, 3.296059, 3.870551, 5.053796, 5.468266, 6.561285, 30.226651,
                     7.951424], [14, 9, 9, 25, 8, 4]),
}  # fmt: skip


@pytest.mark.parametrize("seed", TIDECV)
def test_equal_to_tidecv(seed):
    found, truth = dense_scene(
        seed, num_classes=3, num_images=6, num_objects=30, num_detections=90, ties=False
    )
    nothing = np.zeros(len(truth), dtype=bool)
    truth = replace(truth, crowd=truth.difficult if seed % 2 else nothing, difficult=nothing)
    errors = tide_errors(found, truth)
    gains = tide_gains(errors)
    ap, in_all, counts = TIDECV[seed]
    assert gains.before.mean() == pytest.approx(ap, abs=1e-6)
    assert gains.in_all() == pytest.approx(in_all, abs=1e-6)
    assert [*np.bincount(errors.kind[errors.kind >= 0]), errors.missed.sum()] == counts


def test_the_ap_before_is_that_of_coco_at_fifty():
    for seed in range(10):
        found, truth = dense_scene(seed)
        truth = replace(truth, difficult=np.zeros(len(truth), dtype=bool))
        coco = 100 * average_precision(coco_matches(found, truth), metric="coco101")[:, 0]
        assert tide_gains(tide_errors(found, truth)).before == pytest.approx(coco, nan_ok=True)


class TestWeights:
    @settings(max_examples=15, deadline=None)
    @given(st.integers(0, 10_000), st.lists(st.integers(0, 3), min_size=4, max_size=4))
    def test_a_weight_is_an_image_that_stands_so_often(self, seed, weights):
        found, truth = dense_scene(seed, ties=False)
        drawn = tide_gains(tide_errors(found, truth), np.array([weights], dtype=float))
        images = np.repeat(np.arange(4), weights)
        if len(images) == 0:
            assert np.isnan(drawn.in_all()).all()
            return
        repeated = tide_gains(tide_errors(*choose_images(found, truth, images)))
        assert drawn.before[0] == pytest.approx(repeated.before, nan_ok=True)
        assert drawn.after[0] == pytest.approx(repeated.after, nan_ok=True)
        assert drawn.in_all()[0] == pytest.approx(repeated.in_all(), nan_ok=True)

    def test_without_weights_every_image_counts_once(self):
        errors = tide_errors(*dense_scene(5))
        plain, ones = tide_gains(errors), tide_gains(errors, np.ones((2, 4)))
        assert plain.in_all().shape == (len(TYPES),)
        assert ones.per_class().shape == (2, len(TYPES), 4)
        assert (ones.in_all() == plain.in_all()).all()


TRUTH = planted_truth()
GOOD = perfect(TRUTH)
CAUSES = {
    "Cls": [relabelled(GOOD, SIMILAR_LABEL), relabelled(GOOD, OTHER_LABEL)],
    "Loc": [shifted(GOOD)],
    "Both": [shifted(relabelled(GOOD, SIMILAR_LABEL)), shifted(relabelled(GOOD, OTHER_LABEL))],
    "Bkg": [noise(TRUTH)],
}


@pytest.mark.parametrize(("cause", "found"), [(c, f) for c, every in CAUSES.items() for f in every])
def test_a_planted_cause_is_found(cause, found):
    names = kinds(found, TRUTH)
    assert len(names) > 100
    assert names.count(cause) >= 0.99 * len(names)


def test_planted_duplicates_are_found():
    names = kinds(together(GOOD, fainter_copies(GOOD)), TRUTH)
    assert names == ["hit"] * len(GOOD) + ["Dupe"] * len(GOOD)


def test_planted_gaps_are_missed_and_cost_what_they_should():
    seen = np.arange(len(TRUTH)) % 2 == 0
    errors = tide_errors(take(GOOD, seen), TRUTH)
    assert (errors.missed == ~seen).all()
    gains = dict(zip(TYPES, tide_gains(errors).in_all(), strict=True))
    assert gains["Miss"] == pytest.approx(100 - tide_gains(errors).before.mean())
    assert [gains[name] for name in MAIN_TYPES if name != "Miss"] == [0] * 5
