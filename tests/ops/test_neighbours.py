"""Nearest neighbours and their votes: a slow oracle, scikit-learn, blocks that change nothing."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsClassifier
from tests.oracles import readout as oracle

from whytransfer.core.streams import Stream
from whytransfer.ops import neighbours
from whytransfer.ops.neighbours import nearest_neighbours, votes


def vectors(seed, name, count, size=5):
    return Stream(seed, name).uniform(count * size, -1, 1).reshape(count, size)


@settings(max_examples=40, deadline=None)
@given(
    num_stored=st.integers(1, 70), num_queries=st.integers(1, 6), share=st.floats(0, 1),
    temperature=st.sampled_from([None, 0.07, 1.0]), seed=st.integers(0, 99),
)  # fmt: skip
def test_neighbours_and_votes_are_the_oracles(num_stored, num_queries, share, temperature, seed):
    stored, queries = vectors(seed, "stored", num_stored), vectors(seed, "queries", num_queries)
    count = max(1, round(share * num_stored))
    labels = Stream(seed, "labels").integers(num_stored, 4)
    found, numbers = nearest_neighbours(torch.from_numpy(queries), torch.from_numpy(stored), count)
    expected, expected_numbers = oracle.neighbours(queries, stored, count)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)
    np.testing.assert_array_equal(numbers, expected_numbers)
    of = torch.from_numpy(labels)[numbers]
    ours = votes(found, of, 4, temperature).numpy()
    theirs = oracle.votes(expected, labels[expected_numbers], 4, temperature)
    # A common factor of a query's votes is free.
    ours, theirs = (table / table.sum(1, keepdims=True) for table in (ours, theirs))
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("chunk", "width"), [(1, 1), (64, 7), (1000, 64), (1 << 24, 1 << 14)])
@pytest.mark.parametrize("count", [1, 3, 40])
def test_blocks_change_nothing(monkeypatch, chunk, width, count):
    queries, stored = (torch.from_numpy(vectors(1, n, c)) for n, c in (("q", 9), ("s", 700)))
    expected = (queries / queries.norm(dim=1)[:, None]) @ (stored / stored.norm(dim=1)[:, None]).T
    best = expected.sort(dim=1, descending=True)
    monkeypatch.setattr(neighbours, "_CHUNK_CPU", chunk)
    monkeypatch.setattr(neighbours, "_STORED", width)
    found, numbers = nearest_neighbours(queries, stored, count)
    torch.testing.assert_close(found, best.values[:, :count], rtol=1e-12, atol=1e-14)
    assert torch.equal(numbers, best.indices[:, :count])


@pytest.mark.parametrize("count", [1, 5, 20])
def test_unweighted_votes_name_scikit_learns_classes(count):
    stored, queries = vectors(2, "stored", 300, 16), vectors(2, "queries", 200, 16)
    labels = Stream(2, "labels").integers(300, 7)
    peer = KNeighborsClassifier(count, metric="cosine", algorithm="brute").fit(stored, labels)
    found, numbers = nearest_neighbours(torch.from_numpy(queries), torch.from_numpy(stored), count)
    ours = votes(found, torch.from_numpy(labels)[numbers], 7, None)
    np.testing.assert_array_equal(ours.numpy() / count, peer.predict_proba(queries))
    np.testing.assert_array_equal(ours.argmax(1).numpy(), peer.predict(queries))


def test_lengths_play_no_part_and_a_small_temperature_does_not_overflow():
    queries, stored = (torch.from_numpy(vectors(3, n, 30)) for n in ("q", "s"))
    found, numbers = nearest_neighbours(queries, stored, 4)
    scaled, same = nearest_neighbours(queries * 7.5, stored * torch.arange(1, 31)[:, None], 4)
    torch.testing.assert_close(found, scaled)
    assert torch.equal(numbers, same)
    assert torch.isfinite(votes(found, numbers % 3, 3, 1e-4)).all()
