"""Things whose kinds lie in three sets without a common one, for few-shot: mini-ImageNet's role.

Base kinds have shapes from the front of the list, where ``things`` takes its own; novel kinds those
at its end, which ``things`` leaves out unless told otherwise; validation kinds those before them.
So a backbone that was pretrained on ``things``, or on the base kinds here, has seen no novel shape.

The labels have the form of WordNet's, as the lists and folders of mini-ImageNet have them;
``kinds.csv`` says what each shows.
"""

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from whytransfer.core.config import Config as _Config
from whytransfer.core.streams import Stream
from whytransfer.data.formats.mini_imagenet import PHASES, PICKLE
from whytransfer.data.world import things
from whytransfer.data.world._factors import Rendered
from whytransfer.data.world._shapes import SHAPES
from whytransfer.data.world._surfaces import SURFACES
from whytransfer.data.world._writing import FactorsFile, write_jpeg, write_world

__all__ = ["DATASET", "FORMAT", "Config", "Kind", "dataset", "kinds", "render", "write"]

FORMAT = "mini_imagenet"
DATASET: dict[str, Any] = {"format": FORMAT, "form": "csv"}

Set = Literal["train", "val", "test"]


class Config(_Config):
    """How many kinds and pictures there are.

    Attributes:
        num_base: Shapes of the base kinds, ``train``.
        num_validation: Shapes of the validation kinds, ``val``.
        num_novel: Shapes of the novel kinds, ``test``.
        label: What makes a kind: a shape, whose surfaces take turns, or a shape with one surface.
        per_kind: Pictures of each kind.
        apart: Of those, how many of each base kind the pickles keep apart; the other forms leave
            that to who reads them.
        size_px: Height and width.
        layout: The form of mini-ImageNet that is written.
    """

    num_base: int = Field(14, ge=1)
    num_validation: int = Field(5, ge=1)
    num_novel: int = Field(5, ge=1)
    label: Literal["shape", "shape+surface"] = "shape"
    per_kind: int = Field(60, ge=2, lt=100_000)
    apart: int = Field(6, ge=1)
    size_px: int = Field(64, ge=32, le=1024)
    layout: Literal["csv", "pickle", "folders"] = "csv"

    @model_validator(mode="after")
    def _fits(self) -> Self:
        total = self.num_base + self.num_validation + self.num_novel
        if total > len(SHAPES):
            raise ValueError(f"{total} shapes are asked for, there are {len(SHAPES)}")
        if self.apart >= self.per_kind:
            raise ValueError("apart leaves no picture of a base kind; make it less than per_kind")
        return self


@dataclass(frozen=True)
class Kind:
    """A kind of things.

    Attributes:
        number: Counted through all sets, from 0.
        set: The set it is in.
        label: Its class, in the form of WordNet's numbers.
        shape: The shape of its pictures.
        surface: Their surface; ``None`` where surfaces take turns.
    """

    number: int
    set: Set
    label: str
    shape: str
    surface: str | None


def dataset(config: Config) -> dict[str, Any]:
    """Returns the fields that a reader of what is written needs beside the folder."""
    return {"format": FORMAT, "form": config.layout}


def kinds(config: Config) -> tuple[Kind, ...]:
    """Lists all kinds: base, validation, novel."""
    end = len(SHAPES)
    first_novel = end - config.num_novel
    shapes: dict[Set, tuple[str, ...]] = {
        "train": SHAPES[: config.num_base],
        "val": SHAPES[first_novel - config.num_validation : first_novel],
        "test": SHAPES[first_novel:],
    }
    surfaces = (None,) if config.label == "shape" else SURFACES
    drawn = [
        (name, shape, surface)
        for name, found in shapes.items()
        for shape in found
        for surface in surfaces
    ]
    return tuple(
        Kind(number, name, f"n9{number:07d}", shape, surface)
        for number, (name, shape, surface) in enumerate(drawn)
    )


def render(config: Config, kind: Kind, seed: int, number: int) -> Rendered:
    """Renders one picture of a kind: a function of what it shows, seed and number alone."""
    surface = kind.surface or SURFACES[number % len(SURFACES)]
    stream = Stream(seed, f"world.novelties/{kind.shape}/{surface}", number)
    pictures = things.Config(size_px=config.size_px)
    return things.portray(stream, pictures, kind.label, kind.shape, surface)


def write(root: Path, config: Config, seed: int) -> None:
    """Writes the pictures in the chosen form of mini-ImageNet, ``kinds.csv`` and the sidecars."""
    write_world(root, "novelties", config, seed)
    every = kinds(config)
    lines = [f"{kind.label},{kind.set},{kind.shape},{kind.surface or 'any'}\n" for kind in every]
    (root / "kinds.csv").write_text("".join(["label,set,shape,surface\n", *lines]))
    with FactorsFile(root) as factors:
        if config.layout == "pickle":
            _write_pickles(root, config, seed, factors)
        else:
            _write_files(root, config, seed, factors)
    if config.layout == "csv":
        for name in ("train", "val", "test"):
            found = [(k, n) for k in every if k.set == name for n in range(config.per_kind)]
            rows = [f"{_file(kind, number)},{kind.label}\n" for kind, number in found]
            (root / f"{name}.csv").write_text("".join(["filename,label\n", *rows]))


def _file(kind: Kind, number: int) -> str:
    """Names a picture as mini-ImageNet does: the label, then its place in the class, from 1."""
    return f"{kind.label}{number + 1:08d}.jpg"


def _write_files(root: Path, config: Config, seed: int, factors: FactorsFile) -> None:
    for kind in kinds(config):
        folder = Path("images") if config.layout == "csv" else Path(kind.set, kind.label)
        for number in range(config.per_kind):
            rendered = render(config, kind, seed, number)
            path = folder / _file(kind, number)
            write_jpeg(root / path, rendered.image)
            factors.add(path, number, rendered)


def _write_pickles(root: Path, config: Config, seed: int, factors: FactorsFile) -> None:
    for name, found in _phases(config).items():
        images: list[NDArray[np.uint8]] = []
        labels: list[int] = []
        for kind, number in found:
            rendered = render(config, kind, seed, number)
            factors.add(Path(PICKLE.format(name)), number, rendered)
            images.append(rendered.image)
            labels.append(kind.number)
        content = {"data": np.stack(images), "labels": labels}
        # The second protocol, which is Python 2's, as the published files have it.
        (root / PICKLE.format(name)).write_bytes(pickle.dumps(content, protocol=2))


def _phases(config: Config) -> dict[str, list[tuple[Kind, int]]]:
    """Lists the pictures of each pickle; the last ones of each base kind are kept apart."""
    kept = config.per_kind - config.apart
    ranges = {
        PHASES[0]: ("train", range(kept)),
        PHASES[1]: ("train", range(kept, config.per_kind)),
        "val": ("val", range(config.per_kind)),
        "test": ("test", range(config.per_kind)),
    }
    return {
        phase: [(kind, n) for kind in kinds(config) if kind.set == name for n in numbers]
        for phase, (name, numbers) in ranges.items()
    }
