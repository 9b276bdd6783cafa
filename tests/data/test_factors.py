"""The world's sidecar, read back: the same factors, and the same pictures rendered from them."""

import json

import numpy as np
import pytest

from whytransfer.core.errors import InputError
from whytransfer.core.streams import Stream
from whytransfer.data.dataset import from_spec, limited
from whytransfer.data.factors import SIDECAR, factors, moved
from whytransfer.data.world import crowds, faces, things

PLAIN = things.Config(num_train=6, num_test=5, num_shapes=2, size_px=32)


def made(root, maker=things, config=PLAIN, **reads):
    maker.write(root, config, 3)
    return from_spec({**maker.DATASET, **reads, "root": str(root)}, None, "test")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return made(tmp_path_factory.mktemp("things") / "world")


def test_what_was_drawn_is_what_the_maker_renders(data):
    for split, first in (("train", 0), ("test", 1 << 30)):
        source = data.open(split)
        for index, drawn in enumerate(factors(data, source)):
            number = int(source.path(index).stem)
            expected = things.render(PLAIN, 3, first + number)
            assert drawn.background == expected.background
            (figure,) = drawn.figures
            assert vars(figure).items() <= vars(expected.objects[0]).items()


def test_a_picture_rendered_again_is_the_picture_but_for_its_noise(data):
    source = data.open("test")
    for index, drawn in enumerate(factors(data, source)):
        again = drawn.rendered(32, Stream(0, "noise", index)).astype(int)
        # Two draws of two grey levels of noise, and JPEG.
        assert np.abs(again - source[index].image).mean() < 3
        assert np.array_equal(again, drawn.rendered(32, Stream(0, "noise", index)))


def test_a_part_of_a_split_has_its_own_factors_in_its_own_order(data):
    source = data.open("train")
    few = limited(source, 3)
    everything = {source.name(i): f for i, f in enumerate(factors(data, source))}
    assert factors(data, few) == tuple(everything[few.name(i)] for i in range(3))


def test_an_object_is_moved_by_what_is_said(data):
    drawn = factors(data, data.open("test"))[0]
    figure = drawn.figures[0]
    x, y = figure.centre_xy
    there = moved(figure, (2.0, -1.0), 0.5, 10.0)
    assert there.centre_xy == (x + 2, y - 1)
    assert there.radius_px == figure.radius_px / 2
    assert there.angle_deg == figure.angle_deg + 10
    assert moved(figure) == figure


def test_crowds_have_several_objects_and_faces_no_objects(tmp_path):
    config = crowds.Config(num_train=8, num_test=8, size_px=48)
    data = made(tmp_path / "crowds", crowds, config)
    found = factors(data, data.open("test"))
    assert max(len(drawn.figures) for drawn in found) > 1
    config = faces.Config(num_train=8, num_val=2, num_test=4, num_identities=4)
    data = made(tmp_path / "faces", faces, config)
    assert factors(data, data.open("test")) is None


def test_without_the_sidecar_or_a_line_of_it_there_are_none(tmp_path):
    data = made(tmp_path / "world")
    source, file = data.open("test"), tmp_path / "world" / SIDECAR
    lines = file.read_text().splitlines()
    file.write_text("\n".join(lines[:-1]))
    assert factors(data, source) is None
    assert factors(data, data.open("train")) is not None
    file.unlink()
    assert factors(data, source) is None


@pytest.mark.parametrize("broken", ["{", json.dumps({"index": 3}), "[]"])
def test_a_malformed_line_is_named(broken, tmp_path):
    data = made(tmp_path / "world")
    file = tmp_path / "world" / SIDECAR
    lines = file.read_text().splitlines()
    lines[1] = broken
    file.write_text("\n".join(lines))
    with pytest.raises(InputError, match=r"factors\.jsonl, line 2: not readable"):
        factors(data, data.open("test"))
