"""DVE's landmark regressor and error written out plainly, in float64 and loops.

Written from the rules: 1x1 scores without bias, softmax over the places of the map at a
temperature, mean place, a linear map of a landmark's virtual points without bias; smooth L1 at ten
times the normalised coordinates; errors by the distance between the two true eyes.
"""

import math

import numpy as np


def hypercolumn(maps, side):
    """Resizes maps (C, H, W) bilinearly with half-pixel centres and stacks them: (sum C, S, S)."""
    return np.concatenate([[_resized(channel, side) for channel in found] for found in maps])


def _resized(channel, side):
    height, width = channel.shape
    out = np.zeros((side, side))
    for row in range(side):
        for column in range(side):
            out[row, column] = _sampled(
                channel, (row + 0.5) * height / side - 0.5, (column + 0.5) * width / side - 0.5
            )
    return out


def _sampled(channel, y, x):
    height, width = channel.shape
    y, x = min(max(y, 0.0), height - 1.0), min(max(x, 0.0), width - 1.0)
    top, left = math.floor(y), math.floor(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    down, across = y - top, x - left
    upper = (1 - across) * channel[top, left] + across * channel[top, right]
    lower = (1 - across) * channel[bottom, left] + across * channel[bottom, right]
    return (1 - down) * upper + down * lower


def soft_argmax(score, temperature):
    """The mean place (x, y) of a score (H, W), -1 and 1 at the edges of the map."""
    height, width = score.shape
    largest = temperature * score.max()
    total = x = y = 0.0
    for row in range(height):
        for column in range(width):
            weight = math.exp(temperature * score[row, column] - largest)
            total += weight
            x += weight * ((column + 0.5) / width * 2 - 1)
            y += weight * ((row + 0.5) / height * 2 - 1)
    return x / total, y / total


def landmarks(features, scores, linear, temperature):
    """Landmarks (L, 2) of features (C, H, W).

    scores (L, V, C) are the 1x1 convolution's, linear (L, 2, V, 2) takes places to a landmark.
    """
    found = np.zeros((len(scores), 2))
    for landmark, virtual in enumerate(scores):
        for point, weights in enumerate(virtual):
            score = np.tensordot(weights, features, axes=1)
            place = soft_argmax(score, temperature)
            for axis in (0, 1):
                for part in (0, 1):
                    found[landmark, axis] += linear[landmark, axis, point, part] * place[part]
    return found


def smooth_l1(found, true, scale):
    """The mean over all coordinates of ten times (or so) the difference, quadratic below 1."""
    losses = []
    for one, other in zip(np.ravel(found), np.ravel(true), strict=True):
        gap = abs(scale * one - scale * other)
        losses.append(0.5 * gap * gap if gap < 1 else gap - 0.5)
    return sum(losses) / len(losses)


def inter_ocular(predicted, true, eyes):
    """Error of each image, in percent: the mean over its points of distance by eye distance."""
    errors = []
    for found, real in zip(predicted, true, strict=True):
        between = math.dist(real[eyes[0]], real[eyes[1]])
        errors.append(
            100
            * sum(math.dist(p, t) / between for p, t in zip(found, real, strict=True))
            / len(real)
        )
    return errors


def into_view(point, views, turn=0.0, factor=1.0, shift=(0.0, 0.0), flip=False):
    """Where a point of the image is in its view, step by step."""
    x, y = point
    x, y = x - views.crop_left_px, y - views.crop_top_px
    x, y = x * views.resize_px / views.crop_px, y * views.resize_px / views.crop_px
    middle = views.resize_px / 2
    x, y = x - middle, y - middle
    x, y = math.cos(turn) * x - math.sin(turn) * y, math.sin(turn) * x + math.cos(turn) * y
    x, y = factor * x + middle + shift[0], factor * y + middle + shift[1]
    x, y = x - views.margin_px, y - views.margin_px
    side = views.resize_px - 2 * views.margin_px
    return (side - x, y) if flip else (x, y)


class Adam:
    """Adam with coupled weight decay, and AMSGrad, for one array; Kingma & Ba 2015, Reddi 2018."""

    def __init__(self, weight, lr, betas, eps, decay, amsgrad):
        self.weight = weight.copy()
        self.settings = lr, betas, eps, decay, amsgrad
        self.mean, self.square = np.zeros_like(weight), np.zeros_like(weight)
        self.largest, self.steps = np.zeros_like(weight), 0

    def step(self, gradient, lr):
        _, (beta1, beta2), eps, decay, amsgrad = self.settings
        self.steps += 1
        gradient = gradient + decay * self.weight
        self.mean = beta1 * self.mean + (1 - beta1) * gradient
        self.square = beta2 * self.square + (1 - beta2) * gradient**2
        self.largest = np.maximum(self.largest, self.square)
        square = (self.largest if amsgrad else self.square) / (1 - beta2**self.steps)
        self.weight -= lr * self.mean / (1 - beta1**self.steps) / (np.sqrt(square) + eps)
