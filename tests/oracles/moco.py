"""MoCo as its reference runs it on several processes, played out one after another in float64.

Written from moco main_moco.py and moco/builder.py @132aea9: each process holds its slice of the
batch and a replica of both encoders with plain BatchNorm; gradients are averaged over processes;
keys are gathered, shuffled, embedded per process and unshuffled; SGD by hand.
"""

import copy

import torch
from tests.oracles.info_nce import loss_and_gradient
from tests.oracles.sgd import Sgd


class Reference:
    """Holds the state of all processes; ``step`` does what one iteration of the reference does.

    ``score`` is the loss of a process's queries and its gradient, in plain loops.
    """

    def __init__(self, encoder, queue_KD, num_processes, settings, score=loss_and_gradient):
        self.score = score
        self.query = [copy.deepcopy(encoder) for _ in range(num_processes)]
        self.key = [copy.deepcopy(encoder) for _ in range(num_processes)]
        self.sgd = Sgd(self.query, settings)
        self.queue = queue_KD.T.clone()  # (D, K), as the reference keeps it
        self.queue_labels = [-1] * len(queue_KD)
        self.pointer = 0
        self.settings = settings

    def step(self, query_images, key_images, permutation, labels=None):
        size = len(query_images) // len(self.query)
        local = [slice(i * size, (i + 1) * size) for i in range(len(self.query))]
        queries = [_unit(net(query_images[s])) for net, s in zip(self.query, local, strict=True)]
        with torch.no_grad():
            self._momentum_update()
            shuffled = key_images[permutation]
            pieces = [_unit(net(shuffled[s])) for net, s in zip(self.key, local, strict=True)]
            gathered = torch.cat(pieces)
            keys = torch.empty_like(gathered)
            for position, image in enumerate(permutation.tolist()):
                keys[image] = gathered[position]
        losses, founds = [], []
        for q, s in zip(queries, local, strict=True):
            loss, gradient, found = self.score(
                q.tolist(), keys[s].tolist(), self.queue.T.tolist(), self.settings["temperature"],
                None if labels is None else labels[s].tolist(), self.queue_labels,
            )  # fmt: skip
            q.backward(torch.tensor(gradient, dtype=q.dtype))
            losses.append(loss)
            founds.append(found)
        self._enqueue(keys, labels)
        self.sgd.step()
        return sum(losses) / len(losses), sum(founds) / len(founds)

    def mean_statistics(self, encoders):
        """Averages each process's own BatchNorm buffers."""
        states = [dict(net.named_buffers()) for net in encoders]
        return {name: sum(state[name] for state in states) / len(states) for name in states[0]}

    def _momentum_update(self):
        m = self.settings["momentum"]
        for key, query in zip(self.key, self.query, strict=True):
            for k, q in zip(key.parameters(), query.parameters(), strict=True):
                k.data = k.data * m + q.data * (1.0 - m)

    def _enqueue(self, keys, labels):
        num_keys = self.queue.shape[1]
        assert num_keys % len(keys) == 0
        for i, key in enumerate(keys):
            self.queue[:, self.pointer + i] = key
            if labels is not None:
                self.queue_labels[self.pointer + i] = int(labels[i])
        self.pointer = (self.pointer + len(keys)) % num_keys


def _unit(vectors):
    return vectors / (vectors**2).sum(dim=1, keepdim=True).sqrt()
