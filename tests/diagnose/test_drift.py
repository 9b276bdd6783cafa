"""What fine-tuning keeps: planted changes of single levels, and what is refused."""

import numpy as np
import pytest
import torch
from tests.diagnose.networks import fine_tuned, network, nudged, redrawn, world
from tests.diagnose.planted import drift as planted
from tests.oracles import similarity as oracle

from whytransfer.core.errors import InputError
from whytransfer.data.views import center_view
from whytransfer.diagnose.analyses import drift
from whytransfer.diagnose.analyses.drift import Config

LEVELS = ("stem", "layer1", "layer2", "layer3", "layer4")
QUICK = planted.QUICK


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def pair():
    before = network()
    return before, nudged(before)


def answer(runs, data, tmp_path, **changes):
    return drift.answer(runs, data, QUICK.model_copy(update=changes), tmp_path)


def table(finding, title):
    return next(t for t in finding.tables if t.title.startswith(title)).rows


@pytest.mark.parametrize("level", ["layer1", "layer3"])
def test_a_level_drawn_anew_is_found(level, data, pair, tmp_path):
    before, after = pair
    runs = [fine_tuned("a", before, after), fine_tuned("b", before, redrawn(after, level))]
    finding = answer(runs, data, tmp_path)
    assert f"CKA differs: b from {level} on." in finding.answer
    assert "b has a lower CKA" in finding.answer and finding.headline.high < 0
    shown = {row["level"]: row["shown"] for row in finding.tables[0].rows}
    assert [name for name in LEVELS if shown[name] == "no"] == list(LEVELS[: LEVELS.index(level)])
    far = {r["level"]: r["weight_distance"] for r in table(finding, "What") if r["arm"] == "b"}
    assert far[level] > 0.5 and max(v for k, v in far.items() if k != level) < 0.1
    layers = {r["layer"]: r["distance"] for r in table(finding, "Distance") if r["arm"] == "b"}
    assert {name.partition(".")[0] for name, d in layers.items() if d > 0.5} == {level}


def test_one_arm_says_where_it_keeps_least(data, pair, tmp_path):
    before, after = pair
    finding = answer([fine_tuned("a", before, redrawn(after, "layer4"))], data, tmp_path)
    assert finding.answer.startswith("a keeps least at layer4: CKA ")
    assert finding.headline.name == "cka.layer4[a]"
    same = answer([fine_tuned("a", before, before)], data, tmp_path)
    values = {m.name: m.value for m in (same.headline, *same.metrics)}
    for level in LEVELS:
        assert values[f"cka.{level}[a]"] == pytest.approx(1)
        assert values[f"weight_distance.{level}[a]"] == 0
        assert values[f"rank_change.{level}[a]"] == 0


def test_its_numbers_are_the_oracles(data, pair, tmp_path):
    before, after = pair
    finding = answer([fine_tuned("a", before, after)], data, tmp_path, levels=("layer2",))
    source = data.open("test")
    pixels = np.stack([center_view(source[i].image, 32, 28) for i in range(len(source))])
    found = []
    for net in (before, after):
        with torch.no_grad():
            images = net.preprocessing.normalise(torch.from_numpy(pixels))
            found.append(net.features(images, "layer2").mean(dim=(2, 3)).double().numpy())
    values = {m.name: m.value for m in (finding.headline, *finding.metrics)}
    assert values["cka_uncorrected.layer2[a]"] == pytest.approx(oracle.cka(*found), rel=1e-6)
    for name, features in zip(("before", "after"), found, strict=True):
        rank = oracle.effective_rank(features)
        assert values[f"rank_{name}.layer2[a]"] == pytest.approx(rank, rel=1e-3)
        count = oracle.num_directions(features, 0.99)
        assert values[f"directions_99_{name}.layer2[a]"] == count


def test_three_seeds_have_an_interval_over_seeds_and_fewer_say_that_they_have_none(data, tmp_path):
    def runs(num_seeds):
        return [
            fine_tuned(arm, network(seed), nudged(network(seed), 10 * seed + shift, 0.1), seed)
            for shift, arm in enumerate("ab")
            for seed in range(num_seeds)
        ]

    two = answer(runs(2), data, tmp_path, levels=("layer3", "layer4"))
    assert "Fewer than three seeds of a, b" in two.caveat
    assert two.headline.interval == "images (these fixed models)"
    of_weights = next(m for m in two.metrics if m.name == "weight_distance.layer4[b - a]")
    assert of_weights.low is None and of_weights.interval == "none (fewer than three seeds)"
    three = answer(runs(3), data, tmp_path, levels=("layer3", "layer4"))
    assert "Fewer than" not in three.caveat
    assert three.headline.interval == "seeds then images"
    assert "No difference shown to a" in three.answer
    of_weights = next(m for m in three.metrics if m.name == "weight_distance.layer4[b - a]")
    assert of_weights.interval == "seeds" and of_weights.low < 0 < of_weights.high
    seeds = {row["seed"] for row in table(three, "What is kept, and the rank of the features "
             "before and after, seed by seed")}  # fmt: skip
    assert seeds == {0, 1, 2, "sd"}


def test_figures_have_the_generic_form(data, pair, tmp_path):
    finding = answer([fine_tuned("a", *pair)], data, tmp_path)
    rows = finding.figures["cka"]
    assert [row["level"] for row in rows] == list(LEVELS)
    assert all(set(row) == {"arm", "level", "value", "low", "high", "seed"} for row in rows)
    assert set(finding.figures["weight_distance"][0]) == {"arm", "level", "value", "seed"}


def test_a_grid_of_the_map_can_be_compared_too(data, pair, tmp_path):
    runs = [fine_tuned("a", *pair)]
    plain = answer(runs, data, tmp_path, levels=("layer1",)).headline.value
    grid = answer(runs, data, tmp_path, levels=("layer1",), num_values=128)
    assert grid.headline.value != plain and "a grid of about 128 numbers" in grid.caveat


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"levels": ("layer5",)}, "no level 'layer5'"),
        ({"reference": "c"}, "field reference: found 'c'; expected one of a, b"),
        ({"view": drift.View(crop_px=8)}, "a view of 8 px is smaller than the stride of layer4"),
        ({"num_images": 10}, "the test split has 10 images; expected at least 32"),
    ],
)
def test_what_is_refused(change, message, data, pair, tmp_path):
    runs = [fine_tuned(arm, *pair) for arm in "ab"]
    with pytest.raises(InputError, match=message):
        answer(runs, data, tmp_path, **change)


def test_no_runs_no_data_and_a_run_twice_are_refused(data, pair, tmp_path):
    one = fine_tuned("a", *pair)
    with pytest.raises(InputError, match="no data given"):
        answer([one], None, tmp_path)
    with pytest.raises(InputError, match="no runs given"):
        answer([], data, tmp_path)
    with pytest.raises(InputError, match=r"a \(seed 0\) stands twice"):
        answer([one, one], data, tmp_path)


def test_a_small_level_may_be_left_out_of_a_small_view(data, pair, tmp_path):
    small = drift.View(crop_px=8)
    finding = answer([fine_tuned("a", *pair)], data, tmp_path, view=small, levels=("stem",))
    assert finding.headline.name == "cka.stem[a]"


def test_settings_are_checked():
    with pytest.raises(ValueError, match="num_groups"):
        Config(num_groups=2)
