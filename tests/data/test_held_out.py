"""Which training images are held out: a partition, the same for everybody, of every class."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whytransfer.core.errors import InputError
from whytransfer.data.held_out import held_out, held_out_mask


class Labelled:
    """Images that are nothing but their labels."""

    classes = ("cat", "dog", "owl")

    def __init__(self, labels):
        self.labels = labels

    def __len__(self):
        return len(self.labels)

    def label(self, index):
        return self.labels[index]

    def name(self, index):
        return f"{index}.png"


def names(source):
    return [source.name(index) for index in range(len(source))]


labels = st.lists(st.sampled_from([0, 2]), min_size=1, max_size=60)


@given(labels | st.lists(st.none(), min_size=1, max_size=60), st.floats(0.01, 0.99))
def test_a_partition_in_the_order_of_the_images_with_the_share_of_each_class(labels, share):
    source, counts = Labelled(labels), Counter(labels)
    wanted = {label: int(share * count + 0.5) for label, count in counts.items()}
    if any(not 0 < wanted[label] < count for label, count in counts.items()):
        with pytest.raises(InputError, match="validation"):
            held_out(source, share)
        return
    rest, kept_back = held_out(source, share)
    assert sorted(names(rest) + names(kept_back)) == sorted(names(source))
    for side in (rest, kept_back):
        assert names(side) == sorted(names(side), key=lambda name: int(name[:-4]))
        assert side.classes == source.classes
    assert Counter(kept_back.label(i) for i in range(len(kept_back))) == wanted
    assert names(held_out(source, share)[1]) == names(kept_back)


@given(labels | st.lists(st.integers(0, 2), min_size=2, max_size=9), st.floats(0.01, 0.99))
def test_a_class_that_is_too_small_lets_the_share_be_drawn_from_all(labels, share):
    source = Labelled(labels)
    mask = held_out_mask(source, share)
    try:
        _, kept_back = held_out(source, share)
    except InputError:
        count = int(share * len(labels) + 0.5)
        assert mask.sum() == min(max(count, 1), len(labels) - 1)
        return
    assert [f"{index}.png" for index in np.flatnonzero(mask)] == names(kept_back)


def test_the_choice_is_spread_over_the_images():
    rest, kept_back = held_out(Labelled([0, 1] * 100), 0.2)
    numbers = [int(name[:-4]) for name in names(kept_back)]
    assert len(numbers) == 40 and len(rest) == 160
    assert 60 < sum(numbers) / 40 < 140
    assert {n % 2 for n in numbers} == {0, 1}


@pytest.mark.parametrize(
    ("labels", "share", "message"),
    [
        ([0] * 20 + [1] * 3, 0.1, r"0\.1 of the 3 images of class 'dog' leaves none to hold out"),
        ([0] * 20 + [1] * 3, 0.9, r"class 'dog' leaves none to train on.*from 0\.33 to 0\.67"),
        ([0] * 20 + [1], 0.5, r"1 images of class 'dog'.*two images of every class or more"),
        ([None] * 5, 0.05, r"5 images of the training split leaves none.*from 0\.2 to 0\.8"),
    ],
)
def test_a_share_that_leaves_nothing_on_a_side_is_refused(labels, share, message):
    with pytest.raises(InputError, match=message):
        held_out(Labelled(labels), share)
