"""Tiles of the six photographs that scikit-image and scikit-learn bundle: real pixels, no download.

One class per photograph. Training tiles come from the left part of each photograph, those of
``val`` from the right part, with a gap between, so that no pixel is in both.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from whytransfer.core.config import Config as _Config
from whytransfer.core.errors import InputError
from whytransfer.data.world._writing import write_jpeg, write_world

__all__ = ["DATASET", "FORMAT", "PHOTOGRAPHS", "Config", "Photograph", "tiles", "write"]

FORMAT = "imagefolder"
DATASET: dict[str, Any] = {"format": FORMAT}


@dataclass(frozen=True)
class Photograph:
    """A photograph that a library bundles, with whom to thank for it."""

    name: str
    library: str
    title: str
    credit: str
    licence: str
    source: str

    def pixels(self) -> NDArray[np.uint8]:
        """Reads the photograph: (H, W, 3), RGB."""
        if self.library == "scikit-learn":
            from sklearn.datasets import load_sample_image

            return np.asarray(load_sample_image(f"{self.name}.jpg"), dtype=np.uint8)
        import skimage.data

        return np.asarray(getattr(skimage.data, self.name)(), dtype=np.uint8)


_CC_BY = "CC BY 2.0, https://creativecommons.org/licenses/by/2.0/"

PHOTOGRAPHS = (
    Photograph(
        "astronaut", "scikit-image", "Eileen Collins", "NASA Great Images database",
        "public domain", "https://flic.kr/p/r9qvLn",
    ),
    Photograph(
        "chelsea", "scikit-image", "Chelsea the cat", "Stefan van der Walt", "CC0",
        "skimage.data.chelsea",
    ),
    Photograph(
        "china", "scikit-learn", "china.jpg", "danielbuechele", _CC_BY,
        "https://www.flickr.com/photos/danielbuechele/6061409035/",
    ),
    Photograph(
        "coffee", "scikit-image", "Coffee cup", "Rachel Michetti, courtesy of Pikolo Espresso Bar",
        "CC0", "skimage.data.coffee",
    ),
    Photograph(
        "flower", "scikit-learn", "flower.jpg", "vultilion", _CC_BY,
        "https://www.flickr.com/photos/vultilion/6056698931/",
    ),
    Photograph(
        "rocket", "scikit-image", "Launch of DSCOVR on Falcon 9", "SpaceX", "public domain",
        "https://www.flickr.com/photos/spacexphotos/16511594820/",
    ),
)  # fmt: skip
"""The photographs, sorted by name; 427×640 the typical size, 300×451 the smallest."""


class Config(_Config):
    """How the photographs are cut.

    Attributes:
        tile_px: Height and width of a tile.
        stride_px: Distance between neighbouring tiles; smaller than ``tile_px``, they overlap
            within their part.
        train_share: Share of each photograph's columns that training tiles come from.
        gap_px: Columns between the two parts that no tile touches.
    """

    tile_px: int = Field(64, ge=16)
    stride_px: int = Field(16, ge=1)
    train_share: float = Field(0.75, gt=0, lt=1)
    gap_px: int = Field(8, ge=0)


def tiles(config: Config, height: int, width: int, split: str) -> list[tuple[int, int]]:
    """Lists the upper left corners (x, y) of a photograph's tiles in ``train`` or ``val``."""
    border = int(width * config.train_share)
    start, stop = (0, border) if split == "train" else (border + config.gap_px, width)
    xs = range(start, stop - config.tile_px + 1, config.stride_px)
    ys = range(0, height - config.tile_px + 1, config.stride_px)
    return [(x, y) for y in ys for x in xs]


def write(root: Path, config: Config, seed: int) -> None:
    """Writes ``train/<photograph>/<x>_<y>.JPEG``, ``val/...`` and ``ATTRIBUTION.txt``.

    The seed is kept in ``world.json`` as every maker's; nothing here is drawn.

    Raises:
        InputError: The tiles are too large for a part of a photograph.
    """
    cut = list(_cut(config))
    write_world(root, "photos", config, seed)
    for path, tile in cut:
        write_jpeg(root / path, tile)
    (root / "ATTRIBUTION.txt").write_text(_attribution(), encoding="utf-8")


def _cut(config: Config) -> Iterator[tuple[Path, NDArray[np.uint8]]]:
    side = config.tile_px
    for photograph in PHOTOGRAPHS:
        pixels = photograph.pixels()
        height, width = pixels.shape[:2]
        for split in ("train", "val"):
            corners = tiles(config, height, width, split)
            if not corners:
                raise InputError(
                    "photos, field tile_px",
                    f"{side} px does not fit into the {split} part of {photograph.name}, "
                    f"which is {width}×{height} px in all",
                    todo="lower tile_px or gap_px, or change train_share",
                )
            for x, y in corners:
                path = Path(split, photograph.name, f"{x:04d}_{y:04d}.JPEG")
                yield path, pixels[y : y + side, x : x + side]


def _attribution() -> str:
    lines = ["Tiles of these photographs, cut and saved as JPEG; nothing else was changed.", ""]
    lines += [
        f"{p.name}: {p.title}, by {p.credit}; {p.licence}; {p.source}; bundled with {p.library}"
        for p in PHOTOGRAPHS
    ]
    return "\n".join(lines) + "\n"
