"""Detections with a known fault, and dense scenes in which every kind of fault occurs by chance."""

from dataclasses import replace

import numpy as np
from tests.ops.detection_scenes import take

from whytransfer.core.streams import Stream
from whytransfer.ops.boxes import area_xyxy
from whytransfer.ops.detections import Detections, Truth

CLASSES = ("cat", "dog", "car", "bus", "tree")
SIMILAR = (("cat", "dog"), ("car", "bus"))
# cat <-> dog and car <-> bus are similar; a tree resembles nothing.
SIMILAR_LABEL = np.array([1, 0, 3, 2, -1])
OTHER_LABEL = np.array([2, 2, 4, 4, 0])

SIDE, CELL = 40, 100


def planted_truth(num_images=40):
    """Four 40-pixel objects per image, each in the middle of a cell of its own, and free space."""
    stream = Stream(0, "planted truth")
    count = 4 * num_images
    cell = np.arange(count) % 4
    corner = np.stack([cell % 2, cell // 2], axis=1) * CELL + 30.0
    boxes = np.concatenate([corner, corner + SIDE], axis=1)
    return Truth(
        images=tuple(f"{index:04d}" for index in range(num_images)),
        sizes=np.full((num_images, 2), 3 * CELL),
        classes=CLASSES,
        image=np.repeat(np.arange(num_images), 4),
        label=stream.integers(count, len(CLASSES)),
        boxes_xyxy=boxes,
        difficult=np.zeros(count, dtype=bool),
        crowd=np.zeros(count, dtype=bool),
        area=area_xyxy(boxes),
    )


def perfect(truth):
    """A sure detection on every object, all scores different."""
    stream = Stream(0, "scores")
    score = 0.5 + 0.4 * stream.permutation(len(truth)) / max(len(truth), 1)
    return Detections(truth.image, truth.label, score, truth.boxes_xyxy.copy())


def shifted(found, share=0.55):
    """Boxes moved sideways by a share of their width: an IoU of (1 - share) / (1 + share)."""
    return replace(found, boxes_xyxy=found.boxes_xyxy + np.array([1, 0, 1, 0]) * SIDE * share)


def relabelled(found, table):
    """Labels swapped by a table; those that it maps to -1 are left out."""
    label = table[found.label]
    return take(replace(found, label=label), label >= 0)


def fainter_copies(found):
    """Another box on the same object, three pixels off, with a lower score."""
    return replace(found, boxes_xyxy=found.boxes_xyxy + 3.0, score=found.score - 0.45)


def noise(truth):
    """A box per object in the third column of cells, where no object is."""
    found = perfect(truth)
    corner = np.array([2.0 * CELL + 30, 30.0])
    boxes = np.tile(np.concatenate([corner, corner + SIDE]), (len(truth), 1))
    boxes[:, [1, 3]] += CELL * (np.arange(len(truth)) % 3)[:, None]
    return replace(found, boxes_xyxy=boxes)


def together(*parts):
    """All detections in one set."""
    columns = ("image", "label", "score", "boxes_xyxy")
    return Detections(*(np.concatenate([getattr(p, name) for p in parts]) for name in columns))


def dense_scene(seed, *, num_classes=4, num_images=4, num_objects=14, num_detections=40, ties=True):
    """Many overlapping boxes on a grid of 4 pixels, so that IoUs meet the thresholds exactly."""
    stream = Stream(seed, "dense scene")
    boxes = _grid_boxes(stream, num_objects)
    truth = Truth(
        images=tuple(f"{index:04d}" for index in range(num_images)),
        sizes=np.full((num_images, 2), 128),
        classes=tuple("abcdefgh"[:num_classes]),
        image=stream.integers(num_objects, num_images),
        label=stream.integers(num_objects, num_classes),
        boxes_xyxy=boxes,
        difficult=stream.uniform(num_objects) < 0.2,
        crowd=np.zeros(num_objects, dtype=bool),
        area=area_xyxy(boxes),
    )
    near = stream.integers(num_detections, num_objects)
    is_near = stream.uniform(num_detections) < 0.7
    moved = (stream.integers(4 * num_detections, 3).reshape(-1, 4) - 1) * 4.0
    moved *= (stream.uniform(num_detections) < 0.6)[:, None]
    far = _grid_boxes(stream, num_detections)
    keeps_label = is_near & (stream.uniform(num_detections) < 0.6)
    score = stream.permutation(num_detections) / num_detections + 0.01
    return Detections(
        image=np.where(is_near, truth.image[near], stream.integers(num_detections, num_images)),
        label=np.where(
            keeps_label, truth.label[near], stream.integers(num_detections, num_classes)
        ),
        score=np.round(score, 1) if ties else score,
        boxes_xyxy=np.where(is_near[:, None], truth.boxes_xyxy[near] + moved, far),
    ), truth


def plain_rows(found, truth, det, obj, flags):
    """The same scene as lists of an oracle's own tuples."""
    dets = [
        det(int(i), int(c), float(s), tuple(map(float, box)))
        for i, c, s, box in zip(
            found.image, found.label, found.score, found.boxes_xyxy, strict=True
        )
    ]
    objs = [
        obj(
            int(truth.image[g]),
            int(truth.label[g]),
            tuple(map(float, truth.boxes_xyxy[g])),
            *(bool(getattr(truth, flag)[g]) for flag in flags),
        )
        for g in range(len(truth))
    ]
    return dets, objs


def _grid_boxes(stream, count):
    corner = stream.integers(2 * count, 10).reshape(count, 2) * 8.0
    side = (stream.integers(2 * count, 6).reshape(count, 2) + 2) * 8.0
    return np.concatenate([corner, corner + side], axis=1)
