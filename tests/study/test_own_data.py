"""The same study form on a user's own folders: images to pretrain on, COCO boxes to find."""

import json
import shutil

import pytest
import yaml

from whytransfer.core.errors import InputError
from whytransfer.core.store import Store
from whytransfer.data.formats import voc
from whytransfer.data.world import crowds, things
from whytransfer.study import plan, spec
from whytransfer.study.executors import Here
from whytransfer.study.run import run

NETWORK = {"name": "resnet10", "width": 8, "stem_pool": False}
STUDY = {
    "name": "own",
    "description": "A user's own data.",
    "reference": "random",
    "data": {
        "photos": {"format": "imagefolder", "root": "photos"},
        "boxes": {
            "format": "coco", "root": "boxes", "train_images": "images", "test_images": "images",
            "train_annotations": "train.json", "test_annotations": "test.json",
        },
    },
    "pretrain": {
        "data": "photos",
        "config": {
            "architecture": NETWORK, "augmentation": {"crop_px": 32}, "bn_group_size": 4,
            "training": {"epochs": None, "steps": 2, "batch_size": 8},
        },
    },
    "arms": {
        "random": {"method": "random_init"},
        "moco": {"method": "moco_v2", "config": {"num_keys": 16}},
    },
    "tasks": {
        "detection": {
            "task": "voc07_detection", "data": "boxes", "headline": "coco_AP",
            "config": {
                "views": {"short_sides_px": [64], "test_short_side_px": 64},
                "detector": {
                    "proposals": {"sizes_px": [16, 32], "sampled": 16, "proposals_train": 10,
                                  "proposals_test": 10},
                    "regions": {"sampled": 4, "pooled": 4},
                },
                "precise_bn_steps": 1,
                "training": {"steps": 2, "batch_size": 2, "schedule": {"milestones": [1]}},
            },
        },
    },
}  # fmt: skip


def write_coco(folder, devkit):
    """Rewrites a devkit as COCO, with category ids that skip numbers, as published files do."""
    shutil.copytree(devkit / "VOC2007" / "JPEGImages", folder / "images")
    for split in ("train", "test"):
        source = voc.open(voc.Config(root=devkit, classes="infer"), split)
        images, annotations = [], []
        for index in range(len(source)):
            height, width = source.size(index)
            name = source.path(index).name
            images.append({"id": 7 * index, "file_name": name, "height": height, "width": width})
            objects = source.objects(index)
            for (x1, y1, x2, y2), label in zip(objects.boxes_xyxy, objects.labels, strict=True):
                annotations.append(
                    {
                        "id": len(annotations) + 1, "image_id": 7 * index, "iscrowd": 0,
                        "category_id": 3 * int(label) + 1, "bbox": [x1, y1, x2 - x1, y2 - y1],
                        "area": (x2 - x1) * (y2 - y1),
                    }
                )  # fmt: skip
        categories = [{"id": 3 * i + 1, "name": name} for i, name in enumerate(source.classes)]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (folder / f"{split}.json").write_text(json.dumps(content))
    return source.classes


@pytest.fixture
def own(tmp_path):
    small = things.Config(num_train=16, num_test=16)
    things.write(tmp_path / "photos", small, 0)
    few = crowds.Config(num_train=8, num_test=8)
    crowds.write(tmp_path / "devkit", few, 0)
    (tmp_path / "boxes").mkdir()
    classes = write_coco(tmp_path / "boxes", tmp_path / "devkit")
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(STUDY, sort_keys=False))
    return tmp_path, classes


def test_a_study_on_the_users_own_folders(own):
    folder, classes = own
    store = Store(folder / "runs")
    found = plan.make(spec.read(str(folder / "own.yaml")), store)
    assert [node.step.stage for node in found.nodes] == ["pretrain"] * 2 + ["transfer"] * 2
    assert run(found, store, num_slots=1, make_executor=Here) == {}
    record = found["transfer/detection/moco/seed0"].step.find(store).record
    assert {m.name for m in record.metrics} >= {f"AP[{name}]" for name in classes}
    assert record["coco_AP"].n == 8

    # The same files in another place are the same data: nothing is left to do.
    elsewhere = folder / "moved"
    elsewhere.mkdir()
    for name in ("photos", "boxes", "own.yaml"):
        shutil.move(folder / name, elsewhere / name)
    again = plan.make(spec.read(str(elsewhere / "own.yaml")), store)
    assert again.missing(store) == []

    # One changed pixel file is other data, for what was trained on it and after.
    victim = next((elsewhere / "photos" / "train").rglob("*.JPEG"))
    donor = next((elsewhere / "photos" / "val").rglob("*.JPEG"))
    shutil.copy(donor, victim)
    changed = plan.make(spec.read(str(elsewhere / "own.yaml")), store).missing(store)
    assert [node.key for node in changed] == [
        "pretrain/moco/seed0",
        "transfer/detection/moco/seed0",
    ]


def test_a_limit_is_part_of_every_fingerprint_it_touches(own):
    folder, _ = own
    whole = plan.make(spec.read(str(folder / "own.yaml")), Store(folder / "runs"))
    limited = plan.make(spec.read(str(folder / "own.yaml"), ("limit=8",)), Store(folder / "runs"))
    same = {n.key for n in whole.nodes} & {
        n.key for n in limited.nodes if n.step.fingerprint == whole[n.key].step.fingerprint
    }
    assert same == {"pretrain/random/seed0"}


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda f: shutil.rmtree(f / "photos"), "no such folder"),
        (lambda f: (f / "boxes" / "train.json").unlink(), "train.json"),
        (lambda f: (f / "boxes" / "train.json").write_text("{"), "train.json"),
    ],
)
def test_broken_data_stop_the_plan_before_anything_is_written(own, harm, message):
    folder, _ = own
    harm(folder)
    with pytest.raises(InputError, match=message):
        plan.make(spec.read(str(folder / "own.yaml")), Store(folder / "runs"))
    assert not (folder / "runs" / "pretrain").exists()
