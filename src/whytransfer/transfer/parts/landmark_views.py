"""Images with landmarks, as a regressor is trained and tested on them.

A view is a square of the image, resized, turned and moved a little in training where that is asked
for, without its margin, and perhaps mirrored: one affine map from the image's pixels to the view's,
which the points go through as well, and back. The view of image ``i`` in epoch ``e`` is a pure
function of (seed, e, i).

Coordinates are continuous and count from the upper left corner of the first pixel, whose centre is
(0.5, 0.5), in image and view alike; so a resize is a plain factor, and a mirrored x is the side
minus x. Normalised coordinates are -1 at the left or upper edge of the view and 1 at the other.

Source: DVE data_loader/data_loaders.py (``MAFLAligned``, ``kp_normalize``) for crop and margin.
Differs: DVE counts from the first pixel's centre when it normalises, and from no fixed point when
    it resizes (its landmarks are up to half a pixel off from its image); errors, which are ratios
    of distances, are the same in both.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, NamedTuple, Self

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator
from torch import Tensor

from whytransfer.core.config import Config, assumed
from whytransfer.core.errors import InputError
from whytransfer.core.streams import Stream
from whytransfer.data.landmark_files import Landmarks
from whytransfer.data.sample import Source
from whytransfer.data.views import resize

Points = NDArray[np.float64]
"""(L, 2) as (x, y)."""

Matrix = NDArray[np.float64]
"""(2, 3): an affine map of points, its last column what is added."""

_DVE = "the paper does not say; DVE's"
_CONTRAST = "the paper does not say; ContrastLandmark's for ResNets, DVE has "
_NONE = "the paper does not say; DVE and ContrastLandmark change no training image"
_NUM_DRAWS = 5


class LandmarkViews(Config):
    """How images are shown to a regressor.

    Attributes:
        crop_left_px: Columns of the image left of the square that is used.
        crop_top_px: Rows above it.
        crop_px: Its side. The defaults are for CelebA's aligned pictures, 178 wide and 218 high.
        resize_px: The side that it is resized to.
        margin_px: What is then cut off on each of the four sides.
        flip_p: Probability that a training view is mirrored.
        mirrored: The number of the landmark that each one becomes in a mirror.
        turn_degrees: A training view is turned by up to so much either way.
        scale: Its content is scaled by a factor from 1 - scale to 1 + scale.
        shift: It is moved by up to this share of the view's side, either way, across and down.
    """

    crop_left_px: NonNegativeInt = assumed(0, _DVE)
    crop_top_px: NonNegativeInt = assumed(30, _DVE)
    crop_px: PositiveInt = assumed(178, _DVE)
    resize_px: PositiveInt = assumed(136, _CONTRAST + "100")
    margin_px: NonNegativeInt = assumed(20, _CONTRAST + "15")
    flip_p: Annotated[float, Field(ge=0, le=1)] = assumed(0.0, _NONE)
    mirrored: tuple[NonNegativeInt, ...] = (1, 0, 2, 4, 3)
    turn_degrees: Annotated[float, Field(ge=0, le=180)] = assumed(0.0, _NONE)
    scale: Annotated[float, Field(ge=0, lt=1)] = assumed(0.0, _NONE)
    shift: Annotated[float, Field(ge=0, lt=1)] = assumed(0.0, _NONE)

    @model_validator(mode="after")
    def _something_is_left(self) -> Self:
        if self.size_px < 1:
            raise ValueError(
                f"margin_px {self.margin_px} on both sides leaves nothing of resize_px "
                f"{self.resize_px}"
            )
        twice = [self.mirrored[to] if to < len(self.mirrored) else -1 for to in self.mirrored]
        if twice != list(range(len(twice))):
            raise ValueError(
                f"mirrored is {self.mirrored}: mirroring twice must give every landmark again"
            )
        return self

    @property
    def size_px(self) -> int:
        """The side of a view."""
        return self.resize_px - 2 * self.margin_px


@dataclass(frozen=True)
class Pose:
    """How one training view differs from the plain one; by default not at all.

    Attributes:
        flip: Whether it is mirrored, after all else.
        turn: Radians, clockwise as seen, about the middle.
        factor: What the content is scaled by, about the middle.
        shift_xy: What it is moved by, in pixels of the view.
    """

    flip: bool = False
    turn: float = 0.0
    factor: float = 1.0
    shift_xy: tuple[float, float] = (0.0, 0.0)

    @property
    def upright(self) -> bool:
        """Whether pixels stay where they are, but for the mirror."""
        return self.turn == 0.0 and self.factor == 1.0 and self.shift_xy == (0.0, 0.0)


def sample_pose(views: LandmarkViews, stream: Stream) -> Pose:
    """Draws how a training view differs; the same count of numbers whatever is switched on."""
    flip, turn, factor, across, down = stream.uniform(_NUM_DRAWS).tolist()
    reach = 2.0 * views.shift * views.size_px
    return Pose(
        flip=flip < views.flip_p,
        turn=math.radians(views.turn_degrees) * (2.0 * turn - 1.0),
        factor=1.0 + views.scale * (2.0 * factor - 1.0),
        shift_xy=(reach * (across - 0.5), reach * (down - 0.5)),
    )


def view_matrix(views: LandmarkViews, pose: Pose) -> Matrix:
    """Returns the map from pixels of the image to pixels of the view."""
    factor = views.resize_px / views.crop_px
    corner = np.array([views.crop_left_px, views.crop_top_px], dtype=np.float64)
    cut = np.column_stack([factor * np.eye(2), -factor * corner])
    posed = _then(cut, _pose_matrix(views, pose))
    posed[:, 2] -= views.margin_px
    if pose.flip:
        posed[0] = -posed[0]
        posed[0, 2] += views.size_px
    return posed


def moved(points: Points, matrix: Matrix) -> Points:
    """Returns where a map takes points (..., 2)."""
    return np.asarray(points @ matrix[:, :2].T + matrix[:, 2])


def moved_back(points: Points, matrix: Matrix) -> Points:
    """Returns what a map takes to points (..., 2)."""
    return np.asarray((points - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T)


def normalised(points: Points, size_px: int) -> Points:
    """Returns pixels of a view as numbers that are -1 and 1 at its edges.

    >>> normalised(np.array([[0.0, 48.0], [96.0, 0.5]]), 96).round(3).tolist()
    [[-1.0, 0.0], [1.0, -0.99]]
    """
    return np.asarray(2.0 * points / size_px - 1.0)


def in_pixels(points: Points, size_px: int) -> Points:
    """Undoes :func:`normalised`."""
    return np.asarray((points + 1.0) * (size_px / 2.0))


def view_image(image: NDArray[np.uint8], views: LandmarkViews, pose: Pose) -> NDArray[np.uint8]:
    """Makes the view (size_px, size_px, 3) of an image that has the whole square.

    What a turned or moved view shows from outside the resized square repeats its border.
    """
    left, top, side = views.crop_left_px, views.crop_top_px, views.crop_px
    square = resize(image[top : top + side, left : left + side], views.resize_px, views.resize_px)
    if not pose.upright:
        matrix = _pose_matrix(views, pose)
        # OpenCV counts from the centre of the first pixel.
        matrix[:, 2] += matrix[:, :2].sum(axis=1) / 2 - 0.5
        size = (views.resize_px, views.resize_px)
        square = np.asarray(
            cv2.warpAffine(square, matrix, size, borderMode=cv2.BORDER_REPLICATE), dtype=np.uint8
        )
    kept = slice(views.margin_px, views.margin_px + views.size_px)
    view = square[kept, kept]
    return np.ascontiguousarray(view[:, ::-1] if pose.flip else view)


def view_points(points: Points, views: LandmarkViews, pose: Pose) -> Points:
    """Returns an image's landmarks in pixels of its view; a mirror changes which is which."""
    seen = moved(points, view_matrix(views, pose))
    return seen[list(views.mirrored)] if pose.flip else seen


def image_points(points: Points, views: LandmarkViews, pose: Pose) -> Points:
    """Undoes :func:`view_points`."""
    seen = points[..., list(views.mirrored), :] if pose.flip else points
    return moved_back(seen, view_matrix(views, pose))


def _pose_matrix(views: LandmarkViews, pose: Pose) -> Matrix:
    """Returns the map inside the resized square."""
    sine, cosine = pose.factor * math.sin(pose.turn), pose.factor * math.cos(pose.turn)
    linear = np.array([[cosine, -sine], [sine, cosine]])
    middle = np.full(2, views.resize_px / 2)
    return np.column_stack([linear, middle + np.array(pose.shift_xy) - linear @ middle])


def _then(first: Matrix, second: Matrix) -> Matrix:
    """Returns the map that is two maps, one after the other."""
    linear = second[:, :2] @ first[:, :2]
    return np.column_stack([linear, second[:, :2] @ first[:, 2] + second[:, 2]])


@dataclass(frozen=True)
class FaceView:
    """One image as a regressor sees it.

    Attributes:
        image: (S, S, 3) uint8 RGB.
        points: (L, 2) normalised; outside [-1, 1] where a landmark is outside the view.
        index: Of the image in its source.
    """

    image: NDArray[np.uint8]
    points: Points
    index: int


class FaceBatch(NamedTuple):
    """A batch of N images, or what a backbone makes of them.

    Attributes:
        inputs: (N, S, S, 3) uint8 RGB, or the maps (N, C, H, W) of each level.
        points: (N, L, 2) float32, normalised.
        indices: (N,) of the images in their source.
    """

    inputs: Tensor | tuple[Tensor, ...]
    points: Tensor
    indices: Tensor


@dataclass(frozen=True)
class FaceViews:
    """The views of a source's images: in training as drawn for the epoch, else the plain one.

    Attributes:
        seed: Of the draws; ``None`` for the plain views.
    """

    source: Source
    views: LandmarkViews
    seed: int | None = None

    def __call__(self, epoch: int, index: int) -> FaceView:
        """Reads one image, and draws and makes its view.

        Raises:
            InputError: The image is too small for the square, or can't be read.
        """
        image = self.source[index].image
        require_square(self.source, index, (image.shape[0], image.shape[1]), self.views)
        pose = Pose()
        if self.seed is not None:
            pose = sample_pose(self.views, Stream(self.seed, "view", epoch, index))
        points = view_points(points_of(self.source, index), self.views, pose)
        seen = normalised(points, self.views.size_px)
        return FaceView(view_image(image, self.views, pose), seen, index)


def collate(faces: Sequence[FaceView]) -> FaceBatch:
    """Stacks views."""
    return FaceBatch(
        inputs=torch.from_numpy(np.stack([face.image for face in faces])),
        points=torch.from_numpy(np.stack([face.points for face in faces])).float(),
        indices=torch.tensor([face.index for face in faces]),
    )


def points_of(source: Source, index: int) -> Points:
    """Returns an image's landmarks.

    Raises:
        InputError: It has none.
    """
    points = source.landmarks(index)
    if points is None:
        raise InputError(
            source.path(index), "the image has no landmarks", "landmarks for every image",
            "give data with landmarks, in the format mafl or celeba",
        )  # fmt: skip
    return points


def landmarks_of(source: Source, names: Sequence[str] | None) -> Landmarks:
    """Collects the landmarks of all images of a source; decodes none.

    Args:
        source: The images.
        names: Of the landmarks; ``None`` numbers them.

    Raises:
        InputError: An image has none, or another number of them than the first image has, or than
            there are names.
    """
    points = [points_of(source, index) for index in range(len(source))]
    count = len(points[0]) if points else 0
    for index, found in enumerate(points):
        if len(found) != count:
            raise InputError(
                source.path(index), f"has {len(found)} landmarks, the first image has {count}",
                "the same landmarks in every image", "correct the annotations",
            )  # fmt: skip
    if names is not None and len(names) != count:
        raise InputError(
            "landmarks", f"names {len(names)} landmarks, the images have {count}",
            "a name for each of them", "give as many names, or null to number them",
        )  # fmt: skip
    return Landmarks(
        images=tuple(source.name(index) for index in range(len(source))),
        landmarks=tuple(names) if names is not None else tuple(map(str, range(count))),
        points_xy=np.array(points, dtype=np.float64).reshape(len(points), count, 2),
    )


def require_square(source: Source, index: int, size: tuple[int, int], views: LandmarkViews) -> None:
    """Checks that an image of that height and width has the whole square that views cut out.

    Raises:
        InputError: It is too small.
    """
    height, width = size
    bottom, right = views.crop_top_px + views.crop_px, views.crop_left_px + views.crop_px
    if bottom > height or right > width:
        raise InputError(
            source.path(index), f"is {width} wide and {height} high", f"at least {right} by "
            f"{bottom}: a square of {views.crop_px} from column {views.crop_left_px} and row "
            f"{views.crop_top_px}", "set views.crop_px, views.crop_left_px and views.crop_top_px",
        )  # fmt: skip
