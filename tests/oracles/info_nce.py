"""InfoNCE in plain loops, with and without the queued keys of the query's own label.

    L_q = -log exp(q.k/t) / (exp(q.k/t) + sum_{j in queue, y_j != y_q} exp(q.k_j/t))

Zhao et al. 2021, section 5; without labels He et al. 2020, equation 1.
"""

import math


def loss_and_gradient(queries, keys, queue, temperature, labels=None, queue_labels=None):
    """Returns (mean loss, its gradient per query, share of keys found) from lists of floats."""
    total, found, gradients = 0.0, 0, []
    for i, (query, key) in enumerate(zip(queries, keys, strict=True)):
        positive = _dot(query, key) / temperature
        negatives = [
            (_dot(query, other) / temperature, other)
            for j, other in enumerate(queue)
            if labels is None or queue_labels[j] != labels[i]
        ]
        top = max([positive, *(value for value, _ in negatives)])
        terms = [math.exp(value - top) for value, _ in negatives]
        own = math.exp(positive - top)
        denominator = math.fsum([own, *terms])
        total += -math.log(own / denominator)
        found += all(positive > value for value, _ in negatives)
        gradient = [(own / denominator - 1) * x / temperature for x in key]
        for term, (_, other) in zip(terms, negatives, strict=True):
            for d, x in enumerate(other):
                gradient[d] += term / denominator * x / temperature
        gradients.append([x / len(queries) for x in gradient])
    return total / len(queries), gradients, found / len(queries)


def _dot(a, b):
    return math.fsum(x * y for x, y in zip(a, b, strict=True))
