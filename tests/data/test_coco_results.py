"""COCO's results: written, read back, read from others, refused; scored as pycocotools does."""

import contextlib
import io
import json
import re

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from whytransfer import transfer
from whytransfer.core.errors import InputError
from whytransfer.data.coco_results import read_coco_results, read_coco_truth, write_coco_results
from whytransfer.data.formats import coco
from whytransfer.data.predictions import truth_of
from whytransfer.data.world import crowds
from whytransfer.ops.detections import Detections
from whytransfer.ops.masks import Masks, boxes_xyxy, decode, encode

# pycocotools' own arrays know an older protocol of NumPy's.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

NAMES = ("coco_AP", "coco_AP50", "coco_AP75", "coco_APs", "coco_APm", "coco_APl")


def raises(*parts):
    return pytest.raises(InputError, match=".*".join(re.escape(str(part)) for part in parts))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("coco")
    crowds.write(root, crowds.Config(num_train=8, num_test=12, layout="coco"), 0)
    file = root / "annotations/instances_val2017.json"
    content = json.loads(file.read_text())
    for annotation in content["annotations"][::5]:
        annotation["iscrowd"] = 1
    for category in content["categories"]:  # ids with gaps, in another order than the names
        category["id"] = 95 - 7 * category["id"]
    for annotation in content["annotations"]:
        annotation["category_id"] = 95 - 7 * annotation["category_id"]
    file.write_text(json.dumps(content))
    return root, file


@pytest.fixture(scope="module")
def found(world):
    """Detections around the objects, with masks shifted as their boxes are."""
    truth = read_coco_truth(world[1]).truth
    generator = np.random.default_rng(0)
    rows = np.repeat(np.arange(len(truth)), 3)
    shift = generator.integers(-4, 5, (len(rows), 2))
    pixels = np.stack(
        [
            np.roll(mask, (y, x), axis=(0, 1))
            for mask, (x, y) in zip(decode(truth.masks[rows]), shift, strict=True)
        ]
    )
    return Detections(
        truth.image[rows], truth.label[rows], np.round(generator.random(len(rows)), 2),
        truth.boxes_xyxy[rows] + np.tile(shift, 2), encode(pixels),
    )  # fmt: skip


@pytest.fixture
def results(world, found, tmp_path):
    path = tmp_path / "results.json"
    known = read_coco_truth(world[1])
    write_coco_results(path, found, known.truth, known)
    return path


def change(path, edit):
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def test_the_truth_is_the_readers(world):
    known = read_coco_truth(world[1]).truth
    own = truth_of(coco.open(coco.Config(root=world[0]), "test"), masks=True)
    assert (known.images, known.classes) == (own.images, own.classes)
    assert known.masks == own.masks
    for name in ("sizes", "image", "label", "boxes_xyxy", "crowd", "area"):
        assert np.array_equal(getattr(known, name), getattr(own, name)), name


def test_round_trip(world, found, results):
    again = read_coco_results(results, read_coco_truth(world[1]))
    for name in ("image", "label", "score"):
        assert np.array_equal(getattr(again, name), getattr(found, name)), name
    np.testing.assert_allclose(again.boxes_xyxy, found.boxes_xyxy, atol=1e-9)
    assert again.masks == found.masks


def test_ids_are_those_of_the_names_whatever_their_order(world, found, tmp_path):
    known = read_coco_truth(world[1])
    source = coco.open(coco.Config(root=world[0]), "test")
    write_coco_results(tmp_path / "r.json", found, truth_of(source), known)
    row = json.loads((tmp_path / "r.json").read_text())[0]
    published = COCO_of(world[1])
    image = published.imgs[row["image_id"]]["file_name"]
    assert image == known.truth.images[found.image[0]]
    assert published.cats[row["category_id"]]["name"] == known.truth.classes[found.label[0]]


def COCO_of(path):
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(path))


def pycocotools(annotations, results, kind):
    """AP, AP50, AP75, APs, APm, APl in percent; NaN where there is nothing to find."""
    published = COCO_of(annotations)
    rows = json.loads(results.read_text())
    if kind == "segm":  # as detectron2 does: else areas would be those of boxes
        rows = [{key: value for key, value in row.items() if key != "bbox"} for row in rows]
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(published, published.loadRes(rows), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [100 * value if value >= 0 else None for value in evaluation.stats[:6]]


@pytest.mark.parametrize("masks", [True, False])
def test_scores_are_pycocotools_own(world, results, masks):
    if not masks:
        change(results, lambda rows: [row.pop("segmentation") for row in rows])
    metrics = transfer.score_coco_results(results, world[1], num_draws=5)
    values = {metric.name: metric.value for metric in metrics}
    assert list(values)[:6] == list(NAMES) and len(values) == (12 if masks else 6)
    boxes = [values[name] for name in NAMES]
    assert boxes == pytest.approx(pycocotools(world[1], results, "bbox"), abs=1e-4)
    assert 5 < values["coco_AP"] < 95
    if masks:
        own = [values[name.replace("coco", "mask")] for name in NAMES]
        assert own == pytest.approx(pycocotools(world[1], results, "segm"), abs=1e-4)
        assert own != pytest.approx(boxes, abs=1e-2)


def test_boxes_of_masks_alone_are_the_masks(world, found, results):
    change(results, lambda rows: [row.pop("bbox") for row in rows])
    again = read_coco_results(results, read_coco_truth(world[1]))
    assert np.array_equal(again.boxes_xyxy, boxes_xyxy(found.masks))


def test_nothing_found_can_be_scored(world, tmp_path):
    (tmp_path / "none.json").write_text("[]")
    metrics = transfer.score_coco_results(tmp_path / "none.json", world[1], num_draws=3)
    assert {metric.value for metric in metrics} == {0.0, None}


class TestRefusals:
    @pytest.mark.parametrize(
        ("field", "value", "parts"),
        [
            ("category_id", 4, ("row 3", "category_id is 4", "one of the 8 in", "val2017.json")),
            ("image_id", 999, ("row 3", "image_id is 999", "one of the 12")),
            ("image_id", [1], ("row 3", "image_id is [1]")),
            ("score", None, ("row 3", "score is None", "a finite number")),
            ("score", float("nan"), ("row 3", "score is nan", "a finite number")),
            ("bbox", [1, 2, 3], ("row 3", "bbox is [1, 2, 3]", "[x, y, width, height]")),
            ("bbox", [1, 2, 3, float("inf")], ("row 3", "finite numbers")),
            ("segmentation", {"size": [9, 9], "counts": "1"}, ("row 3", "size is [9, 9]")),
            ("segmentation", {"size": [96, 96], "counts": "1"}, ("row 3", "not run lengths")),
            ("segmentation", {"size": [96, 96], "counts": 5}, ("row 3", "counts are 5")),
            ("segmentation", None, ("row 3", "has no segmentation, but others have")),
        ],
    )
    def test_wrong_rows_are_named(self, world, results, field, value, parts):
        change(results, lambda rows: rows[3].update({field: value}))
        with raises(*parts):
            read_coco_results(results, read_coco_truth(world[1]))

    @pytest.mark.parametrize("field", ["score", "image_id", "category_id", "bbox"])
    def test_missing_fields_are_named(self, world, results, field):
        change(results, lambda rows: rows[3].pop(field))
        with raises("row 3", field):
            read_coco_results(results, read_coco_truth(world[1]))

    @pytest.mark.parametrize(
        ("text", "parts"),
        [
            ("{", ("not readable as JSON",)),
            ('{"annotations": []}', ("holds an object", "a list of {image_id")),
            ("[1]", ("holds a list of something else",)),
        ],
    )
    def test_other_files(self, world, tmp_path, text, parts):
        (tmp_path / "other.json").write_text(text)
        with raises("other.json", *parts):
            read_coco_results(tmp_path / "other.json", read_coco_truth(world[1]))

    def test_no_file(self, world, tmp_path):
        with raises("no.json", "no such file", "COCO annotations"):
            read_coco_truth(tmp_path / "no.json")
        with raises("no.json", "no such file", "COCO results"):
            read_coco_results(tmp_path / "no.json", read_coco_truth(world[1]))
        with raises("no list 'images'"):
            (tmp_path / "list.json").write_text("[]")
            read_coco_truth(tmp_path / "list.json")

    def test_what_the_truth_does_not_know_is_not_written(self, world, found, tmp_path):
        known = read_coco_truth(world[1])
        source = truth_of(coco.open(coco.Config(root=world[0]), "train"))
        with raises("val2017.json", "has no image", "000000000001.jpg"):
            write_coco_results(tmp_path / "r.json", found, source, known)
        broken = Detections(
            found.image, found.label, found.score * np.nan, found.boxes_xyxy, found.masks
        )
        with raises("not finite"):
            write_coco_results(tmp_path / "r.json", broken, known.truth, known)
        assert not (tmp_path / "r.json").exists()
        assert isinstance(found.masks, Masks)
