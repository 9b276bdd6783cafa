import numpy as np
import pytest
from tests.ops.detection_scenes import (
    choose_images,
    detections_of,
    random_scene,
    take,
    take_objects,
    truth_of,
    with_masks,
)
from tests.oracles.coco_ap import pycocotools_ap
from tests.oracles.voc_ap import voc_ap

from whytransfer.ops import average_precision as module
from whytransfer.ops.average_precision import (
    average_precision,
    coco_family,
    coco_matches,
    summary,
    voc_matches,
)
from whytransfer.ops.detections import Detections

SQUARE = (0, 0, 10, 10)
FAR = (50, 50, 60, 60)
RULES = [(voc_matches, "voc07"), (voc_matches, "voc12"), (coco_matches, "coco101")]


def ap(detections, truth, metric="voc07", *, label=0):
    """AP of one class in percent at the ten thresholds."""
    matches = coco_matches(detections, truth) if metric == "coco101" else None
    matches = matches or voc_matches(detections, truth)
    return 100 * average_precision(matches, metric=metric)[label]


def percent(points, of):
    return pytest.approx(100 * points / of)


class TestVocRules:
    """Every trap of the VOC evaluator, worked out by hand."""

    def test_overlap_of_exactly_the_threshold_is_not_enough(self):
        truth = truth_of((0, 0, SQUARE))
        half = detections_of((0, 0, 0.9, (0, 0, 10, 5)))
        assert ap(half, truth)[0] == 0
        assert ap(half, truth, "coco101")[0] == percent(1, 1)
        assert ap(detections_of((0, 0, 0.9, (0, 0, 10, 6))), truth)[:2].tolist() == [100, 100]

    @pytest.mark.parametrize(("rows", "passed"), [(3, 5), (4, 10)])
    def test_exactly_the_threshold_is_not_enough_at_any_of_them(self, rows, passed):
        # 3 of 4 rows are .75, which is more than .70 and not more than .75.
        truth = truth_of((0, 0, (0, 0, 10, 4)))
        found = detections_of((0, 0, 0.9, (0, 0, 10, rows)))
        assert ap(found, truth).tolist() == [100] * passed + [0] * (10 - passed)
        by_coco = passed + (rows == 3)
        assert ap(found, truth, "coco101").tolist() == [percent(1, 1)] * by_coco + [0] * (
            10 - by_coco
        )

    def test_pixels_are_inclusive(self):
        # 1-based (1, 1, 1, 1): without the extra pixel neither box would have an area.
        truth = truth_of((0, 0, (0, 0, 1, 1)))
        assert ap(detections_of((0, 0, 0.9, (0, 0, 1, 1))), truth).tolist() == [100] * 10
        # Rows 1..3 against rows 1..2, all of one column: 2 of 3 rows shared, not 1 of 2.
        truth = truth_of((0, 0, (0, 0, 1, 3)))
        assert ap(detections_of((0, 0, 0.9, (0, 0, 1, 2))), truth).tolist() == [100] * 4 + [0] * 6

    @pytest.mark.parametrize(("bottom", "expected"), [(5.04, 0), (5.06, 100)])
    def test_coordinates_keep_one_decimal(self, bottom, expected):
        # 5.04 is written as 5.0, whose overlap of .500 is not more than .5; unrounded it were.
        found = detections_of((0, 0, 0.9, (0, 0, 10, bottom)))
        assert ap(found, truth_of((0, 0, SQUARE)))[0] == expected

    def test_the_shift_comes_before_the_rounding(self):
        # 0.35 + 1 is written as 1.4, 0.35 alone as 0.3: the width is 6.0 of the object's 11
        # (.545), not 6.1 (.555).
        found = detections_of((0, 0, 0.9, (0.35, 0, 6.4, 10)))
        assert ap(found, truth_of((0, 0, (0, 0, 11, 10))))[:2].tolist() == [100, 0]

    def test_scores_keep_three_decimals_as_printing_rounds(self):
        scores = [0.0005, 0.0625, 0.12349, 0.0115, 1.0]
        found = detections_of(*((0, 0, score, FAR) for score in scores))
        kept = voc_matches(found, truth_of((0, 0, SQUARE))).score
        assert kept.tolist() == sorted((float(f"{score:.3f}") for score in scores), reverse=True)

    def test_rounding_makes_ties_which_stay_in_the_order_of_rows(self):
        # .9004 and .9001 are both .900: the false one stands first, so precision is 1/2.
        truth = truth_of((0, 0, SQUARE))
        tied = detections_of((0, 0, 0.9001, FAR), (0, 0, 0.9004, SQUARE))
        assert ap(tied, truth)[0] == percent(1, 2)
        apart = detections_of((0, 0, 0.9001, FAR), (0, 0, 0.9014, SQUARE))
        assert ap(apart, truth)[0] == 100

    def test_ties_between_images_go_to_the_first_image(self):
        truth = truth_of((1, 0, SQUARE), num_images=2)
        tied = detections_of((1, 0, 0.9, SQUARE), (0, 0, 0.9, FAR))
        assert ap(tied, truth)[0] == percent(1, 2)

    def test_ties_across_images_are_in_the_order_of_images_then_rows(self):
        # .9001 and .9004 are both written as .900: the image decides, not the row or the score.
        truth = truth_of((0, 0, SQUARE), (1, 0, SQUARE), num_images=2)
        found = detections_of((1, 0, 0.9004, FAR), (0, 0, 0.9001, SQUARE), (1, 0, 0.9002, SQUARE))
        matches = voc_matches(found, truth)
        assert matches.image.tolist() == [0, 1, 1]
        assert matches.row.tolist() == [1, 0, 2]
        # Right, wrong, right: as if the scores had fallen in this order.
        assert ap(found, truth)[0] == percent(6 + 5 * 2 / 3, 11)
        # Without the rounding the wrong one would come first.
        apart = detections_of((1, 0, 0.92, FAR), (0, 0, 0.9, SQUARE), (1, 0, 0.91, SQUARE))
        assert ap(apart, truth)[0] == percent(2 / 3, 1)

    def test_a_class_of_difficult_objects_alone_has_no_value(self):
        truth = truth_of((0, 0, SQUARE), (0, 1, FAR), difficult=[0], num_classes=2)
        found = detections_of((0, 0, 0.9, SQUARE), (0, 1, 0.9, FAR))
        result = average_precision(voc_matches(found, truth), metric="voc07")
        assert np.isnan(result[0]).all()
        assert summary(result)["AP"] == percent(1, 1)  # of the other class alone

    def test_recall_counts_ordinary_objects_only(self):
        truth = truth_of((0, 0, SQUARE), (0, 0, FAR), (0, 0, (80, 80, 90, 90)), difficult=[2])
        found = detections_of((0, 0, 0.9, SQUARE))
        assert ap(found, truth, "voc12")[0] == percent(1, 2)
        assert voc_matches(found, truth).positives.tolist() == [[2]]

    def test_scores_rank_across_images(self):
        truth = truth_of((0, 0, SQUARE), (1, 0, SQUARE), num_images=2)
        found = detections_of((0, 0, 0.5, SQUARE), (1, 0, 0.9, SQUARE), (1, 0, 0.7, FAR))
        # Right, wrong, right: precision 1 up to recall 1/2 (6 points), 2/3 beyond (5 points).
        assert ap(found, truth)[0] == percent(6 + 5 * 2 / 3, 11)

    def test_a_second_hit_is_false(self):
        truth = truth_of((0, 0, SQUARE), (0, 0, FAR))
        found = detections_of((0, 0, 0.9, SQUARE), (0, 0, 0.8, SQUARE), (0, 0, 0.7, FAR))
        assert ap(found, truth)[0] == percent(6 + 5 * 2 / 3, 11)

    def test_the_best_object_counts_even_if_it_is_claimed(self):
        # The second detection overlaps the claimed square by 10/10.5 and the free one by 10.5/12.
        truth = truth_of((0, 0, SQUARE), (0, 0, (0, 0, 10, 12)))
        found = detections_of((0, 0, 0.9, SQUARE), (0, 0, 0.8, (0, 0, 10, 10.5)))
        assert ap(found, truth)[0] == percent(6, 11)
        assert ap(found, truth, "coco101")[0] == percent(1, 1)

    @pytest.mark.parametrize(("difficult", "expected"), [(0, 0), (1, 100)])
    def test_of_two_equally_good_objects_the_first_is_best(self, difficult, expected):
        truth = truth_of((0, 0, SQUARE), (0, 0, (2, 0, 12, 10)), difficult=[difficult])
        assert ap(detections_of((0, 0, 0.9, (1, 0, 11, 10))), truth)[0] == expected

    def test_hits_on_difficult_objects_are_neither_right_nor_wrong(self):
        truth = truth_of((0, 0, FAR), (0, 0, SQUARE), difficult=[0])
        found = detections_of((0, 0, 0.9, FAR), (0, 0, 0.8, FAR), (0, 0, 0.7, SQUARE))
        assert ap(found, truth).tolist() == [100] * 10
        matches = voc_matches(found, truth)
        assert matches.positives.tolist() == [[1]]
        assert matches.ignored[0].tolist() == [True, True, False]

    def test_a_difficult_object_is_best_before_an_ordinary_one(self):
        truth = truth_of((0, 0, SQUARE), (0, 0, (0, 0, 10, 9)), difficult=[0])
        assert ap(detections_of((0, 0, 0.9, SQUARE)), truth)[0] == 0

    def test_a_poor_hit_on_a_difficult_object_is_wrong(self):
        truth = truth_of((0, 0, FAR), (0, 0, SQUARE), difficult=[0])
        found = detections_of((0, 0, 0.9, (50, 50, 60, 54)), (0, 0, 0.8, SQUARE))
        assert ap(found, truth)[0] == percent(1, 2)

    def test_missed_difficult_objects_cost_nothing(self):
        truth = truth_of((0, 0, FAR), (0, 0, SQUARE), difficult=[0])
        assert ap(detections_of((0, 0, 0.9, SQUARE)), truth)[0] == 100

    def test_2007_takes_eleven_points_at_every_threshold(self):
        truth = truth_of((0, 0, SQUARE), (0, 0, FAR))
        found = detections_of((0, 0, 0.9, SQUARE))
        assert ap(found, truth).tolist() == [percent(6, 11)] * 10
        assert ap(found, truth, "voc12").tolist() == [50] * 10

    def test_2012_takes_the_area_under_the_envelope(self):
        truth = truth_of((0, 0, SQUARE), (0, 0, FAR), (0, 0, (80, 80, 90, 90)))
        found = detections_of((0, 0, 0.9, (20, 20, 30, 30)), (0, 0, 0.8, SQUARE), (0, 0, 0.7, FAR))
        # Precision 0, 1/2, 2/3 at recall 0, 1/3, 2/3: the envelope is 2/3 up to recall 2/3.
        assert ap(found, truth, "voc12")[0] == percent(4, 9)

    def test_three_of_ten_do_not_reach_the_evaluators_three_tenths(self):
        # Its recall levels are multiples of 0.1 in floats: the fourth is 0.30000000000000004.
        boxes = [(20 * place, 0, 20 * place + 10, 10) for place in range(10)]
        truth = truth_of(*((0, 0, box) for box in boxes))
        found = detections_of(*((0, 0, 0.9, box) for box in boxes[:3]))
        assert ap(found, truth)[0] == percent(3, 11)

    def test_objects_of_other_images_and_classes_are_out_of_reach(self):
        truth = truth_of((0, 0, SQUARE), (1, 1, SQUARE), num_images=2, num_classes=2)
        found = detections_of((0, 1, 0.9, SQUARE), (1, 0, 0.9, SQUARE))
        assert ap(found, truth, label=0)[0] == 0
        assert ap(found, truth, label=1)[0] == 0

    @pytest.mark.parametrize("metric", ["voc07", "voc12"])
    def test_equals_the_plain_loops(self, metric):
        for seed in range(60):
            found, truth = random_scene(seed, decimals=1 + seed % 4, crowds=False)
            found.boxes_xyxy[:] += np.random.default_rng(seed).uniform(-1, 1, (len(found), 4))
            fast = average_precision(voc_matches(found, truth), metric=metric)
            slow = [
                [
                    voc_ap(found, truth, at / 100, label, metric == "voc07")
                    for at in range(50, 100, 5)
                ]
                for label in range(3)
            ]
            np.testing.assert_allclose(fast, np.array(slow, dtype=float), rtol=0, atol=1e-12)


class TestCocoRules:
    @pytest.mark.parametrize("part", range(6))
    def test_equals_pycocotools_on_fifty_random_sets(self, part):
        """Boxes and masks, on sets with crowds, empty images and classes, ties and crowding."""
        defined, beyond, empty = 0, 0, 0
        for seed in range(50 * part, 50 * part + 50):
            num_images = 1 + seed % 4
            # Every tenth set has some 130 detections of one class in one image.
            crowded = (np.zeros(130) if seed % 10 == 0 else np.zeros(0)).astype(int)
            found, truth = random_scene(
                seed, num_images=num_images, num_classes=1 + seed % 3, extra=crowded
            )
            found, truth = with_masks(seed, found, truth)
            empty += len(set(truth.image)) < num_images
            beyond += len(coco_matches(found, truth).row) < len(found)
            for by, kind in (("boxes", "bbox"), ("masks", "segm")):
                family = coco_family(found, truth, by=by)
                own = [average_precision(m, metric="coco101") for m in family.values()]
                expected = pycocotools_ap(found, truth, list(family), kind)
                np.testing.assert_allclose(own, expected, rtol=0, atol=1e-6)
                defined += np.isfinite(expected).sum()
        assert defined > 2000  # the sets are not empty talk
        assert beyond >= 1  # some exceed the limit
        assert empty >= 1  # and some have images without objects

    def test_only_the_hundred_best_of_an_image_and_class_count(self):
        truth = truth_of((0, 0, SQUARE))
        wrong = [(0, 0, 0.9, FAR)] * 100
        assert ap(detections_of(*wrong, (0, 0, 0.5, SQUARE)), truth, "coco101")[0] == 0
        assert ap(detections_of(*wrong[1:], (0, 0, 0.5, SQUARE)), truth, "coco101")[0] == percent(
            1, 100
        )

    def test_a_crowd_absorbs_any_number_but_ordinary_objects_come_first(self):
        truth = truth_of((0, 0, (0, 0, 100, 100)), (0, 0, SQUARE), crowd=[0])
        inside = [(0, 0, 0.9 - place / 100, (20, 20, 40, 40)) for place in range(5)]
        found = detections_of(*inside, (0, 0, 0.1, SQUARE))
        assert ap(found, truth, "coco101").tolist() == [percent(1, 1)] * 10
        assert coco_matches(found, truth).ignored[0].tolist() == [True] * 5 + [False]

    def test_of_two_equally_good_objects_the_last_is_claimed(self):
        # Both overlap the first detection by 9/11. It claims the second one, so what is exactly
        # there is left with the first one, at an overlap of 8/12: enough up to .65. From .85 on
        # the first detection claims nothing.
        truth = truth_of((0, 0, SQUARE), (0, 0, (2, 0, 12, 10)))
        found = detections_of((0, 0, 0.9, (1, 0, 11, 10)), (0, 0, 0.8, (2, 0, 12, 10)))
        expected = pycocotools_ap(found, truth, ["all"])[0, 0]
        assert ap(found, truth, "coco101") == pytest.approx(100 * expected)
        second = coco_matches(found, truth).tp[:, 1]
        assert second.tolist() == [True] * 4 + [False] * 3 + [True] * 3

    def test_area_ranges_ignore_what_lies_outside(self):
        large = (0, 0, 150, 150)
        truth = truth_of((0, 0, SQUARE), (0, 0, large))
        found = detections_of((0, 0, 0.9, large), (0, 0, 0.8, SQUARE))
        for area, count in [("all", 2), ("small", 1), ("medium", 0), ("large", 1)]:
            matches = coco_matches(found, truth, area=area)
            assert matches.positives.sum() == count
            assert matches.tp[0].sum() == count
            assert matches.ignored[0].sum() == 2 - count


@pytest.mark.parametrize(("rules", "metric"), RULES)
class TestProperties:
    def test_the_truth_itself_scores_100(self, rules, metric):
        _, truth = random_scene(3, num_images=6, crowds=False, difficult=False)
        found = Detections(truth.image, truth.label, np.ones(len(truth)), truth.boxes_xyxy)
        result = average_precision(rules(found, truth), metric=metric)
        assert len(truth) > 5
        assert np.allclose(result[:2], 1.0)
        assert np.isnan(result[2]).all()
        assert summary(result) == {name: pytest.approx(100.0) for name in ("AP", "AP50", "AP75")}

    def test_random_boxes_score_next_to_nothing(self, rules, metric):
        generator = np.random.default_rng(0)
        _, truth = random_scene(4, num_images=40)
        corner = generator.uniform(0, 150, (4000, 2))
        found = Detections(
            generator.integers(0, 40, 4000),
            generator.integers(0, 3, 4000),
            generator.random(4000),
            np.concatenate([corner, corner + generator.uniform(5, 60, (4000, 2))], axis=1),
        )
        scores = summary(average_precision(rules(found, truth), metric=metric))
        assert 0 <= scores["AP75"] <= scores["AP50"] < 1.5

    def test_nothing_found_scores_0(self, rules, metric):
        truth = truth_of((0, 0, SQUARE), num_classes=2)
        result = average_precision(rules(detections_of(), truth), metric=metric)
        assert (result[0] == 0).all()
        assert np.isnan(result[1]).all()

    def test_nothing_wanted_has_no_score(self, rules, metric):
        result = average_precision(
            rules(detections_of((0, 0, 0.5, SQUARE)), truth_of(num_images=2)), metric=metric
        )
        assert np.isnan(result).all()
        assert np.isnan(summary(result)["AP"])

    def test_the_order_of_rows_and_images_changes_nothing(self, rules, metric):
        generator = np.random.default_rng(1)
        for seed in range(10):
            found, truth = random_scene(seed, decimals=9)
            found = Detections(
                found.image,
                found.label,
                (1 + generator.permutation(len(found))) / 500,  # distinct with three decimals, too
                found.boxes_xyxy,
            )
            before = average_precision(rules(found, truth), metric=metric)
            rows = take(found, generator.permutation(len(found)))
            objects = take_objects(truth, generator.permutation(len(truth)))
            again = average_precision(rules(rows, objects), metric=metric)
            np.testing.assert_array_equal(before, again)
            other = choose_images(found, truth, generator.permutation(len(truth.images)))
            np.testing.assert_array_equal(before, average_precision(rules(*other), metric=metric))

    def test_a_weight_of_one_each_changes_nothing(self, rules, metric):
        for seed in range(5):
            found, truth = random_scene(seed)
            matches = rules(found, truth)
            plain = average_precision(matches, metric=metric)
            ones = average_precision(matches, np.ones(4, dtype=int), metric=metric)
            np.testing.assert_array_equal(plain, ones)

    def test_weights_repeat_images(self, rules, metric):
        generator = np.random.default_rng(2)
        for seed in range(10):
            found, truth = random_scene(seed, num_images=5, decimals=9)
            found = Detections(
                found.image,
                found.label,
                (1 + generator.permutation(len(found))) / 500,
                found.boxes_xyxy,
            )
            weights = generator.multinomial(5, np.ones(5) / 5, 4)
            fast = average_precision(rules(found, truth), weights, metric=metric)
            for draw, result in zip(weights, fast, strict=True):
                repeated = choose_images(found, truth, np.repeat(np.arange(5), draw))
                slow = average_precision(rules(*repeated), metric=metric)
                np.testing.assert_allclose(result, slow, rtol=0, atol=1e-14)

    def test_draws_come_out_the_same_alone_and_in_blocks(self, rules, metric, monkeypatch):
        found, truth = random_scene(5)
        matches = rules(found, truth)
        weights = np.random.default_rng(3).multinomial(4, np.ones(4) / 4, 7)
        together = average_precision(matches, weights, metric=metric)
        alone = [average_precision(matches, draw, metric=metric) for draw in weights]
        np.testing.assert_array_equal(together, np.stack(alone))
        monkeypatch.setattr(module, "_CHUNK", 30)
        np.testing.assert_array_equal(together, average_precision(matches, weights, metric=metric))

    def test_a_class_absent_from_a_draw_is_left_out_of_its_mean(self, rules, metric):
        truth = truth_of((0, 0, SQUARE), (1, 1, SQUARE), num_images=2, num_classes=2)
        matches = rules(detections_of((0, 0, 0.9, SQUARE), (1, 1, 0.9, FAR)), truth)
        result = average_precision(matches, np.array([[1, 1], [2, 0], [0, 2]]), metric=metric)
        assert np.isnan(result[1, 1]).all()
        assert np.isnan(result[2, 0]).all()
        assert summary(result)["AP"].tolist() == [percent(1, 2), percent(1, 1), 0]

    def test_weights_must_fit_the_images(self, rules, metric):
        matches = rules(detections_of(), truth_of(num_images=3))
        with pytest.raises(ValueError, match="weights have shape"):
            average_precision(matches, np.ones(2), metric=metric)


def test_summary_reads_the_thresholds_at_50_and_75():
    precision = np.full((2, 10), np.nan)
    precision[0] = np.arange(10) / 10
    scores = summary(precision)
    assert float(scores["AP"]) == pytest.approx(45)
    assert float(scores["AP50"]) == 0
    assert float(scores["AP75"]) == pytest.approx(50)
