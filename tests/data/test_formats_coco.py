import json
import re
import shutil

import numpy as np
import pytest
from tests.data.conftest import OBJECTS, TEST, TRAIN

from whytransfer.core.errors import InputError
from whytransfer.data.formats import coco
from whytransfer.data.formats.coco import Config

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
            (lambda c: c["images"].append(c["images"][0]), ("lists astronaut.jpg twice",)),
            (lambda c: c["categories"].append(c["categories"][0]), ("unique names",)),
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


def test_check_finds_splits_that_share_images_and_training_without_a_box(layout):
    root = layout("coco")
    shutil.copyfile(root / "train2017/china.jpg", root / "val2017/rocket.jpg")
    problems = coco.check(Config(root=root)).problems
    assert any("test images are trained on: rocket.jpg as china.jpg" in str(p) for p in problems)
    change(root, lambda content: content.update(annotations=[]))
    problems = coco.check(Config(root=root)).problems
    assert any("no box in any of the 4 training images" in str(p) for p in problems)


def test_recognise(layouts, layout):
    assert coco.recognise(layouts / "coco") == Config(root=layouts / "coco").model_dump(mode="json")
    assert coco.recognise(layouts / "voc") is None
    root = layout("coco")
    (root / "annotations/instances_val2017.json").unlink()
    assert coco.recognise(root)["test_annotations"] is None
