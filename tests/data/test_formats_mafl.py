"""MAFL beside CelebA as the world writes it and as it should not be; what leaks between them."""

import json
import re
import shutil

import numpy as np
import pytest
from pydantic import ValidationError

from whytransfer.core.errors import InputError
from whytransfer.data.checks import check
from whytransfer.data.dataset import from_spec, look
from whytransfer.data.formats import celeba, mafl
from whytransfer.data.formats.mafl import Config
from whytransfer.data.overlap import overlap
from whytransfer.data.world import faces

SMALL = {"num_train": 9, "num_val": 3, "num_test": 5, "num_identities": 4}
LISTS = {"num_mafl_train": 7, "num_mafl_test": 4}
EXCLUDED = ("celeba/MAFL/training.txt", "celeba/MAFL/testing.txt")

LISTED = ("training", "testing")


def raises(*parts):
    return pytest.raises(InputError, match=".*".join(re.escape(str(part)) for part in parts))


@pytest.fixture(scope="module")
def _written(tmp_path_factory):
    root = tmp_path_factory.mktemp("mafl")
    for layout in ("torchvision", "official"):
        faces.write(root / layout, faces.Config(**SMALL, **LISTS, layout=layout), seed=2)
    faces.write(root / "without", faces.Config(**SMALL), seed=2)
    return root


@pytest.fixture
def written(_written, tmp_path):
    def copy(name="torchvision"):
        return shutil.copytree(_written / name, tmp_path / name)

    return copy


def edit(path, change):
    lines = path.read_text().splitlines()
    change(lines)
    path.write_text("\n".join(lines) + "\n")


def names(source):
    return [source.name(index) for index in range(len(source))]


@pytest.mark.parametrize("layout", ["torchvision", "official"])
def test_what_the_world_writes_is_read_back(_written, layout):
    root = _written / layout
    lines = (root / "factors.jsonl").read_text().splitlines()
    truth = {line["file"].rpartition("/")[2]: line for line in map(json.loads, lines)}
    train, test = (mafl.open(Config(root=root, layout=layout), s) for s in ("train", "test"))
    assert (len(train), len(test)) == (7, 4) and train.classes == test.classes == ()
    assert not set(names(train)) & set(names(test))
    for source in (train, test):
        assert names(source) == sorted(names(source))
        for index in range(len(source)):
            assert source[index].image.shape[:2] == source.size(index) == (109, 89)
            assert source.label(index) is None
            exact = truth[source.name(index)]["landmarks"]
            assert np.abs(source.landmarks(index) - exact).max() <= 0.5


def test_the_order_is_the_lists(written):
    root = written()
    edit(root / "celeba/MAFL/training.txt", lambda lines: lines.reverse())
    train = mafl.open(Config(root=root), "train")
    assert names(train) == sorted(names(train), reverse=True)
    source = celeba.open(celeba.Config(root=root), "train")
    where = {name: index for index, name in enumerate(names(source))}
    shared = [i for i in range(len(train)) if train.name(i) in where]
    assert shared
    for index in shared:
        same = source.landmarks(where[train.name(index)])
        assert np.array_equal(train.landmarks(index), same)


def test_the_lists_may_lie_beside_celebas_own_folder(written):
    root = written()
    before = names(mafl.open(Config(root=root), "test"))
    (root / "celeba/MAFL").rename(root / "MAFL")
    assert names(mafl.open(Config(root=root), "test")) == before
    assert mafl.recognise(root) == {"root": str(root), "layout": "torchvision"}


def test_only_pictures_and_landmarks_of_celeba_are_needed(written):
    root = written("official")
    (root / "Anno/identity_CelebA.txt").unlink()
    (root / "Eval/list_eval_partition.txt").unlink()
    assert look(root) == {"format": "mafl", "root": str(root), "layout": "official"}
    report = check(str(root))
    assert report.problems == ()
    assert report.counts == {"train images": 7, "test images": 4}


def test_recognise(_written):
    for layout in ("torchvision", "official"):
        root = _written / layout
        assert mafl.recognise(root) == {"root": str(root), "layout": layout}
        with raises("looks like celeba and mafl", f"celeba:{root} or mafl:{root}"):
            look(root)
    assert mafl.recognise(_written / "without") is None
    assert look(_written / "without")["format"] == "celeba"


def test_the_lists_change_no_picture(_written):
    for path in sorted((_written / "without").rglob("*")):
        same = _written / "torchvision" / path.relative_to(_written / "without")
        if path.is_file() and path.name != "world.json":
            assert path.read_bytes() == same.read_bytes()


@pytest.mark.parametrize("counts", [{"num_mafl_train": 3}, {**LISTS, "num_mafl_train": 14}])
def test_lists_that_cannot_be_filled_are_refused(counts):
    with pytest.raises(ValidationError, match="num_mafl_train"):
        faces.Config(**SMALL, **counts)


class TestLeaks:
    """MAFL's pictures are CelebA's: how many are trained on, and how to leave them out."""

    def test_both_checks_count_them(self, _written):
        root = _written / "torchvision"
        trained = set(names(celeba.open(celeba.Config(root=root), "train")))
        parts = {split: mafl.open(Config(root=root), split) for split in ("train", "test")}
        leaked = {split: len(trained & set(names(source))) for split, source in parts.items()}
        assert all(leaked.values())
        report = check(f"mafl:{root}")
        assert report.problems == ()
        assert report.counts == {
            "train images": 7,
            "test images": 4,
            "train images in CelebA's training partition": leaked["train"],
            "test images in CelebA's training partition": leaked["test"],
        }
        counts = check(f"celeba:{root}").counts
        assert counts["training images that MAFL lists, too"] == sum(leaked.values())

    def test_celeba_without_the_lists_says_nothing_of_them(self, _written):
        counts = check(str(_written / "without")).counts
        assert not [name for name in counts if "MAFL" in name or "exclude" in name]

    def test_excluded_lists_are_not_trained_on(self, _written):
        root = _written / "torchvision"
        plain = celeba.Config(root=root)
        config = celeba.Config(root=root, exclude_lists=EXCLUDED)
        listed = {n for s in ("train", "test") for n in names(mafl.open(Config(root=root), s))}
        before, after = (names(celeba.open(c, "train")) for c in (plain, config))
        assert after == [name for name in before if name not in listed] and after != before
        assert names(celeba.open(config, "test")) == names(celeba.open(plain, "test"))
        report = celeba.check(config)
        assert report.problems == ()
        assert report.counts["training images that MAFL lists, too"] == 0
        gone = len(before) - len(after)
        assert report.counts["training images left out by exclude_lists"] == gone
        assert report.counts["images of the partition left out"] == 3

    def test_people_of_whom_no_picture_is_left_are_no_class(self, written):
        root = written("without")
        source = celeba.open(celeba.Config(root=root), "train")
        person = [source.name(i) for i in range(len(source)) if source.label(i) == 1]
        (root / "list.txt").write_text("\n".join(person))
        config = celeba.Config(root=root, exclude_lists=("list.txt",))
        kept = celeba.open(config, "train")
        assert kept.classes == (source.classes[0], *source.classes[2:])
        assert celeba.open(config, "test").classes == kept.classes

    def test_the_fingerprint_names_what_is_left_and_not_where_the_list_lies(self, written):
        root = written()
        spec = {"format": "celeba", "root": str(root)}
        lists = [str(root / name) for name in EXCLUDED]
        found = [
            from_spec(spec | more, None, "test").fingerprint
            for more in ({}, {"exclude_lists": EXCLUDED}, {"exclude_lists": lists})
        ]
        assert found[0] != found[1] == found[2]

    def test_overlap_finds_them_without_any_list(self, _written):
        root = _written / "torchvision"
        found = overlap(f"mafl:{root}", f"celeba:{root}")
        exact = {m.name.split("/")[1]: m.other.split("/")[1] for m in found.matches}
        assert all(one == other for one, other in exact.items())
        shown = {n for s in ("train", "test") for n in names(mafl.open(Config(root=root), s))}
        source = celeba.Config(root=root)
        there = {n for s in ("train", "test") for n in names(celeba.open(source, s))}
        assert set(exact) == shown & there
        assert found.counts["pixels"] + found.counts["file"] == len(found.matches)

    def test_overlap_with_what_a_backbone_saw_is_none_where_the_lists_were_left_out(self, _written):
        root = _written / "torchvision"
        pair = f"mafl:{root}", f"celeba:{root}"
        seen = overlap(*pair, other_split="train").matches
        assert seen and all(match.other.startswith("train/") for match in seen)
        left_out = {"exclude_lists": EXCLUDED}
        assert overlap(*pair, other_fields=left_out, other_split="train").matches == ()


class TestRefusals:
    def test_wrong_levels_and_layouts(self, written):
        root = written()
        with raises(root / "nothing", "no such folder"):
            mafl.open(Config(root=root / "nothing"), "train")
        with raises(root, "holds no Anno/list_landmarks", "set layout: torchvision"):
            mafl.open(Config(root=root, layout="official"), "train")
        with raises(root.parent, "one level too high", root):
            mafl.open(Config(root=root.parent), "train")
        with raises(root / "celeba/MAFL", "too low", root):
            mafl.open(Config(root=root / "celeba/MAFL"), "train")

    def test_missing_files(self, written):
        root = written()
        (root / "celeba/MAFL/testing.txt").unlink()
        assert mafl.recognise(root) is not None
        with raises("MAFL/testing.txt", "no such file", "training.txt and testing.txt"):
            mafl.open(Config(root=root), "train")
        shutil.rmtree(root / "celeba/MAFL")
        with raises("training.txt and ", "testing.txt", "no such file", "add the folder MAFL"):
            mafl.open(Config(root=root), "train")

    def test_absent_pictures(self, written):
        root = written()
        shutil.rmtree(root / "celeba/img_align_celeba")
        with raises("img_align_celeba", "no such folder", "unpack"):
            mafl.open(Config(root=root), "test")
        root.joinpath("celeba/img_align_celeba").mkdir()
        with raises("training.txt", "7 of 7 files that are not under"):
            mafl.open(Config(root=root), "test")

    @pytest.mark.parametrize(
        ("file", "change", "parts"),
        [
            ("MAFL/training.txt", lambda x: x.append(x[0]), ("line 8", "again, as line 1 does")),
            ("MAFL/testing.txt", lambda x: x.append("a.jpg"), ("testing.txt", "1 of 5 names",
             "list_landmarks_align_celeba.txt: a.jpg (line 5)")),
            ("list_landmarks_align_celeba.txt", lambda x: x.__setitem__(4, "000003.jpg 1 2 3"),
             ("line 5", "10 whole numbers")),
            ("list_landmarks_align_celeba.txt", lambda x: x.__setitem__(0, "18"),
             ("line 1", "says '18'", "17")),
            ("MAFL/testing.txt", lambda x: x.clear(), ("testing.txt", "lists nothing")),
        ],
    )  # fmt: skip
    def test_malformed_lists(self, written, file, change, parts):
        root = written()
        edit(root / "celeba" / file, change)
        with raises(*parts) as caught:
            mafl.open(Config(root=root), "train")
        report = mafl.check(Config(root=root))
        assert str(caught.value).splitlines()[0] in [str(p) for p in report.problems]

    def test_a_picture_in_both_lists(self, written):
        root = written()
        both = (root / "celeba/MAFL/training.txt").read_text().split()[2]
        edit(root / "celeba/MAFL/testing.txt", lambda lines: lines.append(both))
        with raises("testing.txt", "lists 1 pictures that training.txt lists, too", both):
            mafl.open(Config(root=root), "train")

    def test_check_looks_at_every_picture_and_every_point(self, written):
        root = written()
        one, two, three = (root / "celeba/MAFL/training.txt").read_text().split()[:3]
        (root / "celeba/img_align_celeba" / one).write_bytes(b"nothing")
        file = root / "celeba/list_landmarks_align_celeba.txt"
        lines = {line.split()[0]: line for line in file.read_text().splitlines()[2:]}
        outside, alike = lines[two].split(), lines[three].split()
        outside[1], alike[3:5] = "89", alike[1:3]
        text = file.read_text().replace(lines[two], " ".join(outside))
        file.write_text(text.replace(lines[three], " ".join(alike)))
        problems = check(f"mafl:{root}").problems
        assert len(problems) == 3
        for name, words in ((one, "decoded"), (two, "is outside"), (three, "both eyes are at")):
            assert [p for p in problems if name in p.where and words in p.found], name
        mafl.open(Config(root=root), "test")  # costs no decoding, so it can't know

    def test_a_test_picture_that_is_a_training_picture_under_another_name(self, written):
        root = written()
        folder = root / "celeba/img_align_celeba"
        lists = [(root / f"celeba/MAFL/{name}.txt").read_text().split() for name in LISTED]
        shutil.copyfile(folder / lists[0][1], folder / lists[1][0])
        (problem,) = check(f"mafl:{root}").problems
        assert problem.found == f"1 test images are trained on: {lists[1][0]} as {lists[0][1]}"

    def test_lists_that_are_cut_short_beside_the_whole_celeba(self, written, monkeypatch):
        monkeypatch.setattr(mafl, "NUM_IMAGES", 17)
        problems = check(f"mafl:{written()}").problems
        assert [p.found for p in problems] == [
            "lists 7 pictures of the whole CelebA", "lists 4 pictures of the whole CelebA"
        ]  # fmt: skip
        assert [p.expected for p in problems] == ["19000 of them", "1000 of them"]

    def test_exclude_lists_that_are_not_celebas(self, written):
        root = written()
        (root / "list.txt").write_text("000001.jpg\nb.jpg\n")
        with raises(root / "list.txt", "1 of 2 names are not CelebA's: b.jpg (line 2)"):
            celeba.open(celeba.Config(root=root, exclude_lists=("list.txt",)), "train")
        with raises("none.txt", "no such file", "pictures to leave out"):
            celeba.open(celeba.Config(root=root, exclude_lists=("none.txt",)), "train")
        everyone = [f"{number:06d}.jpg" for number in range(1, 18)]
        (root / "list.txt").write_text("\n".join(everyone))
        with raises("no picture of partition 0 but those of exclude_lists"):
            celeba.open(celeba.Config(root=root, exclude_lists=("list.txt",)), "train")
