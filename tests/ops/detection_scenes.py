"""Small sets of objects and detections: by hand, at random, repeated, reordered."""

from dataclasses import fields, replace

import numpy as np

from whytransfer.ops.boxes import area_xyxy
from whytransfer.ops.detections import Detections, Truth
from whytransfer.ops.masks import encode

ROW_COLUMNS = ("image", "label", "boxes_xyxy", "difficult", "crowd", "area", "masks")
SIDE = 200


def truth_of(*objects, num_images=1, num_classes=1, difficult=(), crowd=()):
    """Truth from ``(image, label, (x0, y0, x1, y1))``; the flags name rows."""
    boxes = np.array([box for _, _, box in objects], dtype=float).reshape(-1, 4)
    flags = np.arange(len(objects))
    return Truth(
        images=tuple(f"image{index}" for index in range(num_images)),
        sizes=np.full((num_images, 2), SIDE),
        classes=tuple(f"class{index}" for index in range(num_classes)),
        image=np.array([image for image, _, _ in objects], dtype=np.int64),
        label=np.array([label for _, label, _ in objects], dtype=np.int64),
        boxes_xyxy=boxes,
        difficult=np.isin(flags, difficult),
        crowd=np.isin(flags, crowd),
        area=area_xyxy(boxes),
    )


def detections_of(*found):
    """Detections from ``(image, label, score, (x0, y0, x1, y1))``."""
    return Detections(
        image=np.array([image for image, _, _, _ in found], dtype=np.int64),
        label=np.array([label for _, label, _, _ in found], dtype=np.int64),
        score=np.array([score for _, _, score, _ in found], dtype=float),
        boxes_xyxy=np.array([box for _, _, _, box in found], dtype=float).reshape(-1, 4),
    )


def random_scene(
    seed, *, num_images=4, num_classes=3, extra=(), decimals=2, crowds=True, difficult=True
):
    """Objects on whole pixels and detections near them, far from them and of wrong labels.

    ``decimals`` of the scores decides how many are equal; ``extra`` more detections stand in
    images of that index.
    """
    generator = np.random.default_rng(seed)
    num_objects = int(generator.integers(0, 4 * num_images))
    boxes = _random_boxes(generator, num_objects)
    objects = Truth(
        images=tuple(f"image{index}" for index in range(num_images)),
        sizes=np.full((num_images, 2), SIDE),
        classes=tuple(f"class{index}" for index in range(num_classes)),
        image=generator.integers(0, num_images, num_objects),
        # The last class never has an object.
        label=generator.integers(0, max(1, num_classes - 1), num_objects),
        boxes_xyxy=boxes,
        difficult=(generator.random(num_objects) < 0.2) & difficult,
        crowd=(generator.random(num_objects) < 0.2) & crowds,
        area=area_xyxy(boxes) * generator.choice([1.0, 0.7], num_objects),
    )
    near = np.repeat(np.arange(num_objects), generator.integers(0, 4, num_objects))
    shifted = boxes[near] + generator.integers(-6, 7, (len(near), 4))
    image = np.concatenate([objects.image[near], generator.integers(0, num_images, 9), extra])
    far = _random_boxes(generator, len(image) - len(near))
    label = generator.integers(0, num_classes, len(image))
    label[: len(near)] = np.where(
        generator.random(len(near)) < 0.8, objects.label[near], label[: len(near)]
    )
    found = Detections(
        image=image.astype(np.int64),
        label=label,
        score=np.round(generator.random(len(image)), decimals),
        boxes_xyxy=np.concatenate([shifted, far]),
    )
    return take(found, generator.permutation(len(found))), objects


def take(detections, rows):
    """The detections of those rows, in their order."""
    return Detections(*(_rows(getattr(detections, f.name), rows) for f in fields(detections)))


def take_objects(truth, rows):
    """The objects of those rows, in their order."""
    return replace(truth, **{name: _rows(getattr(truth, name), rows) for name in ROW_COLUMNS})


def _rows(column, rows):
    return None if column is None else column[rows]


def with_masks(seed, detections, truth):
    """The set with an ellipse in every box, of an object often with a hole, of some nothing."""
    generator = np.random.default_rng(seed)
    found = encode(_ellipses(detections.boxes_xyxy, generator))
    return replace(detections, masks=found), replace(
        truth, masks=encode(_ellipses(truth.boxes_xyxy, generator))
    )


def _ellipses(boxes, generator):
    centre, half = (boxes[:, 2:] + boxes[:, :2]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
    places = np.arange(SIDE) + 0.5
    x, y = ((places - centre[:, i, None]) / half[:, i, None] for i in (0, 1))
    distance = x[:, None, :] ** 2 + y[:, :, None] ** 2
    hole = generator.choice([-1.0, 0.0, 0.1, 0.4, 2.0], len(boxes), p=[0.4, 0.2, 0.2, 0.15, 0.05])
    return (distance <= 1) & (distance > hole[:, None, None])


def choose_images(detections, truth, images):
    """The set in which ``images`` (indices, repeats allowed) stand one after the other."""
    found = [np.flatnonzero(detections.image == image) for image in images]
    wanted = [np.flatnonzero(truth.image == image) for image in images]
    repeated = take_objects(truth, np.concatenate(wanted).astype(int))
    names = tuple(f"copy{place}" for place in range(len(images)))
    place = np.repeat(np.arange(len(images)), [len(rows) for rows in wanted])
    repeated = replace(repeated, images=names, sizes=truth.sizes[images], image=place)
    place = np.repeat(np.arange(len(images)), [len(rows) for rows in found])
    return replace(take(detections, np.concatenate(found).astype(int)), image=place), repeated


def _random_boxes(generator, count):
    corner = generator.integers(0, 60, (count, 2)).astype(float)
    return np.concatenate([corner, corner + generator.integers(13, 130, (count, 2))], axis=1)
