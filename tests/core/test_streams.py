import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from whytransfer.core.streams import Stream, seeded_torch


def test_the_first_words_never_change():
    # Philox 4x64-10 keyed by BLAKE2b of the text "7/view/3/17/1"; a move would move every result.
    assert Stream(7, "view", 3, 17, 1).raw(3).tolist() == GOLDEN


GOLDEN = [15717828925726668200, 2512754517588175907, 15530651248300790979]


def test_no_stream_depends_on_another():
    a = Stream(0, "view", 1).uniform(4)
    Stream(0, "other").uniform(100)
    assert (Stream(0, "view", 1).uniform(4) == a).all()
    for other in (
        Stream(1, "view", 1),
        Stream(0, "views", 1),
        Stream(0, "view", 2),
        Stream(0, "view"),
    ):
        assert (other.uniform(4) != a).all()


def test_the_global_generators_are_left_alone():
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    Stream(0, "a").permutation(10)
    with seeded_torch(Stream(0, "init")):
        first = torch.rand(3)
    torch.rand(0)
    with seeded_torch(Stream(0, "init")):
        assert torch.equal(torch.rand(3), first)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert (np.random.get_state()[1] == numpy_state).all()  # noqa: NPY002


@given(st.integers(0, 2**40), st.integers(1, 300))
@settings(max_examples=50, deadline=None)
def test_ranges(seed, count):
    stream = Stream(seed, "range")
    values = stream.uniform(count, -2.0, 3.0)
    assert ((values >= -2.0) & (values < 3.0)).all()
    assert set(stream.integers(count, 7).tolist()) <= set(range(7))
    assert sorted(stream.permutation(count).tolist()) == list(range(count))


def test_uniform_is_uniform():
    values = Stream(3, "uniform").uniform(100_000)
    assert values.mean() == pytest.approx(0.5, abs=0.005)
    assert np.histogram(values, bins=10, range=(0, 1))[0] == pytest.approx(10_000, rel=0.05)
