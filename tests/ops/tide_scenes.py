"""The sets that tidecv was asked about: 20 at random, three as large and uneven as real ones.

Every class has an object, and no two scores of an image are equal: where either fails, tidecv and
this package differ on purpose. In half of the sets some objects are crowd regions.
"""

from dataclasses import replace

import numpy as np
from tests.ops.detection_scenes import with_masks
from tests.ops.planted_scenes import dense_scene

from whytransfer.core.streams import Stream
from whytransfer.ops.boxes import area_xyxy
from whytransfer.ops.detections import Detections, Truth

NUM_RANDOM = 20
REAL = {
    # images, classes, objects, detections of an image, side in pixels
    "as VOC": (60, 20, 180, 100, 500),
    "as COCO": (40, 80, 300, 130, 640),  # more than the 100 that take part
    "a crowd": (25, 3, 400, 60, 800),
}


def scenes():
    """Yields the name of each set, its detections and its truth, both with masks."""
    for seed in range(NUM_RANDOM):
        found, truth = dense_scene(
            seed, num_classes=3, num_images=6, num_objects=30, num_detections=90, ties=False
        )
        yield f"random {seed}", *with_masks(seed, found, _crowds(truth, seed % 2 == 1))
    for seed, (name, shape) in enumerate(REAL.items()):
        yield name, *real_shaped(seed, *shape)


def real_shaped(seed, num_images, num_classes, num_objects, per_image, side):
    """Few frequent classes and many rare ones, small objects and large, most detections faint."""
    stream = Stream(seed, "real-shaped scene")
    label = (num_classes * stream.uniform(num_objects) ** 3).astype(np.int64)
    label[:num_classes] = np.arange(num_classes)  # every class has one
    boxes = _boxes(stream, num_objects, side)
    truth = Truth(
        images=tuple(f"{index:06d}" for index in range(num_images)),
        sizes=np.full((num_images, 2), side),
        classes=tuple(f"class{index}" for index in range(num_classes)),
        image=stream.integers(num_objects, num_images),
        label=label,
        boxes_xyxy=boxes,
        difficult=stream.uniform(num_objects) < 0.1,
        crowd=np.zeros(num_objects, dtype=bool),
        area=area_xyxy(boxes),
    )
    truth.difficult[:num_classes] = False
    count = num_images * per_image
    image = np.repeat(np.arange(num_images), per_image)
    of = stream.integers(count, num_objects)
    near = (truth.image[of] == image) | (stream.uniform(count) < 0.2)
    image = np.where(near, truth.image[of], image)
    side_of = (boxes[of, 2:] - boxes[of, :2]).repeat(2, axis=1)
    reach = stream.uniform(count, 0.0, 0.5)
    moved = boxes[of] + side_of * reach[:, None] * stream.uniform(4 * count, -1, 1).reshape(-1, 4)
    right = near & (stream.uniform(count) < 0.75)
    found = Detections(
        image=image,
        label=np.where(right, label[of], stream.integers(count, num_classes)),
        score=np.where(near, 1 - reach, 0.3) * stream.uniform(count),
        boxes_xyxy=np.where(near[:, None], moved, _boxes(stream, count, side)),
    )
    return found, _crowds(truth, seed == 2)


def _crowds(truth, some):
    """The difficult objects as crowd regions, or none of either: tidecv knows crowds alone."""
    nothing = np.zeros(len(truth), dtype=bool)
    return replace(truth, crowd=truth.difficult if some else nothing, difficult=nothing)


def _boxes(stream, count, side):
    """Boxes within a square picture; their sides are spread evenly over the orders of size."""
    sides = side * 0.02 * 30 ** stream.uniform(2 * count).reshape(-1, 2)
    corner = (side - sides) * stream.uniform(2 * count).reshape(-1, 2)
    return np.concatenate([corner, corner + sides], axis=1)
