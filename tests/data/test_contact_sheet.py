"""The contact sheet and the log of drawn parameters, and the command that writes both."""

import dataclasses
import json
import sys

import cv2
import numpy as np
import pytest

from whytransfer import cli
from whytransfer.core.errors import InputError
from whytransfer.data.augmentation import LADDER, Augmentation, sample_view, view_stream
from whytransfer.data.contact_sheet import contact_sheet, parameter_rows, write_sheet
from whytransfer.data.dataset import from_spec
from whytransfer.data.views import apply_view

PX = 100  # large enough not to be enlarged
LEFT, TOP, GAP = 176, 28, 4


@pytest.fixture(scope="module")
def source(layouts):
    return from_spec({"format": "imagefolder", "root": str(layouts / "folder")}, None, "t").open(
        "train"
    )


def tile(sheet, row, image, view):
    top = TOP + row * (PX + GAP)
    left = LEFT + image * (2 * (PX + GAP) + 2 * GAP) + view * (PX + GAP)
    return sheet[top : top + PX, left : left + PX]


def test_every_rung_shows_its_views_of_every_image(source):
    augmentation = Augmentation(crop_px=PX)
    sheet = contact_sheet(source, augmentation, num_images=3, seed=5)
    assert sheet.dtype == np.uint8 and sheet.shape[2] == 3
    last = len(source) - 1
    for row, (name, rung) in enumerate(LADDER.items(), start=1):
        for place, index in ((0, 0), (2, last)):
            image = source[index].image
            for view in (0, 1):
                p = sample_view(rung, view_stream(5, 0, index, view), *image.shape[:2])
                expected = apply_view(image, p, PX)
                assert np.array_equal(tile(sheet, row, place, view), expected), (name, place, view)
    assert not np.array_equal(tile(sheet, 5, 0, 0), tile(sheet, 6, 0, 0))  # MoCo v1 below
    captions = sheet[:, :LEFT]
    for row in range(7):
        assert (captions[TOP + row * (PX + GAP) :][:PX] < 100).any()


def test_small_views_are_enlarged_and_few_images_suffice(source):
    small = contact_sheet(source, Augmentation(crop_px=32), num_images=1)
    assert small.shape == (TOP + 7 * (96 + GAP), LEFT + 2 * (96 + GAP) + 2 * GAP, 3)
    wide = contact_sheet(source, Augmentation(crop_px=32), num_images=10_000)
    assert wide.shape[1] > len(source) * 2 * 96


def test_rows_are_what_a_run_draws(source):
    augmentation = Augmentation(order="v1", crop_px=32)
    rows = list(parameter_rows(source, augmentation, seed=3, num_epochs=2))
    assert len(rows) == 2 * len(source) * 2
    row = next(r for r in rows if (r["epoch"], r["index"], r["view"]) == (1, 4, 1))
    image = source[4].image
    drawn = sample_view(augmentation, view_stream(3, 1, 4, 1), *image.shape[:2])
    assert {name: row[name] for name in dataclasses.asdict(drawn)} == dataclasses.asdict(drawn)
    assert row["name"] == source.name(4)


def test_a_name_of_no_kind_of_image_is_refused(tmp_path):
    for name in ("sheet", "sheet.txt"):
        with pytest.raises(InputError, match=r"ends in \.png"):
            write_sheet(np.zeros((4, 4, 3), np.uint8), tmp_path / name)


def test_the_command_writes_both(layouts, tmp_path, monkeypatch, capsys):
    out, log = tmp_path / "new" / "sheet.png", tmp_path / "views.jsonl"
    words = ["data", "show", f"imagefolder:{layouts / 'folder'}", "crop_px=32", "blur_p=1"]
    options = ["--out", out, "--parameters", log, "--epochs", 2, "--images", 2]
    options += ["--store", tmp_path / "runs"]
    monkeypatch.setattr(sys, "argv", ["whytransfer", *map(str, [*words, *options])])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert not end.value.code
    assert capsys.readouterr().out.split() == [str(out), str(log)]
    assert cv2.imread(str(out)).shape[0] == TOP + 7 * (96 + GAP)
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    assert {row["epoch"] for row in rows} == {0, 1}
    assert all(row["blur_sigma"] > 0 for row in rows)


def test_an_unknown_field_is_named(layouts, tmp_path, monkeypatch, capsys):
    words = ["data", "show", str(layouts / "folder"), "crop=middle", "--store", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["whytransfer", *words])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2
    assert "crop" in capsys.readouterr().err
