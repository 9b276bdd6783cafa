"""Faces: landmarks sit where they say, an identity stays what it is, attributes are true."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whytransfer.core.streams import Stream
from whytransfer.data.world import faces
from whytransfer.data.world._face import draw_face, draw_identity, paint_face

SIZE = (218, 178)
PLAIN = {"glasses": False, "hair": "bald", "lipstick": False, "smile": 0.2, "mouth_open": 0.0}


def painted(seed, look=None, **changes):
    """The canvas and landmarks of a face, some of its factors as given."""
    person = dataclasses.replace(draw_identity(Stream(seed, "who")), **(look or {}))
    factors = draw_face(Stream(seed, "how"), 1, SIZE, 0.5)
    return paint_face(person, dataclasses.replace(factors, **(PLAIN | changes)), SIZE)


def changed(one, other):
    """Places (x, y) of the centres of the pixels that differ."""
    rows, columns = np.nonzero(np.abs(one.pixels - other.pixels).max(axis=0) > 0.02)
    return np.stack([columns + 0.5, rows + 0.5], axis=1)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_what_the_gaze_moves_is_around_the_eyes(seed):
    left, landmarks = painted(seed, gaze=-0.3, eyes_open=1.0)
    right, _ = painted(seed, gaze=0.3, eyes_open=1.0)
    places = changed(left, right)
    eyes = np.array(landmarks[:2])
    apart = eyes[1, 0] - eyes[0, 0]
    assert len(places) and 0.15 * SIZE[1] < apart < 0.5 * SIZE[1]
    nearest = np.linalg.norm(places[:, None] - eyes, axis=2).argmin(axis=1)
    for eye in (0, 1):
        offset = places[nearest == eye].mean(axis=0) - eyes[eye]
        assert np.abs(offset).max() < 0.08 * apart


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), smile=st.floats(-0.5, 1))
def test_what_lipstick_paints_ends_at_the_corners_of_the_mouth(seed, smile):
    plain, landmarks = painted(seed, smile=smile, mouth_open=0.6)
    red, _ = painted(seed, smile=smile, mouth_open=0.6, lipstick=True)
    places = changed(plain, red)
    corners = np.array(landmarks[3:])
    along = (corners[1] - corners[0]) / np.linalg.norm(corners[1] - corners[0])
    reach = (places - corners[0]) @ along
    width = np.linalg.norm(corners[1] - corners[0])
    assert -1.5 < reach.min() < 0.12 * width and -1.5 < width - reach.max() < 0.12 * width
    for end, corner in ((reach.argmin(), corners[0]), (reach.argmax(), corners[1])):
        assert np.abs(places[end] - corner).max() < 0.12 * width + 1.5


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_the_nose_is_widest_beside_its_landmark(seed):
    narrow, landmarks = painted(seed, look={"nose_width": 0.15})
    wide, _ = painted(seed, look={"nose_width": 0.25})
    places = changed(narrow, wide)
    nose = np.array(landmarks[2])
    assert abs((places[:, 0].min() + places[:, 0].max()) / 2 - nose[0]) < 0.05 * SIZE[1]
    assert places[:, 1].min() < nose[1] < places[:, 1].max()


def test_landmarks_are_in_order_and_inside():
    config = faces.Config(max_yaw=1.0)
    for index in range(60):
        left, right, nose, left_mouth, right_mouth = faces.render(
            config, 0, index
        ).factors.landmarks
        assert left[0] < right[0] and left_mouth[0] < right_mouth[0]
        assert max(left[1], right[1]) < nose[1] < min(left_mouth[1], right_mouth[1])
        for x, y in (left, right, nose, left_mouth, right_mouth):
            assert 0 < x < config.width_px and 0 < y < config.height_px


def test_an_identity_keeps_its_look_and_nothing_else():
    config = faces.Config(num_identities=5)
    first, again = faces.render(config, 0, 2), faces.render(config, 0, 7)
    assert first.factors.identity == again.factors.identity == 3
    assert first.look == again.look and first.factors != again.factors
    assert faces.render(config, 0, 3).look != first.look
    assert faces.render(config, 1, 2).look != first.look


@pytest.mark.parametrize(("people", "shared"), [("new", 0), ("known", 4)])
def test_who_is_in_which_partition(tmp_path, people, shared):
    config = faces.Config(
        num_train=8, num_val=3, num_test=5, num_identities=4, test_identities=people,
        width_px=40, height_px=48,
    )  # fmt: skip
    faces.write(tmp_path, config, seed=0)
    folder = tmp_path / "celeba"
    part, who = (
        dict(line.split() for line in (folder / name).read_text().splitlines())
        for name in ("list_eval_partition.txt", "identity_CelebA.txt")
    )
    people = [{who[name] for name in who if part[name] == number} for number in "012"]
    assert people[0] == {"1", "2", "3", "4"}
    assert len(people[0] & people[2]) == shared
    if not shared:
        assert not people[1] & people[2] and not people[0] & people[1]


def test_attributes_are_true_of_what_is_rendered(tmp_path):
    config = faces.Config(num_train=30, num_val=1, num_test=1, width_px=40, height_px=48)
    faces.write(tmp_path, config, seed=0)
    count, header, *rows = (tmp_path / "celeba/list_attr_celeba.txt").read_text().splitlines()
    lines = [json.loads(x) for x in (tmp_path / "factors.jsonl").read_text().splitlines()]
    assert int(count) == len(rows) == 32 and tuple(header.split()) == faces.ATTRIBUTES
    seen = set()
    for row, line in zip(rows, lines, strict=True):
        name, *values = row.split()
        true = {key for key, value in zip(header.split(), values, strict=True) if value == "1"}
        assert set(values) <= {"1", "-1"} and line["file"].endswith(name)
        assert ("Eyeglasses" in true) == line["glasses"]
        assert ("Smiling" in true) == (line["smile"] > 0.4)
        assert ("Bald" in true) == (line["hair"] == "bald")
        hair = {key for key in true if key.endswith("_Hair")}
        assert len(hair) <= 1 and not (hair and "Bald" in true)
        seen |= true
    assert len(seen) >= 8
