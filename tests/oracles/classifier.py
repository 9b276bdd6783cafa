"""Supervised training as PyTorch's ImageNet example runs it on several processes, in float64.

Each process holds its slice of the batch and a replica with plain BatchNorm; cross-entropy and
its gradient in plain loops.
"""

import copy
import math

import torch
from tests.oracles.sgd import Sgd


class Classifier:
    """Holds the state of all processes; ``step`` does one iteration."""

    def __init__(self, network, num_processes, settings):
        self.replicas = [copy.deepcopy(network) for _ in range(num_processes)]
        self.sgd = Sgd(self.replicas, settings)

    def step(self, images, labels):
        size = len(images) // len(self.replicas)
        loss, right = 0.0, 0
        for rank, network in enumerate(self.replicas):
            own = slice(rank * size, (rank + 1) * size)
            logits = network(images[own])
            gradient = torch.zeros_like(logits)
            for row, label in enumerate(labels[own].tolist()):
                scores = logits[row].tolist()
                total = math.fsum(math.exp(score) for score in scores)
                loss += math.log(total) - scores[label]
                right += scores[label] == max(scores)
                for column, score in enumerate(scores):
                    gradient[row, column] = math.exp(score) / total - (column == label)
            logits.backward(gradient / size)
        self.sgd.step()
        return loss / len(images), right / len(images)
