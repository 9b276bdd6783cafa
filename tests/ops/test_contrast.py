"""The contrastive losses against plain loops, and their edge cases."""

from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.oracles.info_nce import loss_and_gradient, naive, supcon_loss_and_gradient
from torch.nn.functional import normalize
from torch.utils._python_dispatch import TorchDispatchMode

from whytransfer.ops import contrast
from whytransfer.ops.contrast import contrastive_loss, found_among, supervised_contrastive_loss


def _units(seed, *shape):
    generator = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(*shape, dtype=torch.float64, generator=generator), dim=1)


def _case(num_queries=5, num_keys=12, num_dims=4):
    query = _units(1, num_queries, num_dims).requires_grad_()
    return query, _units(2, num_queries, num_dims), _units(3, num_keys, num_dims)


LABELS = torch.tensor([0, 1, 2, 1, 0])
QUEUE_LABELS = torch.tensor([0, 1, 1, 1, 3, 3, -1, -1, 0, 2, 2, 1])


# At 0.001 exponentials of logits leave the range of float64.
@pytest.mark.parametrize("temperature", [0.001, 0.07, 0.2, 1.0])
@pytest.mark.parametrize("labelled", [False, True])
def test_equals_plain_loops_in_value_gradient_and_keys_found(temperature, labelled):
    query, key, queue = _case()
    labels = (LABELS, QUEUE_LABELS) if labelled else (None, None)
    found = contrastive_loss(query, key, queue, temperature, *labels)
    found.loss.backward()
    plain = [None if label is None else label.tolist() for label in labels]
    loss, gradient, share = loss_and_gradient(
        query.tolist(), key.tolist(), queue.tolist(), temperature, *plain
    )
    assert found.loss.item() == pytest.approx(loss, rel=1e-12, abs=1e-12)
    assert found.keys_found.item() == pytest.approx(share)
    torch.testing.assert_close(query.grad.tolist(), gradient, rtol=1e-12, atol=1e-12)


def test_labels_that_match_nothing_change_nothing():
    query, key, queue = _case()
    masked = contrastive_loss(query, key, queue, 0.2, LABELS + 100, QUEUE_LABELS)
    assert masked.loss.item() == contrastive_loss(query, key, queue, 0.2).loss.item()


@pytest.mark.parametrize("temperature", [0.001, 0.07])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_query_whose_class_fills_the_queue_has_loss_and_gradient_exactly_zero(temperature, dtype):
    query, key, queue = (x.detach().to(dtype) for x in _case())
    query.requires_grad_()
    full = torch.full((len(queue),), 1)
    found = contrastive_loss(query, key, queue, temperature, torch.ones(5, dtype=torch.long), full)
    found.loss.backward()
    assert found.loss.item() == 0
    assert torch.equal(query.grad, torch.zeros_like(query))
    assert found.keys_found.item() == 1


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


def test_labels_of_one_side_only_are_refused():
    query, key, queue = _case()
    with pytest.raises(ValueError, match="one of them is missing"):
        contrastive_loss(query, key, queue, 0.2, None, QUEUE_LABELS)


@pytest.mark.parametrize("temperature", [0.001, 0.07, 0.2, 1.0])
def test_supervised_contrast_equals_the_published_formula_on_own_key_and_queue(temperature):
    query, key, queue = _case()
    found = supervised_contrastive_loss(query, key, queue, temperature, LABELS, QUEUE_LABELS)
    found.loss.backward()
    lists = (x.tolist() for x in (query, key, queue))
    labels = LABELS.tolist(), QUEUE_LABELS.tolist()
    loss, gradient, share = supcon_loss_and_gradient(*lists, temperature, *labels)
    assert found.loss.item() == pytest.approx(loss, rel=1e-12)
    assert found.keys_found.item() == pytest.approx(share)
    torch.testing.assert_close(query.grad.tolist(), gradient, rtol=1e-12, atol=1e-12)


def test_supervised_contrast_without_a_queued_positive_is_instance_discrimination():
    query, key, queue = _case()
    losses = []
    for loss in (supervised_contrastive_loss, contrastive_loss):
        query.grad = None
        found = loss(query, key, queue, 0.2, LABELS, torch.full((len(queue),), -1))
        found.loss.backward()
        losses.append((found.loss.item(), found.keys_found.item(), query.grad.tolist()))
    torch.testing.assert_close(*losses, rtol=0, atol=1e-12)


def test_supervised_contrast_of_a_class_that_fills_the_queue_still_pulls():
    # Where exemplar has no loss at all: L_out is least, not 0, when all positives are equally near.
    query, key, queue = _case()
    labels = torch.ones(5, dtype=torch.long), torch.ones(len(queue), dtype=torch.long)
    found = supervised_contrastive_loss(query, key, queue, 0.2, *labels)
    found.loss.backward()
    assert found.loss.item() > torch.tensor(len(queue) + 1.0).log().item()
    assert query.grad.abs().max() > 0
    assert found.keys_found.item() == 1
    same = query[:1].detach().expand(5, -1), query[:1].detach().expand(len(queue), -1)
    level = supervised_contrastive_loss(same[0], same[0], same[1], 0.2, *labels)
    assert level.loss.item() == pytest.approx(torch.tensor(len(queue) + 1.0).log().item())


@st.composite
def _cases(draw):
    num_queries, num_keys = draw(st.integers(1, 9)), draw(st.integers(1, 60))
    num_classes = draw(st.integers(1, 4))
    seed = draw(st.integers(0, 10_000))
    generator = torch.Generator().manual_seed(seed)
    labels = None
    if draw(st.booleans()):
        labels = (
            torch.randint(0, num_classes, (num_queries,), generator=generator),
            torch.randint(-1, num_classes, (num_keys,), generator=generator),
        )
        if draw(st.booleans()):
            labels = (labels[0] * 0, labels[1] * 0 - draw(st.integers(0, 1)))
    dims = draw(st.integers(2, 9))
    shapes = ((1, num_queries), (2, num_queries), (3, num_keys))
    vectors = tuple(_units(seed + i, count, dims) for i, count in shapes)
    return vectors, draw(st.sampled_from([0.002, 0.01, 0.03, 0.07, 0.2, 1.0])), labels


@settings(max_examples=150, deadline=None)
@given(_cases(), st.integers(1, 200))
def test_chunks_of_any_size_equal_one_matrix_of_all_logits(case, room):
    (query, key, queue), temperature, labels = case
    labels = labels or (None, None)
    ours, theirs = query.clone().requires_grad_(), query.clone().requires_grad_()
    with mock.patch.object(contrast, "_CHUNK_CPU", room):
        found = contrastive_loss(ours, key, queue, temperature, *labels)
    found.loss.backward()
    expected = naive(theirs, key, queue, temperature, *labels)
    expected.backward()
    torch.testing.assert_close(found.loss, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-11, atol=1e-11)


@settings(max_examples=60, deadline=None)
@given(_cases(), st.integers(1, 200))
def test_supervised_contrast_does_not_depend_on_the_chunks(case, room):
    vectors, temperature, labels = case
    labels = labels or (torch.zeros(len(vectors[0])), torch.zeros(len(vectors[2])))
    outcomes = []
    for size in (room, 1 << 18):
        query = vectors[0].clone().requires_grad_()
        with mock.patch.object(contrast, "_CHUNK_CPU", size):
            found = supervised_contrastive_loss(query, *vectors[1:], temperature, *labels)
        found.loss.backward()
        outcomes.append((found.loss, found.keys_found, query.grad))
    torch.testing.assert_close(*outcomes, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("temperature", [0.01, 0.025, 0.07, 0.2])
def test_float32_agrees_with_the_matrix_in_float64(temperature):
    vectors = [_units(i, count, 128) for i, count in ((1, 64), (2, 64), (3, 5000))]
    labels = torch.arange(64) % 10, torch.arange(5000) % 11 - 1
    expected_query = vectors[0].clone().requires_grad_()
    expected = naive(expected_query, *vectors[1:], temperature, *labels)
    expected.backward()
    query, key, queue = (x.float() for x in vectors)
    query.requires_grad_()
    found = contrastive_loss(query, key, queue, temperature, *labels)
    found.loss.backward()
    assert found.loss.item() == pytest.approx(expected.item(), abs=1e-6, rel=1e-6)
    # A gradient's scale is 1 / (temperature · N).
    bound = 1e-6 / (temperature * 64)
    torch.testing.assert_close(query.grad.double(), expected_query.grad, rtol=0, atol=bound)


class _Largest(TorchDispatchMode):
    """Notes the size of the largest tensor that any operation makes."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        made = result if isinstance(result, tuple) else (result,)
        sizes = [x.numel() for x in made if isinstance(x, torch.Tensor)]
        self.numbers = max([self.numbers, *sizes])
        return result


@pytest.mark.parametrize("temperature", [0.002, 0.2])
def test_no_tensor_of_all_similarities_is_made_nor_kept(temperature):
    query = _units(1, 64, 8).float().requires_grad_()
    key, queue = _units(2, 64, 8).float(), _units(3, 20_000, 8).float()
    labels = torch.arange(64), torch.arange(20_000) % 64
    kept = []
    keep = torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, id)
    for loss in (contrastive_loss, supervised_contrastive_loss):
        with _Largest() as largest, keep:
            loss(query, key, queue, temperature, *labels)
        assert 0 < largest.numbers <= contrast._CHUNK_CPU < 64 * 20_000
    assert max(kept) == query.numel()
    with _Largest() as largest:
        naive(query, key, queue, temperature, *labels)
    assert largest.numbers > 64 * 20_000


def test_the_gradient_is_scaled_by_what_comes_from_above():
    gradients = []
    for factor in (1.0, 3.0):
        query, key, queue = _case()
        (factor * contrastive_loss(query, key, queue, 0.2).loss).backward()
        gradients.append(query.grad)
    torch.testing.assert_close(gradients[1], 3 * gradients[0])


def test_keys_found_among_those_of_the_batch_by_plain_loops():
    generator = torch.Generator().manual_seed(3)
    keys = normalize(torch.randn(12, 5, generator=generator), dim=1)
    own = torch.arange(4, 8)
    queries = normalize(keys[own] + 0.4 * torch.randn(4, 5, generator=generator), dim=1)
    labels = torch.arange(12) % 3
    for with_labels in (False, True):
        found = 0
        for row, mine in enumerate(own.tolist()):
            others = [
                k for k in range(12)
                if k != mine and not (with_labels and labels[k] == labels[mine])
            ]  # fmt: skip
            found += all(queries[row] @ keys[mine] > queries[row] @ keys[k] for k in others)
        given = (labels[own], labels) if with_labels else ()
        assert found_among(queries, keys, own, *given).item() == found / 4
        assert 0 < found < 4 or with_labels
