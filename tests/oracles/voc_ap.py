"""VOC AP as the rules read: text lines, one detection after the other, one recall after the other.

Slow and plain on purpose; shares no code with the package. The only choice that the devkit leaves
open, the order of equal scores, is by image, then row.
"""


def voc_ap(detections, truth, threshold, label, use_07):
    """AP in [0, 1] of one class at one overlap threshold; None where no object counts."""
    objects, claimed, positives = {}, {}, 0
    for row in range(len(truth.label)):
        if truth.label[row] != label:
            continue
        xmin, ymin, xmax, ymax = (float(side) for side in truth.boxes_xyxy[row])
        box = (xmin + 1, ymin + 1, xmax, ymax)
        objects.setdefault(int(truth.image[row]), []).append((box, bool(truth.difficult[row])))
        claimed.setdefault(int(truth.image[row]), []).append(False)
        positives += not truth.difficult[row]
    if positives == 0:
        return None

    true, false, curve = 0, 0, []
    for image, box in _ranked(detections, label):
        best, best_overlap = None, -1.0
        for place, (wanted, _) in enumerate(objects.get(image, [])):
            overlap = _inclusive_overlap(box, wanted)
            if overlap > best_overlap:
                best, best_overlap = place, overlap
        if best_overlap > threshold:
            if objects[image][best][1]:
                continue
            if claimed[image][best]:
                false += 1
            else:
                claimed[image][best] = True
                true += 1
        else:
            false += 1
        curve.append((true / positives, true / (true + false)))
    return _eleven_points(curve) if use_07 else _area(curve)


def _ranked(detections, label):
    lines = []
    for row in range(len(detections.label)):
        if detections.label[row] != label:
            continue
        xmin, ymin, xmax, ymax = (float(side) for side in detections.boxes_xyxy[row])
        text = (
            f"{detections.image[row]} {detections.score[row]:.3f} "
            f"{xmin + 1:.1f} {ymin + 1:.1f} {xmax:.1f} {ymax:.1f}"
        )
        image, score, *sides = text.split(" ")
        box = tuple(float(side) for side in sides)
        lines.append((-float(score), int(image), row, box))
    return [(image, box) for _, image, _, box in sorted(lines)]


def _inclusive_overlap(first, second):
    width = min(first[2], second[2]) - max(first[0], second[0]) + 1.0
    height = min(first[3], second[3]) - max(first[1], second[1]) + 1.0
    shared = max(width, 0.0) * max(height, 0.0)
    areas = [(box[2] - box[0] + 1.0) * (box[3] - box[1] + 1.0) for box in (first, second)]
    return shared / (areas[0] + areas[1] - shared)


def _eleven_points(curve):
    total = 0.0
    for step in range(11):
        recall = step * 0.1  # 3 * 0.1 is a little more than 0.3, as in the original's arange
        total += max((p for r, p in curve if r >= recall), default=0.0) / 11.0
    return total


def _area(curve):
    total, reached = 0.0, 0.0
    for place, (recall, _) in enumerate(curve):
        if recall > reached:
            total += (recall - reached) * max(p for _, p in curve[place:])
            reached = recall
    return total
