"""COCO AP by pycocotools itself, from the package's columns."""

import contextlib
import io

import numpy as np
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

AREAS = {"all": (0, 1e10), "small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, 1e10)}
_BEYOND_EVERY_AREA = 1e12


def pycocotools_ap(detections, truth, areas, kind="bbox"):
    """AP in [0, 1] of shape (areas, classes, 10), NaN where a class has no countable object.

    COCO has no flag for difficult objects; an area outside every range has the same effect.
    ``kind`` may be ``segm``: then masks overlap, and a detection's area is its mask's.
    """
    area = np.where(truth.difficult, _BEYOND_EVERY_AREA, truth.area)
    wanted = _dataset(truth, truth, {"area": area.tolist(), "iscrowd": truth.crowd.tolist()})
    sides = detections.boxes_xyxy[:, 2:] - detections.boxes_xyxy[:, :2]
    own_area = sides.prod(axis=1)
    if kind == "segm":
        own_area = np.array([coco_mask.area(rle) for rle in detections.masks.coco()])
    own = {"area": own_area.tolist(), "score": detections.score.tolist()}
    found = _dataset(detections, truth, {**own, "iscrowd": [0] * len(detections)})
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(wanted, found, kind)
        evaluation.params.areaRng = [AREAS[name] for name in areas]
        evaluation.params.areaRngLbl = list(areas)
        evaluation.params.maxDets = [100]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][..., 0]
    absent = (precision < 0).all(axis=1)
    return np.where(absent, np.nan, precision.mean(axis=1)).transpose(2, 1, 0)


def _dataset(rows, truth, columns):
    boxes = rows.boxes_xyxy.copy()
    boxes[:, 2:] -= boxes[:, :2]
    if rows.masks is not None:
        columns = {**columns, "segmentation": rows.masks.coco()}
    annotations = [
        {
            "id": row + 1,
            "image_id": int(rows.image[row]) + 1,
            "category_id": int(rows.label[row]) + 1,
            "bbox": boxes[row].tolist(),
            **{name: values[row] for name, values in columns.items()},
        }
        for row in range(len(rows))
    ]
    coco = COCO()
    coco.dataset = {
        "images": [
            {"id": image + 1, "height": int(height), "width": int(width)}
            for image, (height, width) in enumerate(truth.sizes)
        ],
        "categories": [{"id": label + 1} for label in range(len(truth.classes))],
        "annotations": annotations,
    }
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco
