"""Rendered faces with an identity, five landmarks and attributes: CelebA's role.

An identity fixes shape and colour of a face; pose, light, expression, hair style, glasses,
clothes and background vary from picture to picture. As in CelebA, the identities of ``train``,
``val`` and ``test`` differ, unless ``test_identities`` says otherwise, for a readout of identity.
MAFL's two lists can be written beside it, of pictures from all three partitions.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from whytransfer.core.config import Config as _Config
from whytransfer.core.streams import Stream
from whytransfer.data.world._face import (
    LANDMARKS,
    FaceFactors,
    Identity,
    draw_face,
    draw_identity,
    paint_face,
)
from whytransfer.data.world._writing import FIRST_TEST_INDEX, FactorsFile, write_jpeg, write_world

__all__ = [
    "ATTRIBUTES",
    "DATASET",
    "FORMAT",
    "LANDMARKS",
    "Config",
    "FaceFactors",
    "Identity",
    "RenderedFace",
    "attributes",
    "dataset",
    "identity",
    "render",
    "write",
]

FORMAT = "celeba"
DATASET: dict[str, Any] = {"format": FORMAT}

ATTRIBUTES = (
    "Bald", "Big_Nose", "Black_Hair", "Blond_Hair", "Brown_Hair", "Bushy_Eyebrows", "Eyeglasses",
    "Gray_Hair", "Mouth_Slightly_Open", "Narrow_Eyes", "Smiling", "Wearing_Lipstick",
)  # fmt: skip
"""Those of CelebA's 40 attributes that the world knows of a face."""

_VAL_INDEX = FIRST_TEST_INDEX >> 1
_PARTS = ("train", "val", "test")
_WILD_MARGIN = 0.15


class Config(_Config):
    """What the pictures show and how many there are.

    Attributes:
        num_train: Pictures of partition 0.
        num_val: Pictures of partition 1.
        num_test: Pictures of partition 2.
        num_identities: People in ``train``; ``val`` and ``test`` have a quarter as many each.
        test_identities: Whether the people of ``val`` and ``test`` are others than those of
            ``train``, as in CelebA, or the same.
        width_px: Width; CelebA's aligned pictures have 178.
        height_px: Height; CelebA's 218.
        max_yaw: Largest turn of the head either way; 1 is about half a profile.
        layout: Where the files lie: torchvision's folder, or that of the official archive, which
            holds the uncropped pictures as well.
        num_mafl_train: Pictures, of all partitions, that MAFL's training list names.
        num_mafl_test: Others that its test list names; with 0 of either there are no lists. The
            format ``mafl`` reads them, of the same files.
    """

    num_train: int = Field(1600, ge=1)
    num_val: int = Field(200, ge=1)
    num_test: int = Field(400, ge=1)
    num_identities: int = Field(100, ge=2)
    test_identities: Literal["new", "known"] = "new"
    width_px: int = Field(89, ge=40, le=712)
    height_px: int = Field(109, ge=48, le=872)
    max_yaw: float = Field(0.5, ge=0, le=1)
    layout: Literal["torchvision", "official"] = "torchvision"
    num_mafl_train: int = Field(0, ge=0)
    num_mafl_test: int = Field(0, ge=0)

    @property
    def num_pictures(self) -> int:
        """Counts the pictures of all partitions."""
        return self.num_train + self.num_val + self.num_test

    @model_validator(mode="after")
    def _lists_can_be_filled(self) -> Self:
        train, test, there = self.num_mafl_train, self.num_mafl_test, self.num_pictures
        if bool(train) != bool(test) or train + test > there:
            raise ValueError(
                f"num_mafl_train {train} and num_mafl_test {test}: both or neither, and together "
                f"at most the {there} pictures"
            )
        return self


def dataset(config: Config) -> dict[str, Any]:
    """Returns the fields that a reader of what is written needs beside the folder."""
    return {**DATASET, "layout": config.layout}


@dataclasses.dataclass(frozen=True)
class RenderedFace:
    """A picture and everything that it was made from.

    Attributes:
        image: (H, W, 3) uint8, RGB.
        factors: What varies from picture to picture, landmarks included.
        look: What the identity fixes.
    """

    image: NDArray[np.uint8]
    factors: FaceFactors
    look: Identity


def identity(config: Config, index: int) -> int:
    """Returns a picture's identity, from 1 as CelebA counts: people take turns with the index."""
    if index < _VAL_INDEX or config.test_identities == "known":
        number = index % _VAL_INDEX
        return 1 + number % config.num_identities
    few = (config.num_identities + 3) // 4
    first = config.num_identities + (few if index >= FIRST_TEST_INDEX else 0)
    return 1 + first + index % few


def render(config: Config, seed: int, index: int) -> RenderedFace:
    """Renders one picture: a function of (config, seed, index) alone, on any machine.

    Counts and layout do not reach the pixels, but for ``num_identities``, which says whose turn
    it is.
    """
    number = identity(config, index)
    look = draw_identity(Stream(seed, "world.faces.identity", number))
    stream = Stream(seed, "world.faces", index)
    size = (config.height_px, config.width_px)
    factors = draw_face(stream, number, size, config.max_yaw)
    canvas, landmarks = paint_face(look, factors, size)
    placed = dataclasses.replace(factors, landmarks=landmarks)
    return RenderedFace(canvas.developed(stream), placed, look)


def attributes(face: RenderedFace) -> dict[str, bool]:
    """Says which of ``ATTRIBUTES`` are true of a face."""
    look, factors = face.look, face.factors
    bald = factors.hair == "bald"
    values = {f"{name}_Hair": look.hair_name == name and not bald for name in _HAIR_NAMES}
    values |= {
        "Bald": bald,
        "Big_Nose": look.nose_width > 0.215,
        "Bushy_Eyebrows": look.brow_thickness > 0.065,
        "Eyeglasses": factors.glasses,
        "Mouth_Slightly_Open": factors.mouth_open > 0.25,
        "Narrow_Eyes": look.eye_height < 0.085,
        "Smiling": factors.smile > 0.4,
        "Wearing_Lipstick": factors.lipstick,
    }
    return {name: values[name] for name in ATTRIBUTES}


_HAIR_NAMES = ("Black", "Blond", "Brown", "Gray")


def write(root: Path, config: Config, seed: int) -> None:
    """Writes pictures, CelebA's lists in the chosen layout, and the sidecars.

    Landmarks are written as CelebA does, as the whole numbers of the pixel that they lie in; the
    exact ones are in ``factors.jsonl``.
    """
    write_world(root, "faces", config, seed)
    lists = _Lists()
    files = _LAYOUTS[config.layout]
    with FactorsFile(root) as sidecar:
        for number, (part, index) in enumerate(_indices(config), start=1):
            face = render(config, seed, index)
            name = f"{number:06d}.jpg"
            path = Path(files["aligned"], name)
            write_jpeg(root / path, face.image)
            wild, corner = _uncropped(face.image, Stream(seed, "world.faces.wild", index))
            if "wild" in files:
                write_jpeg(root / files["wild"] / name, wild)
            lists.add(name, part, face, corner)
            factors = {"look": dataclasses.asdict(face.look), **dataclasses.asdict(face.factors)}
            sidecar.add_factors(path, index, **factors)
    for kind, text in lists.texts().items():
        if kind in files:
            file = root / files[kind]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
    if config.num_mafl_test:
        _write_mafl(root / files["mafl"], config, seed)


def _write_mafl(folder: Path, config: Config, seed: int) -> None:
    """Writes MAFL's lists of pictures that are drawn from all partitions, each list sorted."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = 1 + Stream(seed, "world.faces.mafl").permutation(config.num_pictures)
    ends = (config.num_mafl_train, config.num_mafl_train + config.num_mafl_test)
    for name, numbers in zip(("training", "testing"), np.split(drawn, ends), strict=False):
        text = "".join(f"{number:06d}.jpg\n" for number in sorted(numbers.tolist()))
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")


_LAYOUTS = {
    "torchvision": {
        "aligned": "celeba/img_align_celeba",
        "identity": "celeba/identity_CelebA.txt",
        "partition": "celeba/list_eval_partition.txt",
        "attributes": "celeba/list_attr_celeba.txt",
        "boxes": "celeba/list_bbox_celeba.txt",
        "aligned landmarks": "celeba/list_landmarks_align_celeba.txt",
        "mafl": "celeba/MAFL",
    },
    "official": {
        "aligned": "Img/img_align_celeba",
        "wild": "Img/img_celeba",
        "identity": "Anno/identity_CelebA.txt",
        "partition": "Eval/list_eval_partition.txt",
        "attributes": "Anno/list_attr_celeba.txt",
        "boxes": "Anno/list_bbox_celeba.txt",
        "aligned landmarks": "Anno/list_landmarks_align_celeba.txt",
        "wild landmarks": "Anno/list_landmarks_celeba.txt",
        "mafl": "MAFL",
    },
}


def _indices(config: Config) -> Iterator[tuple[int, int]]:
    counts = (config.num_train, config.num_val, config.num_test)
    for part, (first, count) in enumerate(
        zip((0, _VAL_INDEX, FIRST_TEST_INDEX), counts, strict=True)
    ):
        yield from ((part, first + number) for number in range(count))


def _uncropped(image: NDArray[np.uint8], stream: Stream) -> tuple[NDArray[np.uint8], list[int]]:
    """A larger picture that the aligned one is cut from, and where: (x, y) of its corner."""
    most = max(2, int(_WILD_MARGIN * image.shape[1]))
    left, top, right, bottom = (1 + stream.integers(4, most)).tolist()
    return np.pad(image, ((top, bottom), (left, right), (0, 0)), mode="edge"), [left, top]


class _Lists:
    """The lines of CelebA's text files."""

    def __init__(self) -> None:
        self._rows: dict[str, list[str]] = {
            kind: [] for kind in _LAYOUTS["official"] if kind not in ("aligned", "wild", "mafl")
        }

    def add(self, name: str, part: int, face: RenderedFace, corner: list[int]) -> None:
        """Adds a picture to every list; ``corner`` is its place in the uncropped picture."""
        points = [[int(x), int(y)] for x, y in face.factors.landmarks]
        moved = [[x + corner[0], y + corner[1]] for x, y in points]
        height, width = face.image.shape[:2]
        rows = self._rows
        rows["identity"].append(f"{name} {face.factors.identity}")
        rows["partition"].append(f"{name} {part}")
        marks = " ".join(f"{1 if true else -1:2d}" for true in attributes(face).values())
        rows["attributes"].append(f"{name} {marks}")
        rows["boxes"].append(f"{name}  {corner[0]}  {corner[1]}  {width}  {height}")
        for kind, places in (("aligned landmarks", points), ("wild landmarks", moved)):
            row = "  ".join(f"{x}  {y}" for x, y in places)
            rows[kind].append(f"{name}  {row}")

    def texts(self) -> dict[str, str]:
        """Joins the lines; all but identity and partition have a count and a line of names."""
        headers = {
            "attributes": " ".join(ATTRIBUTES),
            "boxes": "image_id x_1 y_1 width height",
            "aligned landmarks": _POINT_NAMES,
            "wild landmarks": _POINT_NAMES,
        }
        return {
            kind: "".join(f"{line}\n" for line in _headed(rows, headers.get(kind)))
            for kind, rows in self._rows.items()
        }


_POINT_NAMES = " ".join(f"{name}_{axis}" for name in LANDMARKS for axis in "xy")


def _headed(rows: list[str], header: str | None) -> list[str]:
    return rows if header is None else [str(len(rows)), header, *rows]
