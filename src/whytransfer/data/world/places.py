"""Scenes by category, told apart by layout, structures and texture: the role of Places365.

Every colour of a picture is mixed with a tint of its own, so a category has no colour of its own.
The categories take turns with the index, so each has as many pictures, to one.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from whytransfer.core.config import Config as _Config
from whytransfer.core.streams import Stream
from whytransfer.data.world._place import PlaceFactors, draw_place
from whytransfer.data.world._place_scenes import CATEGORIES, paint_place
from whytransfer.data.world._writing import FIRST_TEST_INDEX, FactorsFile, write_jpeg, write_world

__all__ = [
    "CATEGORIES",
    "DATASET",
    "FORMAT",
    "Config",
    "PlaceFactors",
    "RenderedPlace",
    "classes",
    "dataset",
    "render",
    "write",
]

FORMAT = "places365"
DATASET: dict[str, Any] = {"format": FORMAT}


class Config(_Config):
    """What the pictures show and how many there are.

    Attributes:
        num_train: Training pictures.
        num_test: Validation pictures.
        num_categories: Categories in use: the first ones of ``CATEGORIES``.
        size_px: Height and width.
        layout: Places365 as torchvision downloads it, or its easy format of class folders.
    """

    num_train: int = Field(1500, ge=1)
    num_test: int = Field(300, ge=1)
    num_categories: int = Field(len(CATEGORIES), ge=2, le=len(CATEGORIES))
    size_px: int = Field(64, ge=32, le=1024)
    layout: Literal["torchvision", "easy"] = "torchvision"

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if min(self.num_train, self.num_test) < self.num_categories:
            raise ValueError(
                f"{self.num_categories} categories need at least as many training and test "
                "pictures: raise num_train and num_test, or lower num_categories"
            )
        return self


@dataclass(frozen=True)
class RenderedPlace:
    """A picture and everything that it was made from.

    Attributes:
        image: (H, W, 3) uint8, RGB.
        factors: What it shows.
    """

    image: NDArray[np.uint8]
    factors: PlaceFactors


def dataset(config: Config) -> dict[str, Any]:
    """Returns the fields that a reader of what is written needs beside the folder."""
    return DATASET if config.layout == "torchvision" else {"format": "imagefolder"}


def classes(config: Config) -> tuple[str, ...]:
    """Lists the categories, sorted."""
    return CATEGORIES[: config.num_categories]


def render(config: Config, seed: int, index: int) -> RenderedPlace:
    """Renders one picture: a function of (config, seed, index) alone, on any machine.

    Counts and layout do not reach the pixels.
    """
    stream = Stream(seed, "world.places", index)
    category = CATEGORIES[index % config.num_categories]
    factors = draw_place(stream, category)
    image = paint_place(factors, config.size_px, stream).developed(stream)
    if factors.mirrored:
        image = np.ascontiguousarray(image[:, ::-1])
    return RenderedPlace(image, factors)


def write(root: Path, config: Config, seed: int) -> None:
    """Writes the pictures, in torchvision's layout the lists as well, and the sidecars."""
    write_world(root, "places", config, seed)
    lines: dict[bool, list[str]] = {True: [], False: []}
    with FactorsFile(root) as sidecar:
        for first, count, train in (
            (0, config.num_train, True),
            (FIRST_TEST_INDEX, config.num_test, False),
        ):
            for number in range(count):
                rendered = render(config, seed, first + number)
                category = rendered.factors.category
                path, line = _file(config, category, number, train)
                write_jpeg(root / path, rendered.image)
                lines[train].append(f"{line} {CATEGORIES.index(category)}\n")
                sidecar.add_factors(path, first + number, **dataclasses.asdict(rendered.factors))
    if config.layout == "torchvision":
        categories = [f"{_folder(name)} {at}\n" for at, name in enumerate(classes(config))]
        _write(root / "categories_places365.txt", categories)
        _write(root / "places365_train_standard.txt", lines[True])
        _write(root / "places365_val.txt", lines[False])


def _file(config: Config, category: str, number: int, train: bool) -> tuple[Path, str]:
    """Returns a picture's path and how its list names it."""
    if config.layout == "easy":
        path = Path("train" if train else "val", category, f"{number:08d}.jpg")
        return path, path.as_posix()
    if train:
        name = f"{_folder(category)}/{number + 1:08d}.jpg"
        return Path(f"data_256_standard{name}"), name
    name = f"Places365_val_{number + 1:08d}.jpg"
    return Path("val_256", name), name


def _folder(category: str) -> str:
    return f"/{category[0]}/{category}"


def _write(path: Path, lines: list[str]) -> None:
    path.write_text("".join(lines), encoding="utf-8")
