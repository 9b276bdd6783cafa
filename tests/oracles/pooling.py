"""Adaptive average pooling, cell by cell in plain loops and float64.

PyTorch's documented rule: cell i of S averages rows ⌊iH/S⌋ to ⌈(i+1)H/S⌉ - 1, columns alike.
"""

import math

import numpy as np


def pooled(maps, side):
    """Returns (N, C·S²) of maps (N, C, H, W), channels first, then rows, then columns."""
    count, channels, height, width = maps.shape
    out = np.zeros((count, channels, side, side))
    for n in range(count):
        for c in range(channels):
            for i in range(side):
                for j in range(side):
                    rows = range(i * height // side, math.ceil((i + 1) * height / side))
                    columns = range(j * width // side, math.ceil((j + 1) * width / side))
                    values = [float(maps[n, c, y, x]) for y in rows for x in columns]
                    out[n, c, i, j] = math.fsum(values) / len(values)
    return out.reshape(count, -1)
