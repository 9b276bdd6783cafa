import re
from dataclasses import replace

import pytest
from tests.ops.detection_scenes import truth_of

from whytransfer.core.errors import InputError
from whytransfer.data.voc_results import read_voc_results

TRUTH = replace(
    truth_of((0, 0, (0, 0, 10, 10)), num_images=3, num_classes=2),
    images=("2007/000005", "2007/000007", "2012/000007"),
    classes=("light", "traffic_light"),
)


@pytest.fixture
def folder(tmp_path):
    """Returns a function that writes the results of both classes."""

    def write(light="", traffic_light="", prefix="comp4_det_test_"):
        for name, text in (("light", light), ("traffic_light", traffic_light)):
            (tmp_path / f"{prefix}{name}.txt").write_text(text)
        return tmp_path

    return write


def raises(*parts):
    return pytest.raises(InputError, match=".*".join(re.escape(part) for part in parts))


def test_pixels_are_counted_from_1_and_the_last_one_is_included(folder):
    found = read_voc_results(
        folder("2007/000005 0.25 1 1 1 1\n\n2012/000007 -3 2 3 10 20\n"), TRUTH
    )
    assert found.boxes_xyxy.tolist() == [[0, 0, 1, 1], [1, 2, 10, 20]]
    assert found.score.tolist() == [0.25, -3]
    assert found.image.tolist() == [0, 2]
    assert found.label.tolist() == [0, 0]


@pytest.mark.parametrize("prefix", ["comp4_det_test_", "comp3_det_2007_test_"])
def test_the_longest_class_is_meant(prefix, folder):
    line = "2007/000005 0.5 1 1 9 9\n"
    found = read_voc_results(folder(line, line * 2, prefix), TRUTH)
    assert found.label.tolist() == [0, 1, 1]


def test_an_image_goes_by_its_own_name_where_that_is_unique(folder):
    found = read_voc_results(folder("000005 0.5 1 1 9 9\n"), TRUTH)
    assert found.image.tolist() == [0]
    with raises("comp4_det_test_light.txt, line 1: the image '000007' is not in the truth"):
        read_voc_results(folder("000007 0.5 1 1 9 9\n"), TRUTH)


def test_nothing_found_at_all(folder):
    found = read_voc_results(folder(), TRUTH)
    assert len(found) == 0 and found.boxes_xyxy.shape == (0, 4)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("000005 1 1 9 9", ("found 5 values", "image score x1 y1 x2 y2", "score")),
        ("000005 0.5 1 1 9 9 9", ("found 7 values",)),
        ("000005 high 1 1 9 9", ("found '000005 high 1 1 9 9'", "numbers")),
        ("000005 nan 1 1 9 9", ("found '000005 nan",)),
    ],
)
def test_a_malformed_line_is_named(line, words, folder):
    with raises("comp4_det_test_light.txt, line 2", *words):
        read_voc_results(folder(f"000005 0.5 1 1 9 9\n{line}\n"), TRUTH)


def test_a_file_that_is_no_text(folder):
    place = folder("000005 0.5 1 1 9 9\n")
    (place / "comp4_det_test_light.txt").write_bytes(b"\xff\xfe0\x00")
    with raises("comp4_det_test_light.txt: can't be read as text", "image score x1 y1 x2 y2"):
        read_voc_results(place, TRUTH)


def test_files_that_are_not_those_of_the_classes(folder, tmp_path):
    with raises("holds no VOC results", "comp*_det_*.txt"):
        read_voc_results(tmp_path, TRUTH)
    folder()
    (tmp_path / "comp4_det_test_light.txt").rename(tmp_path / "comp4_det_test_lihgt.txt")
    with raises("comp4_det_test_lihgt.txt", "'lihgt' is not in the truth", "did you mean 'light'"):
        read_voc_results(tmp_path, TRUTH)
    (tmp_path / "comp4_det_test_lihgt.txt").unlink()
    with raises("has no file of light", "an empty file"):
        read_voc_results(tmp_path, TRUTH)
