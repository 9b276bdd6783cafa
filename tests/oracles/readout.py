"""Readouts in plain loops and float64: SGD on a linear layer, neighbours that vote, the penalty.

torch.optim.SGD's documented rule; BatchNorm's of Ioffe & Szegedy 2015 without scale and shift;
Wu et al. 2018, section 3.4, for the votes.
"""

import math

import numpy as np


def normalised(values, channels, eps=1e-5):
    """BatchNorm in training over images and cells, of features (N, C·cells)."""
    rows = values.astype(np.float64).reshape(len(values), channels, -1)
    out = np.empty_like(rows)
    for c in range(channels):
        mean = math.fsum(rows[:, c].ravel()) / rows[:, c].size
        variance = math.fsum((rows[:, c].ravel() - mean) ** 2) / rows[:, c].size
        out[:, c] = (rows[:, c] - mean) / math.sqrt(variance + eps)
    return out.reshape(len(values), -1)


def cross_entropy(logits, labels):
    """The mean over the rows, and its gradient with respect to the logits."""
    loss, gradient = 0.0, np.zeros_like(logits)
    for row, label in enumerate(labels):
        largest = max(logits[row])
        weights = [math.exp(score - largest) for score in logits[row]]
        total = math.fsum(weights)
        loss += math.log(total) + largest - logits[row][label]
        for column, weight in enumerate(weights):
            gradient[row, column] = (weight / total - (column == label)) / len(labels)
    return loss / max(1, len(labels)), gradient


def sgd(batches, weight, bias, rates, settings):
    """Trains one layer: batches of (features, labels), a learning rate per step."""
    parameters = [np.array(weight, np.float64), np.array(bias, np.float64)]
    velocities = [np.zeros_like(p) for p in parameters]
    for (values, labels), rate in zip(batches, rates, strict=True):
        logits = values @ parameters[0].T + parameters[1]
        _, error = cross_entropy(logits, labels)
        gradients = [error.T @ values, error.sum(0)]
        for parameter, velocity, gradient in zip(parameters, velocities, gradients, strict=True):
            step = gradient + settings["weight_decay"] * parameter
            velocity[:] = settings["momentum"] * velocity + step
            move = step + settings["momentum"] * velocity if settings["nesterov"] else velocity
            parameter -= rate * move
    return parameters


def neighbours(queries, stored, count):
    """Cosines and numbers of each query's nearest stored vectors, the nearest first."""
    similarities, numbers = [], []
    for query in queries.astype(np.float64):
        cosines = [
            math.fsum(query * vector)
            / math.sqrt(math.fsum(query * query) * math.fsum(vector * vector))
            for vector in stored.astype(np.float64)
        ]
        order = sorted(range(len(cosines)), key=lambda i: -cosines[i])[:count]
        numbers.append(order)
        similarities.append([cosines[i] for i in order])
    return np.array(similarities), np.array(numbers)


def votes(similarities, labels, num_classes, temperature):
    """exp(cosine / T), or 1, of every neighbour to its class."""
    found = np.zeros((len(labels), num_classes))
    for row in range(len(labels)):
        for similarity, label in zip(similarities[row], labels[row], strict=True):
            found[row, label] += 1.0 if temperature is None else math.exp(similarity / temperature)
    return found


def logistic_loss(values, labels, weight, bias, inverse_penalty):
    """Mean cross entropy plus ‖W‖² / (2CN)."""
    loss, _ = cross_entropy(values @ weight.T + bias, labels)
    return loss + math.fsum((weight * weight).ravel()) / (2 * inverse_penalty * len(values))
