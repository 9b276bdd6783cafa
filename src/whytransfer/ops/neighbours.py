"""The k nearest neighbours by cosine, and how they vote.

Letters: M stored vectors, N queries, D dimensions, K neighbours, C classes.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

_CHUNK_CPU, _CHUNK_GPU = 1 << 24, 1 << 27
"""Similarities at a time: enough for the products to be fast, and to fill a GPU."""

_STORED = 1 << 14
"""Stored vectors at a time, where there are more."""


def nearest_neighbours(
    queries_ND: Tensor, stored_MD: Tensor, num_neighbours: int
) -> tuple[Tensor, Tensor]:
    """Which stored vectors are most similar to each query?

    Goes through queries and stored vectors in blocks: nothing of size N·M is held at any time.

    Args:
        queries_ND: Any lengths.
        stored_MD: Any lengths; on the same device.
        num_neighbours: K, at most M.

    Returns:
        Cosines (N, K), the largest first, and the numbers (N, K) of the vectors that have them.
    """
    chunk = _CHUNK_GPU if queries_ND.is_cuda else _CHUNK_CPU
    width = min(len(stored_MD), max(_STORED, num_neighbours))
    rows = max(1, chunk // width)
    stored = F.normalize(stored_MD, dim=1)
    found = [
        _nearest(F.normalize(queries, dim=1), stored, num_neighbours, width)
        for queries in torch.split(queries_ND, rows)
    ]
    similarities, numbers = zip(*found, strict=True)
    return torch.cat(similarities), torch.cat(numbers)


def _nearest(queries: Tensor, stored: Tensor, count: int, width: int) -> tuple[Tensor, Tensor]:
    best = queries.new_empty(len(queries), 0)
    numbers = torch.empty(len(queries), 0, dtype=torch.int64, device=queries.device)
    for start in range(0, len(stored), width):
        values, indices = _largest(queries @ stored[start : start + width].T, count)
        best, numbers = torch.cat([best, values], 1), torch.cat([numbers, indices + start], 1)
        best, places = best.topk(min(count, best.shape[1]))
        numbers = numbers.gather(1, places)
    return best, numbers


def _largest(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Returns each row's largest values and their columns, in any order.

    Looks at the largest of every group of columns first: the count largest values lie in the count
    groups with the largest maxima, and a maximum costs a fraction of a selection.
    """
    num_rows, num_columns = values.shape
    size = math.isqrt(num_columns // max(1, count))
    if size < 4:
        return values.topk(min(count, num_columns), sorted=False)
    num_groups = num_columns // size
    whole = values[:, : num_groups * size].view(num_rows, num_groups, size)
    groups = whole.amax(dim=2).topk(count, sorted=False).indices
    columns = (groups[:, :, None] * size + torch.arange(size, device=values.device)).flatten(1)
    rest = torch.arange(num_groups * size, num_columns, device=values.device)
    columns = torch.cat([columns, rest.expand(num_rows, -1)], dim=1)
    largest, places = values.gather(1, columns).topk(count, sorted=False)
    return largest, columns.gather(1, places)


def votes(
    similarities_NK: Tensor, labels_NK: Tensor, num_classes: int, temperature: float | None
) -> Tensor:
    """Returns what the neighbours give every class, (N, C), float64.

    Args:
        similarities_NK: Cosines.
        labels_NK: The neighbours' classes.
        num_classes: C.
        temperature: A neighbour counts exp(cosine / temperature); ``None`` lets each count 1.

    Source: Wu et al. 2018, section 3.4; dino eval_knn.py ``knn_classifier`` @04c0ad9.
    """
    weights = torch.ones_like(similarities_NK, dtype=torch.float64)
    if temperature is not None:
        # Relative to the nearest one: the order of the classes is the same, and nothing overflows.
        relative = similarities_NK.double() - similarities_NK.double().amax(1, keepdim=True)
        weights = (relative / temperature).exp()
    found = weights.new_zeros(len(weights), num_classes)
    return found.scatter_add_(1, labels_NK, weights)
