"""Detection as on COCO: its settings against the reference's, and a run on files in its format."""

import json

import pytest
from tests.study.test_arms import DETECTION
from tests.study.test_own_data import write_coco

from whytransfer.backbone.build import Architecture, build
from whytransfer.core.config import assumptions
from whytransfer.core.streams import Stream
from whytransfer.data.dataset import from_spec
from whytransfer.data.world import crowds
from whytransfer.train.learner import Context
from whytransfer.transfer.stage import resolve
from whytransfer.transfer.task import Setting
from whytransfer.transfer.tasks import coco_detection, voc07_detection


def test_the_settings_are_mocos_and_what_the_paper_leaves_open_is_marked():
    config, voc = coco_detection.Config(), voc07_detection.Config()
    assert config.views.short_sides_px == (640, 672, 704, 736, 768, 800)
    assert config.views.max_side_px == 1333 and config.views.test_short_side_px == 800
    schedule = config.training.schedule
    assert config.training.steps == 180000 and schedule.milestones == (120000, 160000)
    assert schedule.kind == "multistep" and schedule.warmup_steps == 1000
    assert config.training.sgd == voc.training.sgd and config.training.batch_size == 16
    assert config.detector == voc.detector and config.filter_empty and config.aspect_group == 2
    assert {a.field for a in assumptions(config)} >= {
        "training.steps", "training.schedule.milestones", "training.schedule.warmup_steps",
    }  # fmt: skip
    one = {"steps": 90000, "schedule": {"milestones": [60000, 80000]}}
    assert resolve("coco_detection", {"training": one}, "test").training.steps == 90000


@pytest.fixture
def data(tmp_path):
    crowds.write(tmp_path / "devkit", crowds.Config(num_train=8, num_test=8), 0)
    folder = tmp_path / "coco"
    folder.mkdir()
    write_coco(folder, tmp_path / "devkit")
    # One training image shows nothing, and one only a crowd: neither is trained on.
    content = json.loads((folder / "train.json").read_text())
    bare, crowded = content["images"][0]["id"], content["images"][1]["id"]
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] != bare]
    for annotation in content["annotations"]:
        annotation["iscrowd"] = int(annotation["image_id"] == crowded)
    (folder / "train.json").write_text(json.dumps(content))
    spec = {
        "format": "coco", "root": str(folder), "train_images": "images", "test_images": "images",
        "train_annotations": "train.json", "test_annotations": "test.json",
    }  # fmt: skip
    return from_spec(spec, None, "test")


@pytest.mark.parametrize("name", ["coco_detection", "voc07_detection"])
def test_trains_and_scores_on_files_in_cocos_format(data, tmp_path, name):
    config = resolve(name, DETECTION, "test")
    setting = Setting(data.open("train"), data.open("test"), 0)
    backbone = build(Architecture(name="resnet10", width=8, stem_pool=False), Stream(0, "b"))
    module = {"coco_detection": coco_detection, "voc07_detection": voc07_detection}[name]
    task = module.Task(config, backbone, setting)
    assert task.steps_per_epoch == 6 // 2
    batches = list(task.batches(0))
    assert len(batches) == 2 and {i for b in batches for i in b.indices} <= {*range(2, 8)}
    loss = task.model.loss(batches[0], Context(step=0, seed=0, gather=lambda x: x))["loss"]
    assert loss.isfinite()
    task.predict(tmp_path)
    metrics = module.Task.score(tmp_path, config)
    names = [metric.name for metric in metrics]
    classes = [f"AP[{name}]" for name in setting.test.classes]
    voc, coco = ["AP", "AP50", "AP75"], ["coco_AP", "coco_AP50", "coco_AP75"]
    first = coco + voc if name == "coco_detection" else voc + coco
    assert names == first + classes
