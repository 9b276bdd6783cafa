"""Faster R-CNN's parts, slow and plain: loops over single boxes in 64-bit floats."""

import math


def anchors(sizes, ratios, height, width, stride):
    """Cells row by row, sizes slower than ratios; offset 0, corners not rounded."""
    result = []
    for row in range(height):
        for column in range(width):
            for size in sizes:
                for ratio in ratios:
                    w = math.sqrt(size**2 / ratio)
                    h = ratio * w
                    x, y = column * stride, row * stride
                    result.append((x - w / 2, y - h / 2, x + w / 2, y + h / 2))
    return result


def overlap(a, b):
    w = min(a[2], b[2]) - max(a[0], b[0])
    h = min(a[3], b[3]) - max(a[1], b[1])
    if w <= 0 or h <= 0:
        return 0.0
    area = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return w * h / (area - w * h)


def assign(truth, candidates, low, high, rescue):
    """Per candidate (object, role): 1 positive, 0 negative, -1 ignored."""
    if not truth:
        return [(0, 0) for _ in candidates]
    table = [[overlap(t, c) for c in candidates] for t in truth]
    result = []
    for column in range(len(candidates)):
        overlaps = [row[column] for row in table]
        best = overlaps.index(max(overlaps))
        role = 1 if overlaps[best] >= high else 0 if overlaps[best] < low else -1
        if rescue and any(row[column] == max(row) for row in table):
            role = 1
        result.append((best, role))
    return result


def encode(box, anchor, weights):
    aw, ah = anchor[2] - anchor[0], anchor[3] - anchor[1]
    bw, bh = box[2] - box[0], box[3] - box[1]
    dx = ((box[0] + box[2]) / 2 - (anchor[0] + anchor[2]) / 2) / aw
    dy = ((box[1] + box[3]) / 2 - (anchor[1] + anchor[3]) / 2) / ah
    return tuple(
        w * d for w, d in zip(weights, (dx, dy, math.log(bw / aw), math.log(bh / ah)), strict=True)
    )


def decode(deltas, anchor, weights):
    dx, dy, dw, dh = (d / w for d, w in zip(deltas, weights, strict=True))
    aw, ah = anchor[2] - anchor[0], anchor[3] - anchor[1]
    x = (anchor[0] + anchor[2]) / 2 + dx * aw
    y = (anchor[1] + anchor[3]) / 2 + dy * ah
    w = aw * math.exp(min(dw, math.log(1000 / 16)))
    h = ah * math.exp(min(dh, math.log(1000 / 16)))
    return (x - w / 2, y - h / 2, x + w / 2, y + h / 2)


def clip(box, height, width):
    x1, y1, x2, y2 = box
    return (
        min(max(x1, 0), width), min(max(y1, 0), height),
        min(max(x2, 0), width), min(max(y2, 0), height),
    )  # fmt: skip


def suppress(boxes, scores, threshold):
    """Rows that stay, best first; equal scores in the order of rows."""
    kept = []
    for row in sorted(range(len(boxes)), key=lambda r: (-scores[r], r)):
        if all(overlap(boxes[row], boxes[other]) <= threshold for other in kept):
            kept.append(row)
    return kept


def propose(logits, deltas, anchor_boxes, size, candidates, proposals, threshold):
    """Of one image."""
    order = sorted(range(len(logits)), key=lambda r: (-logits[r], r))[:candidates]
    boxes = [clip(decode(deltas[r], anchor_boxes[r], (1, 1, 1, 1)), *size) for r in order]
    scores = [logits[r] for r in order]
    whole = [i for i, b in enumerate(boxes) if b[2] > b[0] and b[3] > b[1]]
    boxes, scores = [boxes[i] for i in whole], [scores[i] for i in whole]
    return [boxes[i] for i in suppress(boxes, scores, threshold)][:proposals]


def objectness_loss(logits, is_object, divisor):
    """Binary cross entropy of the sampled anchors, summed, over a fixed number."""
    total = 0.0
    for logit, target in zip(logits, is_object, strict=True):
        p = 1 / (1 + math.exp(-logit))
        total -= math.log(p) if target else math.log(1 - p)
    return total / divisor


def l1(deltas, targets):
    return sum(
        abs(a - b)
        for row, target in zip(deltas, targets, strict=True)
        for a, b in zip(row, target, strict=True)
    )


def cross_entropy(logits, labels):
    total = 0.0
    for row, label in zip(logits, labels, strict=True):
        total += math.log(sum(math.exp(x) for x in row)) - row[label]
    return total / len(labels)


def detections(logits, deltas, regions, size, weights, score_above, nms_iou, limit):
    """Of one image: (score, label, box), best first."""
    found = []
    for row, (scores, region) in enumerate(zip(logits, regions, strict=True)):
        total = sum(math.exp(x) for x in scores)
        for label in range(len(scores) - 1):
            score = math.exp(scores[label]) / total
            if score > score_above:
                box = clip(decode(deltas[row][label], region, weights), *size)
                found.append((score, label, box))
    kept = []
    for label in {label for _, label, _ in found}:
        own = [item for item in found if item[1] == label]
        rows = suppress([b for _, _, b in own], [s for s, _, _ in own], nms_iou)
        kept += [own[row] for row in rows]
    return sorted(kept, key=lambda item: -item[0])[:limit]


def resize_short_side(height, width, short, longest):
    """detectron2's ResizeShortestEdge, step by step."""
    scale = short / min(height, width)
    new_h, new_w = (short, scale * width) if height < width else (scale * height, short)
    if max(new_h, new_w) > longest:
        scale = longest / max(new_h, new_w)
        new_h, new_w = new_h * scale, new_w * scale
    return int(new_h + 0.5), int(new_w + 0.5)


def roi_align(feature, box, pooled, scale):
    """One channel (rows of floats), half-pixel aligned, as many samples per cell as it covers."""
    height, width = len(feature), len(feature[0])
    x1, y1, x2, y2 = (c * scale - 0.5 for c in box)
    cell_h, cell_w = (y2 - y1) / pooled, (x2 - x1) / pooled
    num_y, num_x = math.ceil(cell_h), math.ceil(cell_w)

    def value(y, x):
        if y < -1 or y > height or x < -1 or x > width:
            return 0.0
        y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
        top, left = int(y), int(x)
        bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
        fy, fx = y - top, x - left
        upper = feature[top][left] * (1 - fx) + feature[top][right] * fx
        lower = feature[bottom][left] * (1 - fx) + feature[bottom][right] * fx
        return upper * (1 - fy) + lower * fy

    result = []
    for i in range(pooled):
        for j in range(pooled):
            points = [
                value(y1 + (i + (a + 0.5) / num_y) * cell_h, x1 + (j + (b + 0.5) / num_x) * cell_w)
                for a in range(num_y)
                for b in range(num_x)
            ]
            result.append(sum(points) / len(points))
    return result
