"""Which levels carry the transfer, of simulated runs; and what can't be compared."""

from dataclasses import replace

import pytest
from pydantic import ValidationError
from tests.diagnose.planted import stage_transplant as planted
from tests.diagnose.simulated import class_runs, point_runs
from tests.ops.planted_scenes import perfect, planted_truth, shifted

from whytransfer.core.errors import InputError
from whytransfer.diagnose.analyses.stage_transplant import Config, answer, variants
from whytransfer.diagnose.analysis import DetectionRun


def found(runs, tmp_path, config=planted.CONFIG):
    return answer(runs, None, config, tmp_path)


def losses(finding):
    return finding.tables[0].rows


def test_there_is_a_variant_for_every_cut_side_and_start():
    names = [variant.name for variant in variants(Config())]
    assert len(names) == len(set(names)) == 4 * 2 * 2
    assert "up_to_stem_standard" in names and "from_layer4_matched" in names
    # Nothing is cut at the last level, which is the whole backbone; nor at none.
    assert not {"up_to_layer4_standard", "from_stem_standard"} & set(names)
    assert all(variant.except_for == ("random_init",) for variant in variants(Config()))
    assert [v.name for v in variants(Config(cuts=("layer2",), rest=("matched",)))] == [
        "up_to_layer2_matched", "from_layer3_matched",
    ]  # fmt: skip


def test_runs_that_fall_where_layer3_is_taken_away_are_found(tmp_path):
    finding = found(planted.cause(tmp_path)[0], tmp_path)
    shown = {(row["kept"], row["the rest"]) for row in losses(finding) if row["shown"] == "yes"}
    assert shown == {
        (kept, rest)
        for kept in ("up to stem", "up to layer1", "up to layer2", "from layer4")
        for rest in ("standard", "matched")
    }
    assert finding.headline.high < 0 and finding.headline.interval == "seeds then images"
    assert "a loses with" in finding.answer and "% of the gain left" in finding.answer
    share = next(row["% of the gain"] for row in losses(finding) if row["kept"] == "up to layer1")
    assert share == pytest.approx(25, abs=15)  # 55 over 50, of 70 over 50
    whole = [row for row in finding.figures["gain_kept_up_to_standard"] if row["level"] == "layer4"]
    assert whole[0]["value"] == pytest.approx(20, abs=4)


def test_of_an_error_less_is_better(tmp_path):
    finding = found(point_runs(planted.rates(planted.falls), seeds=range(5)), tmp_path)
    assert "a loses with" in finding.answer and "% of the gain left" in finding.answer
    assert finding.headline.low > 0
    share = next(row["% of the gain"] for row in losses(finding) if row["kept"] == "up to layer1")
    assert share == pytest.approx(25, abs=15)


def test_no_shares_where_no_gain_is_shown(tmp_path):
    rates = planted.rates(planted.falls) | {("random_init", ""): 0.7}
    finding = found(class_runs(rates), tmp_path)
    assert {row["% of the gain"] for row in losses(finding)} == {None}
    assert "% of the gain" not in finding.answer


def test_a_loss_is_no_gain_to_have_a_share_of(tmp_path):
    rates = planted.rates(planted.falls) | {("random_init", ""): 0.95}
    finding = found(class_runs(rates), tmp_path)
    assert {row["% of the gain"] for row in losses(finding)} == {None}
    assert "% of the gain" not in finding.answer


def test_below_three_seeds_it_says_so(tmp_path):
    finding = found(class_runs(planted.rates(planted.falls), seeds=(0, 1)), tmp_path)
    assert "With 2 seeds there is no interval over seeds" in finding.caveat
    assert finding.headline.interval == "images (these fixed models)"
    assert {row["seed"] for row in finding.tables[-1].rows} == {0, 1}


def test_detectors_are_read_by_their_ap(tmp_path):
    truth = planted_truth(24)
    good, bad = perfect(truth), shifted(perfect(truth))
    config = Config(cuts=("layer1",), keep=("up_to",), rest=("standard",))
    runs = [
        DetectionRun("a", 0, "a", truth, good),
        DetectionRun("a", 0, "b", truth, bad, "up_to_layer1_standard"),
        DetectionRun("random_init", 0, "r", truth, bad),
    ]
    finding = found(runs, tmp_path, config)
    assert finding.headline.unit == "AP points" and finding.headline.value < -50
    assert losses(finding)[0]["% of the gain"] == pytest.approx(0, abs=1e-9)


def test_missing_runs_are_named_and_others_are_refused(tmp_path):
    runs = planted.cause(tmp_path)[0]
    lacking = [r for r in runs if (r.variant, r.seed) != ("from_layer2_matched", 1)]
    with pytest.raises(InputError, match="1 runs are missing: a/seed1 from_layer2_matched"):
        found(lacking, tmp_path)
    moved = [replace(r, images=r.images[::-1]) if r.arm == "random_init" else r for r in runs]
    with pytest.raises(InputError, match="tested on other images"):
        found(moved, tmp_path)
    with pytest.raises(InputError, match="field reference: found 'random_init'"):
        found([replace(r, arm="b") if r.arm == "random_init" else r for r in runs], tmp_path)
    with pytest.raises(InputError, match="is the only arm"):
        found([r for r in runs if r.arm == "random_init"], tmp_path)


@pytest.mark.parametrize("level", ["layer5", "layer4", "conv1"])
def test_a_stage_that_a_backbone_lacks_is_refused(level):
    with pytest.raises(ValidationError, match=f"no cut after '{level}'"):
        Config(cuts=(level,))
