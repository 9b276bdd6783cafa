"""Writes tidecv_constants.json: what the released package says of tests/ops/tide_scenes.py.

    uv venv build/tidecv
    uv pip install --python build/tidecv tidecv==1.0.1 faster-coco-eval
    PYTHONPATH=src build/tidecv/bin/python -m tests.oracles.make_tidecv_constants

tidecv brings a full OpenCV that would overwrite the headless one, hence an environment of its own;
this package is read from its sources there. The file says which versions it was made with. Sets
that have masks are asked about by boxes and by masks.
"""

import importlib.metadata
import json
import platform
from pathlib import Path

from tests.ops.tide_scenes import scenes
from tidecv import TIDE, Data
from tidecv.errors.qualifiers import AREA

OVERLAPS = {"boxes": TIDE.BOX, "masks": TIDE.MASK}
VERSIONS = ("tidecv", "pycocotools", "numpy", "faster-coco-eval")


def rows(columns):
    """Yields the row, box and mask of each object or detection, as tidecv wants them."""
    boxes = columns.boxes_xyxy.copy()
    boxes[:, 2:] -= boxes[:, :2]
    masks = columns.masks.coco() if columns.masks is not None else [None] * len(columns)
    for row, (box, mask) in enumerate(zip(boxes.tolist(), masks, strict=True)):
        yield int(columns.image[row]), int(columns.label[row]), row, box, mask


def asked(found, truth, mode):
    """Asks the package: AP, AP by class, gain and number of errors of each type."""
    wanted, detections = Data("truth", max_dets=100), Data("found")
    for image, label, row, box, mask in rows(truth):
        add = wanted.add_ignore_region if truth.crowd[row] else wanted.add_ground_truth
        add(image, label, box=box, mask=mask)
    for image, label, row, box, mask in rows(found):
        detections.add_detection(image, label, float(found.score[row]), box=box, mask=mask)
    for image in range(len(truth.images)):
        wanted.add_image(image, truth.images[image])
    tide = TIDE()
    run = tide.evaluate(wanted, detections, mode=mode)
    gains = tide.get_main_errors()["found"] | tide.get_special_errors()["found"]
    by_size = {
        size.name.lower(): {
            kind.short_name: gain for kind, gain in run.fix_main_errors(qual=size).items()
        }
        for size in AREA
    }
    return {
        "by_size": by_size if mode == TIDE.BOX else None,  # by the area of boxes in any case
        "ap": run.ap,
        "ap_per_class": [run.ap_data.objs[c].get_ap() for c in range(len(truth.classes))],
        "gains": gains,
        "counts": {kind.short_name: count for kind, count in run.count_errors().items()},
    }


def main():
    cases = []
    for name, found, truth in scenes():
        for overlap, mode in OVERLAPS.items():
            if overlap == "boxes" or found.masks is not None:
                cases.append({"set": name, "overlap": overlap, **asked(found, truth, mode)})
    versions = {name: importlib.metadata.version(name) for name in VERSIONS}
    content = {"versions": {**versions, "python": platform.python_version()}, "cases": cases}
    path = Path(__file__).with_name("tidecv_constants.json")
    path.write_text(json.dumps(content) + "\n")


if __name__ == "__main__":
    main()
