"""Does the gain come from shared categories, of detectors that were made so."""

from dataclasses import replace

import numpy as np
import pytest
from tests.diagnose.exposed import labelled_data
from tests.diagnose.planted import label_overlap as planted
from tests.ops.planted_scenes import CLASSES, perfect, planted_truth

from whytransfer.core.errors import InputError
from whytransfer.diagnose.analyses.label_overlap import Config, answer, normalised
from whytransfer.ops.average_precision import average_precision, voc_matches


def found(runs, tmp_path, **settings):
    return answer(runs, None, Config(**settings), tmp_path)


@pytest.fixture
def pretraining(tmp_path):
    return (labelled_data(tmp_path / "on", ["Cat", "dog", "zebra"]),)


def gains(finding):
    return {(row["arm"], row["gain in"]): row for row in finding.tables[0].rows}


def test_a_gain_in_the_seen_classes_alone_is_found(tmp_path, pretraining):
    finding = found(planted.runs(pretraining, 0.95, 0.3), tmp_path)
    rows = gains(finding)
    assert rows["a", "seen"]["difference"] > 40 and rows["a", "seen"]["categories"] == 2
    assert rows["a", "unseen"]["categories"] == 3
    assert rows["a", "unseen"]["low"] < 0 < rows["a", "unseen"]["high"]
    assert rows["a", "seen - unseen"]["shown"] == "yes"
    assert "a gains more in seen ones" in finding.answer
    assert finding.headline.interval == "seeds then images"
    kinds = {row["class"]: row["in pretraining"] for row in finding.tables[1].rows}
    assert kinds == {name: "yes" if name in planted.SEEN else "no" for name in CLASSES}


def test_a_gain_in_the_unseen_ones_is_a_lesser_gain_in_the_seen(tmp_path, pretraining):
    finding = found(planted.runs(pretraining, 0.3, 0.95), tmp_path)
    assert "a gains less in seen ones" in finding.answer and finding.headline.high < 0


def test_the_gains_are_differences_of_mean_class_aps(tmp_path, pretraining):
    runs = planted.runs(pretraining, 0.8, 0.5)
    finding = found(runs, tmp_path, precision="AP50")
    seen = np.isin(CLASSES, planted.SEEN)
    by_arm = {"a": [], "random_init": []}
    for run in runs:
        matches = voc_matches(run.detections, run.truth)
        by_arm[run.arm].append(100 * average_precision(matches, metric="voc07")[:, 0])
    gain = np.mean(by_arm["a"], axis=0) - np.mean(by_arm["random_init"], axis=0)
    rows = gains(finding)
    assert rows["a", "seen"]["difference"] == pytest.approx(gain[seen].mean())
    assert rows["a", "unseen"]["difference"] == pytest.approx(gain[~seen].mean())
    differ = gain[seen].mean() - gain[~seen].mean()
    assert finding.headline.value == pytest.approx(differ)


def test_names_are_the_same_by_the_stated_rule_and_by_what_is_given(tmp_path):
    assert normalised(" Dining_Table") == {"dining table"}
    assert normalised("tv-monitor,  TV") == {"tv monitor", "tv"}
    on = (labelled_data(tmp_path / "on", ["beagle", "collie", "CAR", "sports_car"]),)
    runs = planted.runs(on, 0.9, 0.3)
    kinds = {row["class"]: row["in pretraining"] for row in found(runs, tmp_path).tables[1].rows}
    assert [name for name in CLASSES if kinds[name] == "yes"] == ["car"]
    finding = found(runs, tmp_path, names={"dog": ("Beagle", "collie")})
    kinds = {row["class"]: row["in pretraining"] for row in finding.tables[1].rows}
    assert [name for name in CLASSES if kinds[name] == "yes"] == ["dog", "car"]


def test_each_arm_has_its_own_split_and_one_without_is_left_out_and_said(tmp_path, pretraining):
    every = (labelled_data(tmp_path / "every", list(CLASSES)),)
    two = (pretraining[0], labelled_data(tmp_path / "more", ["bus"]))
    runs = planted.runs(pretraining, 0.9, 0.3)
    for arm, on in (("all", every), ("two", two), ("untrained", ())):
        runs += [planted.detector(arm, seed, on, [0.6] * 5) for seed in range(3)]
    finding = found(runs, tmp_path)
    counts = {(row["arm"], row["gain in"]): row["categories"] for row in finding.tables[0].rows}
    assert counts["a", "seen"] == 2 and counts["two", "seen"] == 3
    assert not [arm for arm, _ in counts if arm in ("all", "untrained")]
    assert "all (its pretraining had all of the categories)" in finding.caveat
    assert "untrained (its pretraining had none of the categories)" in finding.caveat
    assert "(2 comparisons, Holm)" in finding.answer


def test_a_class_without_an_object_is_left_out_of_the_means(tmp_path, pretraining):
    keep = planted_truth(24).label != CLASSES.index("dog")
    runs = []
    for run in planted.runs(pretraining, 0.9, 0.3):
        columns = ("image", "label", "boxes_xyxy", "difficult", "crowd", "area")
        truth = replace(run.truth, **{name: getattr(run.truth, name)[keep] for name in columns})
        runs.append(replace(run, truth=truth))
    finding = found(runs, tmp_path)
    dog = next(row for row in finding.tables[1].rows if row["class"] == "dog")
    assert dog["gain"] is None and finding.headline.value > 0


def test_below_three_seeds_it_says_so(tmp_path, pretraining):
    finding = found(planted.runs(pretraining, 0.95, 0.3, seeds=(0,)), tmp_path)
    assert "With one seed there is no interval over seeds" in finding.caveat
    assert finding.headline.interval == "images (these fixed models)"


def test_what_cannot_be_answered_is_refused(tmp_path, pretraining):
    runs = planted.runs(pretraining, 0.9, 0.3)
    unknown = [replace(run, pretrained_on=None) for run in runs]
    with pytest.raises(InputError, match="nobody said what a was pretrained on"):
        found(unknown, tmp_path)
    none = (labelled_data(tmp_path / "none", ["zebra"]),)
    with pytest.raises(InputError, match=r"nothing to compare: a \(its pretraining had none"):
        found(planted.runs(none, 0.9, 0.3), tmp_path)
    with pytest.raises(InputError, match=r"names\.dgo: no class of the task.*did you mean 'dog'"):
        found(runs, tmp_path, names={"dgo": ("dog",)})
    with pytest.raises(InputError, match=r"names\.bus: no class 'coach' in the pretraining data"):
        found(runs, tmp_path, names={"bus": ("coach",)})
    other = planted_truth(20)
    moved = replace(runs[-1], truth=other, detections=perfect(other))
    with pytest.raises(InputError, match="tested on other images"):
        found([*runs[:-1], moved], tmp_path)
    with pytest.raises(InputError, match="no run detects anything"):
        found([replace(run, truth=None, detections=None) for run in runs], tmp_path)
    with pytest.raises(InputError, match="a is the only arm"):
        found(runs[:3], tmp_path)
