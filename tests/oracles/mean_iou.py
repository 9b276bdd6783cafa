"""Intersection over union of pixel labels in plain loops, as its definition reads."""

import math


def confusion(predicted, true, num_classes, ignored=255):
    """matrix[t][p] over all images; column ``num_classes`` holds pixels without a prediction."""
    matrix = [[0] * (num_classes + 1) for _ in range(num_classes)]
    for image_p, image_t in zip(predicted, true, strict=True):
        for row_p, row_t in zip(image_p, image_t, strict=True):
            for p, t in zip(row_p, row_t, strict=True):
                if t != ignored:
                    matrix[t][num_classes if p == ignored else p] += 1
    return matrix


def class_iou(matrix):
    num_classes = len(matrix)
    found = []
    for c in range(num_classes):
        tp = matrix[c][c]
        fn = sum(matrix[c]) - tp
        fp = sum(matrix[t][c] for t in range(num_classes) if t != c)
        found.append(tp / (tp + fp + fn) if tp + fp + fn else math.nan)
    return found


def mean_iou(matrix):
    known = [value for value in class_iou(matrix) if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def pixel_accuracy(matrix):
    total = sum(map(sum, matrix))
    return sum(matrix[c][c] for c in range(len(matrix))) / total if total else math.nan
