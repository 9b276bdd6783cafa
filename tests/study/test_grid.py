"""A grid of settings: tried on held-out training images, the winner trained on all of them."""

import json
from functools import partial

import cv2
import numpy as np
import pytest
import torch
from tests.study import planning

from whytransfer import report
from whytransfer.core.config import to_plain
from whytransfer.core.errors import InputError, InputErrors
from whytransfer.core.store import Store
from whytransfer.core.streams import Stream
from whytransfer.data.dataset import Dataset
from whytransfer.study import cost, results, rows
from whytransfer.study.executors import Here
from whytransfer.study.plan import Plan
from whytransfer.study.run import run, status
from whytransfer.transfer import selection

COLOURS = {"red": (200, 40, 40), "green": (40, 200, 40), "blue": (40, 40, 200), "grey": (90,) * 3}
SMALL, GOOD, MAD = 1e-7, 0.5, 1e30
GRID = {"training.sgd.lr": [SMALL, GOOD, MAD], "training.sgd.weight_decay": [0.0, 1e-3]}
STUDY = {
    "name": "grid",
    "description": "Settings chosen on images held out.",
    "seeds": [3],
    "reference": "random_init",
    "num_draws": 100,
    "data": {"colours": {"format": "imagefolder", "root": "colours"}},
    "pretrain": {
        "data": "colours",
        "config": {"architecture": {"name": "resnet10", "width": 8, "stem_pool": False}},
    },
    "arms": {"random_init": {"method": "random_init"}, "other": {"method": "random_init"}},
    "tasks": {
        "readout": {
            "task": "linear_readout", "data": "colours", "headline": "top1",
            "grid": GRID, "validation": 0.25,
            "config": {
                "augmentation": {"crop_px": 24}, "resize_px": 24, "crop_px": 24, "num_draws": 20,
                "training": {"epochs": 5, "batch_size": 8, "schedule": {"milestones": [4]}},
            },
        },
    },
}  # fmt: skip


STUDY["arms"]["other"]["config"] = {"architecture": {"width": 16}}
planned = partial(planning.planned, STUDY)


def write_colours(root):
    """Writes twelve noisy images of each colour to train on, and six to test on."""
    for split, count in (("train", 12), ("val", 6)):
        for name, colour in COLOURS.items():
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                noise = (
                    Stream(0, f"{split}/{name}", i).uniform(24 * 24 * 3).reshape(24, 24, 3) - 0.5
                )
                image = np.clip(np.array(colour)[::-1] + 40 * noise, 0, 255).astype(np.uint8)
                cv2.imwrite(str(folder / f"{split}_{name}_{i}.png"), image)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("grid")
    write_colours(folder / "colours")
    return folder


def without_test(patch):
    """Lets nobody open a test split."""
    opened = Dataset.open

    def guarded(self, split):
        assert split == "train", "the test split was touched"
        return opened(self, split)

    patch.setattr(Dataset, "open", guarded)


@pytest.fixture(scope="module")
def study(folder):
    """The whole study; whatever comes before the final transfers runs without any test split."""
    torch.set_num_threads(1)
    found, store = planned(folder)
    before = Plan(found.spec, tuple(n for n in found.nodes if not n.key.startswith("transfer/")))
    with pytest.MonkeyPatch.context() as patch:
        without_test(patch)
        assert run(before, store, num_slots=1, make_executor=Here) == {}
    final = {node.key for node in found.missing(store)}
    assert final == {"transfer/readout/random_init/seed3", "transfer/readout/other/seed3"}
    assert run(found, store, num_slots=1, make_executor=Here) == {}
    return found, store


def chosen(study, arm):
    found, store = study
    return selection.read(found[f"select/readout/{arm}/seed3"].step.find(store))


def test_every_arm_is_planned_with_the_same_grid(folder):
    found, _ = planned(folder)
    grids = {}
    for arm in ("random_init", "other"):
        points = [n for n in found.nodes if n.key.startswith(f"grid/readout/{arm}/")]
        grids[arm] = [n.labels["point"] for n in points]
        assert {n.step.config.validation for n in points} == {0.25}
        select = found[f"select/readout/{arm}/seed3"]
        assert list(select.needs.values()) == [n.key for n in points]
        final = found[f"transfer/readout/{arm}/seed3"]
        assert final.needs["selection"] == select.key
        assert final.step.config.validation is None
    assert grids["random_init"] == grids["other"]
    lrs, decays = GRID.values()
    assert [tuple(p.values()) for p in grids["other"]] == [(lr, wd) for lr in lrs for wd in decays]
    key = "grid/readout/other/seed3/training.sgd.lr=0.5,training.sgd.weight_decay=0.001"
    assert found[key].step.config.training.sgd.lr == 0.5


@pytest.mark.parametrize("arm", ["random_init", "other"])
def test_the_planted_learning_rate_wins(study, arm):
    found = chosen(study, arm)
    winner = found.winner
    assert winner.settings["training.sgd.lr"] == GOOD
    assert found.metric == "top1" and winner.score.n == 12
    by_lr = {c.settings["training.sgd.lr"]: c for c in found.candidates}
    assert winner.score.value >= by_lr[SMALL].score.value + 30
    assert by_lr[MAD].score is None
    assert "the loss is" in by_lr[MAD].note and "/" not in by_lr[MAD].note
    assert found.at_edge == ("training.sgd.weight_decay",)


def test_the_winner_is_trained_on_everything_and_scored_on_the_test_split(study):
    found, store = study
    for arm in ("random_init", "other"):
        node = found[f"transfer/readout/{arm}/seed3"]
        artifact = node.step.find(store)
        record = artifact.record
        assert record.config["training"]["sgd"]["lr"] == GOOD
        assert record.config["validation"] is None
        select = found[f"select/readout/{arm}/seed3"].step
        assert record.inputs["selection"] == select.fingerprint
        assert record["top1"].n == 24
        names = [row["image"] for row in _predictions(artifact)]
        assert all("val_" in name for name in names)
        assert _log(artifact)[-1]["step"] == 30  # five times 48 images by 8


def test_all_points_of_all_arms_are_scored_on_the_same_held_out_images(study):
    found, store = study
    seen, steps = set(), set()
    for node in found.nodes:
        if node.key.startswith("grid/"):
            artifact = node.step.find(store)
            if artifact.record.metrics[0].name == "diverged":
                assert "predictions.json" not in artifact.manifest["files"]
                continue
            steps.add(_log(artifact)[-1]["step"])
            seen.add(tuple(sorted(row["image"] for row in _predictions(artifact))))
    (names,) = seen
    assert steps == {20}  # five times the other 36 by 8
    assert len(names) == 12 and all("train_" in name for name in names)
    assert {sum(colour in name for name in names) for colour in COLOURS} == {3}


def _predictions(artifact):
    return json.loads(artifact.file("predictions.json").read_text())["rows"]


def _log(artifact):
    return [json.loads(line) for line in artifact.file("training.jsonl").read_text().splitlines()]


def test_the_fingerprint_of_the_final_transfer_is_that_of_its_choice(folder, study):
    found, store = study
    key = "transfer/readout/other/seed3"

    def wider(values):
        values["tasks"]["readout"]["grid"]["training.sgd.lr"].append(1.0)

    def without(values):
        values["tasks"]["readout"].pop("grid")
        values["tasks"]["readout"].pop("validation")

    def half(values):
        values["tasks"]["readout"]["validation"] = 0.5

    prints = {planned(folder, change)[0][key].step.fingerprint for change in (wider, without, half)}
    assert len({*prints, found[key].step.fingerprint}) == 4
    other, _ = planned(folder, wider)
    assert len(other.missing(store)) == 2 * (2 + 2)  # two points more, choice and transfer


def test_interrupted_it_goes_on_to_the_same_result(folder, study, tmp_path, monkeypatch):
    _, whole_store = study
    found, store = planned(folder, store=Store(tmp_path / "runs"))
    calls = planning.interrupt(monkeypatch, 5, 12)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run(found, store, num_slots=1, make_executor=Here)
    assert run(found, store, num_slots=1, make_executor=Here) == {}
    assert {s.state for s in status(found, store)} == {"done"}
    assert len(calls) == len(found.nodes) + 2
    assert rows.flat(store) == rows.flat(whole_store)


def test_results_and_report_show_the_grid_the_winner_and_where_it_was_chosen(study, tmp_path):
    found, store = study
    result = results.collect(found, store, {})
    (task,) = result.tasks
    assert len(task.runs) == 2 and len(task.comparisons) == 1
    first = task.choices[0]
    assert (first.arm, first.metric, first.validation, len(first.tried)) == (
        "random_init", "top1", 0.25, 6,
    )  # fmt: skip
    assert first.tried[first.chosen].settings["training.sgd.lr"] == GOOD
    page = report.write(result, tmp_path / "page.html").read_text()
    assert "chosen on 12 images held out of the training split (25% of it)" in page
    assert "training.sgd.lr = 0.5" in page and "undefined: the loss is" in page
    assert "at the edge of the grid in training.sgd.weight_decay" in page
    assert not any(curve.stage == "supervise" for curve in result.curves)


def test_rows_tell_a_score_on_held_out_images_from_one_on_the_test_split(study):
    flat = rows.flat(study[1])
    held = [row for row in flat if row.get("scored_on") == rows.HELD_OUT]
    assert {row["n"] for row in held if row["name"] == "top1"} == {12}
    plain = [row for row in flat if row["stage"] == "transfer" and "scored_on" not in row]
    assert {row["n"] for row in plain if row["name"] == "top1"} == {24}
    chosen_rows = [row for row in flat if row["name"] == "chosen training.sgd.lr"]
    assert [row["value"] for row in chosen_rows] == [GOOD, GOOD]
    assert all("held-out training images" in row["interval"] for row in chosen_rows)
    assert sum(row["name"].startswith("top1 at training.sgd.lr=") for row in flat) == 12


def test_a_choice_costs_nothing_in_the_plan(study, tmp_path, folder):
    found, _ = planned(folder)
    lines = {line.key: line for line in cost.outline(found, Store(tmp_path))}
    assert lines["select/readout/other/seed3"].seconds == 0.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"grid": {"training.sgd.lrr": [1]}}, r"readout\.grid, field training\.sgd\.lrr: unknown"),
        ({"grid": {"trainin.sgd.lr": [1]}}, r"did you mean 'training'\?"),
        ({"grid": {"training.sgd.lr": [0.1, "x"]}}, r"readout\.grid, field training\.sgd\.lr: fou"),
        ({"grid": {"training.sgd.lr": [0.1, "1e-1"]}}, r"training\.sgd\.lr=0\.1 stands twice"),
        ({"grid": {"training.sgd.lr": []}}, r"grid\.training\.sgd\.lr has no values"),
        ({"grid": {"validation": [0.1, 0.2]}}, "validation is the same for all points"),
        ({"validation": None}, "grid and validation go together"),
        ({"grid": {}}, "grid and validation go together"),
        ({"validation": 1.0}, r"field tasks\.readout\.validation"),
    ],
)
def test_a_grid_that_cannot_be_tried_is_refused_before_anything_runs(tmp_path, change, message):
    write = {"format": "imagefolder", "root": str(tmp_path / "colours")}
    for split in ("train", "val"):
        folder = tmp_path / "colours" / split / "red"
        folder.mkdir(parents=True)
        cv2.imwrite(str(folder / "0.png"), np.zeros((8, 8, 3), np.uint8))

    def changed(values):
        values["data"]["colours"] = write
        values["tasks"]["readout"].update(change)

    with pytest.raises((InputError, InputErrors), match=message):
        planned(tmp_path, changed)
    assert not (tmp_path / "runs" / "transfer").exists()


def test_a_field_that_does_not_exist_names_the_nearest(folder):
    def change(values):
        values["tasks"]["readout"]["grid"] = {"training.sgd.weight_deacy": [0.0]}

    with pytest.raises(InputError, match=r"did you mean 'weight_decay'\?"):
        planned(folder, change)


def test_a_share_that_leaves_a_class_without_images_is_one_clear_error(folder, tmp_path):
    def change(values):
        values["tasks"]["readout"]["validation"] = 0.02

    found, store = planned(folder, change, Store(tmp_path / "runs"))
    failed = run(found, store, num_slots=1, make_executor=Here)
    point = next(o for key, o in failed.items() if key.startswith("grid/"))
    assert point.user_error
    message = "validation: 0.02 of the 12 images of class 'blue' leaves none to hold out"
    assert point.reason.startswith(message)


def test_a_headline_that_no_run_has_names_those_there_are(folder, study, tmp_path):
    found, store = study
    points = [n for n in found.nodes if n.key.startswith("grid/readout/other/")]
    records = [n.step.find(store).record for n in points]
    config = found["select/readout/other/seed3"].step.config
    wrong = type(config)(**{**to_plain(config), "metric": "top2"})
    with pytest.raises(InputError, match=r"no run has the metric 'top2'; .* did you mean 'top"):
        selection.choose(wrong, records)
    diverged = [r for r in records if r.metrics[0].name == "diverged"]
    few = type(config)(**{**to_plain(config), "points": config.points[-len(diverged) :]})
    with pytest.raises(InputError, match=r"no point of the grid has a score \(training\.sgd\.lr=1"):
        selection.choose(few, diverged)
