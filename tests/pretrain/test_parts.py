"""The queue, the momentum copy and the heads."""

import numpy as np
import pytest
import torch
from torch import nn

from whytransfer.core.streams import Stream
from whytransfer.ops.contrast import contrastive_loss
from whytransfer.pretrain.parts.heads import linear_head, mlp_head
from whytransfer.pretrain.parts.momentum import follow, follower_of
from whytransfer.pretrain.parts.queue import KeyQueue


def test_queue_starts_with_random_directions_of_length_one_and_no_label():
    queue = KeyQueue(1000, 8, Stream(0, "queue"))
    assert torch.allclose(queue.keys.norm(dim=1), torch.ones(1000), atol=1e-6)
    # Uniform on the sphere: no preferred direction, every coordinate of variance 1/8.
    assert queue.keys.mean(0).abs().max() < 0.05
    assert (queue.keys.var(0) * 8 - 1).abs().max() < 0.2
    assert set(queue.labels.tolist()) == {-1}
    assert torch.equal(queue.keys, KeyQueue(1000, 8, Stream(0, "queue")).keys)
    assert not torch.equal(queue.keys, KeyQueue(1000, 8, Stream(1, "queue")).keys)


def test_queue_overwrites_the_oldest_and_wraps():
    queue = KeyQueue(6, 2, Stream(0, "queue"))
    start = queue.keys.clone()
    for batch in range(4):
        queue.enqueue(torch.full((2, 2), float(batch)), torch.tensor([batch, batch]))
        if batch == 0:
            assert torch.equal(queue.keys[2:], start[2:])
            assert queue.labels.tolist() == [0, 0, -1, -1, -1, -1]
    assert queue.labels.tolist() == [3, 3, 1, 1, 2, 2]
    assert queue.keys[:, 0].tolist() == [3, 3, 1, 1, 2, 2]
    assert queue.pointer.item() == 2


def test_queue_without_labels_keeps_minus_one():
    queue = KeyQueue(4, 2, Stream(0, "queue"))
    queue.enqueue(torch.ones(2, 2))
    assert queue.labels.tolist() == [-1] * 4


def test_queue_refuses_a_batch_that_does_not_divide_it():
    with pytest.raises(ValueError, match="queue of 4 is no multiple of a batch of 3"):
        KeyQueue(4, 2, Stream(0, "queue")).enqueue(torch.ones(3, 2))


def test_queue_state_round_trips():
    queue, other = KeyQueue(4, 2, Stream(0, "queue")), KeyQueue(4, 2, Stream(1, "queue"))
    queue.enqueue(torch.ones(2, 2), torch.tensor([5, 6]))
    other.load_state_dict(queue.state_dict())
    assert torch.equal(other.keys, queue.keys)
    assert other.labels.tolist() == [5, 6, -1, -1]
    assert other.pointer.item() == 2


def test_a_loss_taken_before_enqueueing_can_go_backward_after_it():
    queue = KeyQueue(4, 2, Stream(0, "queue"))
    gradients = []
    for enqueue_first in (False, True):
        query = torch.tensor([[0.6, 0.8], [1.0, 0.0]], requires_grad=True)
        loss = contrastive_loss(query, torch.eye(2), queue.keys, 0.2).loss
        if enqueue_first:
            queue.enqueue(torch.ones(4, 2))
        loss.backward()
        gradients.append(query.grad)
    assert torch.equal(*gradients)
    assert gradients[0].abs().max() > 0


def test_follower_moves_parameters_only():
    leader = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    follower = follower_of(leader)
    assert not any(p.requires_grad for p in follower.parameters())
    before = [p.clone() for p in follower.parameters()]
    with torch.no_grad():
        for p in leader.parameters():
            p.add_(1.0)
    leader[1].running_mean.fill_(7.0)
    follow(follower, leader, 0.75)
    for old, new in zip(before, follower.parameters(), strict=True):
        torch.testing.assert_close(new, old + 0.25)
    assert follower[1].running_mean.tolist() == [0, 0]
    assert all(p.grad is None for p in leader.parameters())


def test_heads_are_functions_of_their_stream_and_leave_the_global_generator_alone():
    state = torch.get_rng_state()
    heads = [mlp_head(6, 4, Stream(seed, "head")) for seed in (0, 0, 1)]
    assert torch.equal(torch.get_rng_state(), state)
    weights = [head[2].weight for head in heads]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    shapes = [tuple(p.shape) for p in heads[0].parameters()]
    assert shapes == [(6, 6), (6,), (4, 6), (4,)]
    assert linear_head(6, 3, Stream(0, "head")).weight.abs().max() <= 1 / np.sqrt(6)
