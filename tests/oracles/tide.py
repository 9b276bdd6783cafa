"""TIDE (Bolya et al. 2020), slow and plain: lists, loops, and every fix applied to real lists.

Written from the rules, not from the package: each fix builds a new list of (class, score, true)
and scores it anew.
"""

from typing import NamedTuple

import numpy as np

FOREGROUND, BACKGROUND, PER_IMAGE = 0.5, 0.1, 100
TYPES = ("Cls", "Loc", "Both", "Dupe", "Bkg", "Miss")


class Det(NamedTuple):
    image: int
    label: int
    score: float
    box: tuple[float, float, float, float]


class Obj(NamedTuple):
    image: int
    label: int
    box: tuple[float, float, float, float]
    difficult: bool = False
    crowd: bool = False


def area(box):
    return max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0)


def shared(a, b):
    return area((max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])))


def iou(a, b):
    inter = shared(a, b)
    return inter / (area(a) + area(b) - inter) if inter > 0 else 0.0


def best(candidates):
    """The largest overlap and its object; the first object where overlaps are equal."""
    found, overlap = None, 0.0
    for g, o in candidates:
        if o > overlap:
            found, overlap = g, o
    return found, overlap


def kept(dets, image):
    rows = [d for d in range(len(dets)) if dets[d].image == image]
    return sorted(rows, key=lambda d: (-dets[d].score, d))[:PER_IMAGE]


def analyse(dets, objs, num_images):
    """Returns (outcome per detection, object of each Cls/Loc error, missed objects, matched).

    An outcome is ``hit``, ``ignored`` + type, or a type; detections beyond the limit have none.
    """
    outcome, target, used, ignored = {}, {}, {}, set()
    for image in range(num_images):
        rows = kept(dets, image)
        here = [g for g, o in enumerate(objs) if o.image == image]
        real = [g for g in here if not objs[g].difficult and not objs[g].crowd]
        overlaps = {(d, g): iou(dets[d].box, objs[g].box) for d in rows for g in here}

        for d in rows:
            free = [
                (g, overlaps[d, g])
                for g in real
                if objs[g].label == dets[d].label and g not in used
            ]
            g, overlap = best(free)
            if g is not None and overlap >= FOREGROUND:
                used[g] = d
                outcome[d] = "hit"

        for d in rows:
            if outcome.get(d) == "hit":
                continue
            for g in set(here) - set(real):
                if objs[g].crowd:
                    size = area(dets[d].box)
                    inside = shared(dets[d].box, objs[g].box) / size if size > 0 else 0.0
                else:
                    inside = overlaps[d, g]
                if objs[g].label == dets[d].label and inside > FOREGROUND:
                    ignored.add(d)
            same = [(g, overlaps[d, g]) for g in real if objs[g].label == dets[d].label]
            other = [(g, overlaps[d, g]) for g in real if objs[g].label != dets[d].label]
            same_g, same_o = best(same)
            other_g, other_o = best(other)
            _, taken_o = best([(g, o) for g, o in same if g in used])
            if not real:
                outcome[d] = "Bkg"
            elif BACKGROUND <= same_o <= FOREGROUND:
                outcome[d], target[d] = "Loc", same_g
            elif other_o >= FOREGROUND:
                outcome[d], target[d] = "Cls", other_g
            elif taken_o >= FOREGROUND:
                outcome[d] = "Dupe"
            elif max(same_o, other_o) <= BACKGROUND:
                outcome[d] = "Bkg"
            else:
                outcome[d] = "Both"

    repair = {}
    for d in sorted(target, key=lambda d: (-dets[d].score, d)):
        if target[d] not in used:
            repair.setdefault(target[d], d)
    real = [g for g, o in enumerate(objs) if not o.difficult and not o.crowd]
    missed = [g for g in real if g not in used and g not in repair]
    return outcome, target, used, ignored, repair, missed


def average_precision(points, num_positives):
    """101-point AP in percent of (score, image, row, true) points; pycocotools' recall points."""
    points = sorted(points, key=lambda p: (-p[0], p[1], p[2]))
    precision, recall, true = [], [], 0
    for rank, (_, _, _, correct) in enumerate(points, start=1):
        true += correct
        precision.append(true / rank)
        recall.append(true / num_positives if num_positives else 0.0)
    total = 0.0
    for level in np.linspace(0.0, 1.0, 101):
        reached = [p for p, r in zip(precision, recall, strict=True) if r >= level and r > 0]
        total += max(reached, default=0.0)
    return total / 101 * 100


def class_ap(dets, objs, num_images, label, fix=None):
    """AP of one class in percent, after a fix where one is named; None without objects."""
    outcome, target, used, ignored, repair, missed = analyse(dets, objs, num_images)
    num_positives = sum(o.label == label and not o.difficult and not o.crowd for o in objs)
    if num_positives == 0:
        return None
    points = []
    for d, what in outcome.items():
        own, score, true = dets[d].label, dets[d].score, what == "hit"
        counted = d not in ignored
        if not true and what == fix:
            counted = what in ("Cls", "Loc") and repair.get(target[d]) == d
            if counted:
                own, true = objs[target[d]].label, True
        if fix == "FalsePos":
            score = float(true)
        if counted and own == label:
            points.append((score, dets[d].image, d, true))
    if fix == "Miss":
        num_positives -= sum(objs[g].label == label for g in missed)
    if fix == "FalseNeg":
        num_positives = sum(objs[g].label == label for g in used)
    return average_precision(points, num_positives)


def gains(dets, objs, num_images, num_classes):
    """dAP of every type: {type: (per class, in all)}, floored at 0."""
    before = [class_ap(dets, objs, num_images, c) for c in range(num_classes)]
    present = [c for c in range(num_classes) if before[c] is not None]
    result = {}
    for fix in (*TYPES, "FalsePos", "FalseNeg"):
        after = [class_ap(dets, objs, num_images, c, fix) for c in range(num_classes)]
        per_class = [
            None if c not in present else max(after[c] - before[c], 0.0) for c in range(num_classes)
        ]
        mean = sum(after[c] - before[c] for c in present) / len(present)
        result[fix] = (per_class, max(mean, 0.0))
    return result
