"""How fast are detections scored? Our COCO rules against pycocotools on the same boxes, in turns.

python benchmarks/detection_eval.py --json
"""

import contextlib
import io

import numpy as np
from _interleaved import compare, ratio, report
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from whytransfer.ops.average_precision import average_precision, coco_matches, voc_matches
from whytransfer.ops.detections import Detections, Truth

NUM_IMAGES, NUM_CLASSES, PER_IMAGE = 500, 20, 50


def scenes() -> tuple[Detections, Truth]:
    """Draws boxes around true ones, and as many anywhere."""
    generator = np.random.default_rng(0)
    image = np.repeat(np.arange(NUM_IMAGES), 4)
    corner, size = (
        generator.uniform(0, 400, (len(image), 2)),
        generator.uniform(60, 150, (len(image), 2)),
    )
    boxes = np.concatenate([corner, corner + size], axis=1)
    label = generator.integers(0, NUM_CLASSES, len(image))
    truth = Truth(
        images=tuple(map(str, range(NUM_IMAGES))),
        sizes=np.full((NUM_IMAGES, 2), 500),
        classes=tuple(map(str, range(NUM_CLASSES))),
        image=image,
        label=label,
        boxes_xyxy=boxes,
        difficult=np.zeros(len(image), bool),
        crowd=np.zeros(len(image), bool),
        area=size.prod(axis=1),
    )
    count = NUM_IMAGES * PER_IMAGE
    of = generator.integers(0, len(image), count)
    jitter = generator.normal(0, 8, (count, 4))
    detections = Detections(
        image=image[of],
        label=np.where(
            generator.random(count) < 0.7, label[of], generator.integers(0, NUM_CLASSES, count)
        ),
        score=generator.random(count),
        boxes_xyxy=boxes[of] + jitter,
    )
    return detections, truth


def as_coco(truth: Truth) -> COCO:
    """Writes the truth as pycocotools wants it."""
    coco = COCO()
    coco.dataset = {
        "images": [{"id": i} for i in range(NUM_IMAGES)],
        "categories": [{"id": i, "name": str(i)} for i in range(NUM_CLASSES)],
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
    coco.createIndex()
    return coco


def main() -> None:
    detections, truth = scenes()
    with contextlib.redirect_stdout(io.StringIO()):
        coco = as_coco(truth)
        wh = detections.boxes_xyxy[:, 2:] - detections.boxes_xyxy[:, :2]
        rows = np.concatenate(
            [detections.image[:, None], detections.boxes_xyxy[:, :2], wh,
             detections.score[:, None], detections.label[:, None]], axis=1,
        )  # fmt: skip
        found = coco.loadRes(rows)

    def peer() -> float:
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation = COCOeval(coco, found, "bbox")
            evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
            evaluation.params.maxDets = [100]
            evaluation.evaluate()
            evaluation.accumulate()
        precision = evaluation.eval["precision"]
        return float(precision[precision > -1].mean())

    def ours() -> float:
        return float(
            np.nanmean(average_precision(coco_matches(detections, truth), metric="coco101"))
        )

    assert abs(peer() - ours()) < 1e-6
    times = compare(
        {
            "pycocotools": peer,
            "coco": ours,
            "voc": lambda: average_precision(voc_matches(detections, truth), metric="voc07"),
        },
        rounds=7,
    )
    report(
        {
            "detections": NUM_IMAGES * PER_IMAGE,
            "ratios": {
                "coco_vs_pycocotools": round(ratio(times, "pycocotools", "coco"), 2),
                "voc_vs_pycocotools": round(ratio(times, "pycocotools", "voc"), 2),
            },
        }
    )


if __name__ == "__main__":
    main()
