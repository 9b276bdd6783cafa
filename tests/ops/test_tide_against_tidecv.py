"""Equal to tidecv's figures, by boxes and by masks; see tests/oracles/make_tidecv_constants.py."""

import json
from pathlib import Path

import numpy as np
import pytest
from tests.ops.tide_scenes import NUM_RANDOM, REAL, scenes

from whytransfer.ops.boxes import area_xyxy
from whytransfer.ops.object_sizes import bands
from whytransfer.ops.tide import HIT, MAIN_TYPES, TYPES, among, tide_errors, tide_gains

CONSTANTS = json.loads(
    (Path(__file__).parents[1] / "oracles" / "tidecv_constants.json").read_text(encoding="utf-8")
)
CASES = {(case["set"], case["overlap"]): case for case in CONSTANTS["cases"]}
POINTS = 1e-4


@pytest.fixture(scope="module")
def sets():
    return {name: (found, truth) for name, found, truth in scenes()}


def test_the_constants_are_of_the_released_package_and_of_every_set(sets):
    assert CONSTANTS["versions"]["tidecv"] == "1.0.1"
    assert {name for name, _ in CASES} == set(sets)
    assert len(sets) == NUM_RANDOM + len(REAL) == 23
    assert sum(overlap == "masks" for _, overlap in CASES) == NUM_RANDOM
    for kind in MAIN_TYPES:
        assert max(case["gains"][kind] for case in CASES.values()) > 1


@pytest.mark.parametrize(("name", "overlap"), CASES)
def test_equal_to_tidecv(name, overlap, sets):
    case = CASES[name, overlap]
    errors = tide_errors(*sets[name], by=overlap)
    gains = tide_gains(errors, recalls="tidecv")
    counts = np.bincount(errors.kind[errors.kind != HIT], minlength=len(MAIN_TYPES) - 1)
    assert [*counts, errors.missed.sum()] == [case["counts"][kind] for kind in MAIN_TYPES]
    assert gains.before == pytest.approx(case["ap_per_class"], abs=POINTS)
    assert gains.before.mean() == pytest.approx(case["ap"], abs=POINTS)
    assert gains.in_all() == pytest.approx([case["gains"][kind] for kind in TYPES], abs=POINTS)


@pytest.mark.parametrize("name", [name for name, overlap in CASES if overlap == "boxes"])
def test_the_errors_of_one_size_cost_what_tidecv_says(name, sets):
    found, truth = sets[name]
    errors, scale = tide_errors(found, truth), bands(truth, "coco")
    size_of_object = scale.of(truth.area, truth.label)
    size = scale.of(area_xyxy(found.boxes_xyxy)[errors.row], errors.label)
    size = np.where(errors.target >= 0, size_of_object[errors.target], size)
    for band, words in enumerate(scale.names):
        part = among(errors, truth, size == band, size_of_object == band)
        gains = tide_gains(part, recalls="tidecv").in_all()[: len(MAIN_TYPES)]
        expected = CASES[name, "boxes"]["by_size"][words]
        assert gains == pytest.approx([expected[kind] for kind in MAIN_TYPES], abs=POINTS)


def test_the_two_grids_of_recall_differ_by_little(sets):
    # Only where the share of objects found is one of the ten points of which COCO's is too large.
    apart = []
    for found, truth in sets.values():
        errors = tide_errors(found, truth)
        own, theirs = tide_gains(errors), tide_gains(errors, recalls="tidecv")
        apart.append(np.abs(own.before - theirs.before).max())
    assert 0 < max(apart) < 100 * 10 / 101
    assert np.median(apart) < 0.5
