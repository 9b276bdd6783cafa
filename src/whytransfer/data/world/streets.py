"""Street scenes with the class and the object of every pixel: SYNTHIA's role, and Cityscapes'.

Either pictures of unrelated streets, as SYNTHIA-RAND-CITYSCAPES, or drives along a street seen by
two cameras, as the SYNTHIA sequences; or unrelated streets of some cities in two splits, with the
bonnet of the camera's car, as Cityscapes. Pictures, masks and numbers of objects come from the same
strokes, so the masks are exact.
"""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from whytransfer.core.config import Config as _Config
from whytransfer.core.streams import Stream
from whytransfer.data.world._city import (
    FIRST_TRAIN_STREET,
    INSTANCES_PER_LABEL,
    TRAIN_CITIES,
    VAL_CITIES,
    CityPicture,
    as_cityscapes,
    frame_name,
)
from whytransfer.data.world._street import (
    CELL_M,
    CLASSES,
    FAR_M,
    NEAR_M,
    StreetPainter,
    StreetScene,
    Thing,
    cell_things,
    draw_scene,
    traffic,
)
from whytransfer.data.world._street_things import paint_thing
from whytransfer.data.world._writing import FIRST_TEST_INDEX, FactorsFile, write_world

__all__ = [
    "CLASSES",
    "DATASET",
    "FORMAT",
    "CityPicture",
    "Config",
    "RenderedStreet",
    "Seen",
    "StreetScene",
    "city_picture",
    "dataset",
    "render",
    "write",
]

FORMAT = "synthia"
DATASET: dict[str, Any] = {"format": FORMAT}

SEQUENCE_CLASSES = {"motorcycle": 11, "rider": 11, "bus": 8, "wall": 5, "lane marking": 12}
"""Where the sequences' numbers differ: they know cyclists, and no buses or walls of their own."""

_STEP_M = 1.0
_SMALL_M = 75.0
_LONG = ("house", "wall", "fence")
_EYES_M = 0.8


class Config(_Config):
    """What the pictures show and how many there are.

    Attributes:
        num_images: Pictures of unrelated streets, or frames of all sequences together; in the
            layout of Cityscapes the pictures of ``train``.
        num_val: Pictures of ``val`` in that layout; elsewhere of no use.
        width_px: Width; SYNTHIA's pictures have 1280, Cityscapes' 2048.
        height_px: Height; SYNTHIA's 760, Cityscapes' 1024.
        layout: RAND-CITYSCAPES, sequences with a left and a right camera, or Cityscapes.
        frames: Frames of one sequence, per camera.
    """

    num_images: int = Field(300, ge=2)
    num_val: int = Field(60, ge=1)
    width_px: int = Field(192, ge=64, le=2048)
    height_px: int = Field(114, ge=48, le=1024)
    layout: Literal["rand_cityscapes", "sequences", "cityscapes"] = "rand_cityscapes"
    frames: int = Field(20, ge=2, le=1000)


def dataset(config: Config) -> dict[str, Any]:
    """Returns the fields that a reader of what is written needs beside the folder."""
    if config.layout == "cityscapes":
        return {"format": "cityscapes"}
    return {**DATASET, "layout": config.layout}


@dataclass(frozen=True)
class Seen:
    """An object of which something is to be seen.

    Attributes:
        instance: Its number in the picture, the same throughout a sequence.
        category: The name of its class.
        place_m: Its place from the camera: (x to the right of the road's middle, z ahead).
        num_pixels: Pixels where it is to be seen.
        box_xyxy: Their bounds: absolute pixels, continuous, 0-based.
    """

    instance: int
    category: str
    place_m: tuple[float, float]
    num_pixels: int
    box_xyxy: tuple[float, float, float, float]


@dataclass(frozen=True)
class RenderedStreet:
    """A picture and everything that it was made from.

    Attributes:
        image: (H, W, 3) uint8, RGB.
        labels: (H, W) uint8 numbers of RAND-CITYSCAPES' classes.
        instances: (H, W) uint16 number of the object, 0 for none.
        objects: Cars, people and the like that are to be seen.
        scene: The street.
    """

    image: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    instances: NDArray[np.uint16]
    objects: tuple[Seen, ...]
    scene: StreetScene


def render(
    config: Config, seed: int, street: int, frame: int = 0, eye: float = 0.0
) -> RenderedStreet:
    """Renders one picture: a function of its arguments alone, on any machine.

    Args:
        config: Only the size reaches the pixels.
        seed: Of the world.
        street: Number of the street.
        frame: How many metres the camera has driven along it.
        eye: How far the camera stands to the right of the middle of its car, in metres.
    """
    scene = draw_scene(Stream(seed, "world.streets.scene", street))
    key = int(Stream(seed, "world.streets.key", street).raw(1)[0] >> np.uint64(24))
    camera_z = frame * _STEP_M
    painter = StreetPainter(scene, (config.height_px, config.width_px), scene.camera_m[0] + eye)
    painter.ground(camera_z, key % 65536)
    placed = list(_placed(scene, key, frame))
    for thing, z in sorted(placed, key=_far_end, reverse=True):
        paint_thing(painter, thing, z)
    stream = Stream(seed, "world.streets", street, frame, int(eye > 0))
    image = painter.canvas.developed(stream)
    return RenderedStreet(image, painter.labels, painter.instances, _seen(painter, placed), scene)


def _far_end(placed: tuple[Thing, float]) -> float:
    """What stands along the pavement is behind all that stands on it, a hedge behind a fence."""
    thing, z = placed
    if thing.kind in _LONG:
        return z + CELL_M
    return z + 0.6 * CELL_M if thing.kind == "hedge" else z


def _placed(scene: StreetScene, key: int, frame: int) -> Iterator[tuple[Thing, float]]:
    """Yields what may be in sight, with its distance from the camera."""
    camera_z = frame * _STEP_M
    first = int((camera_z + NEAR_M) // CELL_M)
    for cell in range(first - 1, first + int(FAR_M // CELL_M)):
        for thing in cell_things(scene, key, cell):
            z = thing.z - camera_z
            is_long = thing.kind in _LONG and z + CELL_M > NEAR_M
            if is_long or NEAR_M + 0.5 < z < _SMALL_M:
                yield thing, z
    for thing in traffic(scene, key, frame):
        if NEAR_M + 2 < thing.z < _SMALL_M:
            yield thing, thing.z


def _seen(painter: StreetPainter, placed: list[tuple[Thing, float]]) -> tuple[Seen, ...]:
    names = {number: name for name, number in CLASSES.items()}
    places = {thing.instance: (thing.x, z) for thing, z in placed}
    numbers = np.unique(painter.instances)
    seen = []
    for number in numbers[numbers > 0].tolist():
        mask = painter.instances == number
        category = names[int(painter.labels[mask][0])]
        place = places.get(number) or places[number - 1]
        seen.append(_seen_as(mask, Seen(number, category, place, 0, (0.0, 0.0, 0.0, 0.0))))
    return tuple(seen)


def _seen_as(mask: NDArray[np.bool_], seen: Seen) -> Seen:
    """Returns an object with the number and the bounds of the pixels where it is to be seen."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    left, top, right, bottom = (float(edge) for edge in box)
    count = int(np.count_nonzero(mask))
    return dataclasses.replace(seen, num_pixels=count, box_xyxy=(left, top, right, bottom))


def city_picture(rendered: RenderedStreet) -> tuple[CityPicture, tuple[Seen, ...]]:
    """Returns a rendered street as Cityscapes has it, and its objects under the numbers there."""
    picture = as_cityscapes(rendered.image, rendered.labels, rendered.instances)
    objects = []
    for seen in rendered.objects:
        # What the bonnet hides has lost its number.
        mask = (rendered.instances == seen.instance) & (picture.instance_ids >= INSTANCES_PER_LABEL)
        if mask.any():
            number = int(picture.instance_ids[mask][0])
            objects.append(_seen_as(mask, dataclasses.replace(seen, instance=number)))
    return picture, tuple(objects)


def write(root: Path, config: Config, seed: int) -> None:
    """Writes pictures, label files and the sidecars, in the chosen layout.

    SYNTHIA's is ``RGB`` and ``GT/LABELS``; a label file is a PNG of three 16-bit channels: class,
    object, 0 in the order red, green, blue, so that OpenCV finds the class last. Cityscapes' is
    ``leftImg8bit`` and ``gtFine`` with ``labelIds`` and ``instanceIds``.
    """
    write_world(root, "streets", config, seed)
    with FactorsFile(root) as sidecar:
        if config.layout == "cityscapes":
            _write_cities(root, config, seed, sidecar)
        else:
            _write_synthia(root, config, seed, sidecar)


def _write_synthia(root: Path, config: Config, seed: int, sidecar: FactorsFile) -> None:
    for number, (name, street, frame, eye) in enumerate(_pictures(config)):
        rendered = render(config, seed, street, frame, eye)
        folder, file = name.rsplit("/", 1)
        below, _, rest = folder.partition("RGB")
        labels = rendered.labels
        if config.layout == "sequences":
            labels = _sequence_numbers(labels)
        _write_png(root / name, rendered.image[:, :, ::-1])
        planes = (np.zeros_like(rendered.instances), rendered.instances, labels)
        stacked = np.stack([plane.astype(np.uint16) for plane in planes], axis=2)
        _write_png(root / f"{below}GT/LABELS{rest}" / file, stacked)
        sidecar.add_factors(
            Path(name),
            number,
            street=street,
            frame=frame,
            eye_m=eye,
            scene=dataclasses.asdict(rendered.scene),
            objects=[dataclasses.asdict(thing) for thing in rendered.objects],
        )


def _write_cities(root: Path, config: Config, seed: int, sidecar: FactorsFile) -> None:
    parts = (
        ("train", TRAIN_CITIES, FIRST_TRAIN_STREET, config.num_images),
        ("val", VAL_CITIES, FIRST_TEST_INDEX, config.num_val),
    )
    for part, cities, first_street, count in parts:
        for number in range(count):
            street = first_street + number
            rendered = render(config, seed, street)
            picture, objects = city_picture(rendered)
            frame = f"{part}/{frame_name(number, cities)}"
            name = Path("leftImg8bit", f"{frame}_leftImg8bit.png")
            _write_png(root / name, picture.image[:, :, ::-1])
            _write_png(root / f"gtFine/{frame}_gtFine_labelIds.png", picture.label_ids)
            _write_png(root / f"gtFine/{frame}_gtFine_instanceIds.png", picture.instance_ids)
            sidecar.add_factors(
                name,
                number,
                street=street,
                scene=dataclasses.asdict(rendered.scene),
                objects=[dataclasses.asdict(thing) for thing in objects],
            )


def _pictures(config: Config) -> Iterator[tuple[str, int, int, float]]:
    """Yields file, street, frame and the camera's offset."""
    if config.layout == "rand_cityscapes":
        yield from ((f"RGB/{n:07d}.png", n, 0, 0.0) for n in range(config.num_images))
        return
    for number in range(config.num_images):
        pair, right = divmod(number, 2)
        street, frame = divmod(pair, config.frames)
        camera = "Stereo_Right" if right else "Stereo_Left"
        folder = f"SYNTHIA-SEQS-{street + 1:02d}-WORLD/RGB/{camera}/Omni_F"
        yield f"{folder}/{frame:06d}.png", street, frame, _EYES_M * (right - 0.5)


def _sequence_numbers(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    table = np.arange(256, dtype=np.uint8)
    for name, number in SEQUENCE_CLASSES.items():
        table[CLASSES[name]] = number
    return np.asarray(table[labels])


def _write_png(path: Path, pixels: NDArray[Any]) -> None:
    written, data = cv2.imencode(".png", pixels)
    if not written:
        raise OSError(f"{path}: PNG encoding failed")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.tobytes())
