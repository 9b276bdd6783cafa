import math
from dataclasses import dataclass, fields, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.ops.detection_scenes import detections_of, take, truth_of
from tests.ops.planted_scenes import (
    SIMILAR,
    SIMILAR_LABEL,
    dense_scene,
    fainter_copies,
    noise,
    perfect,
    planted_truth,
    relabelled,
    shifted,
    together,
)

from whytransfer.core.errors import InputError
from whytransfer.core.records import Finding
from whytransfer.diagnose.analyses import detection_errors
from whytransfer.diagnose.analyses.detection_errors import Config
from whytransfer.diagnose.analysis import DetectionRun
from whytransfer.ops import hoiem, tide

TRUTH = planted_truth(30)
GOOD = perfect(TRUTH)
QUICK = Config(num_draws=100, num_pictures=0, similar=SIMILAR)


def run(arm, found, truth=TRUTH, seed=0):
    return DetectionRun(arm, seed, f"{arm}{seed}", truth, found)


def answer(runs, config, folder):
    return detection_errors.answer(runs, None, config, folder)


@dataclass
class Photographs:
    """A dataset and its test split in one: only those images whose file is here."""

    files: dict
    images: tuple = TRUTH.images

    def open(self, split):
        assert split == "test"
        return self

    def __len__(self):
        return len(self.files)

    def name(self, index):
        return self.images[list(self.files)[index]]

    def path(self, index):
        return list(self.files.values())[index]


def third(found, fault):
    """A fault in every third detection; the others stay as they are."""
    chosen = np.arange(len(found)) % 3 == 0
    return together(take(found, ~chosen), fault(take(found, chosen)))


FAULTS = {
    "Cls": ("similar", third(GOOD, lambda part: relabelled(part, SIMILAR_LABEL))),
    "Loc": ("localisation", third(GOOD, shifted)),
    "Both": ("similar", together(GOOD, shifted(relabelled(GOOD, SIMILAR_LABEL)))),
    "Dupe": ("localisation", together(GOOD, replace(GOOD, score=GOOD.score - 0.01))),
    "Bkg": ("background", together(GOOD, noise(TRUTH))),
    "Miss": ("correct", third(GOOD, lambda part: take(part, np.zeros(len(part), bool)))),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_cause_is_found_and_named(fault, tmp_path):
    hoiem_type, found = FAULTS[fault]
    finding = answer([run("good", GOOD), run("bad", found)], QUICK, tmp_path)
    assert finding.headline.name == f"dAP_{fault}[bad - good]"
    assert finding.headline.low > 0
    assert f"Compared with good, bad loses more to {fault} errors" in finding.answer
    other = {row["type"]: row["shown"] for row in finding.tables[0].rows}
    assert other.pop(fault) == "yes"
    assert set(other.values()) == {"no"}
    shares = {
        row["type"]: row["share"] for row in finding.figures["hoiem_share"] if row["arm"] == "bad"
    }
    if hoiem_type != "correct":
        assert max(set(shares) - {"correct"}, key=shares.__getitem__) == hoiem_type
        assert shares[hoiem_type] > 5


def test_a_planted_null_is_not_found(tmp_path):
    found, truth = dense_scene(1, num_images=12, num_objects=40, num_detections=120)
    finding = answer([run("a", found, truth), run("b", found, truth)], QUICK, tmp_path)
    assert finding.answer.startswith("No difference shown to a in any type of error")
    compared = [m for m in (finding.headline, *finding.metrics) if "[b - a]" in m.name]
    assert len(compared) == len(tide.MAIN_TYPES)
    assert {(m.value, m.low, m.high) for m in compared} == {(0.0, 0.0, 0.0)}
    assert {row["corrected p"] for row in finding.tables[0].rows} == {1.0}


def test_a_difference_of_chance_is_not_shown(tmp_path):
    # The same fault in other images: what each arm loses differs a little, by chance alone.
    part = np.arange(len(GOOD)) % 3
    arms = [
        run(f"arm{k}", together(take(GOOD, part != k), shifted(take(GOOD, part == k))))
        for k in range(2)
    ]
    finding = answer(arms, QUICK, tmp_path)
    assert finding.headline.value != 0
    assert "No difference shown" in finding.answer
    assert finding.headline.low < 0 < finding.headline.high


class TestTheFinding:
    def test_names_units_and_ranges(self, tmp_path):
        runs = [run("random_init", noise(TRUTH)), run("moco_v2", third(GOOD, shifted))]
        finding = answer(runs, QUICK, tmp_path)
        metrics = {m.name: m for m in (finding.headline, *finding.metrics)}
        assert len(metrics) == len(finding.metrics) + 1
        for kind in tide.TYPES:
            metric = metrics[f"dAP_{kind}[moco_v2]"]
            assert (metric.unit, metric.n, metric.higher_is_better) == ("AP points", 30, False)
            assert 0 <= metric.low <= metric.high <= 100
            assert ("images" in metric.interval) == (metric.low is not None)
        shares = [metrics[f"hoiem_{kind}[moco_v2]"].value for kind in hoiem.TYPES]
        assert sum(shares) == pytest.approx(100)
        assert metrics["hoiem_correct[moco_v2]"].higher_is_better
        assert Finding.model_validate_json(finding.model_dump_json()) == finding

    def test_the_tables_hold_every_arm_and_class(self, tmp_path):
        finding = answer([run("a", GOOD), run("b", noise(TRUTH))], QUICK, tmp_path)
        tables = {table.title.split(" (")[0]: table for table in finding.tables}
        assert (
            len(tables) == len(finding.tables) == 15
        )  # none of seeds where there is but one, none of absent groups
        gains = tables["What fixing each type of error would gain"]
        rows = {(row["arm"], row["class"]): row for row in gains.rows}
        assert set(rows) == {(a, c) for a in "ab" for c in ("all classes", *TRUTH.classes)}
        assert rows["a", "all classes"]["AP"] == pytest.approx(100)
        assert rows["b", "tree"]["AP"] == 0
        for table in finding.tables:
            assert all(set(row) == set(table.columns) for row in table.rows)

    def test_a_hoiem_repair_is_given_as_a_gain(self, tmp_path):
        finding = answer([run("a", together(GOOD, noise(TRUTH)))], QUICK, tmp_path)
        costs = next(t for t in finding.tables if "localisation_fixed" in t.columns).rows[0]
        assert costs["class"] == "all classes"
        assert costs["AP"] + costs["background"] == pytest.approx(100)
        assert costs["localisation"] == costs["similar"] == 0

    def test_an_arm_that_does_better_loses_less(self, tmp_path):
        finding = answer([run("a", third(GOOD, shifted)), run("b", GOOD)], QUICK, tmp_path)
        assert "b loses less to Loc errors (-" in finding.answer
        assert finding.headline.high < 0

    def test_voc_classes_are_summed_by_group(self, tmp_path):
        truth = replace(TRUTH, classes=("bottle", "chair", "diningtable", "sofa", "tvmonitor"))
        config = Config(num_draws=100, num_pictures=0)
        finding = answer([run("a", GOOD, truth)], config, tmp_path)
        table = next(t for t in finding.tables if "detections" in t.columns)
        rows = {row["class"]: row["detections"] for row in table.rows}
        assert rows["furniture"] == rows["chair"] + rows["diningtable"] + rows["sofa"]
        assert "animals" not in rows

    def test_one_arm_is_described_not_compared(self, tmp_path):
        finding = answer([run("only", third(GOOD, shifted))], QUICK, tmp_path)
        assert finding.answer.startswith("only loses most to Loc errors: ")
        assert finding.headline.name == "dAP_Loc[only]"

    def test_an_arm_without_detections_is_scored_too(self, tmp_path):
        finding = answer([run("a", detections_of()), run("b", GOOD)], QUICK, tmp_path)
        metrics = {m.name: m.value for m in (finding.headline, *finding.metrics)}
        assert metrics["dAP_Miss[a]"] == 0
        assert metrics["hoiem_correct[a]"] is None

    def test_the_same_question_has_the_same_answer(self, tmp_path):
        found, truth = dense_scene(4, num_images=12, num_objects=40, num_detections=120)
        runs = [run("a", found, truth), run("b", take(found, slice(0, 80)), truth)]
        assert answer(runs, QUICK, tmp_path) == answer(runs, QUICK, tmp_path)

    def test_inputs_are_left_alone(self, tmp_path):
        found, truth = dense_scene(2, num_images=12)
        copies = [replace(part, **{
            f.name: value.copy() for f in fields(part)
            if isinstance(value := getattr(part, f.name), np.ndarray)
        }) for part in (found, truth)]  # fmt: skip
        answer([run("a", found, truth)], QUICK, tmp_path)
        for part, copy in zip((found, truth), copies, strict=True):
            assert all(np.array_equal(getattr(part, f.name), getattr(copy, f.name))
                       for f in fields(part))  # fmt: skip


class TestReferenceAndSeeds:
    @pytest.mark.parametrize(
        ("arms", "wanted", "expected"),
        [
            (["moco", "random_init"], None, "random_init"),
            (["moco", "supervised"], None, "moco"),
            (["moco", "random_init"], "moco", "moco"),
        ],
    )
    def test_the_reference(self, arms, wanted, expected, tmp_path):
        runs = [run(arm, GOOD) for arm in arms]
        config = QUICK.model_copy(update={"reference": wanted})
        assert f"to {expected} in any" in answer(runs, config, tmp_path).answer

    def test_the_spread_over_seeds_stands_apart(self, tmp_path):
        worse = [
            together(take(GOOD, np.arange(len(GOOD)) % k > 0),
                     shifted(take(GOOD, np.arange(len(GOOD)) % k == 0)))
            for k in (3, 4, 5)
        ]  # fmt: skip
        runs = [run("a", GOOD, seed=s) for s in range(2)]
        runs += [run("b", found, seed=s) for s, found in enumerate(worse)]
        finding = answer(runs, QUICK, tmp_path)
        rows = finding.tables[-1].rows
        assert [(row["arm"], row["seed"]) for row in rows] == [
            ("a", 0), ("a", 1), ("b", 0), ("b", 1), ("b", 2), ("b", "sd")
        ]  # fmt: skip
        points = [row["Loc"] for row in rows[2:5]]
        assert rows[5]["Loc"] == pytest.approx(np.std(points, ddof=1))
        assert finding.headline.value == pytest.approx(np.mean(points))

    def test_more_comparisons_draw_more_often(self, tmp_path):
        # With 100 draws no p-value is below 2/101, too large for any of 6 comparisons.
        finding = answer([run("a", GOOD), run("b", third(GOOD, shifted))], QUICK, tmp_path)
        loc = next(row for row in finding.tables[0].rows if row["type"] == "Loc")
        assert loc["p"] < 2 / 101
        assert math.isclose(loc["corrected p"], 6 * loc["p"])


class TestPictures:
    @pytest.fixture
    def photographs(self, tmp_path):
        files = {}
        for index in range(len(TRUTH.images)):
            files[index] = tmp_path / f"{index}.png"
            cv2.imwrite(str(files[index]), np.full((150, 150, 3), 40 + index, np.uint8))
        del files[0]
        return files

    def gallery(self, photographs, folder: Path, truth=TRUTH):
        folder.mkdir()
        found = together(
            third(GOOD, lambda part: relabelled(part, SIMILAR_LABEL)),
            fainter_copies(GOOD),
            noise(TRUTH),
        )
        one = run("arm/with slash", found, truth)
        config = Config(num_draws=100, num_pictures=2, similar=SIMILAR)
        return detection_errors.answer([one], Photographs(photographs), config, folder).pictures

    def test_each_type_has_its_surest_examples(self, photographs, tmp_path):
        pictures = self.gallery(photographs, tmp_path / "finding")
        types = [picture.tags["type"] for picture in pictures]
        assert set(types) == {"correct", "localisation", "similar", "background"}
        assert max(types.count(name) for name in set(types)) == 2
        assert {picture.tags["arm"] for picture in pictures} == {"arm/with slash"}
        assert any(picture.caption.endswith(" (similar class)") for picture in pictures)
        for picture in pictures:
            assert [box.role for box in picture.boxes[:-1]] == ["truth"] * 4
            is_correct = picture.tags["type"] == "correct"
            assert picture.boxes[-1].role == ("detection" if is_correct else "wrong")

    def test_the_files_and_boxes_share_one_scale(self, photographs, tmp_path):
        # The truth was annotated at 300 pixels; the files have 150 and are shown at twice that.
        pictures = self.gallery(photographs, tmp_path / "finding")
        for picture in pictures:
            pixels = cv2.imread(str(tmp_path / "finding" / picture.file))
            assert pixels.shape == (picture.height, picture.width, 3) == (300, 300, 3)
            assert picture.file != "image_000000.jpg"  # that file is not there: passed over
            index = int(picture.file[6:12])
            boxes = TRUTH.boxes_xyxy[TRUTH.image == index]
            assert [box.xyxy for box in picture.boxes[:-1]] == [tuple(b) for b in boxes.tolist()]

    def test_large_photographs_are_scaled_down(self, tmp_path):
        path = tmp_path / "large.jpg"
        cv2.imwrite(str(path), np.zeros((500, 1000, 3), np.uint8))
        truth = replace(truth_of((0, 0, (100, 100, 200, 200))), sizes=np.array([[250, 1000]]))
        found = detections_of((0, 0, 0.9, (100, 100, 200, 200)))
        one = run("a", found, truth)
        data = Photographs({0: path}, truth.images)
        (picture,) = detection_errors.answer([one], data, Config(num_draws=100), tmp_path).pictures
        assert (picture.width, picture.height) == (360, 180)
        # Annotated at half the height that the file has.
        assert picture.boxes[0].xyxy == (36.0, 72.0, 72.0, 144.0)

    def test_an_unreadable_photograph_is_named(self, tmp_path):
        path = tmp_path / "broken.jpg"
        path.write_bytes(b"not an image")
        one = run("a", GOOD)
        data = Photographs(dict.fromkeys(range(30), path))
        with pytest.raises(InputError, match=r"broken\.jpg: not readable as an image"):
            detection_errors.answer([one], data, Config(num_draws=100), tmp_path)


class TestBadInput:
    def refuse(self, runs, match, tmp_path, **config):
        with pytest.raises(InputError, match=match):
            answer(runs, QUICK.model_copy(update=config), tmp_path)

    def test_other_objects(self, tmp_path):
        other = replace(TRUTH, boxes_xyxy=TRUTH.boxes_xyxy + 1)
        self.refuse(
            [run("a", GOOD), run("b", GOOD, other)],
            r"b \(seed 0\) was tested on other objects than a",
            tmp_path,
        )

    def test_a_run_that_stands_twice(self, tmp_path):
        self.refuse([run("a", GOOD), run("a", GOOD)], r"a \(seed 0\) stands twice", tmp_path)

    def test_a_truth_without_objects(self, tmp_path):
        self.refuse([run("a", detections_of(), truth_of())], "no object that counts", tmp_path)

    def test_a_reference_that_is_no_arm(self, tmp_path):
        self.refuse([run("moco_v2", GOOD)], "did you mean 'moco_v2'", tmp_path, reference="moco2")
