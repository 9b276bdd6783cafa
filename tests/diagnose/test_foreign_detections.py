"""Predictions from elsewhere: COCO results, VOC's files, our own; asked for on the command line."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.diagnose.exposed import labelled_data, pretraining_data
from tests.ops.detection_scenes import take

import whytransfer.diagnose
from whytransfer import cli
from whytransfer.core.config import Config as EmptyConfig
from whytransfer.core.errors import InputError
from whytransfer.core.stage import Step, materialise
from whytransfer.core.store import Store
from whytransfer.data.coco_results import read_coco_truth, write_coco_results
from whytransfer.data.dataset import from_spec, look
from whytransfer.data.predictions import truth_of, write_detections, write_truth
from whytransfer.data.world import crowds
from whytransfer.diagnose.analyses import detection_errors
from whytransfer.diagnose.analysis import DetectionRun
from whytransfer.diagnose.reading import Reader
from whytransfer.diagnose.stage import read_finding
from whytransfer.diagnose.subjects import Subject
from whytransfer.ops.detections import Detections

SETTINGS = {"num_draws": 100, "num_pictures": 0}
ANNOTATIONS = "annotations/instances_val2017.json"


def write_world(root, layout, seed=0):
    config = crowds.Config(num_train=8, num_test=10, layout=layout)
    crowds.write(root, config, seed)
    return root


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    """The same pictures in both layouts; COCO's ids have gaps and another order than the names."""
    folder = tmp_path_factory.mktemp("foreign")
    found = {name: write_world(folder / name, name) for name in ("coco", "voc")}
    file = found["coco"] / ANNOTATIONS
    content = json.loads(file.read_text())
    new = {image["id"]: 900 - 3 * image["id"] for image in content["images"]}
    for image in content["images"]:
        image["id"] = new[image["id"]]
    for annotation in content["annotations"]:
        annotation["image_id"] = new[annotation["image_id"]]
    file.write_text(json.dumps(content))
    return found


def truth(roots, layout):
    data = from_spec(look(roots[layout]), None, "here")
    return truth_of(data.open("test"), masks=True)


def detections(objects, shift=0.0, every=1):
    """A detection per object, some moved, with scores and boxes that a text file can hold."""
    score = np.round(0.5 + 0.4 * np.arange(len(objects)) / len(objects), 6)
    moved = np.where(np.arange(len(objects)) % every == 0, shift, 0.0)[:, None]
    boxes = np.round(objects.boxes_xyxy + moved * np.array([1, 0, 1, 0]), 3)
    return Detections(objects.image, objects.label, score, boxes)


def write_voc(folder, found, objects, skip=(), extra=""):
    folder.mkdir()
    for label, name in enumerate(objects.classes):
        rows = np.flatnonzero(found.label == label)
        lines = []
        for row in rows:
            x1, y1, x2, y2 = (found.boxes_xyxy[row] + np.array([1, 1, 0, 0])).tolist()
            image = objects.images[found.image[row]]
            lines.append(f"{image} {found.score[row]:.6f} {x1:.3f} {y1:.3f} {x2:.3f} {y2:.3f}\n")
        if name not in skip:
            (folder / f"comp4_det_test_{name}.txt").write_text("".join(lines) + extra)
            extra = ""
    return folder


def artifact(store, objects, found):
    """A finished transfer, as far as a diagnosis reads it."""

    def compute(folder, _work):
        write_truth(folder / "truth.json", objects)
        write_detections(folder / "predictions.json", found, objects)
        return ()

    step = Step(stage="transfer", plugin="voc07_detection", config=EmptyConfig(), inputs={}, seed=0)
    return materialise(Store(store), step, compute)


def direct(objects, folder, **arms):
    """What the analysis answers about the same arrays."""
    runs = [DetectionRun(arm, 0, arm, objects, found) for arm, found in arms.items()]
    return detection_errors.answer(runs, None, detection_errors.Config(**SETTINGS), folder)


def same(finding, expected):
    assert finding.answer == expected.answer
    assert finding.tables == expected.tables
    assert finding.metrics == expected.metrics


def test_coco_results_against_a_run(roots, tmp_path):
    objects = truth(roots, "coco")
    mine, theirs = detections(objects, shift=9.0, every=2), detections(objects)
    coco = read_coco_truth(roots["coco"] / ANNOTATIONS)
    write_coco_results(tmp_path / "mine.json", mine, objects, coco)
    run = artifact(tmp_path / "runs", replace(objects, masks=None), theirs)
    found = whytransfer.diagnose.run(
        "detection_errors", {"mine": tmp_path / "mine.json", "theirs": run},
        f"coco:{roots['coco']}", store=tmp_path / "runs", reference="theirs", **SETTINGS,
    )  # fmt: skip
    finding = read_finding(found)
    assert finding.headline.name == "dAP_Loc[mine - theirs]"
    assert finding.headline.low > 0
    config = detection_errors.Config(reference="theirs", **SETTINGS)
    runs = [DetectionRun(arm, 0, arm, objects, d)
            for arm, d in {"mine": mine, "theirs": theirs}.items()]  # fmt: skip
    same(finding, detection_errors.answer(runs, None, config, tmp_path))


def test_voc_files_and_a_file_of_our_own(roots, tmp_path):
    objects = truth(roots, "voc")
    mine, theirs = detections(objects), detections(objects, shift=9.0, every=2)
    write_detections(tmp_path / "own.json", theirs, objects)
    given = {"mine": write_voc(tmp_path / "results", mine, objects), "own": tmp_path / "own.json"}
    found = whytransfer.diagnose.run(
        "detection_errors", given, roots["voc"], store=tmp_path / "runs", **SETTINGS
    )
    same(read_finding(found), direct(objects, tmp_path, mine=mine, own=theirs))


def test_several_files_of_one_name_are_its_seeds(roots, tmp_path):
    objects = truth(roots, "voc")
    folders = [
        write_voc(tmp_path / f"r{k}", detections(objects, shift=9.0, every=k + 2), objects)
        for k in range(2)
    ]
    found = whytransfer.diagnose.run(
        "detection_errors", {"mine": folders}, roots["voc"], store=tmp_path / "runs", **SETTINGS
    )
    rows = read_finding(found).tables[-1].rows
    assert [row["seed"] for row in rows] == [0, 1]


def test_a_run_of_another_length_is_given_by_name(roots, tmp_path):
    objects = truth(roots, "voc")
    bad = detections(objects, shift=9.0, every=2)
    given = {
        "mine": write_voc(tmp_path / "good", detections(objects), objects),
        "mine:length_0.5": write_voc(tmp_path / "short", bad, objects),
        "theirs": write_voc(tmp_path / "bad", bad, objects),
    }
    found = whytransfer.diagnose.run(
        "detection_errors", given, roots["voc"], store=tmp_path / "runs", lengths=(0.5,), **SETTINGS
    )
    tables = read_finding(found).tables
    ((near,),) = (t.rows for t in tables if t.title.startswith("How near"))
    assert (near["better arm"], near["its nearest run"]) == ("mine", "length_0.5")
    (rows,) = (t.rows for t in tables if t.title.startswith("The same at matched AP"))
    assert {row["difference"] for row in rows} == {0.0}


def test_the_truth_is_part_of_the_question(roots, tmp_path):
    objects = truth(roots, "voc")
    folder = write_voc(tmp_path / "results", detections(objects), objects)
    other = write_world(tmp_path / "other", "voc")
    annotation = next(
        file
        for file in sorted((other / "VOC2007/Annotations").glob("*.xml"))
        if file.stem in objects.images
    )
    annotation.write_text(
        annotation.read_text().replace("<difficult>0</difficult>", "<difficult>1</difficult>", 1)
    )
    first, second = (
        whytransfer.diagnose.run(
            "detection_errors", {"mine": folder}, data, store=tmp_path / "runs", **SETTINGS
        )
        for data in (roots["voc"], other)
    )
    assert first.fingerprint != second.fingerprint


class TestOtherAnalyses:
    """Whatever reads detections takes those that others made."""

    @pytest.fixture
    def results(self, roots, tmp_path):
        """A folder of VOC's files of boxes that fit, and one of boxes of which half are off."""
        objects = truth(roots, "voc")
        bad = detections(objects, shift=9.0, every=2)
        good = write_voc(tmp_path / "good", detections(objects), objects)
        return good, write_voc(tmp_path / "bad", bad, objects)

    def answer(self, analysis, runs, data, tmp_path, **settings):
        found = whytransfer.diagnose.run(
            analysis, runs, data, store=tmp_path / "runs", num_draws=100, **settings
        )
        return read_finding(found)

    def test_convergence(self, results, roots, tmp_path):
        good, bad = results
        runs = {"mine": good, "mine:length_0.5": bad, "theirs": bad, "theirs:length_0.5": bad}
        finding = self.answer("convergence", runs, roots["voc"], tmp_path, lengths=(0.5, 1))
        assert finding.headline.name == "AP[theirs - mine at 1x]"
        gaps = {row["length"]: row["difference"] for row in finding.tables[0].rows}
        assert gaps["0.5"] == 0 and gaps["1"] == finding.headline.value < -10

    def test_stage_transplant(self, results, roots, tmp_path):
        good, bad = results
        runs = {"mine": good, "mine:up_to_layer1_standard": bad, "random_init": bad}
        finding = self.answer(
            "stage_transplant", runs, roots["voc"], tmp_path,
            cuts=("layer1",), keep=("up_to",), rest=("standard",),
        )  # fmt: skip
        assert finding.headline.name == "AP[mine up_to_layer1_standard - mine]"
        assert finding.headline.high < 0
        assert finding.tables[0].rows[0]["over the reference"] == 0

    def test_label_overlap(self, results, roots, tmp_path):
        good, bad = results
        objects = truth(roots, "voc")
        seen = labelled_data(tmp_path / "pretraining", objects.classes[:1])
        finding = self.answer(
            "label_overlap", {"mine": good, "random_init": bad}, roots["voc"], tmp_path,
            against=seen,
        )  # fmt: skip
        _, by_class, _ = finding.tables
        assert [row["in pretraining"] for row in by_class.rows].count("yes") == 1
        gains = [row["gain"] for row in by_class.rows if row["gain"] is not None]
        assert min(gains) >= 0 and max(gains) > 10

    def test_leakage_scores_without_what_leaked(self, results, roots, tmp_path):
        good, bad = results
        source = from_spec(look(roots["voc"]), None, "here").open("test")
        copies = [(f"copy{k}.png", source[k].image, 0) for k in range(3)]
        seen = pretraining_data(tmp_path / "pretraining", copies)
        finding = self.answer(
            "leakage", {"mine": good, "theirs": bad}, roots["voc"], tmp_path, against=seen
        )
        assert finding.headline.value == pytest.approx(100 * 3 / len(source))
        rows = {row["arm"]: row for row in finding.tables[1].rows}
        assert rows["mine"]["with"] == rows["mine"]["without"] == 100
        assert rows["theirs"]["with"] < 90 and rows["theirs"]["low"] is not None

    def test_a_checkpoint_is_asked_about_its_data_alone(self, results, roots, tmp_path):
        seen = pretraining_data(tmp_path / "pretraining")
        torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "theirs.pth")
        runs = {"mine": results[0], "theirs": tmp_path / "theirs.pth"}
        finding = self.answer("leakage", runs, roots["voc"], tmp_path, against=seen)
        assert finding.headline.name == "leaked[mine, theirs]" and finding.headline.value == 0

    def test_precision_is_averaged_as_the_data_or_the_runs_beside_them_are(self, roots, tmp_path):
        def rules(layout, *given):
            data = from_spec(look(roots[layout]), None, "here")
            subjects = [Subject(f"arm{k}", 0, one) for k, one in enumerate(given)]
            return [run.rule for run in Reader("scored", Store(tmp_path), data).read(subjects)]

        for layout, rule in (("voc", "voc07"), ("coco", "coco101")):
            objects = truth(roots, layout)
            file = tmp_path / f"{layout}.json"
            write_detections(file, detections(objects), objects)
            assert rules(layout, file) == [rule]
            run = artifact(tmp_path / layout, replace(objects, masks=None), detections(objects))
            assert rules(layout, file, run) == ["coco101", "coco101"]

    @pytest.mark.parametrize("analysis", ["drift", "inversion"])
    def test_analyses_of_networks_name_those_that_read_them(
        self, analysis, results, roots, tmp_path
    ):
        with pytest.raises(InputError, match="this analysis looks at networks") as caught:
            whytransfer.diagnose.run(
                analysis, {"mine": results[0]}, roots["voc"], store=tmp_path / "runs"
            )
        able = "convergence, detection_errors, label_overlap, leakage, stage_transplant"
        assert str(caught.value).endswith(f"predictions can be given to {able}")


class TestBadInput:
    """On the command line, where it is one line and exit status 2."""

    @pytest.fixture
    def refused(self, monkeypatch, capsys, tmp_path):
        def refuse(*words, data=None):
            given = ["--data", data] if data else []
            shown = ["whytransfer", "diagnose", "detection_errors", *words, *given,
                     "--store", tmp_path / "runs"]  # fmt: skip
            monkeypatch.setattr(sys, "argv", list(map(str, shown)))
            with pytest.raises(SystemExit) as end:
                cli.main()
            captured = capsys.readouterr()
            assert end.value.code == 2 and captured.out == ""
            assert not list((tmp_path / "runs").glob("work/*"))
            return captured.err

        return refuse

    def test_no_data(self, refused, roots, tmp_path):
        objects = truth(roots, "voc")
        folder = write_voc(tmp_path / "results", detections(objects), objects)
        assert "predictions without data" in (message := refused(f"mine={folder}"))
        assert "--data" in message

    def test_voc_files_without_scores(self, refused, roots, tmp_path):
        objects = truth(roots, "voc")
        line = f"{objects.images[0]} 10 10 20 20\n"
        folder = write_voc(tmp_path / "results", detections(objects), objects, extra=line)
        message = refused(f"mine={folder}", data=roots["voc"])
        assert "found 5 values" in message and "image score x1 y1 x2 y2" in message

    def test_coco_results_without_scores(self, refused, roots, tmp_path):
        content = json.loads((roots["coco"] / ANNOTATIONS).read_text())
        row = {key: content["annotations"][0][key] for key in ("image_id", "category_id", "bbox")}
        (tmp_path / "mine.json").write_text(json.dumps([row]))
        message = refused(f"mine={tmp_path / 'mine.json'}", data=f"coco:{roots['coco']}")
        assert "row 0: has no score" in message

    def test_results_of_other_images(self, refused, roots, tmp_path):
        objects = truth(roots, "voc")
        other = replace(objects, images=tuple(f"9{name[1:]}" for name in objects.images))
        folder = write_voc(tmp_path / "results", detections(objects), other)
        message = refused(f"mine={folder}", data=roots["voc"])
        assert "line 1: the image '9" in message and "is not in the truth" in message

    def test_results_of_other_classes(self, refused, roots, tmp_path):
        objects = truth(roots, "voc")
        names = ("zebra", *objects.classes[1:])
        folder = write_voc(tmp_path / "more", detections(objects), replace(objects, classes=names))
        message = refused(f"mine={folder}", data=roots["voc"])
        assert "the class 'zebra' is not in the truth" in message
        folder = write_voc(
            tmp_path / "fewer", detections(objects), objects, skip=objects.classes[:1]
        )
        message = refused(f"mine={folder}", data=roots["voc"])
        assert f"has no file of {objects.classes[0]}" in message

    def test_coco_results_of_an_unknown_image_and_on_voc_data(self, refused, roots, tmp_path):
        row = {"image_id": 12345, "category_id": 1, "bbox": [1, 1, 5, 5], "score": 0.5}
        (tmp_path / "mine.json").write_text(json.dumps([row]))
        message = refused(f"mine={tmp_path / 'mine.json'}", data=f"coco:{roots['coco']}")
        assert "image_id is 12345" in message
        message = refused(f"mine={tmp_path / 'mine.json'}", data=roots["voc"])
        assert "the data are in the format voc" in message

    def test_a_run_on_other_images_and_on_other_classes(self, refused, roots, tmp_path):
        objects = truth(roots, "voc")
        folder = write_voc(tmp_path / "results", detections(objects), objects)
        other = replace(objects, images=("elsewhere", *objects.images[1:]), masks=None)
        run = artifact(tmp_path / "images", other, detections(other))
        message = refused(f"mine={folder}", f"theirs={run.path}", data=roots["voc"])
        assert "theirs (seed 0) was tested on other images (2 are in one of the two" in message
        other = replace(objects, classes=("zebra", *objects.classes[1:]), masks=None)
        run = artifact(tmp_path / "classes", other, detections(other))
        message = refused(f"mine={folder}", f"theirs={run.path}", data=roots["voc"])
        assert "other classes" in message and "zebra" in message

    def test_two_files_of_a_class_and_no_file_at_all(self, refused, roots, tmp_path):
        objects = truth(roots, "voc")
        folder = write_voc(tmp_path / "results", detections(objects), objects)
        name = objects.classes[0]
        (folder / f"comp3_det_test_{name}.txt").write_text("")
        assert "one file per class" in refused(f"mine={folder}", data=roots["voc"])
        (tmp_path / "strange.txt").write_text("hello")
        message = refused(f"mine={tmp_path / 'strange.txt'}", data=roots["voc"])
        assert "is no file of predictions" in message

    def test_what_is_no_run_is_not_advised_to_be_removed(self, refused, roots, tmp_path):
        (tmp_path / "results").mkdir()
        (tmp_path / "results" / "cat.csv").write_text("1,2")
        message = refused(f"mine={tmp_path / 'results'}", data=roots["voc"])
        assert "is neither a run nor predictions" in message and "comp*_det_*.txt" in message
        assert "remove" not in message
        assert "no such file or folder" in refused(f"mine={tmp_path / 'absent.json'}")

    def test_a_variant_that_no_setting_makes(self, refused, roots, tmp_path):
        objects = truth(roots, "voc")
        folder = write_voc(tmp_path / "results", detections(objects), objects)
        words = f"a={folder}", f"a:length_0.5={folder}"
        message = refused(*words, data=roots["voc"])
        assert "no variant 'length_0.5' of a" in message and "none, with the settings" in message
        message = refused(*words, "--set", "lengths=[0.25]", data=roots["voc"])
        assert "expected one of length_0.25" in message

    def test_masks_that_nobody_has(self, refused, roots, tmp_path):
        objects = truth(roots, "voc")
        folder = write_voc(tmp_path / "results", detections(objects), objects)
        message = refused(f"mine={folder}", "--set", "overlap=masks", data=roots["voc"])
        assert "field overlap" in message and "has no masks" in message


def test_an_order_of_rows_that_differs_changes_nothing(roots, tmp_path):
    objects = truth(roots, "voc")
    found = detections(objects)
    shuffled = take(found, np.arange(len(found))[::-1])
    kept = direct(objects, tmp_path, mine=found)
    assert kept.tables == direct(objects, tmp_path, mine=shuffled).tables
