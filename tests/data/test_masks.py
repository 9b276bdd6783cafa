"""Masks of objects as they were annotated: kept in few arrays, decoded on demand."""

import pickle

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from whytransfer.data.masks import Polygons, RunLengths, Shapes, columns
from whytransfer.ops.masks import decode, encode


def runs(pixels):
    return RunLengths(pixels.shape, encode(pixels[None]).counts[0])


def some(seed, count):
    """Masks of both kinds in turns, some without a part."""
    generator = np.random.default_rng(seed)
    return [
        runs(generator.random((6, 5)) < 0.5)
        if number % 3 == 2
        else Polygons(tuple(generator.uniform(0, 6, (3 + k, 2)) for k in range(number % 4)))
        for number in range(count)
    ]


def same(one, two):
    if isinstance(one, RunLengths):
        return one == two
    return len(one.parts) == len(two.parts) and all(
        np.array_equal(a, b) for a, b in zip(one.parts, two.parts, strict=True)
    )


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), count=st.integers(0, 9), low=st.integers(0, 9))
def test_many_masks_are_a_sequence_of_them(seed, count, low):
    given_ones = some(seed, count)
    kept = pickle.loads(pickle.dumps(Shapes(given_ones)))
    assert len(kept) == count
    assert all(same(a, b) for a, b in zip(kept, given_ones, strict=True))
    part = kept[low : low + 3]
    assert len(part) == len(given_ones[low : low + 3])
    assert all(same(a, b) for a, b in zip(part, given_ones[low : low + 3], strict=True))
    assert all(same(a, b) for a, b in zip(part[1:], given_ones[low : low + 3][1:], strict=True))


def test_empty_is_what_covers_nothing():
    assert Polygons(()).empty and runs(np.zeros((3, 4), dtype=bool)).empty
    assert not Polygons((np.eye(3, 2),)).empty and not runs(np.eye(3, dtype=bool)).empty


def test_columns_are_the_pixels_of_each_in_its_image():
    square = Polygons((np.array([[1.0, 1], [3, 1], [3, 4], [1, 4]]),))
    ring = np.ones((5, 6), dtype=bool)
    ring[2, 2] = False
    found = decode(columns([(square, (5, 6)), (runs(ring), (5, 6)), (Polygons(()), (5, 6))]))
    assert np.array_equal(np.argwhere(found[0]).min(0), [1, 1]) and found[0].sum() == 6
    assert np.array_equal(found[1], ring) and not found[2].any()


def test_resizing_pixels_takes_pils_nearest():
    from PIL import Image

    pixels = np.random.default_rng(0).random((7, 9)) < 0.5
    found = runs(pixels).resized((7, 9), (13, 4)).pixels()
    picture = Image.fromarray(pixels.astype(np.uint8)).resize((4, 13), Image.Resampling.NEAREST)
    assert np.array_equal(found, np.array(picture) > 0)


def test_resizing_polygons_scales_their_points():
    square = Polygons((np.array([[1.0, 1], [3, 1], [3, 4]]),))
    (part,) = square.resized((10, 20), (15, 10)).parts
    assert part.tolist() == [[0.5, 1.5], [1.5, 1.5], [1.5, 6.0]]
