"""The contrastive losses of instance discrimination over a queue of keys.

Letters: N queries, K queued keys, D dimensions. All vectors have length 1.

Both losses go through the queue in chunks and find their gradient on the way: nothing of size N·K
is held at any time, and the queue may change between loss and backward.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

_CHUNK_CPU, _CHUNK_GPU = 1 << 18, 1 << 21
"""Similarities at a time: as many as stay in a core's own cache, and enough to fill a GPU."""


@dataclass(frozen=True)
class Contrast:
    """What a batch of queries scored.

    Attributes:
        loss: Mean over the queries; scalar, carries the gradient.
        keys_found: Share of queries, in [0, 1], more similar to their own key than to every
            negative: the accuracy of the pretext task. Negatives are the queued keys without the
            query's label; a query that has none has found its key. Scalar, without gradient.
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
        labels_N: Each query's label, ≥ 0 and < 2^24; given together with ``queue_labels_K``.
        queue_labels_K: Each queued key's label; -1 (the random keys of the start) equals no label.

    Source: He et al. 2020, equation 1; Zhao et al. 2021, section 5 (exemplar); moco
        moco/builder.py @132aea9.
    Differs: Similarities are computed in float32 at least, also under mixed precision; a key that
        is left out weighs exactly 0, where a public re-implementation adds -300 to the cosine.
    """
    with torch.no_grad(), torch.autocast(query_ND.device.type, enabled=False):
        case = _case(query_ND, key_ND, queue_KD, temperature, labels_N, queue_labels_K)
        queue = _attention(case, negatives_only=True)
        # log(1 + negatives / own), which is exactly 0 where there is no negative.
        log_odds_N = queue.log_total_N - case.own_N
        losses_N = torch.logaddexp(torch.zeros_like(log_odds_N), log_odds_N)
        gradient_ND = log_odds_N.sigmoid()[:, None] * (queue.mean_key_ND - case.key_ND)
    return _contrast(query_ND, case, losses_N, gradient_ND, queue.nearest_N)


@torch.no_grad()
def found_among(
    query_ND: Tensor,
    keys_MD: Tensor,
    own_N: Tensor,
    labels_N: Tensor | None = None,
    key_labels_M: Tensor | None = None,
) -> Tensor:
    """Which share of queries, in [0, 1], is most similar to its own among keys of one encoder?

    Args:
        query_ND: Queries.
        keys_MD: Keys that one encoder made at one time, each query's own among them.
        own_N: Which of the keys is each query's own.
        labels_N: Each query's label; keys of the same label, but for its own, are left out.
        key_labels_M: Each key's label.
    """
    with torch.autocast(query_ND.device.type, enabled=False):
        similarity_NM = query_ND.float() @ keys_MD.float().T
    own_similarity_N1 = similarity_NM.gather(1, own_N[:, None])
    beaten_NM = similarity_NM < own_similarity_N1
    if labels_N is not None and key_labels_M is not None:
        beaten_NM |= labels_N[:, None] == key_labels_M[None, :]
    return beaten_NM.scatter(1, own_N[:, None], True).all(dim=1).float().mean()


def supervised_contrastive_loss(
    query_ND: Tensor,
    key_ND: Tensor,
    queue_KD: Tensor,
    temperature: float,
    labels_N: Tensor,
    queue_labels_K: Tensor,
) -> Contrast:
    """How well does each query tell its own key and those of its label from the other queued ones?

    A query's positives are its own key and the queued keys of its label. Each of them is one
    target of a softmax over the own key and the whole queue; their log-likelihoods are averaged.
    The random keys of the start, of label -1, are negatives. Keys and queue get no gradient.

    Args:
        query_ND: Queries.
        key_ND: Each query's own key, of the other view of its image.
        queue_KD: Keys of earlier batches, not yet holding this one.
        temperature: Divides every similarity.
        labels_N: Each query's label, ≥ 0 and < 2^24.
        queue_labels_K: Each queued key's label, or -1.

    Source: Khosla et al. 2020, equation 2 (L_out).
    Differs: A query is held against its own key and a queue, there against the other views of
        its batch.
    """
    with torch.no_grad(), torch.autocast(query_ND.device.type, enabled=False):
        case = _case(query_ND, key_ND, queue_KD, temperature, labels_N, queue_labels_K)
        queue = _attention(case, negatives_only=False)
        positives_ND, count_N = _positives(case)
        own_share_N = (case.own_N - queue.log_total_N).sigmoid()
        expected_ND = torch.lerp(queue.mean_key_ND, case.key_ND, own_share_N[:, None])
        mean_positive_ND = (case.key_ND + positives_ND) / (1 + count_N)[:, None]
        log_total_N = torch.logaddexp(case.own_N, queue.log_total_N)
        losses_N = log_total_N - (case.scaled_ND * mean_positive_ND).sum(dim=1)
        gradient_ND = expected_ND - mean_positive_ND
    return _contrast(query_ND, case, losses_N, gradient_ND, queue.nearest_N)


class _Case(NamedTuple):
    """Queries, keys and labels as the losses compute with them: one type, no gradient.

    Attributes:
        scaled_ND: Queries divided by the temperature.
        own_N: Logit of each query's own key.
        labels_N1, queue_labels_K: As numbers of the similarities' own type, whose comparison
            gives factors 0 and 1 of that type: on a CPU ten times as fast as truth values are.
    """

    scaled_ND: Tensor
    key_ND: Tensor
    queue_KD: Tensor
    own_N: Tensor
    temperature: float
    labels_N1: Tensor | None
    queue_labels_K: Tensor | None

    def chunks(self) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Yields the queue in parts (C, D), each with (N, C) of 0 where labels are equal, else 1.

        The second is ``None`` without labels.
        """
        num_queries, room = len(self.scaled_ND), _CHUNK_GPU if self.own_N.is_cuda else _CHUNK_CPU
        length = max(1, room // num_queries)
        for start in range(0, len(self.queue_KD), length):
            keys_CD = self.queue_KD[start : start + length]
            if self.labels_N1 is None or self.queue_labels_K is None:
                yield keys_CD, None
                continue
            others_NC = self.own_N.new_empty(num_queries, len(keys_CD))
            labels_C = self.queue_labels_K[start : start + length]
            yield keys_CD, torch.ne(self.labels_N1, labels_C, out=others_NC)


def _case(
    query_ND: Tensor,
    key_ND: Tensor,
    queue_KD: Tensor,
    temperature: float,
    labels_N: Tensor | None,
    queue_labels_K: Tensor | None,
) -> _Case:
    if (labels_N is None) != (queue_labels_K is None):
        raise ValueError("labels of queries and of queued keys go together: one of them is missing")
    dtype = torch.promote_types(query_ND.dtype, torch.float32)
    query_ND, key_ND, queue_KD = (vectors.to(dtype) for vectors in (query_ND, key_ND, queue_KD))
    scaled_ND = query_ND / temperature
    return _Case(
        scaled_ND=scaled_ND,
        key_ND=key_ND,
        queue_KD=queue_KD,
        own_N=(scaled_ND * key_ND).sum(dim=1),
        temperature=temperature,
        labels_N1=None if labels_N is None else labels_N.to(dtype)[:, None],
        queue_labels_K=None if queue_labels_K is None else queue_labels_K.to(dtype),
    )


class _Attention(NamedTuple):
    """A softmax of each query over the queue, or over its negatives there.

    Attributes:
        log_total_N: Logarithm of the sum of exponentials; -inf over nothing.
        mean_key_ND: Mean of the keys under the softmax; 0 over nothing.
        nearest_N: Largest logit of a negative; -inf where there is none.
    """

    log_total_N: Tensor
    mean_key_ND: Tensor
    nearest_N: Tensor


def _attention(case: _Case, negatives_only: bool) -> _Attention:
    """Takes the softmax in the way that is exact at this temperature.

    Vectors of length 1 bound every logit by ± 1 / temperature. Where exponentials of that size fit
    the numbers' range (temperatures of 0.025 and more, in float32), any constant does in place of
    each query's largest logit, 0 too: nothing is compared, subtracted or rescaled on the way.
    """
    largest = math.log(torch.finfo(case.own_N.dtype).max)
    if 1 / case.temperature < 0.46 * largest:
        return _bounded_attention(case, negatives_only)
    return _running_attention(case, negatives_only)


def _bounded_attention(case: _Case, negatives_only: bool) -> _Attention:
    total_N, nearest_N = torch.zeros_like(case.own_N), torch.zeros_like(case.own_N)
    pull_ND = torch.zeros_like(case.key_ND)
    for keys_CD, others_NC in case.chunks():
        weights_NC = negatives_NC = (case.scaled_ND @ keys_CD.T).exp_()
        if others_NC is not None:
            negatives_NC = others_NC.mul_(weights_NC)
            weights_NC = negatives_NC if negatives_only else weights_NC
        nearest_N = torch.maximum(nearest_N, negatives_NC.amax(dim=1))
        total_N += weights_NC.sum(dim=1)
        pull_ND.addmm_(weights_NC, keys_CD)
    return _Attention(total_N.log(), _divided(pull_ND, total_N), nearest_N.log())


def _running_attention(case: _Case, negatives_only: bool) -> _Attention:
    """Measures exponentials from the largest logit so far, the own key's at first."""
    top_N, nearest_N = case.own_N, torch.full_like(case.own_N, -torch.inf)
    total_N, pull_ND = torch.zeros_like(case.own_N), torch.zeros_like(case.key_ND)
    for keys_CD, others_NC in case.chunks():
        logits_NC = negatives_NC = case.scaled_ND @ keys_CD.T
        if others_NC is not None:
            negatives_NC = logits_NC.masked_fill(others_NC == 0, -torch.inf)
            logits_NC = negatives_NC if negatives_only else logits_NC
        nearest_N = torch.maximum(nearest_N, negatives_NC.amax(dim=1))
        before_N, top_N = top_N, torch.maximum(top_N, logits_NC.amax(dim=1))
        shrink_N = (before_N - top_N).exp()
        weights_NC = (logits_NC - top_N[:, None]).exp_()
        total_N = total_N * shrink_N + weights_NC.sum(dim=1)
        pull_ND = (pull_ND * shrink_N[:, None]).addmm_(weights_NC, keys_CD)
    return _Attention(total_N.log() + top_N, _divided(pull_ND, total_N), nearest_N)


def _divided(pull_ND: Tensor, total_N: Tensor) -> Tensor:
    """Returns the sums over their totals, 0 where a total is."""
    return pull_ND / total_N.clamp(min=torch.finfo(total_N.dtype).tiny)[:, None]


def _positives(case: _Case) -> tuple[Tensor, Tensor]:
    """Returns the sum of the queued keys of each query's label, and their number."""
    sum_ND, count_N = torch.zeros_like(case.key_ND), torch.zeros_like(case.own_N)
    for keys_CD, others_NC in case.chunks():
        assert others_NC is not None
        same_NC = 1 - others_NC
        sum_ND.addmm_(same_NC, keys_CD)
        count_N += same_NC.sum(dim=1)
    return sum_ND, count_N


def _contrast(
    query_ND: Tensor, case: _Case, losses_N: Tensor, gradient_ND: Tensor, nearest_N: Tensor
) -> Contrast:
    """Means over the queries.

    Args:
        query_ND: As they were given; they get the gradient.
        case: Made of them.
        losses_N: Each query's loss.
        gradient_ND: Of each loss by the query, times the temperature.
        nearest_N: Largest logit of a negative.
    """
    scale = 1 / (case.temperature * len(losses_N))
    loss = _KnownGradient.apply(query_ND, losses_N.mean(), gradient_ND * scale)
    return Contrast(loss, (case.own_N > nearest_N).to(losses_N.dtype).mean())


class _KnownGradient(torch.autograd.Function):
    """A scalar whose gradient was found together with it."""

    @staticmethod
    def forward(ctx: FunctionCtx, query_ND: Tensor, loss: Tensor, gradient_ND: Tensor) -> Tensor:
        """Returns the loss as it is."""
        ctx.save_for_backward(gradient_ND.to(query_ND.dtype))
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """Returns the queries' gradient, scaled by what comes from above."""
        (gradient_ND,) = ctx.saved_tensors
        return gradient_ND * gradients[0], None, None
