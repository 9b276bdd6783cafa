"""What every maker writes in the same way: JPEG files, the sidecar of factors, ``world.json``."""

import dataclasses
import json
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from whytransfer.core.config import to_plain
from whytransfer.data.world._factors import ObjectFactors, Rendered

FIRST_TEST_INDEX = 1 << 30
"""Test pictures count from here: another number of training pictures never changes them."""

FIRST_LATER_INDEX = 1 << 29
"""Training pictures of a later year count from here, for the same reason."""

_QUALITY = [
    *(cv2.IMWRITE_JPEG_QUALITY, 95),
    *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
]


def write_jpeg(path: Path, image: NDArray[np.uint8]) -> None:
    """Writes an RGB image as JPEG, quality 95, colour at full resolution; makes the folder."""
    written, data = cv2.imencode(".jpg", image[:, :, ::-1], _QUALITY)
    if not written:
        raise OSError(f"{path}: JPEG encoding failed")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.tobytes())


def write_world(root: Path, maker: str, config: BaseModel, seed: int) -> None:
    """Writes ``world.json``: all that the files beside it are a function of."""
    root.mkdir(parents=True, exist_ok=True)
    world = {"maker": maker, "seed": seed, "config": to_plain(config)}
    (root / "world.json").write_text(json.dumps(world, indent=2) + "\n", encoding="utf-8")


class FactorsFile:
    """The sidecar ``factors.jsonl``: one line per picture with the exact factors of all in it."""

    def __init__(self, root: Path) -> None:
        self._file = (root / "factors.jsonl").open("w", encoding="utf-8", newline="\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def add(self, path: Path, index: int, rendered: Rendered) -> None:
        """Adds a picture's line; masks are left out: ``render`` gives them again."""
        self.add_factors(
            path,
            index,
            background=dataclasses.asdict(rendered.background),
            objects=[_plain(factors) for factors in rendered.objects],
        )

    def add_factors(self, path: Path, index: int, **factors: Any) -> None:
        """Adds a picture's line of a maker with factors of its own, as plain data."""
        line = {"file": path.as_posix(), "index": index, **factors}
        self._file.write(json.dumps(line) + "\n")


def _plain(factors: ObjectFactors) -> dict[str, Any]:
    return {name: value for name, value in vars(factors).items() if name != "visible"}
