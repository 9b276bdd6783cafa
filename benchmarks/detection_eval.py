"""How fast are detections scored? Our rules against pycocotools on the same boxes, in turns.

``voc_vs_pycocotools``: as many as VOC2007's test set would give, 4,952 images of 100, by the rules
of VOC at all ten thresholds. ``coco_vs_pycocotools``: as many as COCO's val2017 would, 5,000 images
of 100 in 80 classes, by the rules of COCO at all ten. pycocotools is asked for one range of areas
and one number of detections, so for no more than we compute, and what it has read and indexed
before is not counted.

python benchmarks/detection_eval.py --json
"""

import contextlib
import io
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from _calls import shares
from _interleaved import Times, compare, merge, parser, ratios, report
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from whytransfer.ops.average_precision import average_precision, coco_matches, voc_matches
from whytransfer.ops.detections import Detections, Truth

PER_IMAGE = 100
PARTS = ("_by_score", "_through_text", "overlaps", "claim_in_turn", "average_precision")
"""The functions whose share of our time is reported; the rest is what is between them."""


@dataclass(frozen=True)
class Case:
    """How much is scored: images, classes and objects per image as in a test set."""

    num_images: int
    num_classes: int
    objects: int


VOC = Case(num_images=4952, num_classes=20, objects=3)
COCO_VAL = Case(num_images=5000, num_classes=80, objects=7)


def scenes(case: Case) -> tuple[Detections, Truth]:
    """Draws objects, and detections around those of their own image; 7 of 10 of the right class."""
    generator = np.random.default_rng(0)
    image = np.repeat(np.arange(case.num_images), case.objects)
    corner = generator.uniform(0, 400, (len(image), 2))
    size = generator.uniform(60, 150, (len(image), 2))
    boxes = np.concatenate([corner, corner + size], axis=1)
    label = generator.integers(0, case.num_classes, len(image))
    truth = Truth(
        images=tuple(map(str, range(case.num_images))),
        sizes=np.full((case.num_images, 2), 600),
        classes=tuple(map(str, range(case.num_classes))),
        image=image,
        label=label,
        boxes_xyxy=boxes,
        difficult=np.zeros(len(image), bool),
        crowd=np.zeros(len(image), bool),
        area=size.prod(axis=1),
    )
    found = np.repeat(np.arange(case.num_images), PER_IMAGE)
    of = found * case.objects + generator.integers(0, case.objects, len(found))
    right = generator.random(len(found)) < 0.7
    detections = Detections(
        image=found,
        label=np.where(right, label[of], generator.integers(0, case.num_classes, len(found))),
        score=generator.random(len(found)),
        boxes_xyxy=boxes[of] + generator.normal(0, 8, (len(found), 4)),
    )
    return detections, truth


def indexed(detections: Detections, truth: Truth) -> tuple[COCO, COCO]:
    """Returns truth and detections as pycocotools wants them."""
    coco = COCO()
    coco.dataset = {
        "images": [{"id": i} for i in range(len(truth.images))],
        "categories": [{"id": i, "name": name} for i, name in enumerate(truth.classes)],
        "annotations": [
            {
                "id": row + 1, "image_id": int(truth.image[row]), "iscrowd": 0,
                "category_id": int(truth.label[row]), "area": float(truth.area[row]),
                "bbox": [*truth.boxes_xyxy[row, :2].tolist(),
                         *(truth.boxes_xyxy[row, 2:] - truth.boxes_xyxy[row, :2]).tolist()],
            }
            for row in range(len(truth))
        ],
    }  # fmt: skip
    rows = np.concatenate(
        [detections.image[:, None], detections.boxes_xyxy[:, :2],
         detections.boxes_xyxy[:, 2:] - detections.boxes_xyxy[:, :2],
         detections.score[:, None], detections.label[:, None]], axis=1,
    )  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
        return coco, coco.loadRes(rows)


def pycocotools(coco: COCO, found: COCO) -> float:
    """Scores by pycocotools; returns AP in [0, 1]."""
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(coco, found, "bbox")
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.params.maxDets = [100]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"]
    return float(precision[precision > -1].mean())


def by_voc(detections: Detections, truth: Truth) -> float:
    return float(np.nanmean(average_precision(voc_matches(detections, truth), metric="voc07")))


def by_coco(detections: Detections, truth: Truth) -> float:
    return float(np.nanmean(average_precision(coco_matches(detections, truth), metric="coco101")))


def main() -> None:
    arguments = parser(__doc__, rounds=3, threads=1).parse_args()
    torch.set_num_threads(arguments.threads)
    seconds: Times = {}
    found = []
    works = {}
    for name, case, ours in (("voc", VOC, by_voc), ("coco", COCO_VAL, by_coco)):
        columns = scenes(case)
        peer = indexed(*columns)
        works[name] = partial(ours, *columns)
        if name == "coco":
            assert abs(pycocotools(*peer) - works[name]()) < 1e-6
        times = compare({"pycocotools": partial(pycocotools, *peer), name: works[name]},
                        arguments.rounds)  # fmt: skip
        found.append(ratios(times, {f"{name}_vs_pycocotools": ("pycocotools", name)}))
        seconds |= {name: times[name], f"pycocotools_on_{name}": times["pycocotools"]}
    report(
        {
            "detections": {"voc": VOC.num_images * PER_IMAGE,
                           "coco": COCO_VAL.num_images * PER_IMAGE},
            "seconds": {name: round(float(np.median(rows)), 2) for name, rows in seconds.items()},
            "shares": {name: shares(work, PARTS) for name, work in works.items()},
            **merge(*found),
        }
    )  # fmt: skip


if __name__ == "__main__":
    main()
