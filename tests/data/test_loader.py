import itertools

import numpy as np
import pytest
import torch

from whytransfer.core.errors import InputError
from whytransfer.core.streams import Stream
from whytransfer.data.loader import EndlessOrder, EpochOrder, in_order, load


def take(iterator, count):
    return list(itertools.islice(iterator, count))


def noisy(epoch, index):
    return torch.from_numpy(Stream(7, "item", epoch, index).uniform(3))


def broken(epoch, index):
    if index == 5:
        raise InputError("img_5.jpg", "the file is empty", "an image", "remove it")
    return torch.tensor(index)


def crashing(epoch, index):
    raise KeyError("a bug")


class TestEpochOrder:
    def test_every_image_once_per_epoch_but_for_the_rest(self):
        order = EpochOrder(num_items=23, batch_size=5, seed=0)
        assert order.steps_per_epoch == 4
        passes = []
        for epoch in range(3):
            batches = [order.batch(4 * epoch + step) for step in range(4)]
            assert all(found == epoch and len(indices) == 5 for found, indices in batches)
            passes.append(np.concatenate([indices for _, indices in batches]).tolist())
            assert len(set(passes[-1])) == 20 and set(passes[-1]) <= set(range(23))
        assert passes[0] != passes[1] != passes[2]
        assert set(passes[0]) != set(passes[1])

    def test_a_batch_is_a_function_of_seed_and_step(self):
        order = EpochOrder(23, 5, seed=0)
        forwards = take(order.batches(0), 12)
        for first in (0, 3, 4, 11):
            assert take(EpochOrder(23, 5, seed=0).batches(first), 12 - first) == forwards[first:]
        assert take(EpochOrder(23, 5, seed=1).batches(0), 12) != forwards

    def test_batch_larger_than_the_data(self):
        with pytest.raises(
            InputError,
            match=r"batch_size: is 24, the data have 23 images; expected.*1 to 23; lower",
        ):
            EpochOrder(23, 24, 0)


class TestEndlessOrder:
    def test_is_one_stream_of_whole_passes(self):
        places = list(itertools.chain(*take(EndlessOrder(7, 4, 0).batches(0), 14)))
        assert [epoch for epoch, _ in places] == sorted([0, 1, 2, 3, 4, 5, 6, 7] * 7)
        for epoch in range(8):
            assert sorted(index for e, index in places if e == epoch) == list(range(7))

    @pytest.mark.parametrize("grouped", [False, True])
    def test_starts_anywhere(self, grouped):
        groups = np.array([0, 1, 1, 0, 1, 1, 1]) if grouped else None
        forwards = take(EndlessOrder(7, 4, 3, groups).batches(0), 20)
        for first in (1, 7, 19):
            assert (
                take(EndlessOrder(7, 4, 3, groups).batches(first), 20 - first) == forwards[first:]
            )

    def test_batches_hold_one_group_as_in_detectron2(self):
        groups = np.array(["wide", "tall", "wide", "wide", "tall", "wide", "wide"])
        order = EndlessOrder(7, 3, 0, groups)
        batches = take(order.batches(0), 40)
        assert {len({groups[index] for _, index in batch}) for batch in batches} == {1}
        assert batches == take(grouped_plainly(7, 3, 0, groups), 40)

    def test_smaller_groups_within_a_batch(self):
        groups = np.array([0, 1, 0, 0, 1, 0, 0])
        batches = take(EndlessOrder(7, 4, 0, groups, group_size=2).batches(0), 30)
        pairs = [batch[i : i + 2] for batch in batches for i in (0, 2)]
        assert all(groups[a] == groups[b] for (_, a), (_, b) in pairs)
        assert any(len({groups[index] for _, index in batch}) == 2 for batch in batches)

    def test_refuses_what_can_not_be(self):
        with pytest.raises(InputError, match="multiple of the group size 3"):
            EndlessOrder(7, 4, 0, np.zeros(7), group_size=3)
        with pytest.raises(InputError, match="batch_size"):
            EndlessOrder(0, 4, 0)

    def test_a_batch_may_be_larger_than_the_data(self):
        (batch,) = take(EndlessOrder(3, 8, 0).batches(0), 1)
        assert [epoch for epoch, _ in batch] == [0, 0, 0, 1, 1, 1, 2, 2]


def grouped_plainly(num_items, batch_size, seed, groups):
    waiting = {}
    for places in EndlessOrder(num_items, 1, seed).batches(0):
        bucket = waiting.setdefault(groups[places[0][1]], [])
        bucket.extend(places)
        if len(bucket) == batch_size:
            yield list(bucket)
            bucket.clear()


class TestLoad:
    @pytest.mark.filterwarnings("ignore:This DataLoader will create 3 worker")
    def test_the_same_bits_for_any_number_of_workers(self):
        order = EpochOrder(23, 5, seed=0)
        before = torch.get_rng_state()
        found = [
            torch.stack(list(load(noisy, order, torch.stack, 3, 7, workers)))
            for workers in (0, 1, 3)
        ]
        assert found[0].shape == (7, 5, 3)
        assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])
        assert torch.equal(torch.get_rng_state(), before)

    def test_resumes_in_the_middle_of_an_epoch(self):
        order = EpochOrder(23, 5, seed=0)
        whole = list(load(noisy, order, torch.stack, 0, 9, 0))
        rest = list(load(noisy, order, torch.stack, 6, 3, 0))
        assert all(torch.equal(a, b) for a, b in zip(whole[6:], rest, strict=True))

    @pytest.mark.parametrize("workers", [0, 2])
    def test_an_error_of_the_users_data_arrives_whole(self, workers):
        with pytest.raises(InputError) as caught:
            list(load(broken, EpochOrder(8, 2, 0), torch.stack, 0, 4, workers))
        assert str(caught.value) == "img_5.jpg: the file is empty; expected an image; remove it"

    def test_a_bug_in_a_worker_is_not_taken_for_one(self):
        with pytest.raises(KeyError, match="a bug"):
            list(load(crashing, EpochOrder(8, 2, 0), torch.stack, 0, 1, 1))

    @pytest.mark.parametrize("workers", [0, 2])
    def test_in_order_gives_every_image_once(self, workers):
        batches = list(in_order(lambda epoch, index: (epoch, index), 7, 3, list, workers))
        assert [len(batch) for batch in batches] == [3, 3, 1]
        assert list(itertools.chain(*batches)) == [(0, index) for index in range(7)]
