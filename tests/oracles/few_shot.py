"""Few-shot heads and episode accuracy the slow way: plain loops, 64-bit floats, one episode.

Written from docs/protocols/few_shot.md. A support is a list with, for each class, a list of
features; queries likewise; a feature is a list of floats.
"""

import math


def dot(one, other):
    return sum(a * b for a, b in zip(one, other, strict=True))


def length(vector):
    return math.sqrt(dot(vector, vector))


def mean(vectors):
    return [sum(column) / len(vectors) for column in zip(*vectors, strict=True)]


def first_largest(scores):
    best = 0
    for place, score in enumerate(scores):
        if score > scores[best]:
            best = place
    return best


def centroid(support, query):
    """Mean first, then length 1; the largest cosine; the first of equals."""
    centres = [mean(features) for features in support]
    cosines = [dot(c, query) / (length(c) * length(query)) for c in centres]
    return first_largest(cosines)


def softmax(logits):
    top = max(logits)
    parts = [math.exp(z - top) for z in logits]
    return [part / sum(parts) for part in parts]


def logits(weights, biases, feature):
    return [dot(w, feature) + b for w, b in zip(weights, biases, strict=True)]


def logistic_gradient(weights, biases, support, c):
    """The gradient of C · sum of cross entropies + half the squared weights; 0 at the optimum."""
    by_weight = [list(row) for row in weights]
    by_bias = [0.0 for _ in biases]
    for label, features in enumerate(support):
        for feature in features:
            unit = [value / length(feature) for value in feature]
            chances = softmax(logits(weights, biases, unit))
            for k, chance in enumerate(chances):
                error = c * (chance - (1.0 if k == label else 0.0))
                by_bias[k] += error
                for d, value in enumerate(unit):
                    by_weight[k][d] += error * value
    return by_weight, by_bias


def fine_tuned(support, weights, biases, orders, settings):
    """SGD as PyTorch defines it, on batches of each epoch's order; returns weights and biases.

    g = mean gradient + decay · w;  v = g at the first step, later momentum · v + (1 - damp) · g;
    w = w - lr · v.
    """
    examples = [(label, f) for label, features in enumerate(support) for f in features]
    rows = [[*w, b] for w, b in zip(weights, biases, strict=True)]
    velocity = None
    for order in orders:
        for start in range(0, len(order), settings["batch_size"]):
            batch = [examples[place] for place in order[start : start + settings["batch_size"]]]
            gradient = [[settings["weight_decay"] * value for value in row] for row in rows]
            for label, feature in batch:
                extended = [*feature, 1.0]
                chances = softmax([dot(row, extended) for row in rows])
                for k, chance in enumerate(chances):
                    error = (chance - (1.0 if k == label else 0.0)) / len(batch)
                    for d, value in enumerate(extended):
                        gradient[k][d] += error * value
            if velocity is None:
                velocity = gradient
            else:
                velocity = [
                    [settings["momentum"] * v + (1 - settings["dampening"]) * g
                     for v, g in zip(row_v, row_g, strict=True)]
                    for row_v, row_g in zip(velocity, gradient, strict=True)
                ]  # fmt: skip
            rows = [
                [value - settings["lr"] * v for value, v in zip(row, row_v, strict=True)]
                for row, row_v in zip(rows, velocity, strict=True)
            ]
    return [row[:-1] for row in rows], [row[-1] for row in rows]


def accuracy(guesses):
    """The share of right guesses: ``guesses[way][query]`` should be ``way``."""
    right = sum(guess == way for way, found in enumerate(guesses) for guess in found)
    return right / sum(len(found) for found in guesses)


def reach(accuracies):
    """1.96 · std / sqrt(n), the divisor of the variance being n."""
    n = len(accuracies)
    middle = sum(accuracies) / n
    variance = sum((a - middle) ** 2 for a in accuracies) / n
    return 1.96 * math.sqrt(variance) / math.sqrt(n)
