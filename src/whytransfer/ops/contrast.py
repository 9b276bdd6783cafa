"""The contrastive losses of instance discrimination over a queue of keys.

Letters: N queries, K queued keys, D dimensions. All vectors have length 1.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Contrast:
    """What a batch of queries scored.

    Attributes:
        loss: Mean over the queries; scalar, carries the gradient.
        keys_found: Share of queries, in [0, 1], more similar to their own key than to every
            negative: the accuracy of the pretext task. Scalar, without gradient.
    """

    loss: Tensor
    keys_found: Tensor


def contrastive_loss(
    query_ND: Tensor,
    key_ND: Tensor,
    queue_KD: Tensor,
    temperature: float,
    labels_N: Tensor | None = None,
    queue_labels_K: Tensor | None = None,
) -> Contrast:
    """How well does each query tell its own key from the queued ones?

    Without labels every queued key is a negative (InfoNCE). With labels the queued keys of the
    query's own label are left out: neither negative nor positive (exemplar). A query whose label
    fills the queue then has loss exactly 0 and no gradient. Keys and queue get no gradient.

    Args:
        query_ND: Queries.
        key_ND: Each query's own key, of the other view of its image.
        queue_KD: Keys of earlier batches, not yet holding this one.
        temperature: Divides every similarity.
        labels_N: Each query's label, ≥ 0; given together with ``queue_labels_K``.
        queue_labels_K: Each queued key's label; -1 (the random keys of the start) equals no label.

    Source: He et al. 2020, equation 1; Zhao et al. 2021, section 5 (exemplar); moco
        moco/builder.py @132aea9.
    Differs: Similarities are computed in float32 at least, also under mixed precision; the
        exemplar mask is -inf, where a public re-implementation adds -300 to the cosine.
    """
    with torch.autocast(query_ND.device.type, enabled=False):
        query, key, queue = (_at_least_float32(x) for x in (query_ND, key_ND, queue_KD))
        positive_N = (query * key.detach()).sum(dim=1) / temperature
        negative_NK = query @ queue.detach().T / temperature
        if labels_N is not None and queue_labels_K is not None:
            same_label_NK = labels_N[:, None] == queue_labels_K[None, :]
            negative_NK = negative_NK.masked_fill(same_label_NK, -torch.inf)
        logits = torch.cat([positive_N[:, None], negative_NK], dim=1)
        own_key_N = torch.zeros(len(logits), dtype=torch.long, device=logits.device)
        loss = F.cross_entropy(logits, own_key_N)
    found_N = positive_N.detach() > negative_NK.detach().amax(dim=1)
    return Contrast(loss, found_N.to(loss.dtype).mean())


def _at_least_float32(vectors: Tensor) -> Tensor:
    return vectors.to(torch.promote_types(vectors.dtype, torch.float32))
