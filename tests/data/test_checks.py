import json
import re
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whytransfer import cli
from whytransfer.core.errors import InputError
from whytransfer.data.checks import check
from whytransfer.data.overlap import _close, overlap
from whytransfer.data.world import crowds, photos, things


def test_each_format_is_recognised_and_counted(layouts):
    for name, counts in (
        ("folder", {"train images": 12, "test images": 6}),
        ("voc", {"train images": 4, "train objects": 5}),
        ("coco", {"train images": 4, "test objects": 2}),
    ):
        report = check(str(layouts / name))
        assert report.problems == ()
        assert counts.items() <= report.counts.items()
        assert report.to_plain() == {
            "format": report.format, "counts": report.counts, "problems": [], "notes": [],
        }  # fmt: skip


def test_fields_stand_instead_of_the_recognised_ones(layouts):
    report = check(f"voc:{layouts / 'voc'}", {"test": []})
    assert "test images" not in report.counts
    with pytest.raises(InputError, match=r"field tset: unknown field.*did you mean 'test'"):
        check(str(layouts / "voc"), {"tset": []})


def test_what_is_wrong_is_said_line_by_line(layout):
    root = layout("voc")
    (root / "VOC2007/JPEGImages/coffee.jpg").write_bytes(b"")
    path = root / "VOC2007/Annotations/flower.xml"
    path.write_text(path.read_text().replace("pottedplant", "plant"))
    report = check(str(root))
    lines = report.lines()
    assert lines[0].endswith("2 problems") and len(lines) == 3
    assert re.search(r"coffee\.jpg: the file is empty", lines[1])
    assert re.search(r"flower\.xml: the class 'plant' is not in the list", lines[2])
    assert report.to_plain()["problems"][0]["where"].endswith("coffee.jpg")


def test_wrong_level_is_said(layouts):
    with pytest.raises(InputError, match=f"too low: give {layouts / 'folder'}"):
        check(str(layouts / "folder/train"))


def test_what_the_world_writes_is_whole(tmp_path):
    crowds.write(tmp_path / "crowds", crowds.Config(num_train=8, num_test=8), seed=0)
    report = check(str(tmp_path / "crowds"))
    assert report.problems == ()
    assert report.counts["train images"] == 8 and report.counts["test images"] == 8
    photos.write(tmp_path / "photos", photos.Config(stride_px=64), seed=0)
    report = check(str(tmp_path / "photos"))
    assert report.problems == () and report.counts["classes"] == 6


def test_nothing_here_imports_torch():
    code = """
import sys
import whytransfer.data.checks, whytransfer.data.loader, whytransfer.data.predictions
import whytransfer.data.overlap, whytransfer.data.views
from whytransfer.core import plugins
for name in plugins.names("format"):
    plugins.find("format", name)
print([name for name in ("torch", "torchvision", "skimage", "sklearn") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def again(image, path, quality=60, size=1.0):
    """Saves an image once more."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = cv2.INTER_AREA if size < 1 else cv2.INTER_LINEAR
    scaled = cv2.resize(image, None, fx=size, fy=size, interpolation=mode)
    assert cv2.imwrite(str(path), scaled, [cv2.IMWRITE_JPEG_QUALITY, quality])


@pytest.fixture(scope="module")
def trained_on(tmp_path_factory):
    """Crowds in VOC's layout, whose pictures leak into other sets below."""
    root = tmp_path_factory.mktemp("trained") / "crowds"
    crowds.write(root, crowds.Config(num_train=30, num_test=10), seed=0)
    return root


class TestAgainst:
    def test_copies_are_found_in_every_split(self, tmp_path, trained_on):
        files = sorted((trained_on / "VOC2007/JPEGImages").glob("*.jpg"))
        read = [cv2.imread(str(path)) for path in files]
        root = tmp_path / "mine"
        shutil.copytree(clean(tmp_path), root)
        train, val = root / "train/disc", root / "val/disc"
        shutil.copyfile(files[0], train / "same.jpg")
        shutil.copyfile(files[35], val / "other_name.jpeg")
        assert cv2.imwrite(str(train / "pixels.png"), read[1])
        again(read[2], train / "saved.jpg", quality=50)
        again(read[3], val / "half.jpg", quality=90, size=0.5)
        again(read[4], val / "larger.png", size=1.5)
        again(read[5][:, ::-1], train / "mirrored.png")
        found = overlap(str(root), f"voc:{trained_on}")
        assert {(m.name, m.other, m.kind) for m in found.matches} == {
            ("train/disc/same.jpg", "train/000001", "file"),
            ("test/disc/other_name.jpeg", "test/000036", "file"),
            ("train/disc/pixels.png", "train/000002", "pixels"),
            ("train/disc/saved.jpg", "train/000003", "near"),
            ("test/disc/half.jpg", "train/000004", "near"),
            ("test/disc/larger.png", "train/000005", "near"),
        }
        assert found.counts == {"file": 2, "pixels": 1, "near": 3}
        assert (found.num_images, found.num_others) == (39, 40) and found.problems == ()
        lines = found.lines()
        assert lines[0].startswith("6 of 39 images are among the 40 others: 2 the same file")
        assert len(lines) == 7

    def test_pictures_of_one_world_are_no_copies_of_each_other(self, tmp_path, trained_on):
        others = tmp_path / "others"
        crowds.write(others, crowds.Config(num_train=40, num_test=10), seed=1)
        assert overlap(str(others), str(trained_on)).matches == ()

    def test_the_command_line(self, tmp_path, trained_on, capsys, monkeypatch):
        root = clean(tmp_path)
        assert command(monkeypatch, root, "--against", trained_on) == 0
        assert capsys.readouterr().out.startswith("0 of 32 images are among the 40 others")
        shutil.copyfile(next(trained_on.rglob("*.jpg")), root / "train/disc/copy.jpg")
        assert command(monkeypatch, root, "--against", trained_on, "--json") == 2
        content = json.loads(capsys.readouterr().out)
        assert content["counts"] == {"file": 1, "pixels": 0, "near": 0}
        assert content["matches"][0]["name"] == "train/disc/copy.jpg"
        assert command(monkeypatch, root, "--distance", "3") == 2
        assert "--against" in capsys.readouterr().err
        assert command(monkeypatch, root, "--against-split", "train") == 2
        assert "--against-split: is of no use alone" in capsys.readouterr().err

    def test_fields_and_a_split_of_the_other_dataset(self, tmp_path, monkeypatch, capsys):
        root = clean(tmp_path)
        pair = root, "--against", f"imagefolder:{root}"
        assert command(monkeypatch, *pair) == 2
        assert "32 of 32 images are among the 32 others" in capsys.readouterr().out
        assert command(monkeypatch, *pair, "--against-split", "train") == 2
        assert "16 of 32 images are among the 16 others" in capsys.readouterr().out
        assert command(monkeypatch, *pair, "--against-field", "train=no_such_folder") == 2
        assert "no_such_folder" in capsys.readouterr().err

    def test_what_can_not_be_read_is_said_and_not_compared(self, tmp_path, trained_on):
        root = clean(tmp_path)
        (root / "train/disc/broken.jpg").write_bytes(b"nothing")
        found = overlap(str(root), str(trained_on))
        assert found.num_images == 32 and len(found.problems) == 1
        assert "broken.jpg" in found.lines()[-1]

    def test_the_nearest_of_several_is_named_and_few_are_shown(self, tmp_path, trained_on):
        root = clean(tmp_path)
        for number, path in enumerate(sorted(trained_on.rglob("*.jpg"))[:25]):
            again(cv2.imread(str(path)), root / f"train/disc/copy{number:02d}.jpg", quality=70)
        found = overlap(str(root), str(trained_on))
        assert [m.other for m in found.matches] == [f"train/{n:06d}" for n in range(1, 26)]
        assert found.lines()[-1] == "and 5 more; --json lists all"
        assert overlap(str(root), str(root)).counts["file"] == found.num_images


def clean(folder):
    """A folder of pictures of single things: none of them a crowd."""
    root = folder / "clean"
    things.write(root, things.Config(num_train=16, num_test=16), seed=5)
    return root


def command(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["whytransfer", "data", "check", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return end.value.code or 0


@settings(max_examples=30, deadline=None)
@given(
    hashes=st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=40),
    others=st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=40),
    flips=st.integers(0, 10),
)
def test_close_hashes_are_those_that_a_plain_loop_finds(hashes, others, flips):
    hashes = [*hashes, others[0] ^ ((1 << flips) - 1)]
    blocks = _close(np.array(hashes, dtype=np.uint64), np.array(others, dtype=np.uint64), 8)
    found = {
        pair for r, c, d in blocks for pair in zip(r.tolist(), c.tolist(), d.tolist(), strict=True)
    }
    expected = {
        (row, column, (one ^ other).bit_count())
        for row, one in enumerate(hashes)
        for column, other in enumerate(others)
        if (one ^ other).bit_count() <= 8
    }
    assert found == expected


def test_close_hashes_are_found_across_blocks():
    hashes = np.arange(600, dtype=np.uint64) << np.uint64(20)
    found = [(r, c) for rows, cols, _ in _close(hashes, np.repeat(hashes, 20), 0)
             for r, c in zip(rows.tolist(), cols.tolist(), strict=True)]  # fmt: skip
    assert sorted(found) == [(row, 20 * row + copy) for row in range(600) for copy in range(20)]
