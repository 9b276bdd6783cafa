"""Real photographs, and small datasets of them on disk in every format."""

import json
import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import cv2
import numpy as np
import pytest

from whytransfer.data.world.photos import PHOTOGRAPHS

OBJECTS = {
    "astronaut": [("person", (20, 1, 440, 512), 0), ("tvmonitor", (1, 200, 60, 300), 1)],
    "chelsea": [("cat", (90, 5, 451, 300), 0)],
    "china": [],
    "coffee": [("diningtable", (1, 1, 600, 400), 0), ("bottle", (200, 60, 420, 330), 0)],
    "flower": [("pottedplant", (150, 10, 500, 427), 0)],
    "rocket": [("aeroplane", (300, 100, 340, 350), 1)],
}
"""Photograph → (class, VOC corners, difficult); drawn by eye, for the form and not the content."""

TRAIN, TEST = ("astronaut", "chelsea", "china", "coffee"), ("flower", "rocket")


@pytest.fixture(scope="session")
def photographs():
    return {photograph.name: photograph.pixels() for photograph in PHOTOGRAPHS}


def write(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image[:, :, ::-1])


@pytest.fixture(scope="session")
def _layouts(tmp_path_factory, photographs):
    root = tmp_path_factory.mktemp("layouts")
    for name, image in photographs.items():
        write(root / f"folder/train/{name}/whole.JPEG", image)
        write(root / f"folder/train/{name}/left.JPEG", image[:, :200])
        write(root / f"folder/val/{name}/right.JPEG", image[:, 200:])
        write(root / f"voc/VOC2007/JPEGImages/{name}.jpg", image)
        annotation = root / f"voc/VOC2007/Annotations/{name}.xml"
        annotation.parent.mkdir(parents=True, exist_ok=True)
        annotation.write_text(voc_annotation(image.shape, OBJECTS[name]))
        split = "train" if name in TRAIN else "val"
        write(root / f"coco/{split}2017/{name}.jpg", image)
    sets = root / "voc/VOC2007/ImageSets/Main"
    sets.mkdir(parents=True)
    (sets / "trainval.txt").write_text("\n".join(TRAIN) + "\n")
    (sets / "test.txt").write_text("\n".join(TEST) + "\n")
    (root / "coco/annotations").mkdir()
    for split, names in (("train", TRAIN), ("val", TEST)):
        content = coco_annotations({name: photographs[name].shape for name in names})
        (root / f"coco/annotations/instances_{split}2017.json").write_text(json.dumps(content))
    return root


def voc_annotation(shape, objects):
    root = ElementTree.Element("annotation")
    size = ElementTree.SubElement(root, "size")
    for tag, value in (("width", shape[1]), ("height", shape[0]), ("depth", 3)):
        ElementTree.SubElement(size, tag).text = str(value)
    for name, corners, difficult in objects:
        node = ElementTree.SubElement(root, "object")
        ElementTree.SubElement(node, "name").text = name
        ElementTree.SubElement(node, "difficult").text = str(difficult)
        box = ElementTree.SubElement(node, "bndbox")
        for tag, value in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True):
            ElementTree.SubElement(box, tag).text = str(value)
    return ElementTree.tostring(root, encoding="unicode")


def coco_annotations(shapes):
    """COCO's form with ids that have gaps and do not follow the names."""
    names = sorted({name for objects in OBJECTS.values() for name, *_ in objects})
    category = {name: 90 - 7 * number for number, name in enumerate(names)}
    images, annotations = [], []
    for number, (name, shape) in enumerate(shapes.items()):
        image = {"id": 1000 + 3 * number, "file_name": f"{name}.jpg"}
        images.append(image | {"height": shape[0], "width": shape[1]})
        for label, (xmin, ymin, xmax, ymax), difficult in OBJECTS[name]:
            box = [xmin - 1, ymin - 1, xmax - xmin + 1, ymax - ymin + 1]
            row = {"id": len(annotations), "image_id": image["id"], "bbox": box}
            row |= {"category_id": category[label], "iscrowd": difficult, "area": 12.5}
            annotations.append(row)
    categories = [{"id": number, "name": name} for name, number in category.items()]
    return {"images": images, "annotations": annotations, "categories": categories}


@pytest.fixture(scope="session")
def layouts(_layouts):
    """The datasets as they should be; not to be changed."""
    return _layouts


@pytest.fixture
def layout(_layouts, tmp_path):
    """Copies one of the datasets, to be damaged."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree(_layouts / name, tmp_path / name))

    return copy


@pytest.fixture
def noise():
    return np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
