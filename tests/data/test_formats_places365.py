import re

import numpy as np
import pytest
from tests.data.conftest import write

from whytransfer.core.errors import InputError
from whytransfer.data.dataset import from_spec, look
from whytransfer.data.formats import places365
from whytransfer.data.formats.places365 import Config

CLASSES = ("a/airfield", "a/apartment_building/outdoor", "b/bakery/shop")
TRAIN = [
    "/a/airfield/00000001.jpg 0",
    "/b/bakery/shop/00000001.jpg 2",
    "/a/airfield/00000002.jpg 0",
    "/a/apartment_building/outdoor/00000007.jpg 1",
]
VAL = ["Places365_val_00000001.jpg 2", "Places365_val_00000002.jpg 1"]


def raises(*parts):
    return pytest.raises(InputError, match=".*".join(re.escape(str(part)) for part in parts))


def lay_out(root, noise, size="256", variant="standard"):
    """Writes the layout as torchvision downloads it."""
    write_lines(root / "categories_places365.txt", [f"/{n} {i}" for i, n in enumerate(CLASSES)])
    write_lines(root / f"places365_train_{variant}.txt", TRAIN)
    write_lines(root / "places365_val.txt", VAL)
    for number, line in enumerate(TRAIN):
        write(root / f"data_{size}_{variant}{line.split()[0]}", noise + np.uint8(number))
    for line in VAL:
        write(root / f"val_{size}" / line.split()[0], noise)
    return root


def write_lines(path, lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


@pytest.fixture
def places(tmp_path, noise):
    return lay_out(tmp_path / "places", noise)


class TestReading:
    def test_order_of_the_list_and_classes_of_their_file(self, places):
        source = places365.open(Config(root=places), "train")
        assert source.classes == CLASSES
        names = [source.name(index) for index in range(len(source))]
        assert names == [line.split()[0][1:] for line in TRAIN]
        assert [source.label(index) for index in range(4)] == [0, 2, 0, 1]
        assert source.size(0) == (40, 60) and source[1].image.shape == (40, 60, 3)
        assert source[1].label == 2 and source[1].name == "b/bakery/shop/00000001.jpg"
        test = places365.open(Config(root=places), "test")
        assert test.classes == CLASSES and [test.label(0), test.label(1)] == [2, 1]
        assert test.path(0) == places / "val_256/Places365_val_00000001.jpg"

    def test_numbers_decide_the_order_of_the_classes(self, places):
        lines = [f"/{name} {number}" for number, name in reversed(list(enumerate(CLASSES)))]
        write_lines(places / "categories_places365.txt", lines)
        assert places365.open(Config(root=places), "train").classes == CLASSES

    @pytest.mark.parametrize("size", ["256", "large"])
    @pytest.mark.parametrize("variant", ["standard", "challenge"])
    def test_sizes_and_variants_are_recognised(self, tmp_path, noise, size, variant):
        root = lay_out(tmp_path / "here", noise, size, variant)
        assert look(root) == {
            "format": "places365", "root": str(root),
            "size": size, "variant": variant, "test": "val",
        }  # fmt: skip
        assert len(from_spec(look(root), None, "here").open("train")) == 4

    def test_without_validation_images(self, places):
        (places / "places365_val.txt").unlink()
        fields = places365.recognise(places)
        assert fields["test"] is None
        assert places365.check(Config(**fields)).problems == ()

    def test_the_easy_format_is_a_folder_of_classes(self, tmp_path, noise):
        for split in ("train", "val"):
            write(tmp_path / split / "airfield/1.jpg", noise)
            write(tmp_path / split / "bakery-shop/1.jpg", noise)
        assert look(tmp_path)["format"] == "imagefolder"

    def test_the_lists_are_in_the_fingerprint(self, places):
        first = from_spec(look(places), None, "here").fingerprint
        write_lines(places / "places365_val.txt", [VAL[0], VAL[1][:-1] + "0"])
        assert from_spec(look(places), None, "here").fingerprint != first

    def test_check(self, places):
        report = places365.check(Config(root=places))
        assert report.problems == ()
        assert report.counts == {"classes": 3, "train images": 4, "test images": 2}


class TestRefusals:
    def test_absent_images(self, places):
        for number in (1, 2):
            (places / f"data_256_standard/a/airfield/0000000{number}.jpg").unlink()
        with raises(
            "places365_train_standard.txt", "2 of 4 files", "a/airfield/00000001.jpg (line 1)"
        ):
            places365.open(Config(root=places), "train")
        report = places365.check(Config(root=places))
        assert len(report.problems) == 1 and report.counts["test images"] == 2

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("/a/airfield/00000003.jpg", "a name and a number"),
            ("/a/airfield/00000002.jpg 3", "the class number 3 is not in"),
            ("/a/airfield/00000002.jpg 2", "is listed as class 2, which is b/bakery/shop"),
            (TRAIN[0], "lists a/airfield/00000001.jpg again, as line 1 does"),
        ],
    )
    def test_bad_lines(self, places, line, message):
        write_lines(places / "places365_train_standard.txt", [*TRAIN, line])
        with raises("places365_train_standard.txt, line 5", message):
            places365.open(Config(root=places), "train")

    @pytest.mark.parametrize(
        "lines", [["/a/airfield 0", "/b/bakery 2"], ["/a/airfield 0", "/a/airfield 1"]]
    )
    def test_bad_classes(self, places, lines):
        write_lines(places / "categories_places365.txt", lines)
        with raises("categories_places365.txt", "2 classes with the numbers 0 to"):
            places365.open(Config(root=places), "train")

    def test_a_part_is_missing(self, places):
        with raises("data_large_standard", "not there", "set size"):
            places365.open(Config(root=places, size="large"), "train")
        with raises("not there", f"too high: give {places}"):
            places365.open(Config(root=places.parent), "train")
        with raises("no test images"):
            places365.open(Config(root=places, test=None), "test")

    def test_an_unreadable_image(self, places):
        (places / "val_256/Places365_val_00000002.jpg").write_bytes(b"text")
        problems = places365.check(Config(root=places)).problems
        assert [problem.where.rpartition("/")[2] for problem in problems] == [
            "Places365_val_00000002.jpg"
        ]
