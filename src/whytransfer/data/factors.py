"""The exact factors of the world's pictures, read from the sidecar that lies beside them.

``factors.jsonl`` has a line per picture that a maker wrote. Makers of single objects and of crowds
say everything that was drawn of each object, so a picture can be rendered again with an object
moved; those of faces, places and streets have factors of their own, which are not read here.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whytransfer.core.errors import InputError
from whytransfer.core.streams import Stream
from whytransfer.data.dataset import Dataset
from whytransfer.data.sample import Source
from whytransfer.data.world._factors import Background, Figure
from whytransfer.data.world._scene import compose

SIDECAR = "factors.jsonl"

_FIGURE = tuple(field.name for field in fields(Figure))
_BACKGROUND = tuple(field.name for field in fields(Background))


@dataclass(frozen=True)
class Drawn:
    """What was drawn of one picture.

    Attributes:
        background: What is behind the objects.
        figures: The objects, back to front.
    """

    background: Background
    figures: tuple[Figure, ...]

    def rendered(self, size_px: int, noise: Stream) -> NDArray[np.uint8]:
        """Renders the picture again, (size_px, size_px, 3), with that noise."""
        return compose(self.figures, self.background, size_px, noise).image


def factors(data: Dataset, source: Source) -> tuple[Drawn, ...] | None:
    """Reads what was drawn of each image of a source, in its order.

    Returns:
        ``None`` where no sidecar lies beside the images, it does not name all of them, or its
        maker's factors are no objects.

    Raises:
        InputError: A line of the sidecar is malformed.
    """
    root = Path(str(getattr(data.config, "root", "")))
    file = root / SIDECAR
    if not file.is_file():
        return None
    wanted = [_below(root, source.path(index)) for index in range(len(source))]
    found = dict(_lines(file, set(wanted)))
    every = [found.get(name) for name in wanted]
    known = tuple(drawn for drawn in every if drawn is not None)
    return known if len(known) == len(every) else None


def moved(
    figure: Figure,
    shift_xy: tuple[float, float] = (0.0, 0.0),
    scale: float = 1.0,
    turn_degrees: float = 0.0,
) -> Figure:
    """Returns an object somewhere else: shifted by pixels, of another size, turned clockwise."""
    x, y = figure.centre_xy
    return replace(
        figure,
        centre_xy=(x + shift_xy[0], y + shift_xy[1]),
        radius_px=figure.radius_px * scale,
        angle_deg=figure.angle_deg + turn_degrees,
    )


def _below(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else ""


def _lines(file: Path, wanted: set[str]) -> Iterator[tuple[str, Drawn | None]]:
    for number, text in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            line = json.loads(text)
            name = line["file"]
            drawn = _drawn(line) if name in wanted else None
        except (ValueError, KeyError, TypeError):
            raise InputError(
                f"{file}, line {number}", "not readable", "the factors of one picture",
                "make the data again, or remove the file to do without factors",
            ) from None  # fmt: skip
        yield name, drawn


def _drawn(line: Mapping[str, Any]) -> Drawn | None:
    """Reads a line whose objects are figures; ``None`` for other makers' lines."""
    objects, background = line.get("objects"), line.get("background")
    if not isinstance(objects, list) or not isinstance(background, dict):
        return None
    if not set(_BACKGROUND) <= set(background) or not all(set(_FIGURE) <= set(o) for o in objects):
        return None
    return Drawn(
        Background(**{name: _plain(background[name]) for name in _BACKGROUND}),
        tuple(Figure(**{name: _plain(o[name]) for name in _FIGURE}) for o in objects),
    )


def _plain(value: Any) -> Any:
    """JSON's lists are the tuples that were written."""
    return tuple(_plain(one) for one in value) if isinstance(value, list) else value
