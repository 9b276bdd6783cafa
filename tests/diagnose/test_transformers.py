"""Vision transformers in the analyses: those that need levels alone read them all."""

import pytest
from tests.diagnose.networks import fine_tuned, nudged, seen, world
from tests.diagnose.planted import drift as planted_drift
from tests.diagnose.planted import invariance as planted_invariance
from tests.diagnose.planted import localisation_content as planted_content
from tests.diagnose.test_inversion import FEW

from whytransfer.backbone.build import Architecture, build
from whytransfer.core.errors import InputError
from whytransfer.core.streams import Stream
from whytransfer.diagnose.analyses import drift, invariance, inversion, localisation_content

LEVELS = ("embed", "block3", "block6", "block9", "block12", "class_token")


def vit(seed=0):
    return build(Architecture(name="vit_tiny_16", width=8), Stream(seed, "planted")).eval()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return world(tmp_path_factory.mktemp("world"), num_train=40, num_test=40)


def levels_read(finding, measure):
    names = {metric.name for metric in (finding.headline, *finding.metrics)}
    return tuple(level for level in LEVELS if f"{measure}.{level}[a]" in names)


def test_what_reads_levels_follows_the_backbone(data, tmp_path):
    runs = [seen("a", vit()), seen("b", vit(1))]
    config = planted_invariance.QUICK.model_copy(update={"levels": ()})
    finding = invariance.answer(runs, data, config, tmp_path)
    assert levels_read(finding, "sensitivity_flip") == LEVELS
    config = planted_content.QUICK.model_copy(update={"levels": ()})
    finding = localisation_content.answer(runs, data, config, tmp_path)
    assert levels_read(finding, "position_grid") == LEVELS
    patches, token = ("position_grid.block3[a]", "position_grid.class_token[a]")
    values = {metric.name: metric.value for metric in (finding.headline, *finding.metrics)}
    assert values[patches] > values[token]  # one cell can't say where


def test_drift_of_a_level_that_moved(data, tmp_path):
    before = vit()
    after, moved = nudged(before), nudged(before)
    moved.net.blocks[4].load_state_dict(vit(9).net.blocks[4].state_dict())
    runs = [fine_tuned("a", before, moved), fine_tuned("b", before, after)]
    finding = drift.answer(runs, data, planted_drift.QUICK, tmp_path)
    assert levels_read(finding, "cka") == LEVELS
    assert levels_read(finding, "weight_distance") == LEVELS
    values = {metric.name: metric.value for metric in (finding.headline, *finding.metrics)}
    distances = {level: values[f"weight_distance.{level}[a]"] for level in LEVELS[:-1]}
    assert distances["block6"] > 0.15
    assert max(value for level, value in distances.items() if level != "block6") < 0.05


def test_inversion_takes_a_level_that_is_named(data, tmp_path):
    config = FEW.model_copy(update={"levels": ("block3", "class_token")})
    finding = inversion.answer([seen("a", vit())], data, config, tmp_path)
    names = {metric.name for metric in (finding.headline, *finding.metrics)}
    assert {"psnr.block3[a]", "psnr.class_token[a]"} <= names
    with pytest.raises(InputError, match=r"no level 'layer4'; expected some of embed, block3"):
        inversion.answer([seen("a", vit())], data, FEW.model_copy(update={"levels": ("layer4",)}),
                         tmp_path)  # fmt: skip
