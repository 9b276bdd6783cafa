"""CelebA as the world writes it and as it should not be."""

import json
import re
import shutil

import numpy as np
import pytest

from whytransfer.core.errors import InputError
from whytransfer.data.checks import check
from whytransfer.data.dataset import from_spec, look
from whytransfer.data.formats import celeba
from whytransfer.data.formats.celeba import Config
from whytransfer.data.world import faces

SMALL = {"num_train": 9, "num_val": 3, "num_test": 5, "num_identities": 4}


def raises(*parts):
    return pytest.raises(InputError, match=".*".join(re.escape(str(part)) for part in parts))


@pytest.fixture(scope="module")
def _written(tmp_path_factory):
    root = tmp_path_factory.mktemp("celeba")
    for layout in ("torchvision", "official"):
        faces.write(root / layout, faces.Config(**SMALL, layout=layout), seed=2)
    known = faces.Config(**SMALL, test_identities="known")
    faces.write(root / "known", known, seed=2)
    return root


@pytest.fixture
def written(_written, tmp_path):
    def copy(name):
        return shutil.copytree(_written / name, tmp_path / name)

    return copy


def sidecar(root):
    lines = (root / "factors.jsonl").read_text().splitlines()
    return {line["file"].rpartition("/")[2]: line for line in map(json.loads, lines)}


def edit(path, change):
    lines = path.read_text().splitlines()
    change(lines)
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("layout", ["torchvision", "official"])
def test_what_the_world_writes_is_read_back(_written, layout):
    root = _written / layout
    factors = sidecar(root)
    train = celeba.open(Config(root=root, layout=layout), "train")
    test = celeba.open(Config(root=root, layout=layout), "test")
    assert (len(train), len(test)) == (9, 5)
    assert train.classes == test.classes == ("1", "2", "3", "4")
    for source in (train, test):
        for index in range(len(source)):
            truth = factors[source.name(index)]
            sample = source[index]
            assert sample.image.shape[:2] == source.size(index) == (109, 89)
            assert sample.label == source.label(index)
            if source is train:
                assert source.classes[source.label(index)] == str(truth["identity"])
            else:
                assert source.label(index) is None and str(truth["identity"]) not in train.classes
            landmarks = source.landmarks(index)
            assert landmarks.shape == (5, 2) and landmarks.dtype == np.float64
            assert np.abs(landmarks - truth["landmarks"]).max() <= 0.5


def test_people_who_are_in_training_as_well_have_labels_in_test(_written):
    root = _written / "known"
    truth = sidecar(root)
    test = celeba.open(Config(root=root), "test")
    labels = [test.label(index) for index in range(len(test))]
    assert [test.classes[label] for label in labels] == [
        str(truth[test.name(index)]["identity"]) for index in range(len(test))
    ]


def test_the_validation_partition_can_be_the_test_split(_written):
    test = celeba.open(Config(root=_written / "torchvision", test_partition=1), "test")
    assert [test.name(i) for i in range(len(test))] == ["000010.jpg", "000011.jpg", "000012.jpg"]


def test_pictures_in_the_wild_have_landmarks_of_their_own(_written):
    config = Config(root=_written / "official", layout="official", images="wild")
    wild = celeba.open(config, "train")
    aligned = celeba.open(Config(root=_written / "official", layout="official"), "train")
    for index in range(3):
        x, y = (wild.landmarks(index) - aligned.landmarks(index))[0].astype(int)
        assert x >= 1 and y >= 1
        cut = wild[index].image[y : y + 109, x : x + 89].astype(int)
        assert np.abs(cut - aligned[index].image).mean() < 4


def test_the_smallest_whole_number_of_a_pixel_is_its_centre(_written):
    root = _written / "torchvision"
    plain = celeba.open(Config(root=root, pixel_centre=0), "train").landmarks(0)
    assert (celeba.open(Config(root=root), "train").landmarks(0) == plain + 0.5).all()
    assert (plain == np.floor(plain)).all()


def test_recognise(_written):
    for layout in ("torchvision", "official"):
        expected = {"root": str(_written / layout), "layout": layout, "images": "aligned"}
        assert celeba.recognise(_written / layout) == expected
        assert look(_written / layout) == {"format": "celeba", **expected}
    inner = _written / "torchvision/celeba"
    assert celeba.recognise(inner)["root"] == str(inner)
    assert celeba.recognise(_written) is None


def test_check_counts(_written):
    report = check(str(_written / "official"))
    assert report.problems == ()
    assert report.counts == {
        "identities in training": 4,
        "train images": 9,
        "test images": 5,
        "images with a landmark outside": 0,
        "test images of people not in training": 5,
        "images of the partition left out": 3,
    }


def test_the_fingerprint_names_content_and_not_place(written, _written):
    spec = {"format": "celeba", "layout": "torchvision"}
    there = from_spec({**spec, "root": str(_written / "torchvision")}, None, "test")
    root = written("torchvision")
    assert from_spec({**spec, "root": str(root)}, None, "test").fingerprint == there.fingerprint
    edit(root / "celeba/identity_CelebA.txt", lambda lines: lines.__setitem__(0, "000001.jpg 4"))
    assert from_spec({**spec, "root": str(root)}, None, "test").fingerprint != there.fingerprint


class TestRefusals:
    def test_missing_files(self, written):
        root = written("torchvision")
        with raises(root / "nothing", "no such folder"):
            celeba.open(Config(root=root / "nothing"), "train")
        with raises(
            root, "holds no Anno/identity_CelebA.txt", "official", "set layout: torchvision"
        ):
            celeba.open(Config(root=root, layout="official"), "train")
        with raises("img_celeba", "no such folder", "wild"):
            celeba.open(Config(root=root, images="wild"), "train")
        with raises("too high", root):
            celeba.open(Config(root=root.parent), "train")
        (root / "celeba/list_landmarks_align_celeba.txt").unlink()
        with raises("list_landmarks_align_celeba.txt", "no such file"):
            celeba.open(Config(root=root), "train")

    def test_absent_picture(self, written):
        root = written("torchvision")
        (root / "celeba/img_align_celeba/000004.jpg").unlink()
        with raises("000004.jpg", "no such file", "list_eval_partition.txt names it"):
            celeba.open(Config(root=root), "test")

    @pytest.mark.parametrize(
        ("file", "change", "parts"),
        [
            ("identity_CelebA.txt", lambda x: x.append(x[0]), ("line 18", "000001.jpg twice")),
            ("identity_CelebA.txt", lambda x: x.append("a.jpg 3"), ("a.jpg", "not in list_eval")),
            ("identity_CelebA.txt", lambda x: x.pop(2), ("000003.jpg", "not in identity_CelebA")),
            (
                "identity_CelebA.txt",
                lambda x: x.__setitem__(1, "000002.jpg Anna"),
                ("line 2", "whole number"),
            ),
            (
                "identity_CelebA.txt",
                lambda x: x.__setitem__(1, "000002.jpg 0"),
                ("000002.jpg", "found 0", "at least 1"),
            ),
            (
                "list_eval_partition.txt",
                lambda x: x.__setitem__(1, "000002.jpg 3"),
                ("000002.jpg", "found 3", "0 to 2"),
            ),
            ("list_eval_partition.txt", lambda x: x.insert(0, "17"), ("line 1", "is '17'")),
            (
                "list_landmarks_align_celeba.txt",
                lambda x: x.pop(0),
                ("line 1", "the count of the lines"),
            ),
            (
                "list_landmarks_align_celeba.txt",
                lambda x: x.__setitem__(0, "18"),
                ("line 1", "says '18'", "17"),
            ),
            (
                "list_landmarks_align_celeba.txt",
                lambda x: x.__setitem__(4, "000003.jpg 1 2 3"),
                ("line 5", "10 whole numbers"),
            ),
        ],
    )
    def test_malformed_lists(self, written, file, change, parts):
        root = written("torchvision")
        edit(root / "celeba" / file, change)
        with raises(*parts) as caught:
            celeba.open(Config(root=root), "train")
        report = celeba.check(Config(root=root))
        assert str(caught.value).splitlines()[0] in [str(p) for p in report.problems]

    def test_a_partition_without_pictures(self, written):
        root = written("torchvision")
        path = root / "celeba/list_eval_partition.txt"
        path.write_text(path.read_text().replace(".jpg 2", ".jpg 1"))
        with raises("list_eval_partition.txt", "no picture of partition 2"):
            celeba.open(Config(root=root), "test")

    def test_check_decodes_every_picture(self, written):
        root = written("official")
        (root / "Img/img_align_celeba/000015.jpg").write_bytes(b"nothing")
        report = check(str(root))
        assert len(report.problems) == 1 and "000015.jpg" in report.problems[0].where

    def test_check_finds_pictures_of_both_splits_and_points_outside(self, written):
        root = written("official")
        config = Config(root=root, layout="official")
        source = {split: celeba.open(config, split) for split in ("train", "test")}
        shutil.copyfile(source["train"].path(2), source["test"].path(1))
        file = root / "Anno/list_landmarks_align_celeba.txt"
        lines = file.read_text().splitlines()
        lines[2] = " ".join([lines[2].split()[0], "90", *lines[2].split()[2:]])
        file.write_text("\n".join(lines))
        report = check(str(root))
        (problem,) = report.problems
        assert "1 test images are trained on" in problem.found
        assert source["test"].name(1) in problem.found and source["train"].name(2) in problem.found
        assert report.counts["images with a landmark outside"] == 1

    def test_landmarks_of_another_number_are_not_hidden_by_the_empty_split(self, written):
        root = written("official")
        file = root / "Anno/list_landmarks_align_celeba.txt"
        lines = file.read_text().splitlines()
        file.write_text("\n".join([*lines[:2], *(f"{line} 3 4" for line in lines[2:])]))
        problems = [str(problem) for problem in check(str(root)).problems]
        assert any("expected a file's name and 10 whole numbers" in text for text in problems)
        assert "no picture of partition 0" in problems[-1]
