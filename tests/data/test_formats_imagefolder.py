import re

import numpy as np
import pytest

from whytransfer.core.errors import InputError
from whytransfer.data.dataset import from_spec
from whytransfer.data.formats import imagefolder
from whytransfer.data.formats.imagefolder import Config


def raises(*parts):
    return pytest.raises(InputError, match=".*".join(re.escape(str(part)) for part in parts))


class TestReading:
    def test_photographs(self, layouts, photographs):
        source = imagefolder.open(Config(root=layouts / "folder"), "train")
        assert source.classes == ("astronaut", "chelsea", "china", "coffee", "flower", "rocket")
        assert len(source) == 12
        for index in range(len(source)):
            sample = source[index]
            photograph, part = sample.name.split("/")
            original = photographs[photograph]
            assert source.classes[sample.label] == photograph
            assert source.name(index) == sample.name and source.label(index) == sample.label
            expected = original if part == "whole.JPEG" else original[:, :200]
            assert sample.image.shape == expected.shape == (*source.size(index), 3)
            assert np.abs(sample.image.astype(int) - expected).mean() < 6
            assert sample.objects is None and source.objects(index) is None
            assert source.path(index).is_file()

    def test_order_is_by_class_then_file(self, layouts):
        source = imagefolder.open(Config(root=layouts / "folder"), "train")
        names = [source.name(index) for index in range(4)]
        assert names == [
            "astronaut/left.JPEG",
            "astronaut/whole.JPEG",
            "chelsea/left.JPEG",
            "chelsea/whole.JPEG",
        ]

    def test_test_images_are_numbered_by_the_training_classes(self, layout):
        root = layout("folder")
        for path in (root / "val/astronaut").iterdir():
            path.unlink()
        (root / "val/astronaut").rmdir()
        source = imagefolder.open(Config(root=root), "test")
        assert len(source) == 5
        assert source.classes[source.label(0)] == "chelsea" == source.name(0).split("/")[0]

    def test_other_files_are_no_images_and_subfolders_belong_to_the_class(self, layout):
        root = layout("folder")
        (root / "train/coffee/notes.txt").write_text("n")
        (root / "train/.cache").mkdir()
        deep = root / "train/coffee/deep"
        deep.mkdir()
        (root / "train/coffee/left.JPEG").rename(deep / "left.JPEG")
        source = imagefolder.open(Config(root=root), "train")
        names = [source.name(index) for index in range(len(source))]
        assert "coffee/deep/left.JPEG" in names and len(names) == 12

    def test_folder_names_are_settings(self, layout):
        root = layout("folder")
        (root / "val").rename(root / "held-out")
        assert len(imagefolder.open(Config(root=root, test="held-out"), "test")) == 6
        alone = Config(root=root / "train", train=".", test=None)
        assert len(imagefolder.open(alone, "train")) == 12
        assert alone.splits == ("train",)


class TestRefusals:
    def test_missing_root(self, tmp_path):
        with raises(tmp_path / "no", "no such folder", "expected", "check the path"):
            imagefolder.open(Config(root=tmp_path / "no"), "train")

    def test_root_is_a_file(self, tmp_path):
        (tmp_path / "data.tar").write_text("")
        with raises("data.tar", "is a file", "the folder"):
            imagefolder.open(Config(root=tmp_path / "data.tar"), "train")

    def test_one_level_too_high(self, layouts):
        with raises(layouts, "no folder 'train'", "too high", layouts / "folder"):
            imagefolder.open(Config(root=layouts), "train")

    def test_one_level_too_low(self, layouts):
        root = layouts / "folder/train"
        with raises(root, "class folders itself", "too low", layouts / "folder"):
            imagefolder.open(Config(root=root), "train")

    def test_two_levels_too_low(self, layouts):
        root = layouts / "folder/train/coffee"
        with raises(root, "no folder 'train'", "too low", layouts / "folder"):
            imagefolder.open(Config(root=root), "train")

    def test_class_folders_without_train_and_val(self, layout):
        root = layout("folder")
        alone = (root / "train").rename(root.parent / "alone")
        with raises(alone, "class folders itself", "move the class folders into", "set train: ."):
            imagefolder.open(Config(root=alone), "train")

    def test_no_test_folder(self, layout):
        root = layout("folder")
        (root / "val").rename(root / "validation")
        with raises(root, "no folder 'val'", "val/<class>/<image>", "set test:", "test: null"):
            imagefolder.open(Config(root=root), "test")
        with raises(root, "no test images"):
            imagefolder.open(Config(root=root, test=None), "test")

    def test_images_without_class_folders(self, layout):
        root = layout("folder")
        for path in list((root / "train").rglob("*.JPEG")):
            path.rename(root / "train" / f"{path.parent.name}_{path.name}")
        for folder in [p for p in (root / "train").iterdir() if p.is_dir()]:
            folder.rmdir()
        with raises(root / "train", "images and no class folders", "one folder per class"):
            imagefolder.open(Config(root=root), "train")

    def test_empty_class_folder(self, layout):
        root = layout("folder")
        (root / "train/empty").mkdir()
        with raises(root / "train/empty", "class folder is empty", "at least one image", "remove"):
            imagefolder.open(Config(root=root), "train")
        (root / "train/empty/a.npy").write_text("")
        with raises(root / "train/empty", "no image among 1 files"):
            imagefolder.open(Config(root=root), "train")

    def test_test_class_that_training_lacks(self, layout):
        root = layout("folder")
        (root / "val/coffee").rename(root / "val/cofee")
        with raises(root / "val/cofee", "not in", "did you mean 'coffee'?"):
            imagefolder.open(Config(root=root), "test")

    def test_several_problems_come_together(self, layout):
        root = layout("folder")
        for number in range(7):
            (root / f"train/empty{number}").mkdir()
        with raises("empty0") as caught:
            imagefolder.open(Config(root=root), "train")
        lines = str(caught.value).splitlines()
        assert len(lines) == 6 and lines[-1].startswith("and 2 more problems")

    def test_truncated_image_is_named_when_it_is_read(self, layout):
        root = layout("folder")
        path = root / "train/astronaut/left.JPEG"
        path.write_bytes(path.read_bytes()[:3000])
        source = imagefolder.open(Config(root=root), "train")
        with raises(path, "can't be decoded"):
            source[0]


class TestCheck:
    def test_counts(self, layouts):
        report = imagefolder.check(Config(root=layouts / "folder"))
        assert report.counts == {"classes": 6, "train images": 12, "test images": 6}
        assert report.problems == ()
        assert report.lines() == [
            "imagefolder: 6 classes, 12 train images, 6 test images; nothing wrong"
        ]

    def test_finds_everything_at_once(self, layout):
        root = layout("folder")
        (root / "train/empty").mkdir()
        (root / "train/coffee/left.JPEG").write_bytes(b"")
        (root / "val/rocket/right.JPEG").write_bytes(b"text")
        report = imagefolder.check(Config(root=root))
        text = "\n".join(map(str, report.problems))
        assert len(report.problems) == 3
        for part in ("train/empty", "coffee/left.JPEG", "rocket/right.JPEG"):
            assert part in text

    def test_a_missing_root_is_one_problem(self, tmp_path):
        report = imagefolder.check(Config(root=tmp_path / "no"))
        assert len(report.problems) == 1 and report.counts == {}


def test_recognise(layouts, layout):
    assert imagefolder.recognise(layouts / "folder")["test"] == "val"
    assert imagefolder.recognise(layouts / "voc") is None
    assert imagefolder.recognise(layouts) is None
    root = layout("folder")
    (root / "val").rename(root / "other")
    assert imagefolder.recognise(root)["test"] is None


def listing(root, name, *lines):
    (root / name).write_text("".join(f"{line}\n" for line in lines))
    return name


def names_of(source):
    return [source.name(index) for index in range(len(source))]


class TestClassesFile:
    """ImageNet-100's list: one folder name per line."""

    def test_keeps_these_classes_numbered_among_themselves(self, layout):
        root = layout("folder")
        file = listing(root, "three.txt", "rocket", "chelsea", "", "coffee")
        config = Config(root=root, classes_file=file)
        for split, count in (("train", 6), ("test", 3)):
            source = imagefolder.open(config, split)
            assert source.classes == ("chelsea", "coffee", "rocket")
            assert len(source) == count
            for index in range(count):
                assert source.classes[source.label(index)] == source.name(index).split("/")[0]
        assert imagefolder.check(config).counts["train images"] == 6

    def test_unknown_and_repeated_names(self, layout):
        root = layout("folder")
        file = listing(root, "bad.txt", "rocket", "cofee", "rocket")
        with raises("bad.txt, line 3", "lists rocket again, as line 1 does") as caught:
            imagefolder.open(Config(root=root, classes_file=file), "train")
        assert "bad.txt, line 2: the class 'cofee' has no folder in" in str(caught.value)
        assert "did you mean 'coffee'?" in str(caught.value)

    def test_missing_empty_and_no_text(self, layout):
        root = layout("folder")
        with raises("no.txt", "no such file", "a list of class folders"):
            imagefolder.open(Config(root=root, classes_file="no.txt"), "train")
        with raises("empty.txt", "lists nothing"):
            file = listing(root, "empty.txt", "", " ")
            imagefolder.open(Config(root=root, classes_file=file), "train")
        (root / "binary.txt").write_bytes(b"\xff\xfe\x00")
        with raises("binary.txt", "can't be read"):
            imagefolder.open(Config(root=root, classes_file="binary.txt"), "train")

    def test_a_test_class_outside_the_training_folder_is_still_an_error(self, layout):
        root = layout("folder")
        (root / "val/coffee").rename(root / "val/tea")
        file = listing(root, "two.txt", "rocket", "chelsea")
        with raises(root / "val/tea", "not in"):
            imagefolder.open(Config(root=root, classes_file=file), "test")


class TestTrainList:
    """The lists of ImageNet 1 % and 10 %: one training image per line."""

    @pytest.fixture
    def numbered(self, layout):
        """Names as ImageNet has them: the class, then a number."""
        root = layout("folder")
        for path in sorted((root / "train").rglob("*.JPEG")):
            number = {"left": 7, "whole": 12}[path.stem]
            path.rename(path.with_name(f"{path.parent.name}_{number}.JPEG"))
        return root

    def everything(self, form="{0}_{1}.JPEG"):
        classes = ("astronaut", "chelsea", "china", "coffee", "flower", "rocket")
        return [form.format(name, 12) for name in classes]

    @pytest.mark.parametrize("form", ["{0}_{1}.JPEG", "{0}/{0}_{1}.JPEG"])
    def test_keeps_these_images_in_the_order_of_the_folders(self, numbered, form):
        file = listing(numbered, "ten.txt", *reversed(self.everything(form)))
        config = Config(root=numbered, train_list=file)
        source = imagefolder.open(config, "train")
        assert names_of(source) == self.everything("{0}/{0}_{1}.JPEG")
        assert [source.label(index) for index in range(6)] == list(range(6))
        assert len(imagefolder.open(config, "test")) == 6

    def test_with_a_list_of_classes(self, numbered):
        images = listing(numbered, "ten.txt", *self.everything())
        classes = listing(numbered, "two.txt", "rocket", "china")
        config = Config(root=numbered, train_list=images, classes_file=classes)
        assert names_of(imagefolder.open(config, "train")) == [
            "china/china_12.JPEG",
            "rocket/rocket_12.JPEG",
        ]

    def test_absent_files_are_counted_and_named(self, numbered):
        lost = [f"n0{number}.JPEG" for number in range(5)]
        file = listing(numbered, "ten.txt", *self.everything(), *lost)
        with raises(
            "ten.txt", "5 of 11 files that are not under", "n00.JPEG (line 7), n01", "line 9), ..."
        ):
            imagefolder.open(Config(root=numbered, train_list=file), "train")

    def test_repeated_names_and_names_of_two_images(self, layout):
        root = layout("folder")
        kept = [f"{name}/whole.JPEG" for name in sorted(p.name for p in (root / "train").iterdir())]
        file = listing(root, "ten.txt", *kept, kept[0])
        with raises("ten.txt, line 7", "lists astronaut/whole.JPEG again, as line 1"):
            imagefolder.open(Config(root=root, train_list=file), "train")
        file = listing(root, "ten.txt", *kept, "left.JPEG")
        with raises("line 7", "left.JPEG fits astronaut/left.JPEG and chelsea/left.JPEG"):
            imagefolder.open(Config(root=root, train_list=file), "train")

    def test_a_class_without_a_listed_image(self, numbered):
        file = listing(numbered, "ten.txt", *self.everything()[1:])
        with raises("ten.txt", "keeps no image of the class astronaut", "classes_file"):
            imagefolder.open(Config(root=numbered, train_list=file), "train")

    def test_the_fingerprint_is_of_what_is_kept_and_not_of_where_the_list_lies(
        self, numbered, tmp_path
    ):
        def fingerprint(file):
            spec = {"format": "imagefolder", "root": str(numbered), "train_list": str(file)}
            return from_spec(spec, None, "here").fingerprint

        first = fingerprint(listing(numbered, "ten.txt", *self.everything()))
        elsewhere = tmp_path / "deep/er"
        elsewhere.mkdir(parents=True)
        listing(elsewhere, "list.txt", *self.everything("{0}/{0}_{1}.JPEG"))
        assert fingerprint(elsewhere / "list.txt") == first
        listing(elsewhere, "list.txt", *self.everything()[1:], "astronaut_7.JPEG")
        assert fingerprint(elsewhere / "list.txt") != first
