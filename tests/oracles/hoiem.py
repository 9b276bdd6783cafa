"""Hoiem et al. 2012, slow and plain: one detection, one class, one object at a time.

Boxes are turned into 1-based inclusive corners first, and overlap counts a pixel more than the
difference of two corners, as the released analysis does. Nothing here is shared with the package.
"""

from typing import NamedTuple


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


class Match(NamedTuple):
    label: int  # 1 a normal object, 0 a difficult one, -1 false
    duplicate: bool
    overlap: float


def overlap(a, b):
    ax0, ay0, bx0, by0 = a[0] + 1, a[1] + 1, b[0] + 1, b[1] + 1
    width = min(a[2], b[2]) - max(ax0, bx0) + 1
    height = min(a[3], b[3]) - max(ay0, by0) + 1
    if width <= 0 or height <= 0:
        return 0.0
    area_a = (a[2] - ax0 + 1) * (a[3] - ay0 + 1)
    area_b = (b[2] - bx0 + 1) * (b[3] - by0 + 1)
    return width * height / (area_a + area_b - width * height)


def by_score(dets):
    return sorted(range(len(dets)), key=lambda d: (-dets[d].score, dets[d].image, d))


def match(dets, objs, own, against, threshold):
    """Matches the detections of class ``own`` with the objects of class ``against``."""
    claimed = set()
    found = {}
    for d in by_score(dets):
        if dets[d].label != own:
            continue
        best_free, best_free_overlap = None, -1.0
        best_overlap = 0.0
        for g, obj in enumerate(objs):
            if obj.image != dets[d].image or obj.label != against:
                continue
            o = overlap(dets[d].box, obj.box)
            best_overlap = max(best_overlap, o)
            if g not in claimed and o >= threshold and o > best_free_overlap:
                best_free, best_free_overlap = g, o
        if best_free is not None:
            claimed.add(best_free)
            label = 0 if objs[best_free].difficult else 1
            found[d] = Match(label, False, best_free_overlap)
        else:
            found[d] = Match(-1, best_overlap >= threshold, best_overlap)
    return found


def similar_to(classes, sets, label):
    names = set()
    for group in sets:
        if classes[label] in group:
            names |= set(group)
    return {c for c, name in enumerate(classes) if name in names and c != label}


def types(dets, objs, classes, sets):
    """Returns per detection (type of the counts, type of the impact, confused class or None)."""
    result = [None] * len(dets)
    for own in range(len(classes)):
        strong = match(dets, objs, own, own, 0.5)
        weak = match(dets, objs, own, own, 0.1)
        others = {k: match(dets, objs, own, k, 0.1) for k in range(len(classes)) if k != own}
        similar = similar_to(classes, sets, own)
        for d in strong:
            if strong[d].label >= 0:
                result[d] = ("correct", "correct", None)
                continue
            if weak[d].label >= 0 or weak[d].duplicate:
                result[d] = ("localisation", "localisation", None)
                continue
            best, best_overlap = None, 0.0
            hit_similar = False
            for k in others:
                m = others[k][d]
                if m.label >= 0 or m.duplicate:
                    hit_similar = hit_similar or k in similar
                    if m.overlap > best_overlap:
                        best, best_overlap = k, m.overlap
            if best is None:
                counted = "background"
            else:
                counted = "similar" if best in similar else "other"
            result[d] = (counted, "similar" if hit_similar else "background", best)
    return result


def top(dets, objs, own, rule):
    """Returns the detections of a class that a rule counts."""
    strong = match(dets, objs, own, own, 0.5)
    order = [d for d in by_score(dets) if dets[d].label == own]
    num_positives = sum(o.label == own and not o.difficult for o in objs)
    if rule == "top_npos":
        return order[:num_positives]
    wanted = 100 if rule == "first_100_false" else num_positives
    kept, false = [], 0
    for d in order:
        if false == wanted:
            break
        kept.append(d)
        false += strong[d].label == -1
    return kept


def average_precision(labels, num_positives, norm=None):
    """``labels`` in score order, 1 true, 0 left out, -1 false; ``norm`` replaces Npos."""
    factor = 1.0 if norm is None else norm / num_positives
    precision, true, false = [], 0, 0
    for label in labels:
        true += label == 1
        false += label == -1
        scaled = true * factor
        precision.append(scaled / (scaled + false) if scaled + false else 0.0)
    total = 0.0
    for i, label in enumerate(labels):
        if label == 1:
            total += max(precision[i:])
    return total / num_positives


def impact(dets, objs, classes, sets, own, norm=None):
    """AP of one class after each repair, and before it under ``all``."""
    strong = match(dets, objs, own, own, 0.5)
    weak = match(dets, objs, own, own, 0.1)
    kinds = types(dets, objs, classes, sets)
    order = [d for d in by_score(dets) if dets[d].label == own]
    num_positives = sum(o.label == own and not o.difficult for o in objs)

    def ap(labels):
        return average_precision(labels, num_positives, norm)

    def without(kind):
        return ap([strong[d].label for d in order if kinds[d][1] != kind])

    return {
        "all": ap([strong[d].label for d in order]),
        "localisation": without("localisation"),
        "localisation_fixed": ap([weak[d].label for d in order if not weak[d].duplicate]),
        "similar": without("similar"),
        "background": without("background"),
    }


def size_labels(areas):
    """The band 0-4 of each normal object of one class, as analyzeTrueDetections has it.

    With fewer than five objects the original stops at index 0; here nothing is extra small then.
    """
    rising = sorted(areas)
    places = [int(share * len(areas) + 0.5) for share in (1 / 10, 3 / 10, 7 / 10, 9 / 10)]
    limits = [rising[place - 1] if place else 0.0 for place in places]
    return [sum(area > limit for limit in limits) for area in areas]


def ap_of_size(dets, objs, own, band, wanted, norm):
    """AP of one class for the objects of one band; ``band`` is that of every object."""
    order = [d for d in by_score(dets) if dets[d].label == own]
    claimed, labels = set(), []
    for d in order:
        best, best_overlap = None, 0.5
        for g, obj in enumerate(objs):
            if obj.image == dets[d].image and obj.label == own and g not in claimed:
                o = overlap(dets[d].box, obj.box)
                if o > best_overlap or (o == best_overlap and best is None):
                    best, best_overlap = g, o
        if best is None:
            labels.append(-1)
            continue
        claimed.add(best)
        labels.append(0 if objs[best].difficult or band[best] != wanted else 1)
    positives = sum(
        o.label == own and not o.difficult and b == wanted for o, b in zip(objs, band, strict=True)
    )
    return average_precision(labels, positives, norm) if positives else None
