"""How runs are read from artifacts for the analyses of scores, and what is no such run."""

import json

import numpy as np
import pytest
from tests.ops.planted_scenes import perfect, planted_truth

from whytransfer.core.errors import InputError
from whytransfer.core.records import Metric, Record
from whytransfer.core.store import RECORD, Store
from whytransfer.data.landmark_files import Landmarks, write_landmarks
from whytransfer.data.predictions import (
    ClassPredictions,
    write_classifications,
    write_detections,
    write_label_maps,
    write_truth,
)
from whytransfer.diagnose import subjects
from whytransfer.diagnose.analysis import ClassRun, DetectionRun, PixelRun, PointRun, Variant
from whytransfer.diagnose.contrasts import scorer
from whytransfer.diagnose.reading import Reader
from whytransfer.diagnose.subjects import Subject


def artifact(store, headline, config, fill):
    """A finished transfer whose record has one metric."""

    def write(folder):
        fill(folder)
        metric = Metric(name=headline, value=1.0, n=1)
        record = Record(
            stage="transfer", plugin="some_task", fingerprint="f" * 64, config=config,
            metrics=(metric,),
        )  # fmt: skip
        (folder / RECORD).write_text(record.model_dump_json())

    return store.write("transfer", "some_task", "f" * 64, write)


def boxes(folder):
    truth = planted_truth(4)
    write_truth(folder / "truth.json", truth)
    write_detections(folder / "predictions.json", perfect(truth), truth)


def classes(folder):
    labels, topk = np.array([0, 1, 1]), np.array([[0, 1], [0, 1], [1, 0]])
    found = ClassPredictions(("x", "y", "z"), ("cat", "dog"), labels, topk)
    write_classifications(folder / "predictions.json", found)


def read(found, store, kind="scored"):
    return Reader(kind, store, None).read([Subject("a", 3, found, "length_2")])[0]


@pytest.mark.parametrize(
    ("headline", "config", "rule"),
    [
        ("AP", {"voc_rule": "voc07"}, "voc07"),
        ("AP", {"voc_rule": "voc12"}, "voc12"),
        ("coco_AP", {"voc_rule": "voc07"}, "coco101"),
        ("coco_AP", {}, "coco101"),
    ],
)
def test_a_detector_is_scored_by_its_tasks_headline(tmp_path, headline, config, rule):
    store = Store(tmp_path)
    found = artifact(store, headline, config, boxes)
    for kind in ("detections", "scored"):
        run = read(found, store, kind)
        assert isinstance(run, DetectionRun) and run.rule == rule
        assert (run.arm, run.seed, run.variant) == ("a", 3, "length_2")
    exposed = read(found, store, "exposed")
    assert exposed.rule == rule and exposed.truth.images == run.truth.images
    assert exposed.pretrained_on is None and exposed.variant == "length_2"


def test_a_classifier_is_scored_by_its_first_guesses(tmp_path):
    store = Store(tmp_path)
    found = artifact(store, "top1", {}, classes)
    run = read(found, store)
    assert isinstance(run, ClassRun) and run.images == ("x", "y", "z")
    assert run.correct.tolist() == [True, False, True]
    exposed = read(found, store, "exposed")
    assert exposed.truth is None and exposed.detections is None


def maps(folder):
    """Two images of 2 x 2 pixels: one right, one with a car that was not seen."""
    road, car = np.zeros((2, 2), np.uint8), np.array([[0, 1], [0, 255]], np.uint8)
    for name, second in (("predictions", road), ("truth", car)):
        write_label_maps(folder / f"{name}.json", ["x", "y"], ["road", "car"], [road, second])


def test_a_segmenter_is_scored_by_its_pixels(tmp_path):
    store = Store(tmp_path)
    run = read(artifact(store, "mIoU", {}, maps), store)
    assert isinstance(run, PixelRun) and run.images == ("x", "y")
    assert run.counts.true.tolist() == [[4, 0], [2, 1]]
    at = scorer(run, "AP")
    assert at(None) == pytest.approx(100 * (6 / 7 + 0) / 2)
    assert at(np.array([[2, 0], [0, 2]])).tolist() == pytest.approx([100.0, 100 * (2 / 3) / 2])


def points(folder):
    true = np.array([[[0.0, 0], [10, 0], [5, 5]], [[0, 0], [20, 0], [5, 5]]])
    names = ("left_eye", "right_eye", "nose")
    for name, moved in (("predictions", true + np.array([3.0, 4.0])), ("truth", true)):
        write_landmarks(folder / f"{name}.json", Landmarks(("x", "y"), names, moved))


def test_landmarks_are_scored_by_their_error_between_the_tasks_eyes(tmp_path):
    store = Store(tmp_path)
    run = read(artifact(store, "inter_ocular_error", {"eyes": [0, 1]}, points), store)
    assert isinstance(run, PointRun) and run.images == ("x", "y")
    at = scorer(run, "AP")
    assert at(None) == pytest.approx(100 * (5 / 10 + 5 / 20) / 2)
    assert at(np.array([[2, 0]])).tolist() == pytest.approx([50.0])
    store = Store(tmp_path / "other")
    run = read(artifact(store, "inter_ocular_error", {"eyes": [0, 2]}, points), store)
    assert scorer(run, "AP")(np.array([[2, 0]])).tolist() == pytest.approx([100 * 5 / 50**0.5])


def test_landmarks_of_a_task_without_eyes_are_refused(tmp_path):
    store = Store(tmp_path)
    found = artifact(store, "error", {}, points)
    with pytest.raises(InputError, match=r"some_task.*no two landmarks.*a setting eyes"):
        read(found, store)


def test_other_predictions_and_none_are_refused(tmp_path):
    def episodes(folder):
        content = {"kind": "episodes", "version": 1, "classes": [], "rows": []}
        (folder / "predictions.json").write_text(json.dumps(content))

    store = Store(tmp_path / "episodes")
    with pytest.raises(InputError, match="its predictions are episodes; expected detections, cl"):
        read(artifact(store, "accuracy", {}, episodes), store)
    store = Store(tmp_path / "none")
    with pytest.raises(InputError, match="its predictions are none"):
        read(artifact(store, "loss", {}, lambda folder: None), store)


@pytest.mark.parametrize("arm", ["moco", "a/seed1", "x:y", "seed0"])
@pytest.mark.parametrize("variant", ["", "length_0.5", "seed2"])
def test_names_of_inputs_are_read_back(arm, variant):
    name = subjects.input_name(arm, 7, variant)
    assert subjects.read_input_name(name) == (arm, 7, variant)
    assert subjects.read_against_name(subjects.against_name(arm, 1)) == arm


@pytest.mark.parametrize("fields", [{"name": "a/b"}, {"name": ""}, {"name": "x", "length": 0}])
def test_a_variant_that_cannot_be_named_or_run_is_refused(fields):
    with pytest.raises(ValueError, match="variant"):
        Variant(**fields)
