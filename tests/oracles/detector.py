"""Faster R-CNN's parts, slow and plain: loops over single boxes in 64-bit floats.

At the end one training step of all of them, composed; it is given the map that the backbone made,
the sampled rows, and a function that runs the backbone's last stage.
"""

import math

import numpy as np


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


def conv3x3(feature, weight, bias):
    """(C, H, W) with one row of zeros around it, cell by cell."""
    channels, height, width = feature.shape
    padded = np.zeros((channels, height + 2, width + 2))
    padded[:, 1:-1, 1:-1] = feature
    result = np.empty((len(weight), height, width))
    for row in range(height):
        for column in range(width):
            patch = padded[:, row : row + 3, column : column + 3]
            result[:, row, column] = [(kernel * patch).sum() for kernel in weight] + bias
    return result


def linear(vector, weight, bias):
    return [float((row * vector).sum() + shift) for row, shift in zip(weight, bias, strict=True)]


def proposal_head(feature, weights):
    """Logits and deltas in the order of the anchors: cells row by row, those of a cell together."""
    hidden = np.maximum(conv3x3(feature, *weights["conv"]), 0)
    layers = [weights["objectness"], weights["deltas"]]
    logits, deltas = [], []
    for row in range(hidden.shape[1]):
        for column in range(hidden.shape[2]):
            cell = hidden[:, row, column]
            objectness, codes = (linear(cell, w[:, :, 0, 0], b) for w, b in layers)
            logits += objectness
            deltas += [tuple(codes[4 * k : 4 * k + 4]) for k in range(len(objectness))]
    return logits, deltas


def batch_norm(rows, weight, bias, eps=1e-5):
    """(R, C, H, W) normalised by the statistics of all rows: two passes, channel by channel."""
    result = np.empty_like(rows)
    for channel in range(rows.shape[1]):
        values = rows[:, channel]
        mean = values.sum() / values.size
        variance = ((values - mean) ** 2).sum() / values.size
        scale = weight[channel] / math.sqrt(variance + eps)
        result[:, channel] = (values - mean) * scale + bias[channel]
    return result


def padded_cells(sizes, together, height, width, stride):
    """Per image, the cells (row * width + column) that it and the images padded with it have."""
    result = []
    for n in range(len(sizes)):
        start = n // together * together
        group = sizes[start : start + together]
        high, wide = max(h for h, _ in group), max(w for _, w in group)
        result.append(
            [
                row * width + column
                for row in range(height)
                for column in range(width)
                if row * stride < high and column * stride < wide
            ]
        )
    return result


def c4_losses(features, scenes, weights, settings, draw, last_stage):
    """The four losses of one step.

    Args:
        features: (N, C, H, W) the map.
        scenes: Per image (size, boxes, labels).
        weights: Name of a layer → (weight, bias).
        settings: The numbers of the recipe.
        draw: (kind, image, roles, count, fraction) → sampled rows: positives, negatives.
        last_stage: (R, C, P, P) → (R, channels, P/2, P/2).
    """
    count, num_classes = len(scenes), settings["num_classes"]
    height, width = features.shape[2:]
    sizes = [size for size, _, _ in scenes]
    stride = settings["stride"]
    grid = anchors(settings["sizes"], settings["ratios"], height, width, stride)
    per_cell = len(settings["sizes"]) * len(settings["ratios"])
    cells = padded_cells(sizes, settings["together"], height, width, stride)
    objectness, proposal_off = 0.0, 0.0
    pooled, labels, regions, truths = [], [], [], []
    for n, (size, boxes, classes) in enumerate(scenes):
        all_logits, all_deltas = proposal_head(features[n], weights)
        own = [cell * per_cell + k for cell in cells[n] for k in range(per_cell)]
        logits, deltas, places = (
            [column[i] for i in own] for column in (all_logits, all_deltas, grid)
        )
        pairs = assign(boxes, places, 0.3, 0.7, True)
        roles = [role for _, role in pairs]
        positives, negatives = draw("anchors", n, roles, settings["anchors_sampled"], 0.5)
        rows = [*positives, *negatives]
        objectness += objectness_loss(
            [logits[i] for i in rows], [roles[i] for i in rows], settings["anchors_sampled"] * count
        )
        codes = [encode(boxes[pairs[i][0]], places[i], (1, 1, 1, 1)) for i in positives]
        proposal_off += l1([deltas[i] for i in positives], codes)

        found = propose(logits, deltas, places, size, *settings["limits"], 0.7)
        candidates = [*found, *boxes]
        pairs = assign(boxes, candidates, 0.5, 0.5, False)
        roles = [role for _, role in pairs]
        foreground, background = draw("regions", n, roles, settings["regions_sampled"], 0.25)
        labels += [classes[pairs[i][0]] for i in foreground] + [num_classes] * len(background)
        truths += [boxes[pairs[i][0]] for i in foreground] + [None] * len(background)
        own_regions = [candidates[i] for i in (*foreground, *background)]
        regions += own_regions
        for box in own_regions:
            maps = [
                roi_align(channel.tolist(), box, settings["pooled"], 1 / stride)
                for channel in features[n]
            ]
            pooled.append(np.array(maps).reshape(-1, settings["pooled"], settings["pooled"]))

    read = batch_norm(last_stage(np.stack(pooled)), *weights["extra_norm"])
    vectors = [np.array([channel.sum() / channel.size for channel in region]) for region in read]
    scores = [linear(vector, *weights["classes"]) for vector in vectors]
    offsets = [linear(vector, *weights["box_deltas"]) for vector in vectors]
    off = 0.0
    for row, (label, truth) in enumerate(zip(labels, truths, strict=True)):
        if truth is not None:
            code = encode(truth, regions[row], (10, 10, 5, 5))
            off += l1([offsets[row][4 * label : 4 * label + 4]], [code])
    return {
        "loss_objectness": objectness,
        "loss_proposal_boxes": proposal_off / (settings["anchors_sampled"] * count),
        "loss_classes": cross_entropy(scores, labels),
        "loss_boxes": off / len(labels),
    }
