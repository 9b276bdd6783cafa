import re

import numpy as np
import pytest

from whytransfer.core.errors import InputError
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
