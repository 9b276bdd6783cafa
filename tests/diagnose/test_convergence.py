"""Does it transfer or only start faster, of simulated runs whose courses are known."""

from dataclasses import replace

import pytest
from pydantic import ValidationError
from tests.diagnose.planted import convergence as planted
from tests.diagnose.simulated import class_runs, point_runs
from tests.ops.planted_scenes import perfect, planted_truth, shifted

from whytransfer.core.errors import InputError
from whytransfer.diagnose.analyses.convergence import Config, answer, variants
from whytransfer.diagnose.analysis import DetectionRun


def found(rates, tmp_path, **kwargs):
    return answer(class_runs(rates, **kwargs), None, planted.CONFIG, tmp_path)


def test_every_length_but_the_studys_own_is_a_variant():
    assert [(v.name, v.length) for v in variants(Config())] == [
        ("length_0.25", 0.25), ("length_0.5", 0.5), ("length_2", 2.0),
    ]  # fmt: skip


def test_a_gap_that_stays_is_a_transfer(tmp_path):
    finding = answer(*planted.cause(tmp_path), tmp_path)
    assert "a transfers (+" in finding.answer and "less than at 0.25" in finding.answer
    assert finding.headline.name == "top1[a - random_init at 2x]"
    assert finding.headline.low > 0


def test_better_only_at_short_lengths_only_starts_faster(tmp_path):
    finding = found(planted.rates((0.6, 0.65, 0.7, 0.7), (0.3, 0.5, 0.7, 0.7)), tmp_path)
    assert finding.answer.startswith("No difference shown to random_init at 2 times")
    assert "a only starts faster (+" in finding.answer
    assert finding.headline.low <= 0 <= finding.headline.high
    gaps = {row["length"]: row for row in finding.tables[0].rows}
    assert gaps["0.25"]["shown"] == gaps["0.5"]["shown"] == gaps["0.25 minus 2"]["shown"] == "yes"
    assert gaps["1"]["shown"] == gaps["2"]["shown"] == "no"
    curve = finding.figures["top1_over_length"]
    assert [row["x"] for row in curve if row["arm"] == "a"] == [0.25, 0.5, 1.0, 2.0]


def test_worse_only_at_short_lengths_only_starts_slower(tmp_path):
    finding = found(planted.rates((0.3, 0.5, 0.7, 0.7), (0.6, 0.65, 0.7, 0.7)), tmp_path)
    assert "a only starts slower" in finding.answer


def test_a_gap_that_fades_without_being_shown_to_shrink_is_not_called_a_start(tmp_path):
    rates = planted.rates((0.5, 0.8, 0.6, 0.6), (0.5, 0.5, 0.6, 0.6))
    finding = found(rates, tmp_path)
    assert "only starts" not in finding.answer and "that it shrinks isn't shown" in finding.answer


def test_a_lasting_loss_is_a_worse_transfer(tmp_path):
    finding = found(planted.rates((0.3, 0.3, 0.4, 0.5), (0.5, 0.5, 0.6, 0.7)), tmp_path)
    assert "a transfers worse" in finding.answer and finding.headline.high < 0


def test_of_an_error_less_is_better(tmp_path):
    transfers = planted.rates((0.6, 0.7, 0.8, 0.8), (0.3, 0.4, 0.6, 0.7))
    finding = answer(point_runs(transfers), None, planted.CONFIG, tmp_path)
    assert "a transfers (-" in finding.answer and finding.headline.high < 0
    assert finding.headline.name == "inter_ocular_error[a - random_init at 2x]"
    starts = planted.rates((0.6, 0.65, 0.7, 0.7), (0.3, 0.5, 0.7, 0.7))
    finding = answer(point_runs(starts), None, planted.CONFIG, tmp_path)
    assert "a only starts faster (-" in finding.answer


def test_several_arms_are_each_said_and_the_transfer_comes_first(tmp_path):
    rates = planted.rates((0.6, 0.65, 0.7, 0.7), (0.3, 0.5, 0.7, 0.7))
    rates |= {("b", variant): 0.9 for _, variant in list(rates)}
    finding = found(rates, tmp_path)
    assert finding.answer.index("b transfers") < finding.answer.index("a only starts faster")
    assert finding.headline.name == "top1[b - random_init at 2x]"
    assert "(10 comparisons, Holm)" in finding.answer


def test_detectors_of_one_seed_have_points_and_no_seed_interval(tmp_path):
    truth = planted_truth(24)
    good, bad = perfect(truth), shifted(perfect(truth))
    config = Config(lengths=(0.5, 1.0), precision="AP50")
    runs = [
        DetectionRun(arm, 0, arm + name, truth, good if arm == "a" else bad, name)
        for arm in ("a", "random_init")
        for name in ("length_0.5", "")
    ]
    finding = answer(runs, None, config, tmp_path)
    assert finding.headline.unit == "AP points" and finding.headline.value > 50
    assert "With one seed there is no interval over seeds" in finding.caveat
    assert "shrink" not in finding.answer


def test_missing_lengths_are_named_whatever_else_is_there(tmp_path):
    runs, _, config = planted.cause(tmp_path)
    lacking = [
        r
        for r in runs
        if (r.arm, r.variant, r.seed) not in (("random_init", "length_2", 1), ("a", "", 0))
    ]
    more = [replace(runs[0], variant="up_to_stem_standard")]
    message = "2 runs are missing: a/seed0 itself, random_init/seed1 length_2"
    with pytest.raises(InputError, match=message):
        answer([*lacking, *more], None, config, tmp_path)
    assert answer([*runs, *more], None, config, tmp_path) == answer(runs, None, config, tmp_path)


def test_arms_on_other_images_are_refused(tmp_path):
    runs, _, config = planted.cause(tmp_path)
    moved = [replace(r, images=r.images[::-1]) if r.arm == "random_init" else r for r in runs]
    with pytest.raises(InputError, match="tested on other images"):
        answer(moved, None, config, tmp_path)


@pytest.mark.parametrize("lengths", [(1.0,), (2.0, 1.0), (1.0, 1.0), (0.0, 1.0)])
def test_lengths_that_are_no_course_are_refused(lengths):
    with pytest.raises(ValidationError):
        Config(lengths=lengths)
