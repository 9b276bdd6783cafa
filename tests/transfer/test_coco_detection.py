"""Detection as on COCO: its settings against the reference's, and a run on files in its format."""

import json
from dataclasses import replace

import numpy as np
import pytest
from tests.study.test_arms import DETECTION
from torchvision.ops import box_iou

from whytransfer.backbone.build import Architecture, build
from whytransfer.core.config import assumptions, merge, to_plain
from whytransfer.core.errors import InputError
from whytransfer.core.streams import Stream
from whytransfer.data.dataset import from_spec
from whytransfer.data.predictions import (
    read_detections,
    read_truth,
    truth_of,
    write_detections,
    write_truth,
)
from whytransfer.data.world import crowds
from whytransfer.ops.detections import Detections
from whytransfer.ops.masks import decode
from whytransfer.train.learner import Context
from whytransfer.transfer.parts.mask_head import MaskConfig
from whytransfer.transfer.stage import resolve
from whytransfer.transfer.task import Setting
from whytransfer.transfer.tasks import coco_detection, voc07_detection
from whytransfer.transfer.tasks.coco_detection import CocoDetector


def test_the_settings_are_mocos_and_what_the_paper_leaves_open_is_marked():
    config, voc = coco_detection.Config(), voc07_detection.Config()
    assert config.views.short_sides_px == (640, 672, 704, 736, 768, 800)
    assert config.views.max_side_px == 1333 and config.views.test_short_side_px == 800
    schedule = config.training.schedule
    assert config.training.steps == 180000 and schedule.milestones == (120000, 160000)
    assert schedule.kind == "multistep" and schedule.warmup_steps == 1000
    assert config.training.sgd == voc.training.sgd and config.training.batch_size == 16
    assert config.detector.masks == MaskConfig(channels=256, init_std=0.001, threshold=0.5)
    assert config.detector.model_copy(update={"masks": None}) == CocoDetector(
        **to_plain(voc.detector)
    )
    assert voc.detector.masks is None  # VOC's detector has no mask head
    assert config.filter_empty and config.aspect_group == 2
    assert {a.field for a in assumptions(config)} >= {
        "recipe", "training.steps", "training.schedule.milestones",
        "training.schedule.warmup_steps",
    }  # fmt: skip


def test_a_recipe_is_its_steps_and_milestones_where_they_are_not_given():
    def duration(**changes):
        training = resolve("coco_detection", changes, "test").training
        return training.steps, training.schedule.milestones

    assert duration() == duration(recipe="2x") == (180000, (120000, 160000))
    assert duration(recipe="1x") == (90000, (60000, 80000))
    assert duration(recipe="1x", training={"steps": 7}) == (7, (60000, 80000))
    with pytest.raises(InputError, match=r"recipe.*3x"):
        duration(recipe="3x")


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "coco"
    crowds.write(folder, crowds.Config(num_train=8, num_test=8, layout="coco"), 0)
    # One training image shows nothing, and one only a crowd: neither is trained on.
    file = folder / "annotations/instances_train2017.json"
    content = json.loads(file.read_text())
    bare, crowded = content["images"][0]["id"], content["images"][1]["id"]
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] != bare]
    for annotation in content["annotations"]:
        annotation["iscrowd"] = int(annotation["image_id"] == crowded)
    file.write_text(json.dumps(content))
    return from_spec({"format": "coco", "root": str(folder)}, None, "test")


def make(module, data, **changes):
    name = module.__name__.rpartition(".")[2]
    config = resolve(name, merge(DETECTION, changes), "test")
    backbone = build(Architecture(name="resnet10", width=8, stem_pool=False), Stream(0, "b"))
    return module.Task(config, backbone, Setting(data.open("train"), data.open("test"), 0))


@pytest.mark.parametrize("module", [coco_detection, voc07_detection])
def test_trains_and_scores_on_files_in_cocos_format(data, tmp_path, module):
    task = make(module, data)
    assert task.steps_per_epoch == 6 // 2
    batches = list(task.batches(0))
    assert len(batches) == 2 and {i for b in batches for i in b.indices} <= {*range(2, 8)}
    losses = task.model.loss(batches[0], Context(step=0, seed=0, gather=lambda x: x))
    assert losses["loss"].isfinite()
    assert ("loss_masks" in losses) == (module is coco_detection)
    task.predict(tmp_path)
    names = [metric.name for metric in module.Task.score(tmp_path, task.config)]
    classes = [f"AP[{name}]" for name in task.setting.test.classes]
    voc, coco = ["AP", "AP50", "AP75"], ["coco_AP", "coco_AP50", "coco_AP75"]
    sizes = ["APs", "APm", "APl"]
    first = [*coco, *(f"coco_{a}" for a in sizes), *(f"mask_{a}" for a in voc + sizes), *voc]
    assert names == (first if module is coco_detection else voc + coco) + classes


def test_every_foreground_region_learns_the_mask_of_its_own_object(data, monkeypatch):
    """And in training what the last stage made of a region is read once, in testing once more."""
    task, seen, reads = make(coco_detection, data), [], []
    model, batch = task.model, next(task.batches(0))
    loss, read = model.mask_head.loss, model._read
    monkeypatch.setattr(model.mask_head, "loss", lambda *args: seen.append(args) or loss(*args))
    monkeypatch.setattr(model, "_read", lambda *args: reads.append(read(*args)) or reads[-1])
    model.loss(batch, Context(step=0, seed=0, gather=lambda x: x))
    assert len(reads) == 1
    features, labels, shapes, boxes, _ = seen[0]
    assert len(features) == len(labels) == len(shapes) == len(boxes) > 0
    rows = {id(s): (n, row) for n, own in enumerate(batch.shapes) for row, s in enumerate(own)}
    for shape, label, box, own in zip(shapes, labels, boxes, features, strict=True):
        image, row = rows[id(shape)]
        assert batch.labels[image][row] == label
        assert box_iou(box[None], batch.boxes_xyxy[image][row][None]).item() >= 0.5
        assert (reads[0] == own).flatten(1).all(1).any()
    model.eval()
    model.detect(batch)
    assert len(reads) == 3


def test_boxes_alone_are_a_setting_and_data_without_masks_say_so(data, tmp_path):
    boxes = {"detector": {"masks": None}}
    task = make(coco_detection, data, **boxes)
    task.predict(tmp_path)
    assert not [m for m in task.score(tmp_path, task.config) if m.name.startswith("mask_")]
    crowds.write(tmp_path / "devkit", crowds.Config(num_train=8, num_test=8), 0)
    bare = from_spec({**crowds.DATASET, "root": str(tmp_path / "devkit")}, None, "test")
    make(coco_detection, bare, **boxes)
    with pytest.raises(InputError, match=r"training split: .*no masks.*detector\.masks to null"):
        make(coco_detection, bare)
    with pytest.raises(InputError, match=r"predictions\.json: its rows have no masks"):
        coco_detection.Task.measure(tmp_path, make(coco_detection, data).config)


def test_predicted_masks_lie_in_their_boxes_and_are_of_their_image(data, tmp_path):
    task = make(coco_detection, data)
    task.predict(tmp_path)
    truth = read_truth(tmp_path / "truth.json")
    found = read_detections(tmp_path / "predictions.json", truth)
    assert len(found) and (found.masks.sizes == 96).all()
    assert truth.masks == truth_of(data.open("test"), masks=True).masks
    for pixels, (x1, y1, x2, y2) in zip(decode(found.masks), found.boxes_xyxy, strict=True):
        rows, columns = np.nonzero(pixels)
        assert ((columns + 1 >= x1) & (columns <= x2) & (rows + 1 >= y1) & (rows <= y2)).all()


def test_a_class_without_an_instance_has_no_ap_of_masks_either(data, tmp_path):
    """Its AP is undefined and left out of the mean, not 0."""
    source = data.open("test")
    truth = truth_of(source, masks=True)
    kept = truth.label != 0
    rows = {
        name: getattr(truth, name)[kept]
        for name in ("image", "label", "boxes_xyxy", "difficult", "crowd", "area", "masks")
    }
    truth = replace(truth, **rows)
    found = Detections(truth.image, truth.label, np.ones(len(truth)), truth.boxes_xyxy, truth.masks)
    write_truth(tmp_path / "truth.json", truth)
    write_detections(tmp_path / "predictions.json", found, truth)
    config = make(coco_detection, data).config
    values = {m.name: m for m in coco_detection.Task.score(tmp_path, config)}
    assert values["coco_AP"].value == values["mask_AP"].value == pytest.approx(100.0)
    absent = values[f"AP[{source.classes[0]}]"]
    assert absent.value is None and absent.interval == "none: undefined"
    assert values["mask_APl"].value is None
