"""Views of faces: image and points move alike, there and back."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from tests.oracles.landmarks import into_view

from whytransfer.core.errors import InputError
from whytransfer.core.streams import Stream
from whytransfer.data.sample import Sample, Unannotated
from whytransfer.transfer.parts.landmark_views import (
    FaceViews,
    LandmarkViews,
    Pose,
    collate,
    image_points,
    in_pixels,
    landmarks_of,
    normalised,
    sample_pose,
    view_image,
    view_points,
)

SIZE = (218, 178)
FACE = np.array([[69.5, 111.5], [108.5, 111.0], [88.0, 130.5], [72.5, 152.0], [105.5, 153.5]])
poses = st.builds(
    Pose,
    flip=st.booleans(),
    turn=st.floats(-math.pi, math.pi),
    factor=st.floats(0.5, 1.6),
    shift_xy=st.tuples(st.floats(-10, 10), st.floats(-10, 10)),
)


@st.composite
def squares(draw):
    """Views of any square inside an image of CelebA's size."""
    side = draw(st.integers(60, 178))
    resize_px = draw(st.integers(40, 200))
    return LandmarkViews(
        crop_left_px=draw(st.integers(0, 178 - side)), crop_top_px=draw(st.integers(0, 40)),
        crop_px=side, resize_px=resize_px, margin_px=draw(st.integers(0, resize_px // 4)),
    )  # fmt: skip


class Faces(Unannotated):
    """A source of noise with the landmarks given."""

    classes = ()

    def __init__(self, points, size=SIZE):
        self.points, self.shape = points, size

    def __len__(self):
        return len(self.points)

    def __getitem__(self, index):
        noise = Stream(0, "noise", index).integers(math.prod(self.shape) * 3, 256)
        return Sample(noise.reshape(*self.shape, 3).astype(np.uint8), self.name(index))

    def name(self, index):
        return f"{index}.png"

    def path(self, index):
        return f"faces/{index}.png"

    def size(self, index):
        return self.shape

    def landmarks(self, index):
        return self.points[index]


@settings(max_examples=60, deadline=None)
@given(views=squares(), pose=poses)
def test_points_go_where_the_oracle_says(views, pose):
    found = view_points(FACE, views, pose)
    plain = [into_view(p, views, pose.turn, pose.factor, pose.shift_xy, pose.flip) for p in FACE]
    expected = np.array(plain)[[1, 0, 2, 4, 3]] if pose.flip else plain
    np.testing.assert_allclose(found, expected, atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(views=squares(), pose=poses)
def test_forward_and_back_is_the_identity(views, pose):
    seen = normalised(view_points(FACE, views, pose), views.size_px)
    back = image_points(in_pixels(seen, views.size_px), views, pose)
    np.testing.assert_allclose(back, FACE, atol=1e-9)
    both = np.stack([seen, seen])
    several = image_points(in_pixels(both, views.size_px), views, pose)
    np.testing.assert_allclose(several, [FACE, FACE], atol=1e-9)


@settings(max_examples=80, deadline=None)
@given(views=squares(), pose=poses, turn=st.floats(0, 7), reach=st.floats(0, 1))
def test_a_painted_dot_moves_with_its_point(views, pose, turn, reach):
    """The centre of gravity of a soft dot, before and after, wherever the view has all of it."""
    middle = np.array([views.crop_left_px, views.crop_top_px]) + views.crop_px / 2
    spread = 2.0 * max(1.0, views.crop_px / views.resize_px)
    room = views.crop_px / 2 - 4 * spread  # the resized square must have all of the dot
    where = middle + 0.6 * reach * max(room, 0.0) * np.array([math.cos(turn), math.sin(turn)])
    seen = view_points(np.tile(where, (5, 1)), views, pose)[0]
    radius = 4 * spread * pose.factor * views.resize_px / views.crop_px
    assume(radius <= seen.min() and seen.max() <= views.size_px - radius)
    pixels = view_image(painted(where, spread), views, pose)[..., 0].astype(float)
    at, total = np.arange(views.size_px) + 0.5, pixels.sum()
    centre = [(pixels.sum(axis=0) @ at) / total, (pixels.sum(axis=1) @ at) / total]
    np.testing.assert_allclose(centre, seen, atol=0.1)


def painted(where, spread):
    """An image of CelebA's size, black but for a soft dot."""
    rows, columns = np.arange(SIZE[0]) + 0.5 - where[1], np.arange(SIZE[1]) + 0.5 - where[0]
    dot = np.exp(-(rows[:, None] ** 2 + columns[None] ** 2) / (2 * spread**2))
    return np.repeat(np.round(255 * dot)[..., None], 3, axis=2).astype(np.uint8)


@settings(max_examples=30, deadline=None)
@given(views=squares(), pose=poses)
def test_a_mirror_twice_is_none(views, pose):
    image = Faces([FACE])[0].image
    one, other = (dataclasses.replace(pose, flip=flip) for flip in (False, True))
    assert np.array_equal(view_image(image, views, other)[:, ::-1], view_image(image, views, one))
    mirrored = view_points(FACE, views, other)
    back = np.array([[views.size_px - x, y] for x, y in mirrored])[[1, 0, 2, 4, 3]]
    np.testing.assert_allclose(back, view_points(FACE, views, one), atol=1e-9)


def test_half_pixels_by_hand():
    """178 to 89 and 2 off each side: the first pixel's centre is at 0.25 of the resized square."""
    views = LandmarkViews(crop_top_px=30, resize_px=89, margin_px=2)
    corner = np.array([[0.5, 30.5]] * 5)
    assert view_points(corner, views, Pose())[0].tolist() == [-1.75, -1.75]
    assert views.size_px == 85
    assert normalised(np.array([[0.0, 85.0]]), 85).tolist() == [[-1.0, 1.0]]
    flipped = view_points(corner, views, Pose(flip=True))[0]
    assert flipped.tolist() == [86.75, -1.75]


def test_the_plain_view_is_crop_resize_and_margin():
    image = Faces([FACE])[0].image
    view = view_image(image, LandmarkViews(resize_px=178, margin_px=9), Pose())
    assert np.array_equal(view, image[39 : 39 + 160, 9:169])


def test_drawing_is_a_function_of_seed_epoch_and_index_within_the_bounds():
    views = LandmarkViews(flip_p=0.5, turn_degrees=10, scale=0.2, shift=0.1)
    drawn = [sample_pose(views, Stream(0, "view", epoch, 3)) for epoch in range(200)]
    assert drawn[:5] == [sample_pose(views, Stream(0, "view", epoch, 3)) for epoch in range(5)]
    turns, factors = np.array([p.turn for p in drawn]), np.array([p.factor for p in drawn])
    shifts = np.array([p.shift_xy for p in drawn])
    assert 60 < sum(p.flip for p in drawn) < 140
    for values, bound in ((turns, math.radians(10)), (factors - 1, 0.2), (shifts, 9.6)):
        assert np.abs(values).max() <= bound
        assert values.min() < -0.8 * bound and values.max() > 0.8 * bound
    off = sample_pose(LandmarkViews(), Stream(0, "view", 0, 3))
    assert off == Pose() and off.upright
    one = LandmarkViews(flip_p=0.5)
    same = [sample_pose(one, Stream(0, "view", epoch, 3)).flip for epoch in range(200)]
    assert same == [p.flip for p in drawn]


def test_test_views_are_plain_and_training_views_are_drawn():
    views = LandmarkViews(flip_p=0.5, turn_degrees=20)
    source = Faces([FACE, FACE + 1])
    plain = FaceViews(source, views)
    assert np.array_equal(plain(0, 1).image, plain(5, 1).image)
    drawn = FaceViews(source, views, seed=0)
    assert np.array_equal(drawn(0, 1).image, drawn(0, 1).image)
    assert not np.array_equal(drawn(0, 1).image, drawn(1, 1).image)
    batch = collate([drawn(0, 0), drawn(0, 1)])
    assert batch.inputs.shape == (2, 96, 96, 3) and batch.points.shape == (2, 5, 2)
    assert batch.indices.tolist() == [0, 1]


class TestRefusals:
    def test_images_without_landmarks(self):
        with pytest.raises(InputError, match=r"faces/1.png: the image has no landmarks.*mafl"):
            landmarks_of(Faces([FACE, None]), None)

    def test_another_number_of_landmarks(self):
        with pytest.raises(InputError, match=r"faces/2.png: has 4 landmarks, the first image .* 5"):
            landmarks_of(Faces([FACE, FACE, FACE[:4]]), None)

    def test_another_number_of_names(self):
        with pytest.raises(InputError, match=r"landmarks: names 2 landmarks, the images have 5"):
            landmarks_of(Faces([FACE]), ("a", "b"))
        assert landmarks_of(Faces([FACE]), None).landmarks == ("0", "1", "2", "3", "4")

    def test_a_square_larger_than_the_image(self):
        source = Faces([FACE], size=(109, 89))
        with pytest.raises(InputError, match=r"faces/0.png: is 89 wide and 109 high; .*crop_px"):
            FaceViews(source, LandmarkViews())(0, 0)

    @pytest.mark.parametrize(
        ("fields", "words"),
        [
            ({"resize_px": 40, "margin_px": 20}, "leaves nothing"),
            ({"mirrored": (1, 2, 0, 3, 4)}, "mirroring twice"),
            ({"mirrored": (1, 0, 9)}, "mirroring twice"),
        ],
    )
    def test_views_that_make_no_sense(self, fields, words):
        with pytest.raises(ValidationError, match=words):
            LandmarkViews(**fields)
