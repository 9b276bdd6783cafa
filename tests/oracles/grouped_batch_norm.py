"""Grouped BatchNorm in plain loops over groups, channels and values, with its gradients."""

import math

import numpy as np


def forward(images, weight, bias, group_size, eps):
    """Returns (normalised (N, C, H, W), per group and channel its mean and unbiased variance)."""
    images = np.asarray(images, dtype=np.float64)
    out = np.empty_like(images)
    num_groups = len(images) // group_size
    means = np.empty((num_groups, images.shape[1]))
    variances = np.empty_like(means)
    for g in range(num_groups):
        rows = slice(g * group_size, (g + 1) * group_size)
        for c in range(images.shape[1]):
            values = [float(v) for v in images[rows, c].ravel()]
            mean = math.fsum(values) / len(values)
            squares = math.fsum((v - mean) ** 2 for v in values)
            scale = weight[c] / math.sqrt(squares / len(values) + eps)
            out[rows, c] = (images[rows, c] - mean) * scale + bias[c]
            means[g, c], variances[g, c] = mean, squares / (len(values) - 1)
    return out, means, variances


def backward(grad_out, images, weight, group_size, eps):
    """Returns the gradients with respect to images, weight and bias (Ioffe and Szegedy 2015)."""
    images = np.asarray(images, dtype=np.float64)
    grad_out = np.asarray(grad_out, dtype=np.float64)
    grad_images = np.empty_like(images)
    grad_weight, grad_bias = np.zeros(images.shape[1]), np.zeros(images.shape[1])
    for start in range(0, len(images), group_size):
        rows = slice(start, start + group_size)
        for c in range(images.shape[1]):
            x, g = images[rows, c], grad_out[rows, c]
            n = x.size
            inverse = 1 / math.sqrt(((x - x.mean()) ** 2).sum() / n + eps)
            unit = (x - x.mean()) * inverse
            grad_weight[c] += (g * unit).sum()
            grad_bias[c] += g.sum()
            centred = g - g.sum() / n - unit * (g * unit).sum() / n
            grad_images[rows, c] = weight[c] * inverse * centred
    return grad_images, grad_weight, grad_bias
