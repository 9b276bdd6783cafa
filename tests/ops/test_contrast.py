"""The contrastive losses against plain loops, and their edge cases."""

import pytest
import torch
from tests.oracles.info_nce import loss_and_gradient
from torch.nn.functional import normalize

from whytransfer.ops.contrast import contrastive_loss


def _units(seed, *shape):
    generator = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(*shape, dtype=torch.float64, generator=generator), dim=1)


def _case(num_queries=5, num_keys=12, num_dims=4):
    query = _units(1, num_queries, num_dims).requires_grad_()
    return query, _units(2, num_queries, num_dims), _units(3, num_keys, num_dims)


LABELS = torch.tensor([0, 1, 2, 1, 0])
QUEUE_LABELS = torch.tensor([0, 1, 1, 1, 3, 3, -1, -1, 0, 2, 2, 1])


@pytest.mark.parametrize("temperature", [0.07, 0.2, 1.0])
@pytest.mark.parametrize("labelled", [False, True])
def test_equals_plain_loops_in_value_gradient_and_keys_found(temperature, labelled):
    query, key, queue = _case()
    labels = (LABELS, QUEUE_LABELS) if labelled else (None, None)
    contrast = contrastive_loss(query, key, queue, temperature, *labels)
    contrast.loss.backward()
    plain = [None if label is None else label.tolist() for label in labels]
    loss, gradient, found = loss_and_gradient(
        query.tolist(), key.tolist(), queue.tolist(), temperature, *plain
    )
    assert contrast.loss.item() == pytest.approx(loss, abs=1e-12)
    assert contrast.keys_found.item() == pytest.approx(found)
    torch.testing.assert_close(query.grad.tolist(), gradient, rtol=0, atol=1e-12)


def test_labels_that_match_nothing_change_nothing():
    query, key, queue = _case()
    masked = contrastive_loss(query, key, queue, 0.2, LABELS + 100, QUEUE_LABELS)
    assert masked.loss.item() == contrastive_loss(query, key, queue, 0.2).loss.item()


def test_a_query_whose_class_fills_the_queue_has_loss_and_gradient_exactly_zero():
    query, key, queue = _case()
    full = torch.full((len(queue),), 1)
    contrast = contrastive_loss(query, key, queue, 0.07, torch.ones(5, dtype=torch.long), full)
    contrast.loss.backward()
    assert contrast.loss.item() == 0
    assert torch.equal(query.grad, torch.zeros_like(query))
    assert contrast.keys_found.item() == 1


def test_one_such_query_leaves_the_others_their_gradient():
    query, key, queue = _case()
    labels = torch.tensor([1, 0, 0, 0, 0])
    contrastive_loss(query, key, queue, 0.2, labels, torch.full((len(queue),), 1)).loss.backward()
    assert query.grad[0].abs().max() == 0
    assert query.grad[1:].abs().min(dim=1).values.min() > 0


def test_the_random_keys_of_the_start_are_negatives_of_every_query():
    query, key, queue = _case()
    start = torch.full((len(queue),), -1)
    masked = contrastive_loss(query, key, queue, 0.2, LABELS, start)
    assert masked.loss.item() == contrastive_loss(query, key, queue, 0.2).loss.item()


def test_an_older_key_of_the_same_image_is_dropped():
    query, key, _ = _case()
    queue = query.detach().clone()
    same_image = torch.arange(5)
    alone = [
        contrastive_loss(query[i : i + 1], key[i : i + 1], queue[same_image != i], 0.07).loss.item()
        for i in range(5)
    ]
    masked = contrastive_loss(query, key, queue, 0.07, same_image, same_image).loss.item()
    assert masked == pytest.approx(sum(alone) / 5, abs=1e-12)
    assert masked < contrastive_loss(query, key, queue, 0.07).loss.item() - 1


def test_keys_and_queue_get_no_gradient():
    query, key, queue = _case()
    key.requires_grad_()
    queue.requires_grad_()
    contrastive_loss(query, key, queue, 0.2).loss.backward()
    assert key.grad is None
    assert queue.grad is None


def test_mixed_precision_computes_similarities_in_float32():
    query, key, queue = (x.detach().float() for x in _case())
    expected = contrastive_loss(query, key, queue, 0.07).loss
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = contrastive_loss(query, key, queue, 0.07).loss
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)
