"""Rendered pictures: a function of (seed, index) alone, with exact truth."""

import ast
import hashlib
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from whytransfer.core.streams import Stream
from whytransfer.data.world import crowds, faces, places, streets, things
from whytransfer.data.world._exact import hsv_to_rgb, sincos
from whytransfer.data.world._factors import Background, Pose, draw_figure
from whytransfer.data.world._scene import compose
from whytransfer.data.world._shapes import SHAPES, signed_distance
from whytransfer.data.world._surfaces import SURFACES

GOLDEN = [
    "a70be26ce27225b5",
    "03b2f68e5bee03be",
    "b2f90ab26fc75db0",
    "dd243ed3310a3b7c",
    "9c10be99c43d180e",
    "20af668c839968c4",
    "5d250d9b805ebe2e",
    "d8e82361dc296e1e",
    "c8f7d5747e184966",
    "3a0a1e2db1b1dbfd",
    "4c8a74f3d0623368",
    "c1c9221b452209ad",
    "123d8c77177bde34",
    "bef5eaa6681a5086",
    "fca6c7ebf7f6c0b3",
    "1e8ea63896105cb8",
    "a44901b3b6e0258f",
    "44ab0249459222a2",
    "da97b8c005f40a40",
    "e40b0459789411cd",
    "03a9c08262b820ce",
    "31a5d16fb1a6351c",
    "56fc6d4fe1feac02",
    "d40fea2955210d9f",
    "48c2e85051597352",
    "cbc5657fb595f772",
    "581206b79b6df2ee",
    "19ceeb8eb7cf13d4",
    "1709af8cbd8a8a1d",
    "b3701038e3b1715f",
    "f677d1dda4042907",
    "e928636025ea6b8b",
]
ALL_SHAPES = things.Config(num_shapes=len(SHAPES))
PLAIN = Background(0, (0.5, 0.5, 0.5), 0, (1.0, 0.0))


def digest(image):
    assert image.dtype == np.uint8 and image.flags.c_contiguous
    return hashlib.sha256(image.tobytes()).hexdigest()[:16]


def golden_hashes():
    """One picture of each shape, each surface; then crowds, and another seed and size; scenes."""
    pictures = [things.render(ALL_SHAPES, 0, index) for index in range(0, 24 * 6, 25)]
    pictures += [things.render(things.Config(), 7, 1 << 30)]
    pictures += [crowds.render(crowds.Config(), 0, index) for index in range(3)]
    pictures += [crowds.render(crowds.Config(size_px=50), 1, 0)]
    pictures += [faces.render(faces.Config(), 0, index) for index in range(3)]
    pictures += [places.render(places.Config(), 0, index) for index in range(15)]
    pictures += [streets.render(streets.Config(), 0, *place) for place in ((0,), (1,), (2, 5, 0.4))]
    return [digest(picture.image) for picture in pictures]


def scene(size_px, *figures):
    return compose(figures, PLAIN, size_px, Stream(0, "test"))


def figure(shape="disc", centre=(20.0, 20.0), radius=10.0, turn=0.0):
    return draw_figure(Stream(0, "test"), shape, shape, "dots", Pose(centre, radius, turn))


def test_pixels_never_change():
    assert golden_hashes() == GOLDEN


def test_pixels_do_not_depend_on_the_vector_unit():
    found = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
    script = (
        "import importlib.util as u; s = u.spec_from_file_location('t', %r); "
        "t = u.module_from_spec(s); s.loader.exec_module(t); print(t.golden_hashes())"
    )
    environment = {**os.environ, "NPY_DISABLE_CPU_FEATURES": " ".join(found)}
    run = subprocess.run(
        [sys.executable, "-c", script % __file__],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ast.literal_eval(run.stdout) == GOLDEN


@pytest.mark.parametrize("maker", [things, crowds])
def test_order_of_rendering_does_not_matter(maker):
    config = maker.Config()
    forward = [maker.render(config, 3, index) for index in range(5)]
    backward = [maker.render(config, 3, index) for index in reversed(range(5))][::-1]
    for one, other in zip(forward, backward, strict=True):
        assert digest(one.image) == digest(other.image)
        assert one.background == other.background
    assert len({digest(picture.image) for picture in forward}) == 5
    assert digest(maker.render(config, 4, 0).image) != digest(forward[0].image)


@pytest.mark.parametrize(
    ("label", "category", "count"),
    [("shape", "gear", 16), ("surface", "stripes", 6), ("shape+surface", "gear_stripes", 96)],
)
def test_label_changes_names_not_pixels(label, category, count):
    config = things.Config(label=label, num_train=10_000)
    rendered = things.render(config, 5, 17)
    assert rendered.objects[0].category == category
    assert (rendered.objects[0].shape, rendered.objects[0].surface) == ("gear", "stripes")
    assert digest(rendered.image) == digest(things.render(things.Config(), 5, 17).image)
    names = {things.render(config, 0, index).objects[0].category for index in range(96)}
    assert len(names) == count and sorted(names) == list(things.classes(config))


def assert_truth_is_exact(rendered):
    """Against the oracle; pixels within rounding of the outline may go either way."""
    for factors in rendered.objects:
        distance = distances_of(factors, rendered.image.shape[0])
        surely, perhaps = distance < -1e-4, distance < 1e-4
        assert (bounds(surely) - factors.box_xyxy)[:2].min() >= 0
        assert (bounds(perhaps) - factors.box_xyxy)[:2].max() <= 0
        assert (bounds(surely) - factors.box_xyxy)[2:].max() <= 0
        assert (bounds(perhaps) - factors.box_xyxy)[2:].min() >= 0
        assert factors.visible.any() and not (factors.visible & ~perhaps).any()
        assert 0 < factors.visible_share <= 1
        left, top, right, bottom = factors.box_xyxy
        small = min(right - left, bottom - top) < 8
        assert factors.difficult == (factors.visible_share < 0.5 or small)
    front = rendered.objects[-1]
    assert tuple(bounds(front.visible)) == front.box_xyxy
    stacked = np.sum([factors.visible for factors in rendered.objects], axis=0)
    assert stacked.max() == 1


def bounds(mask):
    rows, columns = np.nonzero(mask)
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], dtype=float)


def distances_of(factors, size_px):
    """The shape's distance at each pixel's centre, with the mathematical library's sine."""
    centre = np.arange(size_px) + 0.5
    x, y = np.meshgrid(centre - factors.centre_xy[0], centre - factors.centre_xy[1])
    angle = math.radians(factors.angle_deg)
    along = (x * math.cos(angle) + y * math.sin(angle)) / factors.radius_px
    aside = (y * math.cos(angle) - x * math.sin(angle)) / factors.radius_px
    return signed_distance(factors.shape, along.astype("f4"), aside.astype("f4"))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), index=st.integers(0, 2**31))
def test_boxes_and_masks_are_exact_in_things(seed, index):
    assert_truth_is_exact(things.render(ALL_SHAPES, seed, index))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), index=st.integers(0, 2**31), size_px=st.integers(48, 120))
def test_boxes_and_masks_are_exact_in_crowds(seed, index, size_px):
    assert_truth_is_exact(crowds.render(crowds.Config(size_px=size_px), seed, index))


def test_a_disc_has_the_box_and_area_of_a_disc():
    factors = scene(64, figure(centre=(30.0, 25.0), radius=10.0)).objects[0]
    assert factors.box_xyxy == (20.0, 15.0, 40.0, 35.0)
    assert factors.visible.sum() == pytest.approx(math.pi * 100, rel=0.02)
    assert not factors.truncated and not factors.difficult and factors.visible_share == 1


def test_only_the_silhouette_is_painted():
    factors = scene(64, figure("gear", (32.0, 32.0), 20.0)).objects[0]
    empty = compose([], PLAIN, 64, Stream(0, "test")).image.astype(int)
    drawn = scene(64, figure("gear", (32.0, 32.0), 20.0)).image.astype(int)
    changed = np.abs(drawn - empty).max(axis=2) > 0
    rows, columns = np.nonzero(changed & ~factors.visible)
    near = np.pad(factors.visible, 1)
    for row, column in zip(rows, columns, strict=True):
        assert near[row : row + 3, column : column + 3].any()
    assert changed[factors.visible].mean() > 0.99


def test_an_object_across_the_edge_is_truncated_and_its_box_stays_inside():
    factors = scene(64, figure(centre=(60.0, 30.0), radius=10.0)).objects[0]
    assert factors.truncated
    assert factors.box_xyxy == (50.0, 20.0, 64.0, 40.0)
    assert factors.visible_share < 0.9


def test_the_front_object_hides_the_back_one():
    back, front = figure(centre=(20.0, 20.0)), figure("square", centre=(26.0, 20.0), radius=12.0)
    first, second = scene(64, back, front).objects
    assert second.visible_share == 1
    assert first.box_xyxy == (10.0, 10.0, 30.0, 30.0)
    assert first.visible_share < 0.5 and first.difficult and not first.truncated


def test_an_object_that_nobody_can_see_is_not_in_the_truth():
    hidden, front = figure(radius=5.0), figure(radius=12.0)
    assert [factors.radius_px for factors in scene(64, hidden, front).objects] == [12.0]


def test_a_tiny_object_is_difficult():
    assert scene(64, figure(radius=3.0)).objects[0].difficult


def test_a_quarter_turn_turns_the_mask():
    upright = scene(64, figure("arrow", (32.0, 32.0), 20.0)).objects[0].visible
    turned = scene(64, figure("arrow", (32.0, 32.0), 20.0, turn=0.25)).objects[0].visible
    assert np.array_equal(np.rot90(upright, k=-1), turned)


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_fill_the_unit_disc_and_differ(shape):
    axis = np.linspace(-1.1, 1.1, 221, dtype=np.float32)
    x, y = np.meshgrid(axis, axis)
    inside = signed_distance(shape, x, y) < 0
    radius = np.sqrt(x * x + y * y)[inside]
    assert 0.97 < radius.max() < 1.01
    assert inside.sum() * 0.01**2 > 0.45
    for other in SHAPES[: SHAPES.index(shape)]:
        theirs = signed_distance(other, x, y) < 0
        assert (inside & theirs).sum() / (inside | theirs).sum() < 0.9


def test_surfaces_differ_on_one_shape():
    plain = {name: things.render(ALL_SHAPES, 0, 24 * at) for at, name in enumerate(SURFACES)}
    assert [rendered.objects[0].surface for rendered in plain.values()] == list(SURFACES)


def test_backgrounds_do_not_identify_a_picture():
    seen = {things.render(things.Config(), 0, index).background for index in range(300)}
    assert len(seen) == 4 * 8


def test_crowds_share_half_their_shapes_with_things():
    names = set(crowds.classes(crowds.Config()))
    known = set(things.classes(things.Config()))
    assert len(names) == 8 and len(names & known) == 4


def test_crowds_have_hard_cases_but_not_many():
    rendered = [crowds.render(crowds.Config(), 0, index) for index in range(150)]
    objects = [factors for picture in rendered for factors in picture.objects]
    assert 2 < len(objects) / len(rendered) < 4
    assert 0.01 < np.mean([factors.difficult for factors in objects]) < 0.1
    assert 0.1 < np.mean([factors.truncated for factors in objects]) < 0.5


@given(turns=st.floats(-4, 4))
def test_sincos(turns):
    sine, cosine = sincos(turns)
    assert sine == pytest.approx(math.sin(2 * math.pi * turns), abs=1e-14)
    assert cosine == pytest.approx(math.cos(2 * math.pi * turns), abs=1e-14)


@given(hue=st.floats(0, 0.999), saturation=st.floats(0, 1), value=st.floats(0, 1))
def test_hsv(hue, saturation, value):
    import colorsys

    expected = colorsys.hsv_to_rgb(hue, saturation, value)
    assert hsv_to_rgb(hue, saturation, value) == pytest.approx(expected, abs=1e-12)


def test_no_inexact_function_reaches_a_pixel():
    """Only operations whose result IEEE 754 fixes; see the docstring of ``_exact``."""
    banned = {"sin", "cos", "tan", "exp", "log", "power", "hypot", "arctan2", "matmul", "einsum"}
    banned |= {"dot", "sum", "mean", "cumsum", "interp", "random", "cbrt", "linspace", "std"}
    folder = Path(things.__file__).parent
    for path in folder.glob("*.py"):
        name = path.stem
        if name in ("photos", "_coco", "_writing"):
            continue  # they draw nothing
        tree = ast.parse(path.read_text())
        attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        assert not attributes & banned, name
        operators = {type(node) for node in ast.walk(tree)}
        assert not operators & {ast.Pow, ast.MatMult}, name


@pytest.mark.parametrize(
    ("config", "values", "message"),
    [
        (things.Config, {"num_train": 5}, "16 classes need at least"),
        (things.Config, {"min_radius": 0.4, "max_radius": 0.3}, "min_radius is larger"),
        (things.Config, {"label": "colour"}, "label"),
        (crowds.Config, {"num_test": 3}, "8 classes need at least"),
        (crowds.Config, {"min_objects": 6}, "min_objects is larger"),
        (crowds.Config, {"num_new_shapes": 24}, "is 28, there are 24"),
    ],
)
def test_impossible_worlds_are_refused(config, values, message):
    with pytest.raises(ValidationError, match=message):
        config(**values)
