"""The queue of keys: a ring that each batch's keys enter and the oldest leave."""

import numpy as np
import torch
from torch import Tensor, nn

from whytransfer.core.streams import Stream


class KeyQueue(nn.Module):
    """The keys of the latest batches, (K, D) of length 1 each, with the labels of their images.

    Starts with random directions, whose label -1 makes them negatives of every query. All of it
    is in the state dict.

    Args:
        num_keys: K; a multiple of every batch that is enqueued.
        num_dims: D.
        stream: Draws the keys of the start.

    Source: moco moco/builder.py @132aea9 (queue, ``_dequeue_and_enqueue``).
    Differs: Keys are rows, so that a batch is written to consecutive memory.
    """

    keys: Tensor
    labels: Tensor
    pointer: Tensor

    def __init__(self, num_keys: int, num_dims: int, stream: Stream) -> None:
        super().__init__()
        directions = _normal(stream, num_keys * num_dims).reshape(num_keys, num_dims)
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        self.register_buffer("keys", torch.tensor(directions, dtype=torch.float32))
        self.register_buffer("labels", torch.full((num_keys,), -1))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.long))

    def __len__(self) -> int:
        return len(self.labels)

    @torch.no_grad()
    def enqueue(self, keys_ND: Tensor, labels_N: Tensor | None = None) -> None:
        """Overwrites the N oldest keys, and their labels where labels are given.

        Raises:
            ValueError: The queue is no multiple of the batch.
        """
        if len(self) % len(keys_ND):
            raise ValueError(f"a queue of {len(self)} is no multiple of a batch of {len(keys_ND)}")
        # Indices in a tensor, so that a GPU need not report the pointer in every step.
        slots = (self.pointer + torch.arange(len(keys_ND), device=self.keys.device)) % len(self)
        self.keys.index_copy_(0, slots, keys_ND.to(self.keys.dtype))
        if labels_N is not None:
            self.labels.index_copy_(0, slots, labels_N)
        self.pointer.copy_((self.pointer + len(keys_ND)) % len(self))


def _normal(stream: Stream, count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Draws standard normal numbers by Box and Muller's transform."""
    num_pairs = (count + 1) // 2
    radius = np.sqrt(-2.0 * np.log1p(-stream.uniform(num_pairs)))
    angle = 2.0 * np.pi * stream.uniform(num_pairs)
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]
