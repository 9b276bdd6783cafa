"""The world of kinds in three sets."""

import json

import numpy as np
import pytest

from whytransfer.core.errors import InputError
from whytransfer.data.make import configure
from whytransfer.data.world import crowds, novelties, things
from whytransfer.data.world._shapes import SHAPES
from whytransfer.data.world._surfaces import SURFACES

SMALL = {"num_base": 3, "num_validation": 2, "num_novel": 2, "per_kind": 6, "apart": 2}


def test_no_shape_is_in_two_sets_and_things_has_no_novel_one():
    for label in ("shape", "shape+surface"):
        kinds = novelties.kinds(novelties.Config(label=label))
        shapes = {
            name: {kind.shape for kind in kinds if kind.set == name}
            for name in ("train", "val", "test")
        }
        assert len(set.union(*shapes.values())) == sum(map(len, shapes.values())) == 24
        assert shapes["test"] <= set(SHAPES[-5:])
        assert not shapes["test"] & set(things.classes(things.Config()))
        assert shapes["test"] > set(SHAPES[-4:]) and "fish" in crowds.classes(crowds.Config())
        assert len({kind.label for kind in kinds}) == len(kinds)


def test_surfaces_take_turns_or_belong_to_the_kind():
    by_shape, by_both = (
        novelties.Config(**SMALL, label=label) for label in ("shape", "shape+surface")
    )
    assert len(novelties.kinds(by_shape)) == 7 and len(novelties.kinds(by_both)) == 42
    kind = novelties.kinds(by_shape)[0]
    seen = [novelties.render(by_shape, kind, 0, n).objects[0].surface for n in range(6)]
    assert seen == list(SURFACES)
    kind = novelties.kinds(by_both)[8]
    seen = {novelties.render(by_both, kind, 0, n).objects[0].surface for n in range(6)}
    assert seen == {kind.surface}


def test_pixels_are_a_function_of_kind_seed_and_number():
    config, more = novelties.Config(**SMALL), novelties.Config(num_base=9, num_validation=3)
    one = next(kind for kind in novelties.kinds(config) if kind.shape == "fish")
    same = next(kind for kind in novelties.kinds(more) if kind.shape == "fish")
    first = novelties.render(config, one, 1, 3).image
    assert np.array_equal(first, novelties.render(more, same, 1, 3).image)
    for seed, number in ((2, 3), (1, 4)):
        assert not np.array_equal(first, novelties.render(config, one, seed, number).image)


def test_the_sidecars_say_what_each_kind_shows(tmp_path):
    novelties.write(tmp_path, novelties.Config(**SMALL, size_px=32), 0)
    head, *rows = (tmp_path / "kinds.csv").read_text().splitlines()
    assert head == "label,set,shape,surface" and rows[0] == "n90000000,train,star,any"
    shown = {row.split(",")[0]: row.split(",")[2] for row in rows}
    lines = [json.loads(line) for line in (tmp_path / "factors.jsonl").read_text().splitlines()]
    assert len(lines) == 42
    for line in lines:
        (drawn,) = line["objects"]
        assert (tmp_path / line["file"]).is_file()
        assert shown[drawn["category"]] == drawn["shape"]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"num_base": 20}, "30 shapes are asked for, there are 24"),
        ({"apart": 60}, "apart leaves no picture"),
    ],
)
def test_what_does_not_fit_is_refused(fields, words):
    with pytest.raises(InputError, match=words):
        configure("novelties", fields, "test")
