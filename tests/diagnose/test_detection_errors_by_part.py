"""What is looked at by part, at matched AP, over seeds and by masks: planted, and found there."""

from dataclasses import replace

import numpy as np
import pytest
from tests.ops.detection_scenes import take
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
    (found,) = (t for t in finding.tables if words in t.title)
    return found.rows


def faulty(chosen, fault=shifted):
    """A fault in the chosen detections."""
    return together(take(GOOD, ~chosen), fault(take(GOOD, chosen)))


class TestParts:
    def test_a_fault_of_one_class_is_shown_there(self, tmp_path):
        bad = faulty(GOOD.label == 2)
        finding = answer([run("good", GOOD), run("bad", bad)], tmp_path)
        shown = {(r["class"], r["type"]) for r in table(finding, "by class") if r["shown"] == "yes"}
        assert shown == {(TRUTH.classes[2], "Loc")}
        assert len(table(finding, "by class")) == 6 * len(TRUTH.classes)

    def test_a_fault_of_a_given_group_is_shown_there(self, tmp_path):
        groups = {"pets": ("cat", "dog"), "rest": ("car", "bus", "tree")}
        bad = faulty(GOOD.label < 2)
        finding = answer([run("good", GOOD), run("bad", bad)], tmp_path, groups=groups)
        shown = {
            (r["group"], r["type"])
            for r in table(finding, "Differences by group")
            if r["shown"] == "yes"
        }
        assert shown == {("pets", "Loc")}
        rows = {r["class"]: r for r in table(finding, "Types of the best")
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
        rows = table(finding, "by size")
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
        rows = table(answer([run("a", GOOD), run("b", bad)], tmp_path), "percentage points")
        shown = {row["type"]: row["difference"] for row in rows if row["shown"] == "yes"}
        assert shown["localisation"] == pytest.approx(100 / 3, abs=1)
        assert shown["correct"] == pytest.approx(-100 / 3, abs=1)
        assert set(shown) == {"localisation", "correct"}


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
        assert "fewer than three seeds (a, b)" in two.caveat
        assert "fixed models" in two.headline.interval
        assert [row["seed"] for row in two.tables[-1].rows] == [0, 2, 0, 2]
        # What two fixed models differ by is shown, and speaks of them alone.
        assert "loses more to Loc errors" in two.answer


class TestMatchedAP:
    def bad(self, rate, fault=shifted):
        return faulty(np.arange(len(GOOD)) % 20 < rate * 20, fault)

    def test_without_further_runs_the_finding_says_so(self, tmp_path):
        finding = answer([run("a", GOOD), run("b", self.bad(0.5))], tmp_path)
        assert "No further complete runs of the better arm were given for b" in finding.caveat
        assert not any("matched" in t.title for t in finding.tables)

    def test_the_better_arm_s_nearest_run_stands_in(self, tmp_path):
        runs = [run("a", GOOD), run("b", self.bad(0.5))]
        runs += [run("a", self.bad(rate), variant=f"{rate:g}") for rate in (0.1, 0.45, 0.9)]
        finding = answer(runs, tmp_path)
        rows = table(finding, "matched AP")
        (loc,) = (row for row in rows if row["type"] == "Loc")
        assert loc["better arm's run"] == "a, 0.45"
        assert loc["AP gap as they are"] < -30
        assert abs(loc["AP gap left"]) < 8
        assert loc["as they are"] > 30 and abs(loc["difference"]) < 10
        metrics = {m.name: m.value for m in finding.metrics}
        assert metrics["dAP_Loc[b - a, matched AP]"] == loc["difference"]
        assert "stands in by the complete run" in finding.caveat
        assert "No further complete runs" not in finding.caveat

    def test_the_better_arm_may_be_the_one_compared(self, tmp_path):
        runs = [run("a", self.bad(0.5)), run("b", GOOD), run("b", self.bad(0.5), variant="short")]
        runs += [run("a", self.bad(0.9), variant="short")]  # of the worse arm: not looked at
        (loc,) = (r for r in table(answer(runs, tmp_path), "matched AP") if r["type"] == "Loc")
        assert loc["better arm's run"] == "b, short"
        assert loc["difference"] == loc["AP gap left"] == 0

    def test_other_errors_at_the_same_ap_are_found(self, tmp_path):
        far = together(GOOD, noise(TRUTH))
        runs = [run("a", far), run("b", GOOD), run("b", self.bad(0.4), variant="short")]
        rows = {r["type"]: r for r in table(answer(runs, tmp_path), "matched AP")}
        assert rows["Loc"]["shown"] == rows["Bkg"]["shown"] == "yes"
        assert rows["Loc"]["difference"] > 0 > rows["Bkg"]["difference"]

    def test_the_full_run_stays_where_it_is_nearest(self, tmp_path):
        runs = [run("a", self.bad(0.2)), run("b", self.bad(0.1)),
                run("b", self.bad(0.9), variant="short")]  # fmt: skip
        (loc,) = (r for r in table(answer(runs, tmp_path), "matched AP") if r["type"] == "Loc")
        assert loc["better arm's run"] == "b, in full"
        assert loc["AP gap left"] == loc["AP gap as they are"]

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
