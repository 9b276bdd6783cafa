import re
import subprocess
import sys

import pytest

from whytransfer.core.errors import InputError
from whytransfer.data.checks import check
from whytransfer.data.world import crowds, photos


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
            "format": report.format, "counts": report.counts, "problems": [],
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
import whytransfer.data.views
from whytransfer.core import plugins
for name in plugins.names("format"):
    plugins.find("format", name)
print([name for name in ("torch", "torchvision", "skimage", "sklearn") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
