"""InfoNCE in plain loops, with and without the queued keys of the query's own label.

    L_q = -log exp(q.k/t) / (exp(q.k/t) + sum_{j in queue, y_j != y_q} exp(q.k_j/t))

Zhao et al. 2021, section 5; without labels He et al. 2020, equation 1. And the supervised
contrastive loss over the same keys, Khosla et al. 2020, equation 2:

    L_q = -1/|P| sum_{p in P} log exp(q.k_p/t) / sum_{a in A} exp(q.k_a/t)

with P the query's own key and the queued keys of its label, A its own key and the whole queue.
"""

import math

import torch


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
        total += math.log(denominator) - (positive - top)
        found += all(positive > value for value, _ in negatives)
        gradient = [(own / denominator - 1) * x / temperature for x in key]
        for term, (_, other) in zip(terms, negatives, strict=True):
            for d, x in enumerate(other):
                gradient[d] += term / denominator * x / temperature
        gradients.append([x / len(queries) for x in gradient])
    return total / len(queries), gradients, found / len(queries)


def supcon_loss_and_gradient(queries, keys, queue, temperature, labels, queue_labels):
    """Returns the same of the supervised contrastive loss."""
    total, found, gradients = 0.0, 0, []
    for i, (query, key) in enumerate(zip(queries, keys, strict=True)):
        everything = [key, *queue]
        positive = [True, *(label == labels[i] for label in queue_labels)]
        logits = [_dot(query, other) / temperature for other in everything]
        top = max(logits)
        log_sum = top + math.log(math.fsum(math.exp(value - top) for value in logits))
        terms = [value - log_sum for value, counts in zip(logits, positive, strict=True) if counts]
        total -= math.fsum(terms) / len(terms)
        gradient = [0.0] * len(query)
        for other, value, counts in zip(everything, logits, positive, strict=True):
            weight = math.exp(value - log_sum) - (1 / len(terms) if counts else 0.0)
            for d, x in enumerate(other):
                gradient[d] += weight * x / temperature / len(queries)
        gradients.append(gradient)
        found += all(
            logits[0] > value for value, counts in zip(logits, positive, strict=True) if not counts
        )
    return total / len(queries), gradients, found / len(queries)


def naive(query_ND, key_ND, queue_KD, temperature, labels_N=None, queue_labels_K=None):
    """InfoNCE as everybody writes it: one matrix of all logits, filled, and cross-entropy."""
    negative_NK = query_ND @ queue_KD.T / temperature
    if labels_N is not None:
        same_NK = labels_N[:, None] == queue_labels_K[None, :]
        negative_NK = negative_NK.masked_fill(same_NK, -torch.inf)
    positive_N1 = (query_ND * key_ND).sum(dim=1, keepdim=True) / temperature
    logits = torch.cat([positive_N1, negative_NK], dim=1)
    own = torch.zeros(len(query_ND), dtype=torch.long)
    return torch.nn.functional.cross_entropy(logits, own)


def _dot(a, b):
    return math.fsum(x * y for x, y in zip(a, b, strict=True))
