"""Several objects per picture, some behind others or cut off, with boxes: the role of VOC and COCO.

The detection class is the shape. Written as VOC, a box is that of the whole silhouette; as COCO,
with the mask of what is to be seen, it is that mask's. Some shapes are also those of ``things``,
some are new to a backbone that was pretrained there; backgrounds, light and surfaces are drawn as
there.
"""

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from whytransfer.core.config import Config as _Config
from whytransfer.core.streams import Stream
from whytransfer.data.world._coco import Instances
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
from whytransfer.data.world._writing import (
    FIRST_LATER_INDEX,
    FIRST_TEST_INDEX,
    FactorsFile,
    write_jpeg,
    write_world,
)

__all__ = [
    "DATASET",
    "FORMAT",
    "Background",
    "Config",
    "Figure",
    "ObjectFactors",
    "Rendered",
    "annotation",
    "classes",
    "dataset",
    "render",
    "write",
]

FORMAT = "voc"
DATASET: dict[str, Any] = {"format": FORMAT, "classes": "infer"}

_YEARS = ("2007", "2012")

_NUM_TRIES = 12
_NEAREST = 0.3
_MARGIN = 0.5


class Config(_Config):
    """What the pictures show and how many there are.

    Attributes:
        num_train: Pictures of ``trainval``; the first half are ``train``, the rest ``val``.
        num_test: Pictures of ``test``.
        num_train_2012: In VOC's layout, further pictures: the ``trainval`` of 2012. The other
            pictures are the same with them and without.
        size_px: Height and width.
        num_shared_shapes: Shapes from the front of ``SHAPES``, where ``things`` takes its own.
        num_new_shapes: Shapes from the back of ``SHAPES``, which ``things`` leaves out unless
            told otherwise.
        min_objects: Fewest objects that are drawn.
        max_objects: Most objects; one that finds no place among the others is left out.
        num_backgrounds: Backgrounds in use, shared by all pictures.
        min_radius: Smallest object radius, as a share of the picture's side.
        max_radius: Largest object radius.
        max_turn: Largest rotation either way, in turns.
        layout: The devkit of VOC 2007, or the folders of COCO 2017 with masks.
    """

    num_train: int = Field(500, ge=2)
    num_test: int = Field(500, ge=1)
    num_train_2012: int = Field(0, ge=0)
    size_px: int = Field(96, ge=48, le=1024)
    num_shared_shapes: int = Field(4, ge=0, le=len(SHAPES))
    num_new_shapes: int = Field(4, ge=0, le=len(SHAPES))
    min_objects: int = Field(2, ge=1, le=12)
    max_objects: int = Field(5, ge=1, le=12)
    num_backgrounds: int = Field(4, ge=1, le=len(BACKGROUNDS))
    min_radius: float = Field(0.14, ge=0.08, le=0.45)
    max_radius: float = Field(0.27, ge=0.08, le=0.45)
    max_turn: float = Field(0.125, ge=0, le=0.5)
    layout: Literal["voc", "coco"] = "voc"

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.min_radius > self.max_radius:
            raise ValueError("min_radius is larger than max_radius")
        if self.min_objects > self.max_objects:
            raise ValueError("min_objects is larger than max_objects")
        num_classes = self.num_shared_shapes + self.num_new_shapes
        if not 1 <= num_classes <= len(SHAPES):
            raise ValueError(
                f"num_shared_shapes + num_new_shapes is {num_classes}, there are {len(SHAPES)}"
            )
        if min(self.num_train, self.num_test) < num_classes:
            raise ValueError(f"{num_classes} classes need at least as many pictures in each set")
        if self.num_train_2012 and self.layout != "voc":
            raise ValueError("num_train_2012 goes with layout: voc, and with no other")
        return self


def dataset(config: Config) -> dict[str, Any]:
    """Returns the fields that a reader of what is written needs beside the folder."""
    if config.layout == "coco":
        return {"format": "coco"}
    years = [f"{year}_trainval" for year in _YEARS[: 1 + bool(config.num_train_2012)]]
    return DATASET | ({"train": years} if len(years) > 1 else {})


def classes(config: Config) -> tuple[str, ...]:
    """Lists the detection classes, sorted."""
    new = SHAPES[len(SHAPES) - config.num_new_shapes :]
    return tuple(sorted((*SHAPES[: config.num_shared_shapes], *new)))


def render(config: Config, seed: int, index: int) -> Rendered:
    """Renders one picture: a function of (config, seed, index) alone, on any machine.

    The foremost object's class takes turns with the index, so a set of as many pictures as classes
    shows each; the others' are drawn. ``num_train`` and ``num_test`` do not reach the pixels.
    """
    stream = Stream(seed, "world.crowds", index)
    background = draw_background(stream, config.num_backgrounds)
    shapes = classes(config)
    figures = []
    poses = _draw_poses(stream, config)
    for number, pose in enumerate(poses, start=1):
        drawn = stream.integer(len(shapes))
        shape = shapes[index % len(shapes) if number == len(poses) else drawn]
        surface = SURFACES[stream.integer(len(SURFACES))]
        figures.append(draw_figure(stream, shape, shape, surface, pose))
    return compose(figures, background, config.size_px, stream)


def _draw_poses(stream: Stream, config: Config) -> list[Pose]:
    """Draws poses whose centres keep apart: objects may overlap, and cross the picture's edge."""
    count = config.min_objects + stream.integer(config.max_objects - config.min_objects + 1)
    poses: list[Pose] = []
    for _ in range(count):
        radius, turn = (stream.one(config.min_radius, config.max_radius), stream.one(-1, 1))
        low, high = _MARGIN * radius, 1 - _MARGIN * radius
        places = stream.uniform(2 * _NUM_TRIES, low, high).reshape(_NUM_TRIES, 2).tolist()
        for x, y in places:
            side = config.size_px
            pose = Pose((x * side, y * side), radius * side, turn * config.max_turn)
            if all(_apart(pose, other) for other in poses):
                poses.append(pose)
                break
    return poses


def _apart(one: Pose, other: Pose) -> bool:
    dx = one.centre_xy[0] - other.centre_xy[0]
    dy = one.centre_xy[1] - other.centre_xy[1]
    least = _NEAREST * (one.radius_px + other.radius_px)
    return dx * dx + dy * dy >= least * least


def annotation(name: str, rendered: Rendered, year: str = _YEARS[0]) -> str:
    """Writes a picture's VOC annotation; ``xmin``, ``ymin`` are 1-based, all four inclusive.

    Source: VOC2007 development kit, section 6.1 and the annotation files themselves.
    """
    height, width, depth = rendered.image.shape
    root = ElementTree.Element("annotation")
    _element(root, "folder", f"VOC{year}")
    _element(root, "filename", f"{name}.jpg")
    size = _element(root, "size")
    for tag, value in (("width", width), ("height", height), ("depth", depth)):
        _element(size, tag, value)
    _element(root, "segmented", 0)
    for factors in rendered.objects:
        node = _element(root, "object")
        _element(node, "name", factors.category)
        _element(node, "pose", "Unspecified")
        _element(node, "truncated", int(factors.truncated))
        _element(node, "difficult", int(factors.difficult))
        left, top, right, bottom = (int(edge) for edge in factors.box_xyxy)
        corners = (("xmin", left + 1), ("ymin", top + 1), ("xmax", right), ("ymax", bottom))
        box = _element(node, "bndbox")
        for tag, value in corners:
            _element(box, tag, value)
    ElementTree.indent(root, "\t")
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def _element(parent: ElementTree.Element, tag: str, value: object = "") -> ElementTree.Element:
    element = ElementTree.SubElement(parent, tag)
    element.text = str(value)
    return element


def write(root: Path, config: Config, seed: int) -> None:
    """Writes the pictures and their annotations in the chosen layout, and the sidecars.

    VOC's is ``VOC2007/{Annotations,ImageSets/Main,JPEGImages}`` and, where it is asked for, the
    same for 2012 without ``test``; COCO's is ``{train,val}2017`` and
    ``annotations/instances_{train,val}2017.json``.
    """
    write_world(root, "crowds", config, seed)
    if config.layout == "voc":
        _write_voc(root, config, seed)
    else:
        _write_coco(root, config, seed)


def _indices(config: Config) -> list[int]:
    return [*range(config.num_train), *(FIRST_TEST_INDEX + i for i in range(config.num_test))]


def _write_voc(root: Path, config: Config, seed: int) -> None:
    """Writes 2007 and, if it has any picture, 2012, whose names begin with the year as VOC's do."""
    later = range(FIRST_LATER_INDEX, FIRST_LATER_INDEX + config.num_train_2012)
    indices = {"2007": _indices(config), "2012": list(later)}
    names = {
        year: [f"{prefix}{number:06d}" for number in range(1, len(indices[year]) + 1)]
        for year, prefix in zip(_YEARS, ("", "2012_"), strict=True)
    }
    with FactorsFile(root) as factors:
        for year in filter(indices.get, _YEARS):
            devkit = root / f"VOC{year}"
            (devkit / "Annotations").mkdir(parents=True)
            for name, index in zip(names[year], indices[year], strict=True):
                rendered = render(config, seed, index)
                path = Path(devkit.name, "JPEGImages", f"{name}.jpg")
                write_jpeg(root / path, rendered.image)
                text = annotation(name, rendered, year)
                (devkit / "Annotations" / f"{name}.xml").write_text(text, encoding="utf-8")
                factors.add(path, index, rendered)
            num_train = config.num_train if year == _YEARS[0] else config.num_train_2012
            _write_image_sets(devkit / "ImageSets" / "Main", names[year], num_train)


def _write_coco(root: Path, config: Config, seed: int) -> None:
    contents = {part: Instances(classes(config)) for part in ("train", "val")}
    with FactorsFile(root) as factors:
        for number, index in enumerate(_indices(config), start=1):
            part = "train" if index < FIRST_TEST_INDEX else "val"
            rendered = render(config, seed, index)
            path = Path(f"{part}2017", f"{number:012d}.jpg")
            write_jpeg(root / path, rendered.image)
            contents[part].add(number, path.name, rendered.image.shape[:2], rendered.objects)
            factors.add(path, index, rendered)
    (root / "annotations").mkdir()
    for part, instances in contents.items():
        file = root / "annotations" / f"instances_{part}2017.json"
        file.write_text(json.dumps(instances.content()), encoding="utf-8")


def _write_image_sets(folder: Path, names: list[str], num_train: int) -> None:
    folder.mkdir(parents=True)
    half = (num_train + 1) // 2
    sets = {
        "train": names[:half],
        "val": names[half:num_train],
        "trainval": names[:num_train],
        "test": names[num_train:],
    }
    for set_name, members in ((name, members) for name, members in sets.items() if members):
        text = "".join(f"{member}\n" for member in members)
        (folder / f"{set_name}.txt").write_text(text, encoding="utf-8")
