"""The further files of ``things`` and ``crowds``: subset lists, COCO's annotations with masks."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from whytransfer.core.store import Store
from whytransfer.data import stage
from whytransfer.data.formats import coco, imagefolder, voc
from whytransfer.data.make import configure
from whytransfer.data.world import crowds, things
from whytransfer.data.world._coco import run_lengths, segmentation

# pycocotools' own arrays know an older protocol of NumPy's.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

CROWDS = {"num_train": 12, "num_test": 8, "size_px": 64}


def decoded(found, shape):
    """The pixels of a segmentation, by the published code."""
    if isinstance(found, list):
        parts = [[float(place) for place in part] for part in found]
        return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(parts, *shape))) > 0
    return coco_mask.decode(coco_mask.frPyObjects(found, *shape)) > 0


@given(mask=arrays.arrays(bool, arrays.array_shapes(min_dims=2, max_dims=2, max_side=9)))
def test_a_mask_decodes_to_itself(mask):
    if mask.any():
        assert np.array_equal(decoded(segmentation(mask), mask.shape), mask)
    assert np.array_equal(decoded(run_lengths(mask), mask.shape), mask)


@given(corner=st.tuples(st.integers(0, 5), st.integers(0, 5)), side=st.integers(1, 4))
def test_a_square_has_four_corners(corner, side):
    mask = np.zeros((12, 12), dtype=bool)
    left, top = corner
    mask[top : top + side, left : left + side] = True
    right, bottom = left + side, top + side
    (found,) = segmentation(mask)
    corners = {tuple(found[at : at + 2]) for at in range(0, len(found), 2)}
    assert len(found) == 8
    assert corners == {(left, top), (right, top), (right, bottom), (left, bottom)}


def test_a_ring_becomes_run_lengths_and_two_parts_two_polygons():
    ring = np.ones((3, 3), dtype=bool)
    ring[1, 1] = False
    assert segmentation(ring)["counts"] == [0, 4, 1, 4]
    assert len(segmentation(np.eye(2, dtype=bool))) == 2


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    root = tmp_path_factory.mktemp("crowds")
    for layout in ("voc", "coco"):
        crowds.write(root / layout, crowds.Config(**CROWDS, layout=layout), seed=3)
    return root


def test_both_layouts_hold_the_same_pictures(both):
    voc = sorted((both / "voc/VOC2007/JPEGImages").glob("*.jpg"))
    files = [
        *sorted((both / "coco/train2017").glob("*")),
        *sorted((both / "coco/val2017").glob("*")),
    ]
    assert len(voc) == len(files) == 20
    for one, other in zip(voc, files, strict=True):
        assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize(("part", "split"), [("train", "train"), ("val", "test")])
def test_published_code_and_our_reader_find_the_rendered_masks(both, part, split, capsys):
    published = COCO(str(both / f"coco/annotations/instances_{part}2017.json"))
    capsys.readouterr()
    config = crowds.Config(**CROWDS)
    lines = (both / "coco/factors.jsonl").read_text().splitlines()
    index = {line["file"].rpartition("/")[2]: line["index"] for line in map(json.loads, lines)}
    source = coco.open(coco.Config(root=both / "coco"), split)
    assert source.classes == crowds.classes(config)
    for at, image in enumerate(published.loadImgs(sorted(published.getImgIds()))):
        rendered = crowds.render(config, 3, index[image["file_name"]])
        objects = source.objects(at)
        rows = published.loadAnns(published.getAnnIds(imgIds=image["id"]))
        assert source.name(at) == image["file_name"]
        assert len(rows) == len(rendered.objects) == len(objects.labels)
        for number, (row, factors) in enumerate(zip(rows, rendered.objects, strict=True)):
            mask = published.annToMask(row) > 0
            assert np.array_equal(mask, factors.visible)
            assert source.classes[objects.labels[number]] == factors.category
            assert objects.area[number] == mask.sum()
            ys, xs = np.nonzero(mask)
            box = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
            assert objects.boxes_xyxy[number].tolist() == box


def test_the_lists_of_things_are_subsets_that_can_be_read(tmp_path):
    config = things.Config(num_train=404, num_test=20, num_shapes=4, size_px=32)
    things.write(tmp_path, config, seed=0)
    assert imagefolder.recognise(tmp_path)["test"] == "val"
    root = imagefolder.Config(root=tmp_path)
    whole = imagefolder.open(root, "train")
    parts = {}
    for percent, counts in ((1, [2, 1, 1, 1]), (10, [11, 10, 10, 10])):
        lists = {"train_list": f"lists/train_{percent}percent.txt"}
        parts[percent] = imagefolder.open(root.model_copy(update=lists), "train")
        assert sorted(np.bincount(parts[percent].labels), reverse=True) == counts
    assert set(parts[1].names) < set(parts[10].names) < set(whole.names)
    half = imagefolder.open(
        root.model_copy(update={"classes_file": "lists/classes_half.txt"}), "test"
    )
    assert half.classes == whole.classes[::2] and len(half) == 10


@pytest.mark.parametrize("percent", [1, 10])
def test_a_list_of_few_images_has_one_of_every_class(tmp_path, percent):
    config = things.Config(num_train=16, num_test=16, size_px=32)
    things.write(tmp_path, config, seed=0)
    lines = (tmp_path / f"lists/train_{percent}percent.txt").read_text().split()
    assert len(lines) == 16 and {line.split("/")[0] for line in lines} == set(
        things.classes(config)
    )


def test_what_the_store_made_is_opened_in_the_layout_that_it_has(tmp_path):
    store = Store(tmp_path)
    for layout in ("voc", "coco"):
        config = configure("crowds", CROWDS | {"layout": layout}, "test")
        artifact = stage.run("crowds", config, seed=0, store=store)
        dataset = stage.dataset(artifact)
        assert dataset.format == layout and artifact.record["images"].value == 20
        assert len(dataset.open("train")) == 12 and len(dataset.open("test")) == 8


BOTH_YEARS = crowds.Config(**CROWDS, num_train_2012=9)


@pytest.fixture(scope="module")
def years(tmp_path_factory):
    root = tmp_path_factory.mktemp("years")
    crowds.write(root, BOTH_YEARS, 0)
    return root


class TestYears:
    """Crowds in VOC's layout with a second year beside the first."""

    def source(self, root, split="train", **fields):
        spec = {**crowds.dataset(BOTH_YEARS), **fields}
        config = {key: value for key, value in spec.items() if key != "format"}
        return voc.open(voc.Config(root=root, **config), split)

    def test_the_dataset_is_the_union(self, years):
        train, test = self.source(years), self.source(years, "test")
        assert (len(train), len(test)) == (12 + 9, 8)
        names = [train.name(i) for i in range(len(train))]
        assert names[0] == "2007/000001" and names[-1] == "2012/2012_000009"
        assert test.name(0) == "000013"
        assert len(self.source(years, train=["2007_trainval"])) == 12
        assert len(self.source(years, train=["2012_train"])) == 5
        fields = crowds.dataset(BOTH_YEARS)
        config = {key: value for key, value in fields.items() if key != "format"}
        assert voc.check(voc.Config(root=years, **config)).problems == ()

    def test_the_first_year_is_the_same_without_the_second(self, years, tmp_path):
        crowds.write(tmp_path / "one", crowds.Config(**CROWDS), 0)
        for file in sorted((tmp_path / "one/VOC2007").rglob("*.*")):
            beside = years / file.relative_to(tmp_path / "one")
            assert file.read_bytes() == beside.read_bytes(), file.name
        assert crowds.dataset(crowds.Config(**CROWDS)) == crowds.DATASET

    def test_no_picture_stands_in_both(self, years):
        files = sorted(years.rglob("*.jpg"))
        assert len({file.read_bytes() for file in files}) == len(files) == 12 + 8 + 9

    def test_coco_has_no_years(self):
        with pytest.raises(ValueError, match="num_train_2012 goes with layout: voc"):
            crowds.Config(layout="coco", num_train_2012=3)
