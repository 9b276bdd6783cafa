"""Similarity of features in plain loops over images, from the papers' formulas, in float64."""

import itertools
import math

import numpy as np


def inner(a, b):
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


def distance2(a, b):
    return math.fsum((x - y) ** 2 for x, y in zip(a, b, strict=True))


def hsic(k, m):
    """tr(KHLH) / (n - 1)², Gretton et al. 2005, eq. 9."""
    n = len(k)
    h = [[(i == j) - 1 / n for j in range(n)] for i in range(n)]

    def product(a, b):
        return [
            [math.fsum(a[i][t] * b[t][j] for t in range(n)) for j in range(n)] for i in range(n)
        ]

    both = product(product(k, h), product(m, h))
    return math.fsum(both[i][i] for i in range(n)) / (n - 1) ** 2


def kernel(values):
    return [[inner(a, b) for b in values] for a in values]


def cka(first, second):
    """Kornblith et al. 2019, eq. 4, with linear kernels."""
    k, m = kernel(first), kernel(second)
    return hsic(k, m) / math.sqrt(hsic(k, k) * hsic(m, m))


def unbiased_hsic(first, second):
    """The U-statistic over quadruples of different images that Song et al. 2012 sum up."""
    k, m = kernel(first), kernel(second)
    n, total, count = len(k), 0.0, 0
    for i, j, q, r in itertools.permutations(range(n), 4):
        total += k[i][j] * (m[i][j] + m[q][r] - 2 * m[i][q])
        count += 1
    return total / count


def debiased_cka(first, second):
    both = unbiased_hsic(first, second)
    return both / math.sqrt(unbiased_hsic(first, first) * unbiased_hsic(second, second))


def singular_values(values):
    centred = np.array(values) - np.mean(values, axis=0)
    return np.linalg.svd(centred, compute_uv=False)


def effective_rank(values):
    """exp of the entropy of the normalised singular values, Roy and Vetterli 2007, definition 1."""
    sigma = [s for s in singular_values(values) if s > 1e-12]
    shares = [s / math.fsum(sigma) for s in sigma]
    return math.exp(-math.fsum(p * math.log(p) for p in shares))


def num_directions(values, share):
    variance = [s**2 for s in singular_values(values)]
    held = 0.0
    for count, one in enumerate(variance, start=1):
        held += one
        if held >= share * math.fsum(variance) * (1 - 1e-9):
            return count
    raise AssertionError


def pair_mean(weights, value, chosen):
    """The weighted mean of value(i, j) over the chosen ordered pairs of different images."""
    total = pairs = 0.0
    for i, j in itertools.permutations(range(len(weights)), 2):
        if chosen(i, j):
            total += weights[i] * weights[j] * value(i, j)
            pairs += weights[i] * weights[j]
    return total / pairs if pairs else math.nan


def class_variances(weights, values, labels):
    def half(i, j):
        return distance2(values[i], values[j]) / 2

    within = pair_mean(weights, half, lambda i, j: labels[i] == labels[j])
    total = pair_mean(weights, half, lambda i, j: labels[i] != labels[j])
    return within, total - within


def anova(values, labels):
    """Mean squares within and between balanced classes, and Fisher's intraclass correlation."""
    values, labels = np.asarray(values, float), np.asarray(labels)
    classes = sorted(set(labels.tolist()))
    size = len(values) / len(classes)
    means = {c: values[labels == c].mean(axis=0) for c in classes}
    inside = sum(((values[labels == c] - means[c]) ** 2).sum() for c in classes)
    across = sum(size * ((means[c] - values.mean(axis=0)) ** 2).sum() for c in classes)
    within = inside / (len(values) - len(classes))
    between = (across / (len(classes) - 1) - within) / size
    return within, between, between / (within + between)


def uniformity(weights, values, t):
    """Wang and Isola 2020, eq. 3, over pairs of different images."""
    return math.log(
        pair_mean(
            weights, lambda i, j: math.exp(-t * distance2(values[i], values[j])), lambda i, j: True
        )
    )


def alignment(first, second, alpha):
    """Wang and Isola 2020, eq. 2, one image at a time."""
    return [distance2(a, b) ** (alpha / 2) for a, b in zip(first, second, strict=True)]


def sensitivity(weights, first, second):
    moved = math.fsum(
        w * distance2(a, b) for w, a, b in zip(weights, first, second, strict=True)
    ) / math.fsum(weights)
    apart = pair_mean(weights, lambda i, j: distance2(first[i], first[j]), lambda i, j: True)
    return moved / apart
