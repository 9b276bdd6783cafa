"""One large object per picture on a plain background, with a category: ImageNet's role.

What the label says is a choice, the pixels being the same for each: the shape, shape and surface,
or the surface alone, so that a study can vary how much of the picture the labels speak about.
Shapes and surfaces take turns with the index, so every class has as many pictures, to one.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from whytransfer.core.config import Config as _Config
from whytransfer.core.streams import Stream
from whytransfer.data.world._factors import (
    BACKGROUNDS,
    Background,
    Figure,
    ObjectFactors,
    Pose,
    Rendered,
    draw_background,
    draw_figure,
)
from whytransfer.data.world._scene import compose
from whytransfer.data.world._shapes import SHAPES
from whytransfer.data.world._surfaces import SURFACES
from whytransfer.data.world._writing import FIRST_TEST_INDEX, FactorsFile, write_jpeg, write_world

__all__ = [
    "DATASET",
    "FORMAT",
    "Background",
    "Config",
    "Figure",
    "ObjectFactors",
    "Rendered",
    "classes",
    "portray",
    "render",
    "write",
]

FORMAT = "imagefolder"
DATASET: dict[str, Any] = {"format": FORMAT}


class Config(_Config):
    """What the pictures show and how many there are.

    Attributes:
        num_train: Training pictures.
        num_test: Pictures of the ``val`` folder.
        size_px: Height and width.
        num_shapes: Shapes in use: the first ones of ``SHAPES``.
        label: What an object's category names.
        num_backgrounds: Backgrounds in use, shared by all pictures.
        min_radius: Smallest object radius, as a share of the picture's side.
        max_radius: Largest object radius.
        max_turn: Largest rotation either way, in turns.
    """

    num_train: int = Field(4000, ge=1)
    num_test: int = Field(1000, ge=1)
    size_px: int = Field(64, ge=32, le=1024)
    num_shapes: int = Field(16, ge=2, le=len(SHAPES))
    label: Literal["shape", "shape+surface", "surface"] = "shape"
    num_backgrounds: int = Field(4, ge=1, le=len(BACKGROUNDS))
    min_radius: float = Field(0.34, ge=0.15, le=0.48)
    max_radius: float = Field(0.46, ge=0.15, le=0.48)
    max_turn: float = Field(0.125, ge=0, le=0.5)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.min_radius > self.max_radius:
            raise ValueError("min_radius is larger than max_radius")
        num_classes = len(classes(self))
        if min(self.num_train, self.num_test) < num_classes:
            raise ValueError(
                f"{num_classes} classes need at least as many training and test pictures: "
                "raise num_train and num_test, or lower num_shapes"
            )
        return self


def classes(config: Config) -> tuple[str, ...]:
    """Lists the categories, sorted."""
    pairs = [(shape, surface) for shape in SHAPES[: config.num_shapes] for surface in SURFACES]
    return tuple(sorted({_category(config, *pair) for pair in pairs}))


def _category(config: Config, shape: str, surface: str) -> str:
    if config.label == "shape":
        return shape
    return surface if config.label == "surface" else f"{shape}_{surface}"


def render(config: Config, seed: int, index: int) -> Rendered:
    """Renders one picture: a function of (config, seed, index) alone, on any machine.

    ``num_train``, ``num_test`` and ``label`` do not reach the pixels.
    """
    stream = Stream(seed, "world.things", index)
    shape = SHAPES[index % config.num_shapes]
    surface = SURFACES[index // config.num_shapes % len(SURFACES)]
    return portray(stream, config, _category(config, shape, surface), shape, surface)


def portray(stream: Stream, config: Config, category: str, shape: str, surface: str) -> Rendered:
    """Renders a picture of one object of that shape and surface; all else is drawn."""
    background = draw_background(stream, config.num_backgrounds)
    figure = draw_figure(stream, category, shape, surface, _draw_pose(stream, config))
    return compose([figure], background, config.size_px, stream)


def _draw_pose(stream: Stream, config: Config) -> Pose:
    """Draws a pose that keeps the whole object in the picture, but for 5 % of its side."""
    radius = stream.one(config.min_radius, config.max_radius)
    low, high = radius - 0.05, 1.05 - radius
    x, y = stream.uniform(2, low, high).tolist()
    turn = stream.one(-config.max_turn, config.max_turn)
    side = config.size_px
    return Pose((x * side, y * side), radius * side, turn)


def write(root: Path, config: Config, seed: int) -> None:
    """Writes ``train/<class>/<index>.JPEG``, ``val/<class>/<index>.JPEG`` and the sidecars.

    The folder ``lists`` has lists of subsets: 1 % and 10 % of the training pictures, as evenly over
    the classes as can be and at least one of each, and every other class.
    """
    write_world(root, "things", config, seed)
    written: list[Path] = []
    with FactorsFile(root) as factors:
        for folder, first, count in (
            ("train", 0, config.num_train),
            ("val", FIRST_TEST_INDEX, config.num_test),
        ):
            for number in range(count):
                rendered = render(config, seed, first + number)
                category = rendered.objects[0].category
                path = Path(folder, category, f"{number:06d}.JPEG")
                write_jpeg(root / path, rendered.image)
                factors.add(path, first + number, rendered)
                written.append(path)
    _write_lists(root / "lists", written[: config.num_train], classes(config), seed)


def _write_lists(folder: Path, train: list[Path], names: tuple[str, ...], seed: int) -> None:
    """Writes subsets: images as ``<class>/<file>``, classes as names of folders, one per line."""
    drawn = [train[at] for at in Stream(seed, "world.things.lists").permutation(len(train))]
    taken = dict.fromkeys(names, 0)
    ranked = []
    for path in drawn:
        name = path.parent.name
        ranked.append((taken[name], path.relative_to("train").as_posix()))
        taken[name] += 1
    evenly = [name for _, name in sorted(ranked, key=lambda pair: pair[0])]
    lists: dict[str, Sequence[str]] = {"classes_half.txt": names[::2]}
    for percent in (1, 10):
        count = max(-(-len(train) * percent // 100), len(names))
        lists[f"train_{percent}percent.txt"] = sorted(evenly[:count])
    folder.mkdir()
    for file, lines in lists.items():
        text = "".join(f"{line}\n" for line in lines)
        (folder / file).write_text(text, encoding="utf-8")
