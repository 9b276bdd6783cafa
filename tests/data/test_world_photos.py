"""Tiles of photographs: no pixel is both in train and in val."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whytransfer.core.errors import InputError
from whytransfer.data.world import photos

COARSE = photos.Config(tile_px=96, stride_px=96)


@given(
    tile_px=st.integers(16, 80),
    stride_px=st.integers(1, 90),
    train_share=st.floats(0.2, 0.8),
    gap_px=st.integers(0, 20),
    width=st.integers(100, 300),
)
def test_parts_never_share_a_pixel(tile_px, stride_px, train_share, gap_px, width):
    config = photos.Config(
        tile_px=tile_px, stride_px=stride_px, train_share=train_share, gap_px=gap_px
    )
    train = [x for x, _ in photos.tiles(config, 100, width, "train")]
    val = [x for x, _ in photos.tiles(config, 100, width, "val")]
    if train and val:
        assert max(train) + tile_px + gap_px <= min(val)
    for x in (*train, *val):
        assert x >= 0 and x + tile_px <= width


def test_every_photograph_gives_tiles_to_both_parts(tmp_path):
    photos.write(tmp_path, COARSE, seed=0)
    for photograph in photos.PHOTOGRAPHS:
        pixels = photograph.pixels()
        for split in ("train", "val"):
            written = sorted((tmp_path / split / photograph.name).iterdir())
            expected = photos.tiles(COARSE, *pixels.shape[:2], split)
            assert len(written) == len(expected) > 0
            x, y = (int(part) for part in written[0].stem.split("_"))
            tile = cv2.imread(str(written[0]))[:, :, ::-1].astype(int)
            assert np.abs(tile - pixels[y : y + 96, x : x + 96]).mean() < 4


def test_attribution_names_every_photograph(tmp_path):
    photos.write(tmp_path, COARSE, seed=0)
    text = (tmp_path / "ATTRIBUTION.txt").read_text(encoding="utf-8")
    for photograph in photos.PHOTOGRAPHS:
        line = next(x for x in text.splitlines() if x.startswith(f"{photograph.name}:"))
        assert photograph.credit in line and photograph.licence in line


def test_tiles_that_do_not_fit_are_refused_before_anything_is_written(tmp_path):
    with pytest.raises(InputError, match="tile_px: 128 px does not fit into the val part"):
        photos.write(tmp_path / "out", photos.Config(tile_px=128), seed=0)
    assert not (tmp_path / "out").exists()
