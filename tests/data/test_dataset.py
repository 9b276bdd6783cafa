import dataclasses
import json
import os
import re
import shutil

import numpy as np
import pytest

from whytransfer.core.errors import InputError
from whytransfer.core.plugins import names
from whytransfer.data import dataset as module
from whytransfer.data.dataset import from_spec, limited, look, made, parse_reference
from whytransfer.data.format import ReadConfig

KNOWN = ", ".join(names("format"))


def raises(*parts):
    return pytest.raises(InputError, match=".*".join(re.escape(str(part)) for part in parts))


def spec(root, format="voc", **fields):
    return {"format": format, "root": str(root), **fields}


def age(root, seconds=100):
    for path in root.rglob("*"):
        os.utime(path, (path.stat().st_mtime - seconds,) * 2)


def append(path):
    path.write_bytes(path.read_bytes() + b" ")


class TestFromSpec:
    @pytest.mark.parametrize("name", ["folder", "voc", "coco"])
    def test_opens_both_splits(self, layouts, name):
        format = {"folder": "imagefolder"}.get(name, name)
        dataset = from_spec(spec(layouts / name, format), None, "here")
        assert dataset.format == format and len(dataset.fingerprint) == 64
        train, test = dataset.open("train"), dataset.open("test")
        assert train.classes == test.classes
        assert train[0].image.ndim == test[0].image.ndim == 3

    def test_a_dotted_path_names_a_format_of_the_users_own(self, layouts):
        mine = from_spec(spec(layouts / "voc", "whytransfer.data.formats.voc"), None, "here")
        assert len(mine.open("test")) == 2

    def test_unknown_format_and_fields(self, layouts):
        with raises("format 'vok'", KNOWN, "did you mean 'voc'?"):
            from_spec(spec(layouts / "voc", "vok"), None, "here")
        with raises("here, field format", "missing", KNOWN):
            from_spec({"root": str(layouts)}, None, "here")
        with raises("here, field trian", "unknown field", "did you mean 'train'?"):
            from_spec(spec(layouts / "voc", trian=[]), None, "here")
        with raises("here, field root", "missing"):
            from_spec({"format": "voc"}, None, "here")

    def test_home_folder(self, layouts, monkeypatch):
        monkeypatch.setenv("HOME", str(layouts))
        assert from_spec(spec("~/voc"), None, "here").config.root == layouts / "voc"

    def test_classes_that_differ_between_the_splits(self, layout):
        root = layout("coco")
        path = root / "annotations/instances_val2017.json"
        content = json.loads(path.read_text())
        content["categories"].append({"id": 1, "name": "zebra"})
        path.write_text(json.dumps(content))
        with raises("here", "differ in zebra", "the same classes"):
            from_spec(spec(root, "coco"), None, "here")


class TestFingerprint:
    def test_is_of_the_content_and_not_of_the_place(self, layouts, tmp_path):
        first = from_spec(spec(layouts / "voc"), None, "here").fingerprint
        moved = shutil.copytree(layouts / "voc", tmp_path / "elsewhere")
        age(moved)
        assert from_spec(spec(moved), None, "here").fingerprint == first
        assert from_spec(spec(moved / "VOC2007"), None, "here").fingerprint == first

    @pytest.mark.parametrize(
        "damage",
        [
            lambda root: append(root / "Annotations/china.xml"),
            lambda root: append(root / "JPEGImages/rocket.jpg"),
            lambda root: (root / "ImageSets/Main/test.txt").write_text("rocket\nflower\n"),
        ],
    )
    def test_changes_with_every_file(self, layout, damage):
        root = layout("voc")
        first = from_spec(spec(root), None, "here").fingerprint
        damage(root / "VOC2007")
        assert from_spec(spec(root), None, "here").fingerprint != first

    def test_changes_with_the_fields(self, layouts):
        plain = from_spec(spec(layouts / "voc"), None, "here").fingerprint
        infer = from_spec(spec(layouts / "voc", classes="infer"), None, "here").fingerprint
        assert plain != infer

    def test_other_files_do_not_matter(self, layout):
        root = layout("folder")
        first = from_spec(spec(root, "imagefolder"), None, "here").fingerprint
        (root / "train/coffee/notes.txt").write_text("n")
        assert from_spec(spec(root, "imagefolder"), None, "here").fingerprint == first

    def test_images_that_change_places_matter(self, layout):
        root = layout("folder")
        first = from_spec(spec(root, "imagefolder"), None, "here").fingerprint
        one, two = root / "train/coffee/left.JPEG", root / "train/china/left.JPEG"
        one.rename(root / "aside")
        two.rename(one)
        (root / "aside").rename(two)
        assert from_spec(spec(root, "imagefolder"), None, "here").fingerprint != first


class TestHashCache:
    @pytest.fixture
    def hashed(self, monkeypatch):
        seen = []
        original = module.hash_file
        monkeypatch.setattr(module, "hash_file", lambda path: seen.append(path) or original(path))
        return seen

    def test_spares_what_has_not_changed(self, layout, tmp_path, hashed):
        root, cache = layout("voc"), tmp_path / "store/hashes.json"
        age(root)
        first = from_spec(spec(root), cache, "here").fingerprint
        assert len(hashed) == 14
        hashed.clear()
        assert from_spec(spec(root), cache, "here").fingerprint == first
        assert hashed == []
        path = root / "VOC2007/Annotations/china.xml"
        path.write_text(path.read_text() + " ")
        assert from_spec(spec(root), cache, "here").fingerprint != first
        assert hashed == [path]

    def test_files_written_just_now_are_hashed_again(self, layout, tmp_path, hashed):
        root, cache = layout("voc"), tmp_path / "hashes.json"
        for path in root.rglob("*"):
            os.utime(path)
        from_spec(spec(root), cache, "here")
        from_spec(spec(root), cache, "here")
        assert len(hashed) == 28

    def test_two_datasets_share_it(self, layout, tmp_path, hashed):
        roots, cache = [layout("voc"), layout("coco")], tmp_path / "hashes.json"
        for _ in range(2):
            for root in roots:
                age(root)
                from_spec(spec(root, root.name), cache, "here")
            age_of_first_pass = len(hashed)
            for root in roots:
                from_spec(spec(root, root.name), cache, "here")
            assert len(hashed) == age_of_first_pass

    @pytest.mark.parametrize("damage", ["{", "[]", '{"a": 1}'])
    def test_a_damaged_one_is_made_anew(self, layouts, tmp_path, damage):
        cache = tmp_path / "hashes.json"
        cache.write_text(damage)
        plain = from_spec(spec(layouts / "voc"), None, "here").fingerprint
        assert from_spec(spec(layouts / "voc"), cache, "here").fingerprint == plain

    def test_one_that_can_not_be_written_does_no_harm(self, layouts, tmp_path):
        (tmp_path / "file").write_text("")
        from_spec(spec(layouts / "voc"), tmp_path / "file/hashes.json", "here")


def test_made_trusts_the_fingerprint(layouts):
    dataset = made(layouts / "voc", {"format": "voc", "classes": "infer"}, "f" * 64)
    assert dataset.fingerprint == "f" * 64
    assert "cat" in dataset.open("train").classes and len(dataset.open("test")) == 2


class TestReferences:
    @pytest.mark.parametrize(
        ("name", "format"), [("folder", "imagefolder"), ("voc", "voc"), ("coco", "coco")]
    )
    def test_recognised_by_looking(self, layouts, name, format):
        found = parse_reference(str(layouts / name))
        assert found == parse_reference(f"{format}:{layouts / name}") == look(layouts / name)
        assert found["format"] == format
        assert len(from_spec(found, None, "here").open("test")) > 0

    def test_named_format_wins_over_the_looks(self, layouts):
        found = parse_reference(f"coco:{layouts / 'voc'}")
        assert found == {"format": "coco", "root": str(layouts / "voc")}
        with raises("format 'cocoa'", "did you mean 'coco'?"):
            parse_reference(f"cocoa:{layouts / 'voc'}")

    def test_missing_folder(self, tmp_path):
        with raises(tmp_path / "no", "no such folder"):
            parse_reference(str(tmp_path / "no"))
        with raises(tmp_path / "no", "no such folder"):
            from_spec(parse_reference(f"voc:{tmp_path / 'no'}"), None, "here")

    @pytest.mark.parametrize(
        ("below", "right"),
        [
            ("voc/VOC2007/JPEGImages", "voc/VOC2007"),
            ("folder/train", "folder"),
            ("folder/train/coffee", "folder"),
            ("coco/annotations", "coco"),
        ],
    )
    def test_too_low(self, layouts, below, right):
        with raises(layouts / below, "no format recognised", f"too low: give {layouts / right}"):
            look(layouts / below)

    def test_too_high(self, layout):
        root = layout("voc")
        with raises(root.parent, "no format recognised", f"too high: give {root}"):
            look(root.parent)

    def test_nothing_known(self, tmp_path):
        with raises(tmp_path, KNOWN, "format:folder"):
            look(tmp_path)

    def test_two_at_once(self, layout):
        root = layout("voc")
        shutil.copytree(layout("coco"), root, dirs_exist_ok=True)
        with raises(root, "looks like coco and voc", f"coco:{root}"):
            look(root)


class TestRecorded:
    """What a source knows of its content before anything is hashed."""

    @dataclasses.dataclass
    class Source:
        paths: list
        hashes: dict

        def files(self):
            return self.paths

        def recorded(self):
            return self.hashes

    def fingerprint(self, hashes, paths=()):
        config = ReadConfig()
        return module._fingerprint("voc", config, {"train": self.Source(paths, hashes)}, None)

    def test_what_lies_elsewhere_is_named_by_it(self):
        first = self.fingerprint({"a": "1", "b": "2"})
        assert self.fingerprint({"b": "2", "a": "1"}) == first
        assert self.fingerprint({"a": "1", "b": "3"}) != first

    def test_local_files_must_be_as_recorded(self, tmp_path):
        path = tmp_path / "file"
        path.write_text("content")
        right = {str(path): module.hash_file(path)}
        assert self.fingerprint(right, [path]) == self.fingerprint({}, [path])
        with raises(path, "its SHA-256 is", "recorded is 0000", "copy the file again"):
            self.fingerprint({str(path): "0" * 64}, [path])


class TestPlaces:
    def test_fields_that_say_where_something_lies_enter_no_fingerprint(self):
        class Mine(ReadConfig):
            PLACES = frozenset({"root", "elsewhere"})
            root: str = "a"
            elsewhere: str = "b"
            how: int = 0

        def fingerprint(config):
            return module._fingerprint("voc", config, {}, None)

        first = fingerprint(Mine())
        assert fingerprint(Mine(root="x", elsewhere="y")) == first
        assert fingerprint(Mine(how=1)) != first


class TestLimited:
    def test_is_a_fixed_choice_that_keeps_classes(self, layouts):
        whole = made(layouts / "folder", {"format": "imagefolder"}, "f").open("train")
        few, more = limited(whole, 4), limited(whole, 7)
        names = [few.name(index) for index in range(len(few))]
        assert len(set(names)) == 4 and set(names) <= {more.name(i) for i in range(7)}
        assert names == [limited(whole, 4).name(index) for index in range(4)]
        assert few.classes == whole.classes
        place = [whole.name(i) for i in range(len(whole))].index(names[2])
        assert few.label(2) == whole.label(place) and few.size(2) == whole.size(place)
        assert few.path(2) == whole.path(place) and few.objects(2) is None
        assert np.array_equal(few[2].image, whole[place].image)

    def test_none_or_many_is_the_source_itself(self, layouts):
        whole = made(layouts / "voc", {"format": "voc"}, "f").open("train")
        assert limited(whole, None) is whole and limited(whole, 4) is whole
        assert len(limited(whole, 1)) == 1
