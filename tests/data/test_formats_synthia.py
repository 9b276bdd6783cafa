"""SYNTHIA as the world writes it and as it should not be."""

import re
import shutil

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from whytransfer.core.errors import InputError
from whytransfer.data.checks import check
from whytransfer.data.dataset import from_spec, look
from whytransfer.data.formats import synthia
from whytransfer.data.formats.synthia import Config
from whytransfer.data.sample import IGNORED
from whytransfer.data.world import streets

SMALL = {"num_images": 12, "frames": 3, "width_px": 96, "height_px": 64}
TRAIN_IDS = {
    "road": 0, "sidewalk": 1, "building": 2, "wall": 3, "fence": 4, "pole": 5, "traffic light": 6,
    "traffic sign": 7, "vegetation": 8, "sky": 10, "pedestrian": 11, "rider": 12, "car": 13,
    "bus": 15, "motorcycle": 17, "bicycle": 18, "lane marking": IGNORED,
}  # fmt: skip


def raises(*parts):
    return pytest.raises(InputError, match=".*".join(re.escape(str(part)) for part in parts))


@pytest.fixture(scope="module")
def _written(tmp_path_factory):
    root = tmp_path_factory.mktemp("synthia")
    for layout in ("rand_cityscapes", "sequences"):
        streets.write(root / layout, streets.Config(**SMALL, layout=layout), seed=1)
    return root


@pytest.fixture
def written(_written, tmp_path):
    def copy(name="rand_cityscapes"):
        return shutil.copytree(_written / name, tmp_path / name)

    return copy


def names(source):
    return [source.name(index) for index in range(len(source))]


def test_masks_are_those_that_were_rendered(_written):
    root = _written / "rand_cityscapes"
    config = streets.Config(**SMALL)
    by_number = {number: name for name, number in streets.CLASSES.items()}
    wanted = np.full(256, 99, dtype=np.uint8)
    for number, name in by_number.items():
        wanted[number] = TRAIN_IDS[name]
    source = synthia.open(Config(root=root), "train")
    assert source.classes == synthia.CITYSCAPES and len(source.classes) == 19
    for index in range(len(source)):
        rendered = streets.render(config, 1, int(source.name(index)[4:-4]))
        assert np.array_equal(source[index].image, rendered.image)
        found = source.segmentation(index)
        assert found.labels.dtype == np.uint8 and found.instances.dtype == np.int32
        assert np.array_equal(found.labels, wanted[rendered.labels])
        assert np.array_equal(found.instances, rendered.instances)


def test_own_classes(_written):
    source = synthia.open(Config(root=_written / "rand_cityscapes", labels="synthia"), "train")
    rendered = streets.render(streets.Config(**SMALL), 1, int(source.name(0)[4:-4]))
    assert np.array_equal(source.segmentation(0).labels, rendered.labels)
    for name, number in streets.CLASSES.items():
        assert source.classes[number] == name


def test_sequences_have_numbers_of_their_own(_written):
    root = _written / "sequences"
    ours = synthia.open(Config(root=root, layout="sequences"), "train")
    own = synthia.open(Config(root=root, layout="sequences", labels="synthia"), "train")
    assert ours.name(0) == "SYNTHIA-SEQS-01-WORLD/RGB/Stereo_Left/Omni_F/000000.png"
    rendered = streets.render(streets.Config(**SMALL), 1, 0, 0, -0.4)
    assert np.array_equal(ours[0].image, rendered.image)
    marks = rendered.labels == streets.CLASSES["lane marking"]
    assert marks.any()
    assert set(own.segmentation(0).labels[marks]) == {12}
    assert own.classes[12] == "lane marking"
    assert set(ours.segmentation(0).labels[marks]) == {IGNORED}
    roads = rendered.labels == streets.CLASSES["road"]
    assert set(ours.segmentation(0).labels[roads]) == {0}


def test_both_layouts_are_recognised(_written):
    for layout in ("rand_cityscapes", "sequences"):
        expected = {"root": str(_written / layout), "layout": layout}
        assert synthia.recognise(_written / layout) == expected
        assert look(_written / layout) == {"format": "synthia", **expected}
    one = _written / "sequences/SYNTHIA-SEQS-02-WORLD"
    assert synthia.recognise(one)["layout"] == "sequences"
    assert len(synthia.open(Config(root=one, layout="sequences"), "train")) == 4
    assert synthia.recognise(_written / "rand_cityscapes/GT") is None


def test_check_counts(_written):
    report = check(str(_written / "sequences"))
    assert report.problems == ()
    assert report.counts == {"classes": 19, "train images": 8, "test images": 4}


def test_the_split_is_fixed_and_whole(_written):
    config = Config(root=_written / "rand_cityscapes", test_share=0.25)
    train, test = (names(synthia.open(config, split)) for split in ("train", "test"))
    assert len(test) == 3 and sorted(train + test) == [f"RGB/{n:07d}.png" for n in range(12)]
    assert test == names(synthia.open(config, "test"))


@given(count=st.integers(2, 200), share=st.floats(0.01, 0.99), sequences=st.integers(1, 3))
def test_every_image_is_in_one_split(count, share, sequences):
    config = Config(root="/nowhere", test_share=share)
    flat = tuple(f"RGB/{n:04d}.png" for n in range(count))
    parts = [synthia.split_frames(flat, config, split) for split in ("train", "test")]
    assert all(parts) and sorted(parts[0] + parts[1]) == list(flat)
    config = Config(root="/nowhere", test_share=share, layout="sequences")
    driven = tuple(
        f"S{s}/RGB/Stereo_{side}/Omni_F/{n:06d}.png"
        for s in range(sequences)
        for side in ("Left", "Right")
        for n in range(count)
    )
    train, test = (synthia.split_frames(driven, config, split) for split in ("train", "test"))
    assert train and test and sorted(train + test) == list(driven)
    for s in range(sequences):
        frames = [{n[-10:] for n in part if n.startswith(f"S{s}/")} for part in (train, test)]
        assert max(frames[0]) < min(frames[1])


def test_the_fingerprint_has_the_share_of_the_split(_written):
    spec = {"format": "synthia", "root": str(_written / "rand_cityscapes")}
    one = from_spec(spec, None, "test").fingerprint
    assert from_spec({**spec, "test_share": 0.3}, None, "test").fingerprint != one


class TestRefusals:
    def test_missing_folders(self, written):
        root = written()
        with raises(root / "no", "no such folder"):
            synthia.open(Config(root=root / "no"), "train")
        with raises(root, "holds no folder RGB", "sequences", "set layout: rand_cityscapes"):
            synthia.open(Config(root=root, layout="sequences"), "train")
        with raises("too high", root):
            synthia.open(Config(root=root.parent), "train")
        shutil.rmtree(root / "GT")
        with raises(root, "holds no folder GT/LABELS"):
            synthia.open(Config(root=root), "train")

    def test_partners(self, written):
        root = written()
        (root / "GT/LABELS/0000003.png").unlink()
        (root / "RGB/0000005.png").unlink()
        report = synthia.check(Config(root=root))
        found = [str(problem) for problem in report.problems]
        assert any("LABELS/0000003.png: no such file, but there is its image" in x for x in found)
        assert any("LABELS/0000005.png: is the label file of no image" in x for x in found)
        with raises("0000003.png", "no such file"):
            synthia.open(Config(root=root), "train")

    @pytest.mark.parametrize(
        ("damage", "parts"),
        [
            (
                lambda p, a: Image.fromarray(a[:, :, 2].astype(np.uint8)).save(p),
                ("8 bits and",),
            ),
            (lambda p, a: cv2.imwrite(str(p), a.astype(np.uint8)), ("8 bits and three", "16 bits")),
            (lambda p, a: cv2.imwrite(str(p), a[:, :, 2]), ("16 bits and one channel;", "three")),
            (lambda p, a: cv2.imwrite(str(p), a + np.uint16(30)), ("class number", "0 to 22")),
            (lambda p, a: cv2.imwrite(str(p), a[:32]), ("is 96×32 px", "96×64 px")),
            (lambda p, a: p.write_bytes(b"\x89PNG"), ("can't be decoded",)),
            (lambda p, a: p.write_bytes(b""), ("can't be decoded",)),
        ],
    )
    def test_labels_that_other_programs_wrote(self, written, damage, parts):
        root = written()
        source = synthia.open(Config(root=root), "train")
        path = root / "GT/LABELS" / source.name(0).removeprefix("RGB/")
        damage(path, cv2.imread(str(path), cv2.IMREAD_UNCHANGED))
        with raises(path, *parts):
            source.segmentation(0)
        report = synthia.check(Config(root=root))
        assert [problem.where for problem in report.problems] == [str(path)]

    def test_one_image_is_no_dataset(self, written):
        root = written()
        for number in range(1, 12):
            (root / f"RGB/{number:07d}.png").unlink()
        with raises("1 images", "at least two"):
            synthia.open(Config(root=root), "train")
