"""What can be read out of features: planted causes, the oracle's numbers, boxes, and refusals."""

import json

import numpy as np
import pytest
import torch
from tests.diagnose.networks import colour_blind, network, redrawn, seen, tinted, world
from tests.diagnose.planted import localisation_content as planted
from tests.oracles import pooling
from tests.oracles import ridge as oracle

from whytransfer.backbone.features import Centre
from whytransfer.core.errors import InputError
from whytransfer.data.dataset import from_spec
from whytransfer.data.factors import SIDECAR
from whytransfer.data.views import center_view
from whytransfer.data.world import crowds
from whytransfer.diagnose.analyses import localisation_content
from whytransfer.diagnose.analyses.localisation_content import View
from whytransfer.diagnose.contents import Contents, contents

QUICK = planted.QUICK


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return world(tmp_path_factory.mktemp("world"), num_train=160, num_test=80)


def answer(runs, data, tmp_path, **changes):
    return localisation_content.answer(runs, data, QUICK.model_copy(update=changes), tmp_path)


def values_of(finding):
    return {m.name: m.value for m in (finding.headline, *finding.metrics)}


def test_colour_blindness_is_found_and_position_is_kept(data, tmp_path):
    finding = answer([seen("a", network()), seen("b", colour_blind(network()))], data, tmp_path)
    assert finding.headline.name.startswith("colour_") and finding.headline.high < 0
    assert "b has a lower R² of colour" in finding.answer
    shown = {row["measure"] for row in finding.tables[0].rows if row["shown"] == "yes"}
    assert shown == {"colour_pooled", "colour_grid"}
    values = values_of(finding)
    for arm in "ab":
        assert values[f"position_grid.layer1[{arm}]"] > 0.7
        assert values[f"position_pooled.layer1[{arm}]"] < 0.3


def test_numbers_are_the_oracles(data, tmp_path):
    backbone = network()
    finding = answer([seen("a", backbone)], data, tmp_path, levels=("layer2",), num_train=60)
    view = Centre(resize_px=32, crop_px=32)
    found = {}
    for split, num_images in (("train", 60), ("test", 80)):
        part, factors = contents(data, split, "test").limited(num_images).seen(view)
        images = [center_view(part.source[i].image, 32, 32) for i in range(len(part.source))]
        with torch.no_grad():
            pixels = backbone.preprocessing.normalise(torch.from_numpy(np.stack(images)))
            maps = backbone.features(pixels, "layer2").double().numpy()
        found[split] = maps, factors
    for name, side in (("pooled", 1), ("grid", 3)):
        x, fresh = (pooling.pooled(found[split][0], side) for split in ("train", "test"))
        for factor, targets in found["train"][1].items():
            errors = {p: oracle.gcv(x, targets, p) for p in QUICK.penalties}
            weights, intercept = oracle.fitted(x, targets, min(errors, key=errors.get))
            predicted = (fresh - x.mean(axis=0)) @ weights + intercept
            expected = oracle.r_squared(np.ones(80), predicted, found["test"][1][factor])
            value = values_of(finding)[f"{factor}_{name}.layer2[a]"]
            assert value == pytest.approx(expected, abs=1e-3)


def test_one_arm_says_where_each_factor_is_read_best(data, tmp_path):
    finding = answer([seen("a", network())], data, tmp_path)
    assert finding.answer.startswith("a, at its best level each: R² of position (grid) is 0.")
    assert finding.headline.name == "position_grid.layer1[a]"
    assert finding.headline.low > 0.5 and finding.headline.unit == ""
    last = finding.tables[-1]
    assert last.title.startswith("Penalties chosen")
    assert {row["penalty"] for row in last.rows} <= set(QUICK.penalties)
    for rows in finding.figures.values():
        assert all(set(r) == {"arm", "level", "value", "low", "high", "seed"} for r in rows)


def test_three_seeds_have_an_interval_over_seeds_and_a_null_is_not_shown(data, tmp_path):
    def runs(num_seeds):
        return [
            seen(arm, network(10 * shift + seed), seed)
            for shift, arm in enumerate("ab")
            for seed in range(num_seeds)
        ]

    only = {"poolings": ("grid",), "levels": ("layer1",), "num_train": 80}
    two = answer(runs(2), data, tmp_path, **only)
    assert "Fewer than three seeds of a, b" in two.caveat
    three = answer(runs(3), data, tmp_path, **only)
    assert "Fewer than" not in three.caveat
    assert three.headline.interval == "seeds then images"
    assert "No difference shown to a" in three.answer
    assert set(three.figures) == {f"{n}_grid" for n in ("position", "size", "pose", "colour")}


def test_a_reference_can_be_named(data, tmp_path):
    runs = [seen(name, network()) for name in ("a", "random_init")]
    runs.append(seen("c", redrawn(network(), "layer1")))
    only = {"poolings": ("grid",), "levels": ("layer1",), "num_train": 60}
    by_default = answer(runs, data, tmp_path, **only)
    assert {m.name.partition(" - ")[2] for m in by_default.metrics if " - " in m.name} == {
        "random_init]"
    }
    named = answer(runs, data, tmp_path, reference="c", **only)
    assert named.headline.name.endswith(" - c]")
    with pytest.raises(InputError, match=r"found 'cc'; expected one of a, random_init, c; did you"):
        answer(runs, data, tmp_path, reference="cc")


@pytest.fixture(scope="module")
def boxed(tmp_path_factory):
    root = tmp_path_factory.mktemp("crowds")
    config = crowds.Config(
        num_train=90, num_test=60, size_px=48, min_objects=1, max_objects=2, min_radius=0.2
    )
    crowds.write(root, config, 0)
    return from_spec({**crowds.DATASET, "root": str(root)}, None, "test")


class TestTheContents:
    def test_of_crowds_the_images_with_one_object_are_taken(self, boxed):
        found = contents(boxed, "test", "test")
        lines = [json.loads(t) for t in (boxed.config.root / SIDECAR).read_text().splitlines()]
        single = {line["file"]: line for line in lines if len(line["objects"]) == 1}
        assert 0 < len(found.source) < 60 and found.exact
        for index in range(len(found.source)):
            name = found.source.path(index).relative_to(boxed.config.root).as_posix()
            (factors,) = single[name]["objects"]
            assert found.centre[index].tolist() == factors["centre_xy"]
            assert found.size[index].tolist() == [factors["radius_px"]]
            assert found.others["colour"][index].tolist() == factors["colour"]
            turn = np.arctan2(*found.others["pose"][index])
            assert np.rad2deg(turn) == pytest.approx(factors["angle_deg"])

    def test_without_factors_boxes_say_where_an_object_is(self, boxed, tmp_path):
        exact = contents(boxed, "test", "test")
        (boxed.config.root / SIDECAR).rename(tmp_path / SIDECAR)
        try:
            found = contents(boxed, "test", "test")
            finding = answer([seen("a", network())], boxed, tmp_path, num_train=60)
        finally:
            (tmp_path / SIDECAR).rename(boxed.config.root / SIDECAR)
        assert not found.exact and found.others == {}
        # Some object that is drawn is hidden behind another one, so boxes name further images.
        both = {exact.source.name(i): i for i in range(len(exact.source))}
        known = [(i, both[n]) for i in range(len(found.source))
                 if (n := found.source.name(i)) in both]  # fmt: skip
        assert len(known) > 10
        for ours, theirs in known:
            box = found.size[ours] / 2
            assert (np.abs(found.centre[ours] - exact.centre[theirs]) <= box).all()
        assert set(finding.figures) == {
            f"{name}_{kind}" for name in ("position", "size") for kind in ("pooled", "grid")
        }
        assert "of the annotated box" in finding.caveat

    def test_positions_are_those_in_the_view(self):
        class Source:
            sizes = ((100, 200), (50, 50), (100, 200))

            def __len__(self):
                return 3

            def size(self, index):
                return self.sizes[index]

        centre = np.array([[100.0, 50.0], [10.0, 40.0], [30.0, 50.0]])
        size = np.array([[20.0, 10.0], [5.0, 5.0], [20.0, 10.0]])
        found = Contents(Source(), centre, size, {"colour": np.eye(3)}, exact=False)
        kept, factors = found.seen(Centre(resize_px=50, crop_px=50))
        # The third one's centre lies left of the middle square.
        np.testing.assert_allclose(factors["position"], [[0.5, 0.5], [0.2, 0.8]])
        np.testing.assert_allclose(factors["size"], [[0.2, 0.1], [0.1, 0.1]])
        assert factors["colour"].tolist() == np.eye(3)[:2].tolist() and len(kept.source) == 2
        _, smaller = found.seen(Centre(resize_px=50, crop_px=40))
        np.testing.assert_allclose(smaller["position"][0], [0.5, 0.5])
        np.testing.assert_allclose(smaller["position"][1], [5 / 40, 35 / 40])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"levels": ("layer7",)}, "no level 'layer7'"),
        ({"view": View(crop_px=4)}, r"single object inside the view|smaller than the stride"),
        ({"num_test": 10}, "10 test images show a single object inside the view; expected at lea"),
    ],
)
def test_what_is_refused(change, message, data, tmp_path):
    with pytest.raises(InputError, match=message):
        answer([seen("a", network())], data, tmp_path, **change)


def test_data_that_say_nothing_of_their_objects_are_refused(data, tmp_path):
    runs = [seen("a", network())]
    with pytest.raises(InputError, match="no data given"):
        answer(runs, None, tmp_path)
    tints = tinted(tmp_path / "tints", num_per_class=2)
    with pytest.raises(InputError, match=r"neither the world's factors nor boxes; expected the"):
        answer(runs, tints, tmp_path)
    config = crowds.Config(num_train=8, num_test=8, size_px=48, min_objects=4, max_objects=5)
    crowds.write(tmp_path / "full", config, 0)
    full = from_spec({**crowds.DATASET, "root": str(tmp_path / "full")}, None, "test")
    with pytest.raises(InputError, match="none of the 8 train images has exactly one object"):
        answer(runs, full, tmp_path)
