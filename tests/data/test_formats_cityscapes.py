"""Cityscapes as the world writes it and as it should not be."""

import json
import pickle
import re
import shutil

import cv2
import numpy as np
import pytest
from pydantic import ValidationError

from whytransfer.core.errors import InputError
from whytransfer.data.checks import check
from whytransfer.data.dataset import from_spec, look, parse_reference
from whytransfer.data.formats import cityscapes, synthia
from whytransfer.data.formats.cityscapes import Config
from whytransfer.data.sample import IGNORED
from whytransfer.data.world import streets

MADE = streets.Config(layout="cityscapes", num_images=6, num_val=3, width_px=96, height_px=64)
SEED = 1
# Label id and training class of what the world paints, from the published table.
PUBLISHED = {
    "road": (7, 0), "lane marking": (7, 0), "sidewalk": (8, 1), "building": (11, 2),
    "wall": (12, 3), "fence": (13, 4), "pole": (17, 5), "traffic light": (19, 6),
    "traffic sign": (20, 7), "vegetation": (21, 8), "sky": (23, 10), "pedestrian": (24, 11),
    "rider": (25, 12), "car": (26, 13), "bus": (28, 15), "motorcycle": (32, 17),
    "bicycle": (33, 18),
}  # fmt: skip
FRAME = "train/altstadt/altstadt_000000_000000"


def raises(*parts):
    return pytest.raises(InputError, match=".*".join(re.escape(str(part)) for part in parts))


@pytest.fixture(scope="module")
def _written(tmp_path_factory):
    root = tmp_path_factory.mktemp("cityscapes") / "whole"
    streets.write(root, MADE, SEED)
    return root


@pytest.fixture
def written(_written, tmp_path):
    return shutil.copytree(_written, tmp_path / "data")


def image(frame):
    return f"leftImg8bit/{frame}_leftImg8bit.png"


def label(frame, kind="labelIds"):
    return f"gtFine/{frame}_gtFine_{kind}.png"


def names(source):
    return [source.name(index) for index in range(len(source))]


def problems(root, **fields):
    return [str(problem) for problem in cityscapes.check(Config(root=root, **fields)).problems]


class TestWhatTheWorldWrote:
    def lines(self, root):
        lines = (root / "factors.jsonl").read_text().splitlines()
        return {line["file"]: line for line in map(json.loads, lines)}

    @pytest.mark.parametrize(("split", "count"), [("train", 6), ("test", 3)])
    def test_every_pixel_is_read_as_it_was_painted(self, _written, split, count):
        source, lines = cityscapes.open(Config(root=_written), split), self.lines(_written)
        assert len(source) == count
        for index in range(count):
            line = lines[source.path(index).relative_to(_written).as_posix()]
            rendered = streets.render(MADE, SEED, line["street"])
            found, shown = source.segmentation(index), source[index].image
            assert found.labels.dtype == np.uint8 and found.instances.dtype == np.int32
            # What is neither bonnet nor rim is what was painted; those two are void.
            inside = found.labels != IGNORED
            assert 0.5 < inside.mean() < 0.99
            assert np.array_equal(shown[inside], rendered.image[inside])
            for name, number in streets.CLASSES.items():
                pixels = inside & (rendered.labels == number)
                assert (found.labels[pixels] == PUBLISHED[name][1]).all()
            assert not found.instances[~inside].any()
            painted = rendered.instances[inside]
            assert np.array_equal(found.instances[inside] > 0, painted > 0)
            pairs = set(zip(found.instances[inside].tolist(), painted.tolist(), strict=True))
            assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})
            assert [thing["instance"] for thing in line["objects"]]
            assert {t["instance"] for t in line["objects"]} == {a for a, _ in pairs} - {0}
            for thing in line["objects"]:
                mask = found.instances == thing["instance"]
                assert thing["instance"] // 1000 == PUBLISHED[thing["category"]][0]
                rows, columns = np.nonzero(mask)
                box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
                assert thing["box_xyxy"] == box and thing["num_pixels"] == mask.sum()

    def test_label_ids_are_the_published_ones_and_voids_are_written(self, _written):
        table = {ours: theirs for _, (ours, theirs) in PUBLISHED.items()}
        source = cityscapes.open(Config(root=_written), "train")
        for index in range(len(source)):
            path = label(source._frames[index].join(["train/", ""]))
            raw = cv2.imread(str(_written / path), cv2.IMREAD_UNCHANGED)
            assert {1, 2, 3} <= set(np.unique(raw).tolist()) <= {1, 2, 3, *table}
            for number in np.unique(raw).tolist():
                found = set(source.segmentation(index).labels[raw == number].tolist())
                assert found == {table.get(number, IGNORED)}
            path = label(source._frames[index].join(["train/", ""]), "instanceIds")
            objects = cv2.imread(str(_written / path), cv2.IMREAD_UNCHANGED)
            assert objects.dtype == np.uint16
            whole = np.where(objects >= 1000, objects // 1000, objects)
            assert np.array_equal(whole, raw)

    def test_objects_are_read_when_they_are_asked_for(self, written):
        source = cityscapes.open(Config(root=written), "train")
        path = written / label(source._frames[0].join(["train/", ""]), "instanceIds")
        expected = source.segmentation(0).instances
        found = pickle.loads(pickle.dumps(source)).segmentation(0)
        assert np.array_equal(found.instances, expected) and found.instances is found.instances
        path.unlink()
        assert source.segmentation(0).labels.shape == (64, 96)
        with raises(path, "no such file"):
            _ = source.segmentation(0).instances

    def test_it_is_whole_and_recognised(self, _written):
        assert look(_written) == {"format": "cityscapes", "root": str(_written)}
        report = check(str(_written))
        assert report.problems == ()
        assert report.counts == {"classes": 19, "train images": 6, "test images": 3}
        assert cityscapes.open(Config(root=_written), "train").classes == synthia.CITYSCAPES

    def test_names_are_the_frames_and_no_order_of_files_matters(self, _written, tmp_path):
        found = names(cityscapes.open(Config(root=_written), "train"))
        assert found == sorted(found) and found[0] == "altstadt_000000_000000"
        # The same files, written in the opposite order.
        for path in sorted(_written.rglob("*.png"), reverse=True):
            to = tmp_path / path.relative_to(_written)
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, to)
        assert names(cityscapes.open(Config(root=tmp_path), "train")) == found
        spec = {"format": "cityscapes"}
        one, two = (
            from_spec({**spec, "root": str(root)}, None, "t") for root in (_written, tmp_path)
        )
        assert one.fingerprint == two.fingerprint

    def test_other_pictures_than_those_for_pretraining(self, _written):
        flat = streets.Config(num_images=6, width_px=96, height_px=64)
        pretrained = {streets.render(flat, SEED, n).labels.tobytes() for n in range(6)}
        lines = self.lines(_written).values()
        ours = {streets.render(MADE, SEED, line["street"]).labels.tobytes() for line in lines}
        assert len(ours) == 9 and not ours & pretrained

    def test_more_training_pictures_leave_the_others_as_they_are(self, _written, tmp_path):
        more = MADE.model_copy(update={"num_images": 7})
        streets.write(tmp_path, more, SEED)
        for path in _written.rglob("*.png"):
            other = tmp_path / path.relative_to(_written)
            assert other.read_bytes() == path.read_bytes()


class TestTable:
    """The published one, label by label (protocol: labelId → trainId)."""

    def write(self, root, values):
        values = np.asarray(values, dtype=np.uint8)
        height, width = values.shape
        for part in ("train", "val"):
            frame = f"{part}/city/city_000000_00000{int(part == 'val')}"
            for path, pixels in (
                (image(frame), np.full((height, width, 3), 7 + 90 * (part == "val"), np.uint8)),
                (label(frame), values),
            ):
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(root / path), pixels)
        return cityscapes.open(Config(root=root), "train")

    def test_every_label(self, tmp_path):
        source = self.write(tmp_path, np.arange(34).reshape(2, 17))
        expected = np.full(34, IGNORED)
        expected[[7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]] = (
            range(19)
        )
        found = source.segmentation(0)
        assert np.array_equal(found.labels.ravel(), expected)
        assert found.instances is None  # no instanceIds.png
        assert check(str(tmp_path)).problems == ()

    def test_a_licence_plate_is_ignored(self, tmp_path):
        source = self.write(tmp_path, [[7, 26, 255]])
        assert source.segmentation(0).labels.tolist() == [[0, 13, IGNORED]]

    @pytest.mark.parametrize("value", [34, 40, 254])
    def test_what_is_no_label_is_named(self, tmp_path, value):
        source = self.write(tmp_path, [[7, 26, value]])
        with raises("labelIds.png", f"holds the label {value}", "0 to 33"):
            source.segmentation(0)

    def test_training_numbers_are_not_taken_for_labels(self, tmp_path):
        source = self.write(tmp_path, [[0, 18, 13, 255]])
        with raises("labelIds.png", "training numbers, as in labelTrainIds.png"):
            source.segmentation(0)

    def test_a_dummy_is_named_by_the_check(self, tmp_path):
        self.write(tmp_path, [[0, 1, 3, 4]])
        found = problems(tmp_path)
        assert len(found) == 2 and all("none of its pixels is of a class" in x for x in found)


class TestSplits:
    def test_the_official_test_split_is_refused(self, _written):
        with pytest.raises(ValidationError, match=r"test split has no labels.*Score on val"):
            Config(root=_written, test="test")
        spec = {"format": "cityscapes", "root": str(_written), "test": "test"}
        with raises("here", "missing or dummies"):
            from_spec(spec, None, "here")

    def test_held_out_cities_are_scored_on_and_not_trained_on(self, _written):
        config = Config(root=_written, held_out=("bergheim",))
        train, test = (names(cityscapes.open(config, split)) for split in ("train", "test"))
        assert len(train) == 4 and len(test) == 2 and not set(train) & set(test)
        assert {name.split("_")[0] for name in test} == {"bergheim"}
        whole = {"format": "cityscapes", "root": str(_written)}
        one = from_spec(whole, None, "t").fingerprint
        assert from_spec({**whole, "held_out": ["bergheim"]}, None, "t").fingerprint != one

    def test_unknown_and_all_cities_are_refused(self, _written):
        with raises("no city 'berghaim'", "did you mean 'bergheim'?"):
            cityscapes.open(Config(root=_written, held_out=("berghaim",)), "train")
        every = ("altstadt", "bergheim", "talbruck")
        with raises("held_out", "leaves no city to train on"):
            cityscapes.open(Config(root=_written, held_out=every), "train")

    def test_without_a_test_split(self, written):
        shutil.rmtree(written / "leftImg8bit/val")
        shutil.rmtree(written / "gtFine/val")
        config = Config(root=written, test=None)
        assert config.splits == ("train",) and len(cityscapes.open(config, "train")) == 6
        with raises("has no test images"):
            cityscapes.open(config, "test")


class TestLevels:
    @pytest.mark.parametrize(
        "below", ["leftImg8bit", "gtFine", "gtFine/train", "leftImg8bit/train/altstadt"]
    )
    def test_too_low(self, _written, below):
        with raises("too low", _written):
            cityscapes.open(Config(root=_written / below), "train")
        with raises("too low", _written):
            look(_written / below)

    def test_too_high(self, _written):
        with raises("too high", _written):
            cityscapes.open(Config(root=_written.parent), "train")
        with raises("too high", _written):
            look(_written.parent)

    @pytest.mark.parametrize("part", ["leftImg8bit", "gtFine"])
    def test_one_archive_alone(self, written, part):
        shutil.rmtree(written / part)
        assert parse_reference(str(written))["format"] == "cityscapes"
        found = problems(written)
        assert len(found) == 1
        assert f"holds no folder {part}; expected leftImg8bit and gtFine side by side" in found[0]
        assert f"unpack {part}_trainvaltest.zip there" in found[0]

    @pytest.mark.parametrize("part", ["leftImg8bit", "gtFine"])
    @pytest.mark.parametrize("split", ["train", "val"])
    def test_a_missing_split(self, written, part, split):
        shutil.rmtree(written / part / split)
        with raises(written / part / split, "no such folder", f"{part}_trainvaltest.zip"):
            cityscapes.open(Config(root=written), "train")

    def test_an_empty_split(self, written):
        shutil.rmtree(written / "leftImg8bit/val/neustadt")
        shutil.rmtree(written / "leftImg8bit/val/seeburg")
        with raises(written / "leftImg8bit/val", "holds no frame", "CITY/CITY_000000_000000"):
            cityscapes.open(Config(root=written), "train")

    def test_images_beside_the_cities(self, written):
        moved = written / "leftImg8bit/train/altstadt_000000_000000_leftImg8bit.png"
        (written / image(FRAME)).rename(moved)
        found = problems(written)
        assert any(str(moved) in x and "lies in no folder of a city" in x for x in found)


class TestFiles:
    def test_partners(self, written):
        (written / label(FRAME)).unlink()
        other = "train/bergheim/bergheim_000000_000001"
        (written / image(other)).unlink()
        found = problems(written)
        assert any(f"{label(FRAME)}: no such file, but there is its image" in x for x in found)
        assert any(f"{label(other)}: is the label file of no image" in x for x in found)
        with raises(label(FRAME), "no such file"):
            cityscapes.open(Config(root=written), "test")

    def test_objects_are_there_for_all_or_for_none(self, written):
        (written / label(FRAME, "instanceIds")).unlink()
        with raises(label(FRAME, "instanceIds"), "no such file"):
            cityscapes.open(Config(root=written), "train")
        for path in (written / "gtFine/train").rglob("*instanceIds.png"):
            path.unlink()
        assert problems(written) == []
        train, test = (cityscapes.open(Config(root=written), s) for s in ("train", "test"))
        assert train.segmentation(0).instances is None
        assert test.segmentation(0).instances is not None

    def test_other_label_files_are_left_alone(self, written):
        for kind in ("labelTrainIds", "color"):
            shutil.copyfile(written / label(FRAME), written / label(FRAME, kind))
        assert problems(written) == []

    def test_images_of_other_names(self, written):
        path = written / "leftImg8bit/train/altstadt/photo.jpg"
        cv2.imwrite(str(path), np.zeros((64, 96, 3), np.uint8))
        with raises(path, "is not named as Cityscapes' images"):
            cityscapes.open(Config(root=written), "train")

    def test_a_frame_in_two_cities_and_in_both_splits(self, written):
        for folder in ("train/bergheim", "val/neustadt"):
            for path in (image(FRAME), label(FRAME), label(FRAME, "instanceIds")):
                to = written / path.replace("train/altstadt", folder)
                shutil.copyfile(written / path, to)
        found = problems(written)
        assert any("train/bergheim" in x and "is also in altstadt" in x for x in found)
        assert any("val/neustadt" in x and "is also in train/altstadt" in x for x in found)
        with raises("is also in"):
            cityscapes.open(Config(root=written), "train")

    def test_the_same_image_under_two_names(self, written):
        other = "val/neustadt/neustadt_000000_000000"
        shutil.copyfile(written / image(FRAME), written / image(other))
        found = problems(written)
        assert len(found) == 1 and image(other) in found[0]
        assert f"is the same file as {written / image(FRAME)}" in found[0]

    @pytest.mark.parametrize(
        ("kind", "damage", "parts"),
        [
            ("labelIds", lambda a: a[:32], ("is 96×32 px", "96×64 px, as its image")),
            ("labelIds", lambda a: a.astype(np.uint16), ("16 bits and one", "8 bits and one")),
            ("labelIds", lambda a: np.stack([a] * 3, axis=2), ("8 bits and three", "one channel")),
            ("labelIds", lambda a: a + np.uint8(34), ("holds the label",)),
            ("instanceIds", lambda a: a.astype(np.uint8), ("8 bits and one", "16 bits and one")),
            ("instanceIds", lambda a: a[:, :50], ("is 50×64 px",)),
            ("labelIds", None, ("can't be decoded",)),
        ],
    )
    def test_labels_that_are_not_as_shipped(self, written, kind, damage, parts):
        path = written / label(FRAME, kind)
        if damage is None:
            path.write_bytes(b"")
        else:
            cv2.imwrite(str(path), damage(cv2.imread(str(path), cv2.IMREAD_UNCHANGED)))
        source = cityscapes.open(Config(root=written), "train")
        with raises(path, *parts):
            _ = source.segmentation(0).instances
        assert [p.where for p in cityscapes.check(Config(root=written)).problems] == [str(path)]

    def test_an_image_that_is_cut_short(self, written):
        path = written / image(FRAME)
        path.write_bytes(path.read_bytes()[:1000])
        assert any(str(path) in problem for problem in problems(written))
