import re
import shutil

import numpy as np
import pytest
from tests.data.conftest import write

from whytransfer.core.errors import InputError
from whytransfer.data.dataset import from_spec, look, parse_reference
from whytransfer.data.formats import images
from whytransfer.data.formats.images import Config


def raises(*parts):
    return pytest.raises(InputError, match=".*".join(re.escape(str(part)) for part in parts))


@pytest.fixture
def album(tmp_path, photographs):
    root = tmp_path / "album"
    for name, below in (("chelsea", "z"), ("rocket", "a/deep"), ("coffee", "a")):
        write(root / below / f"{name}.png", photographs[name][:60, :80])
    write(root / "top.png", photographs["china"][:50, :50])
    write(root / ".thumbnails/tiny.png", photographs["china"][:5, :5])
    (root / "a/notes.txt").write_text("n")
    return root


class TestReading:
    def test_every_image_sorted_folder_by_folder(self, album, photographs):
        source = images.open(Config(root=album), "train")
        names = [source.name(index) for index in range(len(source))]
        assert names == ["top.png", "a/coffee.png", "a/deep/rocket.png", "z/chelsea.png"]
        sample = source[3]
        assert np.array_equal(sample.image, photographs["chelsea"][:60, :80])
        assert sample.name == "z/chelsea.png" and sample.label is None
        assert source.classes == () and source.label(0) is None and source.objects(0) is None
        assert source.size(0) == (50, 50) and source.path(0) == album / "top.png"
        assert list(source.files()) == [source.path(index) for index in range(4)]

    def test_folders_are_settings(self, album):
        config = Config(root=album, train="a", test="z")
        assert config.splits == ("train", "test") and Config(root=album).splits == ("train",)
        assert len(images.open(config, "train")) == 2 and len(images.open(config, "test")) == 1
        assert images.check(config).counts == {"train images": 2, "test images": 1}

    def test_fingerprint(self, album, tmp_path):
        def fingerprint(root):
            return from_spec({"format": "images", "root": str(root)}, None, "here").fingerprint

        first = fingerprint(album)
        assert fingerprint(shutil.copytree(album, tmp_path / "copy")) == first
        (album / "z/chelsea.png").rename(album / "z/cat.png")
        assert fingerprint(album) != first


class TestRefusals:
    def test_nothing_there(self, tmp_path):
        with raises(tmp_path / "no", "no such folder"):
            images.open(Config(root=tmp_path / "no"), "train")
        with raises(tmp_path, "no image under it"):
            images.open(Config(root=tmp_path), "train")
        with raises(tmp_path / "sub", "no such folder", "set test:"):
            images.open(Config(root=tmp_path, test="sub"), "test")
        with raises("has no test images"):
            images.open(Config(root=tmp_path), "test")

    def test_check_lists_what_is_no_image(self, album):
        (album / "a/coffee.png").write_bytes(b"text")
        report = images.check(Config(root=album))
        assert report.counts == {"train images": 4} and len(report.problems) == 1
        assert report.problems[0].where.endswith("a/coffee.png")


class TestRecognition:
    def test_only_where_no_other_format_is(self, album, layouts):
        assert look(album) == {"format": "images", "root": str(album)}
        assert parse_reference(f"images:{album}")["format"] == "images"
        for name, format in (("folder", "imagefolder"), ("voc", "voc"), ("coco", "coco")):
            assert images.recognise(layouts / name) is not None
            assert look(layouts / name)["format"] == format

    def test_a_folder_inside_another_dataset_is_still_too_low(self, layouts):
        with raises(layouts / "folder/train/coffee", f"too low: give {layouts / 'folder'}"):
            look(layouts / "folder/train/coffee")
        found = parse_reference(f"images:{layouts / 'folder/train/coffee'}")
        assert len(from_spec(found, None, "here").open("train")) == 2

    def test_a_folder_without_images(self, tmp_path):
        (tmp_path / "a").mkdir()
        (tmp_path / "a/b.txt").write_text("")
        assert images.recognise(tmp_path) is None
        with raises(tmp_path, "no format recognised"):
            look(tmp_path)
