"""Images as they are and changed in one respect, to see how far a network's features move.

Augmentations are those of training, one at a time, with parameters drawn for each image. Position,
scale and rotation have one magnitude and a random direction. In the world's pictures of single
objects the object is rendered again somewhere else; of other images the whole view is moved, with
its content mirrored at the border.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from whytransfer.backbone.features import Centre
from whytransfer.core.config import Config as BaseConfig
from whytransfer.core.streams import Stream
from whytransfer.data.augmentation import Augmentation, ViewParameters, sample_view
from whytransfer.data.factors import Drawn, moved
from whytransfer.data.sample import Sample, Source, Unannotated
from whytransfer.data.views import apply_view, center_view

Image = NDArray[np.uint8]
Make = Callable[[int], Image]

POSES = ("position", "scale", "rotation")


class Magnitudes(BaseConfig):
    """How far an object, or the whole view, is moved.

    Attributes:
        shift: Way that it goes, in any direction, as a share of the view's side.
        scale: Factor of its size; as often divided by it.
        turn_degrees: Angle that it turns, either way.
    """

    shift: float = Field(0.1, gt=0, lt=0.5)
    scale: float = Field(1.25, gt=1, le=3)
    turn_degrees: float = Field(30.0, gt=0, le=180)


@dataclass(frozen=True)
class Views(Unannotated):
    """A source of views of another source's images, made when they are asked for.

    Attributes:
        source: Whose images.
        make: Makes the view of an image.
    """

    source: Source
    make: Make

    @property
    def classes(self) -> tuple[str, ...]:
        """Those of the source."""
        return self.source.classes

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Sample:
        return Sample(self.make(index), self.source.name(index))

    def name(self, index: int) -> str:
        """Names the image that the view is of."""
        return self.source.name(index)

    def path(self, index: int) -> Path:
        """Returns the image's file."""
        return self.source.path(index)

    def size(self, index: int) -> tuple[int, int]:
        """Returns the view's (height, width)."""
        height, width = self.make(index).shape[:2]
        return height, width

    def files(self) -> Iterator[Path]:
        """Lists the source's files."""
        return iter(self.source.files())


@dataclass(frozen=True)
class Changes:
    """All the ways in which images are changed.

    Attributes:
        source: The images.
        view: How an image is seen; every view is a square of its ``crop_px``.
        augmentation: Of whose parts the strengths are.
        magnitudes: Of position, scale and rotation.
        seed: Of all draws.
        drawn: What was drawn of each image, one object each; ``None`` where nobody knows.
    """

    source: Source
    view: Centre
    augmentation: Augmentation
    magnitudes: Magnitudes
    seed: int
    drawn: tuple[Drawn, ...] | None = None

    def plain(self) -> Source:
        """The images as they are."""
        return Views(self.source, self._plain)

    def augmented(self, number: int) -> Source:
        """A view of each image under the whole augmentation; another number, another view."""

        def make(index: int) -> Image:
            image = self.source[index].image
            stream = Stream(self.seed, "invariance/view", index, number)
            return self._applied(image, sample_view(self._of_view(), stream, *image.shape[:2]))

        return Views(self.source, make)

    def augmentations(self) -> dict[str, Source]:
        """The images under each part of the augmentation alone."""
        alone = {
            "flip": {"flip_p": 1.0},
            "crop": {},
            "colour_jitter": {"jitter_p": 1.0},
            "greyscale": {"grayscale_p": 1.0},
            "blur": {"blur_p": 1.0},
        }
        return {
            name: Views(self.source, self._part(name, probabilities))
            for name, probabilities in alone.items()
        }

    def poses(self) -> tuple[Source, dict[str, Source]]:
        """The images with the object, or the view, unmoved; and moved in each respect."""
        if self.drawn is None:
            return self.plain(), {n: Views(self.source, self._warped(n)) for n in POSES}
        still = Views(self.source, self._rendered("still"))
        return still, {n: Views(self.source, self._rendered(n)) for n in POSES}

    def _plain(self, index: int) -> Image:
        return self._seen(self.source[index].image)

    def _seen(self, image: Image) -> Image:
        return center_view(image, self.view.resize_px, self.view.crop_px)

    def _applied(self, image: Image, parameters: ViewParameters) -> Image:
        return apply_view(image, parameters, self.view.crop_px)

    def _of_view(self) -> Augmentation:
        return self.augmentation.model_copy(update={"crop_px": self.view.crop_px})

    def _part(self, name: str, probabilities: dict[str, float]) -> Make:
        off = {"flip_p": 0.0, "jitter_p": 0.0, "grayscale_p": 0.0, "blur_p": 0.0}
        part = self._of_view().model_copy(update=off | probabilities)
        side = self.view.crop_px

        def make(index: int) -> Image:
            stream = Stream(self.seed, f"invariance/{name}", index)
            image = self.source[index].image
            if name != "crop":
                image = self._seen(image)
            parameters = sample_view(part, stream, *image.shape[:2])
            if name != "crop":
                parameters = replace(parameters, top=0, left=0, height=side, width=side)
            return self._applied(image, parameters)

        return make

    def _move(self, name: str, index: int) -> tuple[tuple[float, float], float, float]:
        """Returns the shift in shares of the view, the factor of size and the turn in degrees."""
        draw, m = Stream(self.seed, f"invariance/{name}", index).one(), self.magnitudes
        if name == "position":
            turn = 2 * math.pi * draw
            return (m.shift * math.cos(turn), m.shift * math.sin(turn)), 1.0, 0.0
        if name == "scale":
            return (0.0, 0.0), m.scale if draw < 0.5 else 1 / m.scale, 0.0
        if name == "rotation":
            return (0.0, 0.0), 1.0, m.turn_degrees if draw < 0.5 else -m.turn_degrees
        return (0.0, 0.0), 1.0, 0.0

    def _rendered(self, name: str) -> Make:
        assert self.drawn is not None
        known = self.drawn

        def make(index: int) -> Image:
            size = min(self.source.size(index))
            (x, y), scale, turn = self._move(name, index)
            px = size * self.view.crop_px / self.view.resize_px
            drawn = known[index]
            figure = moved(drawn.figures[0], (x * px, y * px), scale, turn)
            # The same noise whatever moves, so that nothing else differs.
            noise = Stream(self.seed, "invariance/noise", index)
            return self._seen(replace(drawn, figures=(figure,)).rendered(size, noise))

        return make

    def _warped(self, name: str) -> Make:
        side = self.view.crop_px

        def make(index: int) -> Image:
            (x, y), scale, turn = self._move(name, index)
            middle = ((side - 1) / 2, (side - 1) / 2)
            # OpenCV turns anticlockwise.
            matrix = cv2.getRotationMatrix2D(middle, -turn, scale)
            matrix[:, 2] += np.array((x * side, y * side))
            warped = cv2.warpAffine(
                self._plain(index), matrix, (side, side),
                flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101,
            )  # fmt: skip
            return np.asarray(warped, dtype=np.uint8)

        return make
