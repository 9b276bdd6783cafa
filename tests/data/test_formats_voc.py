import pickle
import re
import shutil

import numpy as np
import pytest
from tests.data.conftest import OBJECTS, TEST, TRAIN, voc_annotation

from whytransfer.core.errors import InputError, InputErrors
from whytransfer.data.formats import voc
from whytransfer.data.formats.voc import CLASSES, Config


def raises(*parts):
    return pytest.raises(InputError, match=".*".join(re.escape(str(part)) for part in parts))


def rewrite(root, name, objects, shape=(512, 512, 3)):
    path = root / f"VOC2007/Annotations/{name}.xml"
    path.write_text(voc_annotation(shape, objects))
    return path


class TestReading:
    def test_photographs(self, layouts, photographs):
        config = Config(root=layouts / "voc")
        train, test = voc.open(config, "train"), voc.open(config, "test")
        assert train.classes == CLASSES and len(CLASSES) == 20
        assert [train.name(i) for i in range(len(train))] == list(TRAIN)
        assert [test.name(i) for i in range(len(test))] == list(TEST)
        for source in (train, test):
            for index in range(len(source)):
                sample = source[index]
                original = photographs[sample.name]
                assert sample.image.shape == original.shape == (*source.size(index), 3)
                assert sample.label is None and source.label(index) is None
                expected = OBJECTS[sample.name]
                objects = sample.objects
                assert [CLASSES[label] for label in objects.labels] == [o[0] for o in expected]
                assert objects.difficult.tolist() == [bool(o[2]) for o in expected]
                assert not objects.crowd.any()
                for box, area, (_, (xmin, ymin, xmax, ymax), _) in zip(
                    objects.boxes_xyxy, objects.area, expected, strict=True
                ):
                    assert box.tolist() == [xmin - 1, ymin - 1, xmax, ymax]
                    assert area == (xmax - xmin + 1) * (ymax - ymin + 1)

    def test_root_may_be_the_year_itself(self, layouts):
        source = voc.open(Config(root=layouts / "voc/VOC2007"), "train")
        assert len(source) == 4 and source.path(0).is_file()

    def test_an_image_without_objects_stays(self, layouts):
        source = voc.open(Config(root=layouts / "voc"), "train")
        objects = source.objects(TRAIN.index("china"))
        assert objects.boxes_xyxy.shape == (0, 4) and len(objects.labels) == 0

    def test_inferred_classes_come_from_both_splits(self, layouts):
        names = sorted({name for objects in OBJECTS.values() for name, *_ in objects})
        for split in ("train", "test"):
            source = voc.open(Config(root=layouts / "voc", classes="infer"), split)
            assert source.classes == tuple(names)

    def test_named_classes_keep_their_order(self, layouts):
        names = sorted({name for objects in OBJECTS.values() for name, *_ in objects})[::-1]
        source = voc.open(Config(root=layouts / "voc", classes=tuple(names)), "train")
        assert source.classes == tuple(names)
        assert names[source.objects(0).labels[0]] == "person"

    def test_several_sets_follow_one_another(self, layouts):
        config = Config(root=layouts / "voc", train=("2007_test", "2007_trainval"))
        source = voc.open(config, "train")
        assert [source.name(i) for i in range(len(source))] == [*TEST, *TRAIN]

    def test_the_order_of_lines_in_a_set_moves_nothing(self, layout):
        root = layout("voc")
        (root / "VOC2007/ImageSets/Main/trainval.txt").write_text("\n".join(reversed(TRAIN)) + "\n")
        source = voc.open(Config(root=root), "train")
        assert [source.name(i) for i in range(len(source))] == sorted(TRAIN)

    def test_a_box_one_pixel_too_large_is_clipped(self, layout):
        root = layout("voc")
        rewrite(root, "astronaut", [("person", (0, 1, 513, 512), 0)])
        source = voc.open(Config(root=root), "train")
        assert source.objects(0).boxes_xyxy.tolist() == [[0, 0, 512, 512]]

    def test_fractions_and_parts_are_read(self, layout):
        root = layout("voc")
        path = rewrite(root, "astronaut", [("person", (20.5, 1, 440, 512), 0)])
        part = "<part><name>head</name><bndbox><xmin>9</xmin></bndbox></part>"
        path.write_text(path.read_text().replace("</object>", f"{part}</object>"))
        objects = voc.open(Config(root=root), "train").objects(0)
        assert objects.boxes_xyxy.tolist() == [[19.5, 0, 440, 512]]

    def test_size_is_taken_from_the_image_where_the_annotation_has_none(self, layout):
        root = layout("voc")
        path = root / "VOC2007/Annotations/chelsea.xml"
        path.write_text(re.sub("<size>.*</size>", "", path.read_text()))
        assert voc.open(Config(root=root), "train").size(1) == (300, 451)

    def test_other_suffixes(self, layout):
        root = layout("voc")
        folder = root / "VOC2007/JPEGImages"
        (folder / "coffee.jpg").rename(folder / "coffee.JPEG")
        source = voc.open(Config(root=root), "train")
        assert source.path(3).name == "coffee.JPEG"

    def test_a_source_survives_pickling(self, layouts):
        source = voc.open(Config(root=layouts / "voc"), "train")
        copy = pickle.loads(pickle.dumps(source))
        assert np.array_equal(copy[0].image, source[0].image)
        assert np.array_equal(copy.objects(3).boxes_xyxy, source.objects(3).boxes_xyxy)

    def test_files_are_images_annotations_and_lists(self, layouts):
        source = voc.open(Config(root=layouts / "voc"), "test")
        files = sorted(
            path.relative_to(layouts / "voc/VOC2007").as_posix() for path in source.files()
        )
        assert files == [
            "Annotations/flower.xml", "Annotations/rocket.xml", "ImageSets/Main/test.txt",
            "JPEGImages/flower.jpg", "JPEGImages/rocket.jpg",
        ]  # fmt: skip


class TestYears:
    """2007, 2012 and both as one split; the same names in both years stay apart."""

    @pytest.fixture
    def devkit(self, layout):
        root = layout("voc")
        later = root / "VOC2012"
        shutil.copytree(root / "VOC2007", later)
        (later / "ImageSets/Main/trainval.txt").write_text("chelsea\ncoffee\n")
        (later / "ImageSets/Main/val.txt").write_text("coffee\n")
        (later / "ImageSets/Main/test.txt").unlink()
        return root

    def test_the_union_is_one_split_of_unique_names(self, devkit):
        config = Config(root=devkit, train=("2007_trainval", "2012_trainval"))
        source, test = voc.open(config, "train"), voc.open(config, "test")
        names = [source.name(i) for i in range(len(source))]
        assert names == [f"2007/{name}" for name in TRAIN] + ["2012/chelsea", "2012/coffee"]
        assert [test.name(i) for i in range(len(test))] == list(TEST)  # one year: plain names
        assert source.path(1) == devkit / "VOC2007/JPEGImages/chelsea.jpg"
        assert source.path(4) == devkit / "VOC2012/JPEGImages/chelsea.jpg"
        assert np.array_equal(source.objects(1).boxes_xyxy, source.objects(4).boxes_xyxy)
        listed = {path.name for path in source.files() if path.suffix == ".txt"}
        assert len(source) == 6 and listed == {"trainval.txt"}

    def test_2012_alone(self, devkit):
        config = Config(root=devkit, train=("2012_trainval",), test=("2012_val",))
        assert [voc.open(config, "train").name(i) for i in range(2)] == ["chelsea", "coffee"]
        assert voc.open(config, "test").name(0) == "coffee"

    def test_an_image_of_two_sets_of_a_year_is_listed_twice(self, devkit):
        config = Config(root=devkit, train=("2012_trainval", "2012_val"))
        with raises("lists coffee twice"):
            voc.open(config, "train")

    def test_a_year_that_is_not_there(self, devkit):
        config = Config(root=devkit, train=("2007_trainval", "2011_trainval"))
        with raises("no folder VOC2011"):
            voc.open(config, "train")

    def test_copies_of_test_images_among_the_other_years(self, devkit):
        images = devkit / "VOC2012/JPEGImages"
        shutil.copyfile(devkit / "VOC2007/JPEGImages/rocket.jpg", images / "chelsea.jpg")
        shutil.copyfile(
            devkit / "VOC2007/Annotations/rocket.xml", devkit / "VOC2012/Annotations/chelsea.xml"
        )
        config = Config(root=devkit, train=("2007_trainval", "2012_trainval"))
        (problem,) = voc.check(config).problems
        assert "1 test images are trained on: rocket as 2012/chelsea" in str(problem)


class TestRefusals:
    def test_missing_root(self, tmp_path):
        with raises(tmp_path / "no", "no such folder", "check the path"):
            voc.open(Config(root=tmp_path / "no"), "train")

    def test_one_level_too_high(self, layouts):
        with raises(layouts, "no folder VOC2007", "too high", layouts / "voc"):
            voc.open(Config(root=layouts), "train")

    @pytest.mark.parametrize("below", ["JPEGImages", "ImageSets", "ImageSets/Main"])
    def test_too_low(self, layouts, below):
        root = layouts / "voc/VOC2007"
        with raises(root / below, "no folder VOC2007", "too low", f"give {layouts}/voc"):
            voc.open(Config(root=root / below), "train")

    def test_another_year(self, layouts):
        config = Config(root=layouts / "voc/VOC2007", train=("2012_trainval",))
        with raises("VOC2007", "no folder VOC2012"):
            voc.open(config, "train")

    def test_unknown_image_set(self, layouts):
        with raises(
            "trainvl.txt", "no such image set", "test, trainval", "did you mean 'trainval'?"
        ):
            voc.open(Config(root=layouts / "voc", train=("2007_trainvl",)), "train")
        with raises("image set 'trainval'", "<year>_<name>"):
            voc.open(Config(root=layouts / "voc", train=("trainval",)), "train")

    def test_no_test_sets(self, layouts):
        config = Config(root=layouts / "voc", test=())
        assert config.splits == ("train",)
        with raises("no test images"):
            voc.open(config, "test")

    def test_a_list_that_is_no_text(self, layout):
        root = layout("voc")
        (root / "VOC2007/ImageSets/Main/test.txt").write_bytes(bytes(range(256)))
        with raises("test.txt", "can't be read", "one image name per line"):
            voc.open(Config(root=root), "test")

    def test_list_of_one_class_is_no_image_set(self, layout):
        root = layout("voc")
        path = root / "VOC2007/ImageSets/Main/cat_trainval.txt"
        path.write_text("chelsea  1\nchina -1\n")
        with raises("cat_trainval.txt, line 1", "one image name per line", "trainval"):
            voc.open(Config(root=root, train=("2007_cat_trainval",)), "train")

    def test_empty_image_set(self, layout):
        root = layout("voc")
        (root / "VOC2007/ImageSets/Main/test.txt").write_text("\n")
        with raises("test.txt", "lists no image"):
            voc.open(Config(root=root), "test")

    def test_image_set_names_a_missing_image_and_annotation(self, layout):
        root = layout("voc")
        (root / "VOC2007/JPEGImages/china.jpg").unlink()
        with raises("JPEGImages/china.jpg", "no such file, but an image set lists it", "add it"):
            voc.open(Config(root=root), "train")
        root_xml = root / "VOC2007/Annotations/flower.xml"
        root_xml.unlink()
        with raises(root_xml, "no such file, but an image set lists it", "an annotation"):
            voc.open(Config(root=root), "test")

    def test_image_listed_twice(self, layout):
        root = layout("voc")
        path = root / "VOC2007/ImageSets/Main/test.txt"
        path.write_text("rocket\nflower\nrocket\n")
        with raises("lists rocket twice"):
            voc.open(Config(root=root), "test")

    def test_malformed_xml(self, layout):
        root = layout("voc")
        path = root / "VOC2007/Annotations/coffee.xml"
        path.write_text(path.read_text()[:80])
        with raises(path, "malformed XML", "a VOC annotation", "correct the file"):
            voc.open(Config(root=root), "train")
        path.write_text("<labels/>")
        with raises(path, "holds <labels>", "<annotation>"):
            voc.open(Config(root=root), "train")

    def test_annotation_of_another_image(self, layout):
        root = layout("voc")
        path = root / "VOC2007/Annotations/coffee.xml"
        text = path.read_text()
        path.write_text(text.replace("<annotation>", "<annotation><filename>china.jpg</filename>"))
        with raises(path, "it is of the image china", "the annotation of coffee"):
            voc.open(Config(root=root), "train")
        for harmless in ("coffee.png", "IMG_0017.jpg", ""):
            named = f"<annotation><filename>{harmless}</filename>"
            path.write_text(text.replace("<annotation>", named))
            assert len(voc.open(Config(root=root), "train")) == 4

    def test_class_that_is_not_in_the_list(self, layout):
        root = layout("voc")
        path = rewrite(root, "astronaut", [("persn", (1, 1, 9, 9), 0)])
        with raises(path, "the class 'persn'", "aeroplane", "'person'", "classes: infer"):
            voc.open(Config(root=root), "train")

    @pytest.mark.parametrize(
        ("corners", "words"),
        [
            ((30, 1, 20, 40), "inverted or empty"),
            ((1, 30, 40, 20), "inverted or empty"),
            ((1, 1, 515, 20), "outside the image"),
            ((-3, 1, 20, 20), "outside the image"),
            ((514, 514, 515, 515), "outside the image"),
        ],
    )
    def test_box_inverted_or_outside(self, layout, corners, words):
        root = layout("voc")
        path = rewrite(root, "astronaut", [("person", corners, 0)])
        with raises(f"{path}, object 'person'", words, "correct"):
            voc.open(Config(root=root), "train")

    @pytest.mark.parametrize(
        ("old", "new", "words"),
        [
            ("<xmin>20</xmin>", "", "<object> has no <bndbox/xmin>"),
            ("<xmin>20</xmin>", "<xmin>left</xmin>", "<bndbox/xmin> is 'left'"),
            ("<xmin>20</xmin>", "<xmin>nan</xmin>", "<bndbox/xmin> is 'nan'"),
            ("<name>person</name>", "<name> </name>", "no <name>"),
            ("<width>512</width>", "<width>?</width>", "<size/width> is '?'"),
        ],
    )
    def test_fields_missing_or_no_numbers(self, layout, old, new, words):
        root = layout("voc")
        path = root / "VOC2007/Annotations/astronaut.xml"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))
        with raises(path, words):
            voc.open(Config(root=root), "train")

    def test_image_of_another_size_than_annotated(self, layout):
        root = layout("voc")
        rewrite(root, "astronaut", [], shape=(300, 400, 3))
        source = voc.open(Config(root=root), "train")
        with raises("astronaut.jpg", "is 512×512 px", "400×300 px, as its annotation says"):
            source[0]

    def test_all_problems_come_together(self, layout):
        root = layout("voc")
        rewrite(root, "astronaut", [("persn", (1, 1, 9, 9), 0), ("person", (9, 9, 1, 1), 0)])
        (root / "VOC2007/Annotations/coffee.xml").write_text("<annotation>")
        with pytest.raises(InputErrors) as caught:
            voc.open(Config(root=root), "train")
        assert len(caught.value.problems) == 3


class TestCheck:
    def test_counts(self, layouts):
        report = voc.check(Config(root=layouts / "voc"))
        assert report.problems == ()
        assert report.counts == {
            "classes": 20,
            "train images": 4, "train objects": 5, "train difficult objects": 1,
            "test images": 2, "test objects": 2, "test difficult objects": 1,
        }  # fmt: skip

    def test_finds_everything_at_once(self, layout):
        root = layout("voc")
        rewrite(root, "astronaut", [("persn", (1, 1, 9, 9), 0), ("person", (9, 9, 1, 1), 0)])
        (root / "VOC2007/JPEGImages/coffee.jpg").write_bytes(b"")
        (root / "VOC2007/Annotations/rocket.xml").write_text("<annotation>")
        text = "\n".join(map(str, voc.check(Config(root=root)).problems))
        for part in (
            "'persn'",
            "inverted",
            "coffee.jpg: the file is empty",
            "rocket.xml: malformed",
        ):
            assert part in text
        assert text.count("\n") == 3

    def test_an_image_of_another_size_than_annotated_and_a_test_set_that_is_not_there(self, layout):
        root = layout("voc")
        rewrite(root, "astronaut", [], shape=(300, 400, 3))
        (root / "VOC2007/ImageSets/Main/test.txt").unlink()
        report = voc.check(Config(**voc.recognise(root)))
        (problem,) = report.problems
        assert problem.found == "is 512×512 px"
        (note,) = report.notes
        assert note.startswith("no test set (test: []); image sets found: 2007_trainval; name one")
        assert note.endswith("unpack VOCtest_06-Nov-2007.tar over the folder, which has VOC 2007's")

    def test_splits_that_share_images(self, layout):
        root = layout("voc")
        (root / "VOC2007/ImageSets/Main/test.txt").write_text("flower\nrocket\nchelsea\n")
        (problem,) = voc.check(Config(root=root)).problems
        assert "1 test images are trained on: chelsea; expected splits apart" in str(problem)

    def test_no_box_in_the_training_split(self, layout):
        root = layout("voc")
        (root / "VOC2007/ImageSets/Main/trainval.txt").write_text("china\n")
        (problem,) = voc.check(Config(root=root)).problems
        assert "no box in any of the 1 training images" in str(problem)


class TestRecognise:
    def test_devkit_and_year(self, layouts):
        for root in (layouts / "voc", layouts / "voc/VOC2007"):
            assert voc.recognise(root) == {
                "root": str(root), "train": ["2007_trainval"], "test": ["2007_test"],
            }  # fmt: skip
        for root in (layouts, layouts / "folder", layouts / "coco"):
            assert voc.recognise(root) is None

    def test_own_classes_are_inferred(self, layout):
        root = layout("voc")
        for path in (root / "VOC2007/Annotations").iterdir():
            path.write_text(re.sub("<name>.*?</name>", "<name>blob</name>", path.read_text()))
        assert voc.recognise(root)["classes"] == "infer"

    def test_sets_that_are_there(self, layout):
        root = layout("voc")
        sets = root / "VOC2007/ImageSets/Main"
        (sets / "test.txt").unlink()
        assert voc.recognise(root)["test"] == []
        (sets / "trainval.txt").rename(sets / "train.txt")
        assert voc.recognise(root)["train"] == ["2007_train"]
