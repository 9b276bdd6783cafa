import dataclasses
import json
import re

import numpy as np
import pytest
from tests.data.conftest import OBJECTS, TRAIN

from whytransfer.core.errors import InputError
from whytransfer.data.formats import coco, imagefolder, voc
from whytransfer.data.predictions import (
    ClassPredictions,
    read_classifications,
    read_detections,
    read_truth,
    truth_of,
    write_classifications,
    write_detections,
    write_truth,
)
from whytransfer.data.world import crowds
from whytransfer.ops.detections import Detections, Truth
from whytransfer.ops.masks import areas, encode, joined


def raises(*parts):
    return pytest.raises(InputError, match=".*".join(re.escape(str(part)) for part in parts))


def equal(one, two):
    for field in dataclasses.fields(one):
        a, b = getattr(one, field.name), getattr(two, field.name)
        same = (
            a.dtype == b.dtype and a.shape == b.shape and (a == b).all()
            if isinstance(a, np.ndarray)
            else a == b
        )
        assert same, field.name


@pytest.fixture
def truth(layouts):
    return truth_of(voc.open(voc.Config(root=layouts / "voc"), "train"))


@pytest.fixture
def detections(truth):
    random = np.random.default_rng(0)
    boxes = np.sort(random.uniform(0, 300, (9, 2, 2)), axis=1).reshape(9, 4)
    return Detections(random.integers(0, 4, 9), random.integers(0, 20, 9), random.random(9), boxes)


class TestTruth:
    def test_of_a_source(self, truth, photographs):
        assert truth.images == TRAIN
        assert truth.sizes.tolist() == [list(photographs[name].shape[:2]) for name in TRAIN]
        expected = [(TRAIN.index(n), o) for n in TRAIN for o in OBJECTS[n]]
        assert truth.image.tolist() == [image for image, _ in expected]
        assert [truth.classes[label] for label in truth.label] == [o[0] for _, o in expected]
        assert truth.difficult.tolist() == [bool(o[2]) for _, o in expected]
        assert truth.boxes_xyxy[:, 2:].tolist() == [list(o[1][2:]) for _, o in expected]

    def test_round_trip(self, truth, tmp_path):
        moved = dataclasses.replace(truth, boxes_xyxy=truth.boxes_xyxy + 1 / 3, area=truth.area / 7)
        write_truth(tmp_path / "truth.json", moved)
        equal(read_truth(tmp_path / "truth.json"), moved)

    def test_round_trip_of_nothing(self, tmp_path):
        none = np.zeros(0)
        empty = Truth(
            (), np.zeros((0, 2), np.int64), ("a",), none.astype(np.int64), none.astype(np.int64),
            np.zeros((0, 4)), none.astype(bool), none.astype(bool), none,
        )  # fmt: skip
        write_truth(tmp_path / "truth.json", empty)
        equal(read_truth(tmp_path / "truth.json"), empty)

    def test_images_without_boxes_are_refused(self, layouts):
        source = imagefolder.open(imagefolder.Config(root=layouts / "folder"), "train")
        with raises("no boxes", "voc or coco"):
            truth_of(source)


class TestDetections:
    def test_round_trip_keeps_every_bit(self, truth, detections, tmp_path):
        path = tmp_path / "predictions.json"
        write_detections(path, detections, truth)
        equal(read_detections(path, truth), detections)
        assert len(path.read_text().splitlines()) == 3 + len(detections)

    def test_round_trip_of_nothing(self, truth, tmp_path):
        none = np.zeros(0, dtype=np.int64)
        empty = Detections(none, none, np.zeros(0), np.zeros((0, 4)))
        write_detections(tmp_path / "p.json", empty, truth)
        equal(read_detections(tmp_path / "p.json", truth), empty)

    def test_somebody_elses_file(self, truth, tmp_path):
        row = {"image": "chelsea", "class": "cat", "box_xyxy": [4.5, 10, 60, 80], "score": 1}
        text = json.dumps({"kind": "detections", "version": 1, "rows": [row]})
        (tmp_path / "p.json").write_text(text)
        found = read_detections(tmp_path / "p.json", truth)
        assert truth.images[found.image[0]] == "chelsea" and truth.classes[found.label[0]] == "cat"
        assert found.boxes_xyxy.tolist() == [[4.5, 10, 60, 80]] and found.score.tolist() == [1.0]

    def test_nan_is_never_written(self, truth, detections, tmp_path):
        path = tmp_path / "p.json"
        detections.score[4] = np.nan
        with raises(path, "detection 4 has score nan", "finite"):
            write_detections(path, detections, truth)
        detections.score[4] = 0.5
        detections.boxes_xyxy[2, 1] = np.inf
        with raises("detection 2", "inf"):
            write_detections(path, detections, truth)
        assert not path.exists()

    @pytest.mark.parametrize(
        ("field", "value", "parts"),
        [
            ("score", "NaN", ("rows[0]", "score is nan", "a finite number")),
            ("score", '"high"', ("score is 'high'",)),
            ("score", "true", ("score is True",)),
            ("box_xyxy", "[1, 2, 3]", ("box_xyxy is [1, 2, 3]", "4 finite numbers")),
            ("box_xyxy", "[1, 2, 3, Infinity]", ("box_xyxy",)),
            ("image", '"chelse"', ("the image 'chelse'", "did you mean 'chelsea'?")),
            ("image", "3", ("image is 3", "a name")),
            ("class", '"cats"', ("the class 'cats'", "one of aeroplane", "did you mean 'cat'?")),
        ],
    )
    def test_bad_rows_are_named(self, truth, tmp_path, field, value, parts):
        fields = {"image": '"chelsea"', "class": '"cat"', "box_xyxy": "[1,2,3,4]", "score": "1"}
        row = ", ".join(f'"{key}": {text}' for key, text in (fields | {field: value}).items())
        path = tmp_path / "p.json"
        path.write_text('{"kind": "detections", "version": 1, "rows": [{' + row + "}]}")
        with raises(path, *parts):
            read_detections(path, truth)

    @pytest.mark.parametrize(
        ("text", "parts"),
        [
            ("{", ("not readable as JSON", "a file of detections")),
            ("[]", ("begins with []", "detections")),
            ('{"kind": "truth", "version": 1}', ('"kind": "truth"', '"kind": "detections"')),
            ('{"kind": "detections", "version": 2}', ('"version": 2', '"version": 1')),
            ('{"kind": "detections", "version": 1}', ("no list 'rows'",)),
        ],
    )
    def test_other_files_are_refused(self, truth, tmp_path, text, parts):
        (tmp_path / "p.json").write_text(text)
        with raises("p.json", *parts):
            read_detections(tmp_path / "p.json", truth)
        with raises("none.json", "no such file"):
            read_detections(tmp_path / "none.json", truth)


class TestMasks:
    """Detections and truth with a mask in every row."""

    def masked(self, rows, truth):
        generator = np.random.default_rng(1)
        sizes = truth.sizes[rows.image].tolist()
        masks = joined([encode(generator.random((1, *size)) < 0.5) for size in sizes])
        return dataclasses.replace(rows, masks=masks)

    @pytest.fixture
    def small(self, truth, detections):
        truth = dataclasses.replace(truth, sizes=np.arange(2 * len(truth.sizes)).reshape(-1, 2) + 3)
        return self.masked(detections, truth), self.masked(truth, truth)

    def test_round_trip(self, small, tmp_path):
        detections, truth = small
        write_truth(tmp_path / "truth.json", truth)
        write_detections(tmp_path / "p.json", detections, truth)
        again = read_truth(tmp_path / "truth.json")
        equal(again, truth)
        equal(read_detections(tmp_path / "p.json", again), detections)

    @pytest.mark.parametrize(
        ("mask", "parts"),
        [
            (None, ("rows[3]", "has no mask, but", "rows[0] has one", "in every row, or in none")),
            ("123", ("rows[3]", "the mask is '123'", "run lengths")),
            ({"size": [3, 4], "counts": [1, 2]}, ("rows[3]", "the mask is")),
            ({"size": [1, 1], "counts": "1"}, ("rows[3]", "size is [1, 1]", "the image's, [")),
            ({"counts": "1"}, ("rows[3]", "size is None")),
        ],
    )
    def test_broken_rows_are_named(self, small, tmp_path, mask, parts):
        detections, truth = small
        write_detections(tmp_path / "p.json", detections, truth)
        content = json.loads((tmp_path / "p.json").read_text())
        content["rows"][3]["mask"] = mask
        (tmp_path / "p.json").write_text(json.dumps(content))
        with raises("p.json", *parts):
            read_detections(tmp_path / "p.json", truth)

    @pytest.mark.parametrize("counts", ["", "1", "oo", "é", "12345678"])
    def test_texts_that_are_no_run_lengths_are_named(self, small, tmp_path, counts):
        detections, truth = small
        write_detections(tmp_path / "p.json", detections, truth)
        content = json.loads((tmp_path / "p.json").read_text())
        content["rows"][3]["mask"]["counts"] = counts
        (tmp_path / "p.json").write_text(json.dumps(content))
        with raises("rows[3]", "run lengths"):
            read_detections(tmp_path / "p.json", truth)

    def test_truth_has_masks_only_where_they_are_wanted(self, tmp_path):
        crowds.write(tmp_path, crowds.Config(num_train=8, num_test=8, layout="coco"), 0)
        source = coco.open(coco.Config(root=tmp_path), "test")
        assert truth_of(source).masks is None
        truth = truth_of(source, masks=True)
        assert areas(truth.masks).tolist() == truth.area.tolist()


class TestClassifications:
    predictions = ClassPredictions(
        ("a/1", "a/2", "b/1"),
        ("a", "b", "c"),
        np.array([0, 0, 1]),
        np.array([[0, 1], [2, 0], [0, 2]]),
    )

    def test_correct(self):
        assert self.predictions.correct().tolist() == [True, False, False]
        assert self.predictions.correct(2).tolist() == [True, True, False]

    def test_round_trip(self, tmp_path):
        write_classifications(tmp_path / "p.json", self.predictions)
        equal(read_classifications(tmp_path / "p.json"), self.predictions)

    @pytest.mark.parametrize(
        ("old", "new", "parts"),
        [
            ('"class": "b"', '"class": "x"', ("rows[2]", "the class 'x'", "one of a, b, c")),
            ('["c", "a"]', '["c"]', ("rows[1]", "top is ['c']")),
            ('["c", "a"]', "3", ("rows[1]", "top is 3")),
            ('"a/2"', "null", ("rows[1]", "image is None")),
            ('["a", "b", "c"]', '"abc"', ("classes is 'abc'", "a list of names")),
        ],
    )
    def test_bad_rows_are_named(self, tmp_path, old, new, parts):
        path = tmp_path / "p.json"
        write_classifications(path, self.predictions)
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))
        with raises(path, *parts):
            read_classifications(path)
