"""What is looked at by part, at matched AP, over seeds and by masks: planted, and found there."""

from dataclasses import replace

import numpy as np
import pytest
from tests.ops.detection_scenes import take, take_objects
from tests.ops.planted_scenes import (
    SIMILAR,
    dense_scene,
    noise,
    perfect,
    planted_truth,
    shifted,
    together,
)

from whytransfer.core.errors import InputError
from whytransfer.diagnose.analyses import detection_errors
from whytransfer.diagnose.analyses.detection_errors import Config
from whytransfer.diagnose.analysis import DetectionRun
from whytransfer.ops import hoiem
from whytransfer.ops.boxes import area_xyxy
from whytransfer.ops.masks import encode

TRUTH = planted_truth(30)
GOOD = perfect(TRUTH)
QUICK = Config(num_draws=100, num_pictures=0, similar=SIMILAR)


def run(arm, found, seed=0, variant="", truth=TRUTH):
    return DetectionRun(arm, seed, f"{arm}{seed}{variant}", truth, found, variant)


def answer(runs, folder, **config):
    return detection_errors.answer(runs, None, QUICK.model_copy(update=config), folder)


def table(finding, words):
    at_matched = "at matched AP" in words
    (found,) = (
        t for t in finding.tables if words in t.title and at_matched == ("at matched AP" in t.title)
    )
    return found.rows


def faulty(chosen, fault=shifted):
    """A fault in the chosen detections."""
    return together(take(GOOD, ~chosen), fault(take(GOOD, chosen)))


HOIEM = "Differences in the types of the best detections"
COSTS = "Differences in what each type costs"


def shown(rows, *keys):
    """What is shown: the keys' values and the difference's sign."""
    return {
        (*(row[key] for key in keys), "+" if row["difference"] > 0 else "-")
        for row in rows
        if row["shown"] == "yes"
    }


class TestParts:
    def test_a_fault_of_one_class_is_shown_there(self, tmp_path):
        bad = faulty(GOOD.label == 2)
        finding = answer([run("good", GOOD), run("bad", bad)], tmp_path)
        rows = table(finding, "Differences by class")
        assert shown(rows, "class", "type") == {(TRUTH.classes[2], "Loc", "+")}
        assert len(rows) == 6 * len(TRUTH.classes)

    def test_a_fault_of_a_given_group_is_shown_there(self, tmp_path):
        groups = {"pets": ("cat", "dog"), "rest": ("car", "bus", "tree")}
        bad = faulty(GOOD.label < 2)
        finding = answer([run("good", GOOD), run("bad", bad)], tmp_path, groups=groups)
        rows = table(finding, "Differences by group")
        assert shown(rows, "group", "type") == {("pets", "Loc", "+")}
        rows = {r["class"]: r for r in table(finding, "Types of the best detections (Hoiem, %)")
                if r["arm"] == "bad"}  # fmt: skip
        assert rows["pets"]["localisation"] == pytest.approx(100)
        assert rows["rest"]["localisation"] == 0
        parts = {row["group"] for row in finding.figures["Loc_by_group"]}
        assert parts == set(groups)

    @pytest.mark.parametrize("sizes", ["coco", "percentiles"])
    def test_a_fault_of_small_objects_is_shown_there(self, sizes, tmp_path):
        small = np.arange(len(TRUTH)) % 3 == 0
        scale = np.where(small, 0.5, 2.4)[:, None]
        boxes = TRUTH.boxes_xyxy * 3
        middle = (boxes[:, :2] + boxes[:, 2:]) / 2
        boxes = np.concatenate([middle - 20 * scale, middle + 20 * scale], axis=1)
        truth = replace(TRUTH, boxes_xyxy=boxes, area=area_xyxy(boxes))
        good = replace(GOOD, boxes_xyxy=boxes)
        bad = replace(good, boxes_xyxy=boxes + np.where(small, 11.0, 0.0)[:, None] * [1, 0, 1, 0])
        runs = [run("good", good, truth=truth), run("bad", bad, truth=truth)]
        finding = answer(runs, tmp_path, sizes=sizes)
        rows = table(finding, "Differences by size")
        names = {row["size"] for row in rows if row["shown"] == "yes"}
        assert names and all("small" in name or name == "medium" for name in names)
        assert {row["type"] for row in rows if row["shown"] == "yes"} == {"Loc"}
        assert "large" not in names and "extra large" not in names

    def test_parts_of_one_class_are_that_classes_gain(self, tmp_path):
        finding = answer([run("bad", faulty(GOOD.label == 2))], tmp_path, groups={"g": ("car",)})
        (group,) = (r for r in table(finding, "group of classes") if r["by"] == "group")
        (own,) = (r for r in table(finding, "What fixing") if r["class"] == "car")
        assert group["Loc"] == pytest.approx(own["Loc"])

    def test_a_group_names_classes_that_there_are(self, tmp_path):
        with pytest.raises(InputError, match="pets names 'cta', which is no class"):
            answer([run("good", GOOD)], tmp_path, groups={"pets": ("cta",)})


class TestCounting:
    def test_all_three_ways_are_reported(self, tmp_path):
        found, truth = dense_scene(3, num_images=12, num_objects=40, num_detections=160)
        finding = answer([run("a", found, truth=truth)], tmp_path)
        types = hoiem.hoiem_types(found, truth, SIMILAR)
        rows = {(r["counted"], r["class"]): r for r in table(finding, "each way of counting")}
        assert len({counted for counted, _ in rows}) == 3
        for words, rule in (("best Npos", "top_npos"), ("Npos false", "npos_false"),
                            ("100 false", "first_100_false")):  # fmt: skip
            chosen = hoiem.counted_rows(types, found, truth, rule)
            counts = hoiem.type_counts(types, found, truth, rows=chosen).sum(axis=0)
            (row,) = (r for (w, c), r in rows.items() if words in w and c == "all classes")
            assert row["detections"] == counts.sum()
            assert [row[kind] for kind in hoiem.TYPES] == pytest.approx(
                list(100 * counts / counts.sum())
            )

    def test_shares_are_compared_with_intervals(self, tmp_path):
        bad = faulty(np.arange(len(GOOD)) % 3 == 0)
        rows = table(answer([run("a", GOOD), run("b", bad)], tmp_path), HOIEM)
        found = {row["type"]: row["difference"] for row in rows if row["shown"] == "yes"}
        assert found["localisation"] == pytest.approx(100 / 3, abs=1)
        assert found["correct"] == pytest.approx(-100 / 3, abs=1)
        assert set(found) == {"localisation", "correct"}


class TestCosts:
    def test_what_a_type_costs_is_drawn_and_compared(self, tmp_path):
        bad = faulty(np.arange(len(GOOD)) % 3 == 0)
        finding = answer([run("a", GOOD), run("b", bad)], tmp_path)
        rows = {(r["arm"], r["of"]): r for r in table(finding, "with intervals")}
        plain = next(r for r in table(finding, "What each type of error costs") if r["arm"] == "b")
        for name in ("AP", *hoiem.REPAIRS):
            row = rows["b", name]
            assert row["value"] == pytest.approx(plain[name])
            assert row["low"] <= row["value"] <= row["high"]
        assert rows["b", "localisation_fixed"]["low"] > 10
        found = shown(table(finding, COSTS), "type")
        assert found >= {("AP", "-"), ("localisation_fixed", "+")}
        assert not {name for name, _ in found} & {"similar", "background"}
        metrics = {m.name: m for m in finding.metrics}
        assert metrics["normalised_AP[b]"].higher_is_better
        assert metrics["normalised_localisation_fixed[b]"].low > 10

    def test_a_planted_null_costs_nothing_more(self, tmp_path):
        found, truth = dense_scene(1, num_images=12, num_objects=40, num_detections=120)
        finding = answer([run(arm, found, truth=truth) for arm in "ab"], tmp_path)
        for words in (COSTS, "Differences in AP by size", "differences by class", HOIEM):
            rows = table(finding, words)
            assert rows and not shown(rows, "type")
            assert {row["difference"] for row in rows} <= {0.0, None}

    def test_difference_of_chance_is_not_shown(self, tmp_path):
        third = np.arange(len(GOOD)) % 3
        runs = [run(arm, faulty(third == k)) for k, arm in enumerate("ab")]
        finding = answer(runs, tmp_path)
        for words in (COSTS, "Differences in AP by size", "differences by class", HOIEM):
            rows = table(finding, words)
            assert not shown(rows, "type")
        assert any(row["difference"] for row in table(finding, COSTS))

    def test_shares_of_one_class_and_group_are_shown_there(self, tmp_path):
        groups = {"pets": ("cat", "dog"), "rest": ("bus", "tree")}
        runs = [run("good", GOOD), run("bad", faulty(GOOD.label == 2))]
        finding = answer(runs, tmp_path, groups={**groups, "car": ("car",)})
        for level, name in (("class", TRUTH.classes[2]), ("group", "car")):
            rows = table(finding, f"Types of the best detections, differences by {level}")
            assert shown(rows, level, "type") == {
                (name, "localisation", "+"), (name, "correct", "-")
            }  # fmt: skip

    @pytest.mark.parametrize("sizes", ["coco", "percentiles"])
    def test_ap_falls_where_objects_are_badly_found(self, sizes, tmp_path):
        small = np.arange(len(TRUTH)) % 4 == 0
        side = np.where(small, 10.0, 60.0)[:, None] + (np.arange(len(TRUTH)) / 100)[:, None]
        middle = (TRUTH.boxes_xyxy[:, :2] + TRUTH.boxes_xyxy[:, 2:]) / 2
        boxes = np.concatenate([middle - side / 2, middle + side / 2], axis=1)
        truth = replace(TRUTH, boxes_xyxy=boxes, area=area_xyxy(boxes))
        good = replace(GOOD, boxes_xyxy=boxes)
        bad = take(good, ~small)
        runs = [run("good", good, truth=truth), run("bad", bad, truth=truth)]
        finding = answer(runs, tmp_path, sizes=sizes)
        found = {name for name, _ in shown(table(finding, "Differences in AP by size"), "size")}
        assert "small" in found and not {"large", "extra large"} & found
        own = {(r["arm"], r["size"]): r for r in table(finding, "AP of the objects of each size")}
        assert own["good", "small"]["AP"] == pytest.approx(100)
        assert own["bad", "small"]["AP"] < 50
        assert own["bad", "small"]["low"] <= own["bad", "small"]["AP"]


class TestFewImages:
    @pytest.mark.parametrize("empty", [0, 5])
    def test_of_one_image_with_objects_nothing_is_shown(self, empty, tmp_path):
        truth = planted_truth(1)
        names = (*truth.images, *map(str, range(empty)))
        truth = replace(truth, images=names, sizes=np.full((len(names), 2), 300))
        good = perfect(truth)
        for seeds in (1, 3):
            runs = [run("a", good, seed, truth=truth) for seed in range(seeds)]
            runs += [run("b", shifted(good), seed, truth=truth) for seed in range(seeds)]
            finding = answer(runs, tmp_path)
            assert finding.headline.value == pytest.approx(100)
            assert (finding.headline.low, finding.headline.high) == (None, None)
            assert finding.answer == (
                "No difference shown to a in any type of error (no interval: fewer than two images"
                " with objects); the largest is b's in Loc, +100.0 AP points, no interval."
            )
            assert "Fewer than two test images have an object" in finding.caveat
            assert "other seeds" not in finding.caveat
            for one in finding.tables:
                assert not any(row.get("shown") == "yes" for row in one.rows)
                assert not any(row.get("low") for row in one.rows)

    def test_a_class_in_one_image_alone_has_no_interval(self, tmp_path):
        chosen = (TRUTH.label != 2) | (TRUTH.image == TRUTH.image[np.argmax(TRUTH.label == 2)])
        truth = take_objects(TRUTH, chosen)
        good = perfect(truth)
        bad = together(take(good, good.label != 2), shifted(take(good, good.label == 2)))
        finding = answer([run("a", good, truth=truth), run("b", bad, truth=truth)], tmp_path)
        for words in ("Differences by class", "detections, differences by class"):
            rows = [r for r in table(finding, words) if r["class"] == TRUTH.classes[2]]
            assert {r["low"] for r in rows} == {None}
            assert {r["shown"] for r in rows} == {"no"}
            assert max(abs(r["difference"]) for r in rows) == pytest.approx(100)


class TestSeeds:
    def seeds(self, arm, rates):
        order = np.argsort(np.arange(len(GOOD)) * 37 % len(GOOD))
        return [run(arm, faulty(order < rate * len(GOOD)), seed=s) for s, rate in enumerate(rates)]

    def test_from_three_on_the_interval_is_over_seeds_and_images(self, tmp_path):
        runs = self.seeds("a", (0.1, 0.2, 0.15, 0.1)) + self.seeds("b", (0.75, 0.85, 0.8, 0.75))
        finding = answer(runs, tmp_path)
        assert finding.headline.interval == "seeds then images"
        assert "other seeds and other test images" in finding.caveat
        assert "b loses more to Loc errors" in finding.answer

    def test_models_that_differ_by_seed_as_much_are_not_told_apart(self, tmp_path):
        runs = self.seeds("a", (0.0, 0.3, 0.6)) + self.seeds("b", (0.5, 0.1, 0.55))
        three = answer(runs, tmp_path)
        assert "No difference shown" in three.answer
        two = answer([r for r in runs if r.seed != 1], tmp_path)
        assert "Fewer than three seeds, of its own or in common with a: a, b." in two.caveat
        assert "fixed models" in two.headline.interval
        assert [row["seed"] for row in two.tables[-1].rows] == [0, 2, 0, 2]
        others = [replace(r, seed=r.seed + (5 if r.arm == "b" else 0)) for r in runs]
        apart = answer(others, tmp_path)
        assert "in common with a: b." in apart.caveat
        assert "other seeds and" not in apart.caveat
        # What two fixed models differ by is shown, and speaks of them alone.
        assert "loses more to Loc errors" in two.answer


def test_each_way_of_counting_is_compared(tmp_path):
    """Boxes on nothing, below all others: the prefix of the best holds none of them."""
    low = noise(TRUTH)
    low = replace(low, score=low.score * 1e-3)
    finding = answer([run("a", GOOD), run("b", together(GOOD, low))], tmp_path)
    words = "Types of the best detections, differences by way of counting"
    rows = {(row["way of counting"], row["type"]): row for row in table(finding, words)}
    assert rows["top_npos", "background"]["difference"] == 0
    assert rows["npos_false", "background"]["difference"] > 10
    assert rows["first_100_false", "background"]["difference"] > 10
    assert rows["npos_false", "background"]["shown"] == "yes"
    of_the_default = {row["type"]: row["difference"] for row in table(finding, HOIEM)}
    assert of_the_default["background"] == 0


class TestMatchedAP:
    def bad(self, rate, fault=shifted, start=0):
        return faulty((np.arange(len(GOOD)) + start) % 20 < rate * 20, fault)

    def near(self, finding):
        (row,) = table(finding, "How near the arms come in AP")
        return row

    def test_without_further_runs_the_finding_says_so(self, tmp_path):
        finding = answer([run("a", GOOD), run("b", self.bad(0.5))], tmp_path)
        assert "No further complete runs of the better arm were given for b" in finding.caveat
        assert "not compared at matched AP" in finding.answer
        assert not any("matched" in t.title or "How near" in t.title for t in finding.tables)

    def test_one_that_is_only_better_keeps_no_difference(self, tmp_path):
        # As many of the better arm's boxes lie badly after a shorter schedule, but others do.
        runs = [run("a", GOOD), run("b", self.bad(0.5))]
        runs += [
            run("a", self.bad(rate, start=11), variant=f"{rate:g}") for rate in (0.1, 0.5, 0.9)
        ]
        finding = answer(runs, tmp_path)
        near = self.near(finding)
        assert (near["its nearest run"], near["matched"]) == ("0.5", "yes")
        assert near["AP gap as they are"] < -30
        assert 0 < abs(near["AP gap left"]) <= 1
        assert near["low"] <= near["AP gap left"] <= near["high"]
        rows = {row["type"]: row for row in table(finding, "The same at matched AP")}
        assert rows["Loc"]["as they are"] > 30 and abs(rows["Loc"]["difference"]) < 5
        assert {row["shown"] for row in rows.values()} == {"no"}
        for words in ("Types of the best detections at matched AP", "costs at matched AP"):
            assert not shown(table(finding, words), "type")
        assert shown(table(finding, HOIEM), "type") == {("localisation", "+"), ("correct", "-")}
        metrics = {m.name: m.value for m in finding.metrics}
        assert metrics["dAP_Loc[b - a, matched AP]"] == rows["Loc"]["difference"]
        assert "b loses more to Loc errors (+" in finding.answer
        assert "; not shown at matched AP, " in finding.answer
        assert "stands in by the complete run" in finding.caveat
        assert "No further complete runs" not in finding.caveat

    def test_a_perfect_match_leaves_nothing_and_the_answer_says_so(self, tmp_path):
        runs = [run("a", self.bad(0.5)), run("b", GOOD), run("b", self.bad(0.5), variant="short")]
        runs += [run("a", self.bad(0.9), variant="short")]  # of the worse arm: not looked at
        finding = answer(runs, tmp_path)
        near = self.near(finding)
        assert (near["better arm"], near["its nearest run"]) == ("b", "short")
        assert (near["AP gap left"], near["low"], near["high"]) == (0, 0, 0)
        assert {row["difference"] for row in table(finding, "The same at matched AP")} == {0}
        assert "b loses less to Loc errors (-" in finding.answer
        assert "; not shown at matched AP, +0.0 AP points [+0.0, +0.0])" in finding.answer

    def test_a_run_too_far_away_is_no_match(self, tmp_path):
        runs = [run("a", self.bad(0.9)), run("b", GOOD), run("b", self.bad(0.3), variant="short")]
        finding = answer(runs, tmp_path)
        near = self.near(finding)
        assert (near["its nearest run"], near["matched"]) == ("short", "no")
        assert near["AP gap left"] > 20
        assert not any("at matched AP" in table.title for table in finding.tables)
        assert not any("matched AP" in metric.name for metric in finding.metrics)
        left = f"{near['AP gap left']:+.1f} AP points [{near['low']:+.1f}, {near['high']:+.1f}]"
        assert f"no run of b comes nearer than {left}" in finding.answer
        assert f"Of b ({left} left) no run comes so near" in finding.caveat
        wide = answer(runs, tmp_path, matched_within=90.0)
        assert self.near(wide)["matched"] == "yes"

    def test_other_errors_at_the_same_ap_are_found(self, tmp_path):
        far = together(self.bad(0.4, lambda part: take(part, slice(0))), noise(TRUTH))
        runs = [run("a", far), run("b", GOOD)]
        runs += [run("b", self.bad(rate / 20), variant=f"{rate}") for rate in range(1, 20)]
        finding = answer(runs, tmp_path, matched_within=3.0)
        near = self.near(finding)
        assert near["matched"] == "yes" and near["its nearest run"] != "in full"
        found = shown(table(finding, "The same at matched AP"), "type")
        assert {("Loc", "+"), ("Bkg", "-")} <= found
        assert ("localisation", "+") in shown(table(finding, "costs at matched AP"), "type")
        assert ("localisation", "+") in shown(
            table(finding, "Types of the best detections at matched AP"), "type"
        )
        assert "b loses less to Bkg errors" in finding.answer
        assert "; still shown at matched AP, -" in finding.answer
        assert "At matched AP alone, b loses more to Loc errors (+" in finding.answer

    def test_what_differs_in_a_part_alone_is_found_there_at_matched_ap(self, tmp_path):
        # As many boxes lie badly in either, but in one arm all of them are cars'.
        cars = GOOD.label == list(TRUTH.classes).index("car")
        share = float(np.mean(cars))
        runs = [run("a", faulty(cars)), run("b", GOOD)]
        runs += [run("b", self.bad(share + by), variant=f"{by}") for by in (-0.05, 0, 0.05)]
        finding = answer(runs, tmp_path, matched_within=20.0, groups={"cars": ("car",)})
        assert self.near(finding)["matched"] == "yes"
        rows = table(finding, "Differences by class at matched AP")
        assert ("car", "Loc", "-") in shown(rows, "class", "type")
        elsewhere = [r["difference"] for r in rows if r["type"] == "Loc" and r["class"] != "car"]
        assert len(elsewhere) > 1 and min(elsewhere) > 0
        in_group = shown(table(finding, "Differences by group at matched AP"), "group", "type")
        assert ("cars", "Loc", "-") in in_group
        words = "Types of the best detections, differences by class at matched AP"
        assert ("car", "localisation", "-") in shown(table(finding, words), "class", "type")
        words = "Differences in AP by size of object at matched AP"
        assert {row["size"] for row in table(finding, words)} >= {"small", "large"}

    def test_parts_of_arms_that_are_the_same_differ_in_nothing_at_matched_ap(self, tmp_path):
        runs = [run("a", self.bad(0.2)), run("b", self.bad(0.2, start=7))]
        runs += [run("b", self.bad(0.9), variant="short")]
        finding = answer(runs, tmp_path, matched_within=20.0)
        for words, of in (
            ("Differences by class at matched AP", "class"),
            ("Differences by size at matched AP", "size"),
            ("Types of the best detections, differences by class at matched AP", "class"),
            ("Differences in AP by size of object at matched AP", "size"),
        ):
            assert table(finding, words)
            assert not shown(table(finding, words), of, "type")

    def test_arms_of_one_ap_are_matched_as_they_are(self, tmp_path):
        runs = [run("a", self.bad(0.2)), run("b", self.bad(0.2)),
                run("b", self.bad(0.9), variant="short")]  # fmt: skip
        assert self.near(answer(runs, tmp_path))["its nearest run"] == "in full"
        finding = answer(runs[:2], tmp_path)
        assert self.near(finding)["matched"] == "yes"
        assert "No further complete runs" not in finding.caveat

    def test_fixed_models_among_arms_with_seeds_are_named(self, tmp_path):
        runs = [run(arm, GOOD if arm == "a" else self.bad(0.5), seed) for arm in "abc"
                for seed in range(3)]  # fmt: skip
        runs += [run("a", self.bad(0.5), variant="short")]
        finding = answer(runs, tmp_path)
        assert "Intervals are over other seeds" in finding.caveat
        assert "There fixed models are compared of b, c, for lack of three seeds" in finding.caveat

    def test_an_arm_needs_its_full_run(self, tmp_path):
        with pytest.raises(InputError, match=r"b has only further runs \(short\)"):
            answer([run("a", GOOD), run("b", GOOD, variant="short")], tmp_path)

    def test_a_further_run_stands_once(self, tmp_path):
        runs = [run("a", GOOD), run("a", GOOD, variant="x"), run("a", GOOD, variant="x")]
        with pytest.raises(InputError, match=r"a \(seed 0\), x stands twice"):
            answer(runs, tmp_path)


class TestMasks:
    def masks(self, boxes):
        pixels = np.zeros((len(boxes), 300, 300), dtype=bool)
        for mask, (x1, y1, x2, y2) in zip(pixels, boxes.astype(int).tolist(), strict=True):
            mask[y1:y2, x1:x2] = True
        return encode(pixels)

    def scene(self, lower):
        truth = replace(TRUTH, masks=self.masks(TRUTH.boxes_xyxy))
        boxes = GOOD.boxes_xyxy + np.where(lower, 22.0, 0.0)[:, None] * [1, 0, 1, 0]
        return replace(GOOD, masks=self.masks(boxes)), truth

    def test_bad_masks_in_good_boxes_are_found_by_masks_alone(self, tmp_path):
        good, truth = self.scene(np.zeros(len(GOOD), bool))
        bad, _ = self.scene(np.arange(len(GOOD)) % 3 == 0)
        runs = [run("good", good, truth=truth), run("bad", bad, truth=truth)]
        by_boxes = answer(runs, tmp_path)
        by_masks = answer(runs, tmp_path, overlap="masks")
        assert "No difference shown" in by_boxes.answer
        assert "bad loses more to Loc errors" in by_masks.answer

    def test_detections_without_masks_are_refused(self, tmp_path):
        _, truth = self.scene(np.zeros(len(GOOD), bool))
        with pytest.raises(InputError, match=r"'masks', but a \(seed 0\) has no masks"):
            answer([run("a", GOOD, truth=truth)], tmp_path, overlap="masks")


class TestOtherTruths:
    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"images": ("x", *TRUTH.images[1:])}, r"other images \(2 are in one of the two alone"),
            ({"images": TRUTH.images[::-1]}, r"other images \(in another order"),
            ({"classes": ("cow", *TRUTH.classes[1:])}, r"other classes \(cat, cow\)"),
            ({"classes": TRUTH.classes[::-1]}, r"other classes \(their order\)"),
            ({"difficult": np.arange(len(TRUTH)) < 3}, "other objects"),
        ],
    )
    def test_what_differs_is_named(self, change, words, tmp_path):
        runs = [run("a", GOOD), run("b", GOOD, truth=replace(TRUTH, **change))]
        with pytest.raises(InputError, match=rf"b \(seed 0\) was tested on {words}"):
            answer(runs, tmp_path)
