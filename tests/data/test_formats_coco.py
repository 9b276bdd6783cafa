import json
import pickle
import re
import shutil

import cv2
import numpy as np
import pytest
from tests.data.conftest import OBJECTS, TEST, TRAIN

from whytransfer.core.errors import InputError
from whytransfer.data.formats import coco
from whytransfer.data.formats.coco import Config
from whytransfer.ops.masks import decode, encode, of_counts

TRAIN_FILE = "annotations/instances_train2017.json"


def raises(*parts):
    return pytest.raises(InputError, match=".*".join(re.escape(str(part)) for part in parts))


def change(root, edit):
    path = root / TRAIN_FILE
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


class TestReading:
    def test_photographs(self, layouts, photographs):
        config = Config(root=layouts / "coco")
        for split, names in (("train", TRAIN), ("test", TEST)):
            source = coco.open(config, split)
            assert [source.name(i) for i in range(len(source))] == [f"{n}.jpg" for n in names]
            for index, name in enumerate(names):
                sample = source[index]
                assert sample.image.shape == photographs[name].shape
                expected, objects = OBJECTS[name], sample.objects
                assert [source.classes[label] for label in objects.labels] == [
                    o[0] for o in expected
                ]
                assert objects.boxes_xyxy.tolist() == [
                    [xmin - 1, ymin - 1, xmax, ymax] for _, (xmin, ymin, xmax, ymax), _ in expected
                ]
                assert objects.crowd.tolist() == [bool(o[2]) for o in expected]
                assert not objects.difficult.any()
                assert objects.area.tolist() == [12.5] * len(expected)

    def test_classes_are_sorted_by_id_which_may_have_gaps(self, layouts):
        names = sorted({name for objects in OBJECTS.values() for name, *_ in objects})
        assert coco.open(Config(root=layouts / "coco"), "train").classes == tuple(names[::-1])

    def test_area_and_crowd_may_be_absent(self, layout):
        root = layout("coco")

        def edit(content):
            for row in content["annotations"]:
                del row["area"], row["iscrowd"]

        change(root, edit)
        objects = coco.open(Config(root=root), "train").objects(1)
        assert objects.area.tolist() == [362 * 296] and not objects.crowd.any()

    def test_boxes_without_area_are_left_out_and_counted(self, layout):
        root = layout("coco")
        change(root, lambda content: content["annotations"][0].update(bbox=[5, 5, 0, 10]))
        assert len(coco.open(Config(root=root), "train").objects(0).labels) == 1
        report = coco.check(Config(root=root))
        assert report.counts["train objects without area, left out"] == 1
        assert report.problems == ()

    def test_the_order_of_rows_moves_nothing(self, layout):
        root = layout("coco")
        before = coco.open(Config(root=root), "train")
        change(root, lambda content: content["images"].reverse())
        after = coco.open(Config(root=root), "train")
        assert [after.name(i) for i in range(4)] == [before.name(i) for i in range(4)]
        assert np.array_equal(after.objects(3).boxes_xyxy, before.objects(3).boxes_xyxy)


class TestMasks:
    """A polygon of two parts, run lengths as numbers and as text, and a crowd."""

    SQUARE = (5.0, 6, 25, 6, 25, 46, 5, 46)
    FORMS = ("polygons", "numbers", "text")

    @staticmethod
    def segmentations(size):
        pixels = np.zeros(size, dtype=bool)
        pixels[6:46, 5:25] = True
        text = encode(pixels[None]).counts[0].decode()
        before = size[0] * 5 + 6
        runs = [before, *([40, size[0] - 40] * 20)]
        runs[-1] += size[0] * size[1] - sum(runs)
        return {
            "polygons": [[*TestMasks.SQUARE[:4], 25, 26, 5, 26], [5, 26, 25, 26, 25, 46, 5, 46]],
            "numbers": {"size": list(size), "counts": runs},
            "text": {"size": list(size), "counts": text},
        }

    def edited(self, layout, edit):
        root = layout("coco")
        content = json.loads((root / TRAIN_FILE).read_text())
        sizes = {i["id"]: (i["height"], i["width"]) for i in content["images"]}
        for number, row in enumerate(content["annotations"]):
            forms = self.segmentations(sizes[row["image_id"]])
            row["segmentation"] = forms[self.FORMS[number % 3]]
        edit(content["annotations"])
        (root / TRAIN_FILE).write_text(json.dumps(content))
        return Config(root=root)

    def test_each_form_covers_the_same_pixels(self, layout):
        source = coco.open(self.edited(layout, lambda rows: None), "train")
        seen = set()
        for index in range(len(source)):
            for shape in source.objects(index).masks:
                size = source.size(index)
                pixels = decode(of_counts([shape.counts(size)], [size]))[0]
                rows, columns = np.nonzero(pixels)
                assert (rows.min(), rows.max(), columns.min(), columns.max()) == (6, 45, 5, 24)
                assert pixels.sum() == 800
                seen.add(type(shape).__name__)
        assert seen == {"Polygons", "RunLengths"}

    def test_files_of_boxes_alone_have_no_masks(self, layouts):
        source = coco.open(Config(root=layouts / "coco"), "train")
        assert all(source.objects(index).masks is None for index in range(len(source)))

    def test_an_object_without_a_usable_outline_has_an_empty_mask(self, layout):
        def edit(rows):
            rows[0]["segmentation"] = [[1, 2, 3, 4]]
            rows[1]["segmentation"] = []

        config = self.edited(layout, edit)
        source = coco.open(config, "train")
        shapes = [s for i in range(len(source)) for s in source.objects(i).masks]
        assert [shape.empty for shape in shapes] == [True, True] + [False] * (len(shapes) - 2)
        report = coco.check(config)
        assert report.counts["train objects without a mask"] == 2 and report.problems == ()

    def test_sources_with_masks_are_pickled_to_the_same(self, layout):
        source = coco.open(self.edited(layout, lambda rows: None), "train")
        again = pickle.loads(pickle.dumps(source))
        seen = []
        for index in range(len(source)):
            size = source.size(index)
            one, two = ([s.counts(size) for s in x.objects(index).masks] for x in (source, again))
            assert one == two
            seen += one
        assert len(seen) > 2

    @pytest.mark.parametrize(
        ("segmentation", "parts"),
        [
            ("abc", ("annotation 1", "segmentation is 'abc'", "polygons", "{size, counts}")),
            ([[1, 2, 3]], ("annotation 1", "a polygon [1, 2, 3]", "x, y, x, y")),
            ([[1, 2, 3, 4, 5, "6"]], ("annotation 1", "a polygon")),
            ([1, 2, 3, 4, 5, 6], ("annotation 1", "a polygon 1")),
            ([[1, 2, 3, 4, 5, float("nan")]], ("annotation 1", "a polygon")),
            ({"counts": "1"}, ("annotation 1", "the mask's size is None", "the image's, [")),
            ({"size": [3, 3], "counts": "9"}, ("annotation 1", "size is [3, 3]")),
            ({"size": "its", "counts": [1, 2]}, ("annotation 1", "counts are [1, 2]")),
            ({"size": "its", "counts": [-1]}, ("annotation 1", "counts are [-1]")),
            ({"size": "its", "counts": 7}, ("annotation 1", "counts are 7")),
            ({"size": "its", "counts": "oops"}, ("annotation 1", "not run lengths: b'oops'")),
        ],
    )
    def test_what_is_no_mask_is_named(self, layout, segmentation, parts):
        def edit(rows):
            own = dict(segmentation) if isinstance(segmentation, dict) else segmentation
            if isinstance(own, dict) and own.get("size") == "its":
                own["size"] = rows[1]["segmentation"]["size"]
            rows[1]["segmentation"] = own

        with raises(TRAIN_FILE, *parts):
            coco.open(self.edited(layout, edit), "train")


class TestRefusals:
    def test_missing_files(self, layout):
        root = layout("coco")
        with raises("x.json", "no such file", "COCO annotations"):
            coco.open(Config(root=root, train_annotations="x.json"), "train")
        with raises(root / "images", "no such folder", "set train_images:"):
            coco.open(Config(root=root, train_images="images"), "train")
        with raises("no such folder"):
            coco.open(Config(root=root / "no"), "train")

    def test_wrong_levels(self, layouts):
        with raises("no such file", "too high", layouts / "coco"):
            coco.open(Config(root=layouts), "train")
        with raises("no such file", "too low", layouts / "coco"):
            coco.open(Config(root=layouts / "coco/annotations"), "train")

    def test_no_test_file(self, layouts):
        config = Config(root=layouts / "coco", test_annotations=None)
        assert config.splits == ("train",)
        with raises("no test images"):
            coco.open(config, "test")

    def test_image_that_is_not_there(self, layout):
        root = layout("coco")
        (root / "train2017/china.jpg").unlink()
        with raises("train2017/china.jpg", "instances_train2017.json lists it", "add it"):
            coco.open(Config(root=root), "train")

    @pytest.mark.parametrize(
        ("edit", "parts"),
        [
            (lambda c: c.pop("annotations"), ("no list 'annotations'", "images, annotations")),
            (lambda c: c["images"][2].pop("width"), ("images[2]", "has no width")),
            (
                lambda c: c["images"].append({**c["images"][0], "id": 99}),
                ("lists astronaut.jpg twice",),
            ),
            (
                lambda c: c["categories"].append({**c["categories"][0], "id": 99}),
                ("unique names",),
            ),
            *(
                (lambda c, p=part: c[p][1].update(id=c[p][0]["id"]), (part, "stands twice"))
                for part in ("images", "annotations", "categories")
            ),
            (lambda c: c["categories"][0].update(id="cat"), ("categories", "some are names")),
            (lambda c: c["annotations"][1].update(image_id=[1]), ("annotations[1]", "[1]")),
            (lambda c: c["annotations"][1].update(category_id=None), ("annotations[1]", "None")),
            *(
                (lambda c, v=value: c["images"][2].update(height=v), ("images[2]", "height"))
                for value in (None, 0, "427", 4.5)
            ),
            (lambda c: c["annotations"][1].update(area=float("nan")), ("annotation 1", "area nan")),
            (
                lambda c: c["annotations"][1].update(category_id=4),
                ("annotation 1", "category_id 4"),
            ),
            (lambda c: c["annotations"][1].update(image_id=4), ("annotation 1", "image_id 4")),
            (lambda c: c["annotations"][1].update(bbox=[1, 2, 3]), ("annotation 1", "bbox")),
            (lambda c: c["annotations"][1].update(bbox=[1, 2, "a", 4]), ("annotation 1", "bbox")),
            (
                lambda c: c["annotations"][0].update(bbox=[9, 9, -4, 4]),
                ("annotation 0", "inverted"),
            ),
            (
                lambda c: c["annotations"][0].update(bbox=[9, 9, 900, 4]),
                ("annotation 0", "outside"),
            ),
        ],
    )
    def test_malformed_content(self, layout, edit, parts):
        root = layout("coco")
        change(root, edit)
        with raises("instances_train2017.json", *parts):
            coco.open(Config(root=root), "train")

    def test_no_json(self, layout):
        root = layout("coco")
        (root / TRAIN_FILE).write_text("{")
        with raises("instances_train2017.json", "not readable as JSON"):
            coco.open(Config(root=root), "train")
        (root / TRAIN_FILE).write_text("[]")
        with raises("instances_train2017.json", "no list 'images'"):
            coco.open(Config(root=root), "train")


def test_check_finds_everything_at_once(layout):
    root = layout("coco")
    change(root, lambda c: c["annotations"][0].update(bbox=[9, 9, 900, 4]))
    (root / "val2017/rocket.jpg").write_bytes(b"")
    report = coco.check(Config(root=root))
    assert [problem.found[:17] for problem in report.problems] == [
        "the box is outsid", "the file is empty",
    ]  # fmt: skip
    assert report.counts["train images without objects"] == 1
    assert report.counts["test images"] == 2


def test_check_names_what_a_run_would_stumble_over(layout, photographs):
    root = layout("coco")
    cv2.imwrite(str(root / "train2017/china.jpg"), photographs["china"][:100])
    (root / "train2017/coffee.jpg").unlink()
    change(root, lambda c: c["categories"][0].update(name="other"))
    where = {str(p).removeprefix(f"{root}/") for p in coco.check(Config(root=root)).problems}
    starts = ("train2017/china.jpg: is 640×100", "train2017/coffee.jpg: no such file, but")
    assert len(where) == 3
    for start in (*starts, "annotations/instances_val2017.json: has the categories"):
        assert [problem for problem in where if problem.startswith(start)], start


def test_check_says_that_there_are_no_test_annotations(layout):
    root = layout("coco")
    (root / "annotations/instances_val2017.json").unlink()
    fields = coco.recognise(root)
    report = coco.check(Config(**fields))
    assert "note: no test set" in report.lines()[1]
    assert [p.found for p in report.problems] == ["holds images without a file of annotations"]
    shutil.rmtree(root / "val2017")
    assert coco.check(Config(**fields)).problems == ()


def test_check_finds_splits_that_share_images_and_training_without_a_box(layout):
    root = layout("coco")
    shutil.copyfile(root / "train2017/china.jpg", root / "val2017/rocket.jpg")
    problems = coco.check(Config(root=root)).problems
    assert any("test images are trained on: rocket.jpg as china.jpg" in str(p) for p in problems)
    change(root, lambda content: content.update(annotations=[]))
    problems = coco.check(Config(root=root)).problems
    assert any("no box in any of the 4 training images" in str(p) for p in problems)


def test_check_notes_outlines_beyond_their_image(layout):
    root = layout("coco")

    def edit(content):
        first, second, *_ = content["annotations"]
        sizes = {image["id"]: image for image in content["images"]}
        for row, beyond in ((first, 1.0), (second, 1.5)):
            size = sizes[row["image_id"]]
            right = size["width"] + beyond
            row["segmentation"] = [[0, 0, right, 0, right, size["height"]]]

    change(root, edit)
    report = coco.check(Config(root=root))
    assert not report.problems
    assert len(report.notes) == 1
    assert report.notes[0].startswith("1 train object has an outline beyond the image")


def test_recognise(layouts, layout):
    assert coco.recognise(layouts / "coco") == Config(root=layouts / "coco").model_dump(mode="json")
    assert coco.recognise(layouts / "voc") is None
    root = layout("coco")
    (root / "annotations/instances_val2017.json").unlink()
    assert coco.recognise(root)["test_annotations"] is None
