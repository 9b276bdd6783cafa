"""Files of episodes: they come back as they were, and what does not fit together is named."""

import json
import re

import numpy as np
import pytest
from tests.oracles import few_shot as oracle

from whytransfer.core.errors import InputError
from whytransfer.core.streams import Stream
from whytransfer.data.episode_predictions import (
    EpisodePredictions,
    read_episodes,
    write_episodes,
)

CLASSES = ("boat", "fish", "mug")


def episodes(count=4, ways=2, queries=3, support=2, base=None):
    """Made-up predictions over 8 images of each class."""
    stream = Stream(0, "episodes")
    labels = np.repeat(np.arange(3), 8)
    chosen = np.array([stream.permutation(3)[:ways] for _ in range(count)])
    images = np.array(
        [[8 * label + stream.permutation(8)[: queries + support] for label in row]
         for row in chosen]
    )  # fmt: skip
    shape = (count, ways, queries)
    return EpisodePredictions(
        names=tuple(f"{CLASSES[label]}{number}.jpg" for number, label in enumerate(labels)),
        classes=CLASSES,
        labels=labels,
        numbers=np.arange(count),
        chosen=chosen,
        queries=images[..., :queries],
        support=images[..., queries:],
        guesses={k: stream.integers(np.prod(shape), ways).reshape(shape) for k in (1, 2)},
        base=base,
    )


def same(one, other):
    for name in ("labels", "numbers", "chosen", "queries", "support"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name
    assert (one.names, one.classes, one.base) == (other.names, other.classes, other.base)
    assert list(one.guesses) == list(other.guesses)
    for shots, guesses in one.guesses.items():
        assert np.array_equal(guesses, other.guesses[shots])


@pytest.mark.parametrize("base", [None, "base.json"])
def test_they_come_back_as_they_were(tmp_path, base):
    found = episodes(base=base)
    write_episodes(tmp_path / "a.json", found)
    same(read_episodes(tmp_path / "a.json"), found)


def test_the_order_of_the_rows_does_not_matter(tmp_path):
    found = episodes()
    write_episodes(tmp_path / "a.json", found)
    content = json.loads((tmp_path / "a.json").read_text())
    content["rows"] = content["rows"][::-1]
    (tmp_path / "b.json").write_text(json.dumps(content))
    same(read_episodes(tmp_path / "b.json"), found)


def test_accuracies_are_the_oracles():
    found = episodes(count=9)
    for shots, accuracies in found.accuracies().items():
        expected = [oracle.accuracy(guesses.tolist()) for guesses in found.guesses[shots]]
        assert accuracies.tolist() == pytest.approx(expected)
        assert 0 < np.mean(expected) < 1


def damaged(tmp_path, change):
    write_episodes(tmp_path / "a.json", episodes())
    content = json.loads((tmp_path / "a.json").read_text())
    change(content)
    (tmp_path / "a.json").write_text(json.dumps(content))
    return tmp_path / "a.json"


def put(*path):
    """Returns a change of one place of a file's content."""
    *places, value = path

    def change(content):
        for place in places[:-1]:
            content = content[place]
        content[places[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (put("kind", "classifications"), "begins with"),
        (put("shots", []), "shots is []"),
        (put("shots", [3]), "guesses[3] is not a list"),
        (put("rows", []), "holds no episode"),
        (put("rows", 1, "episode", 0), "stands in the file twice"),
        (put("rows", 1, "episode", "1"), "rows[1]: episode is '1'"),
        (put("rows", 1, "classes", ["cat", "mug"]), "rows[1]: the class 'cat' is not among"),
        (put("rows", 2, "classes", ["mug"]), "rows[2]: classes is ['mug']; expected as many"),
        (put("rows", 0, "classes", None), "rows[0]: classes is None"),
        (put("images", 0, "class", None), "images[0]: the class None"),
        (put("rows", 1, "queries", 0, 1, 99), "rows[1]: queries has a number outside 0 to 23"),
        (put("rows", 1, "support", [[1, 2]]), "rows[1]: support is not a list of equally many"),
        (put("rows", 1, "support", 0, None), "rows[1]: support is not a list of equally many"),
        (put("rows", 1, "guesses", {"1": [[0, 1, 0], [0, 0, 2]], "2": [[0] * 3] * 2}),
         "rows[1]: guesses[1] has a number outside 0 to 1"),
        (put("rows", 3, "guesses", None), "rows[3]: guesses[1] is not a list"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(tmp_path, change, words):
    path = damaged(tmp_path, change)
    with pytest.raises(InputError, match=re.escape(words)):
        read_episodes(path)


def test_an_image_that_is_learned_from_and_asked_for(tmp_path):
    def leak(content):
        row = content["rows"][2]
        row["queries"][0][0] = row["support"][0][1]

    with pytest.raises(InputError, match=r"rows\[2\].*an image twice.*must not be asked for"):
        read_episodes(damaged(tmp_path, leak))


def test_an_image_of_another_class(tmp_path):
    def swap(content):
        row = content["rows"][0]
        row["queries"] = row["queries"][::-1]

    with pytest.raises(InputError, match=r"rows\[0\].*another class than it says"):
        read_episodes(damaged(tmp_path, swap))


def test_a_missing_file(tmp_path):
    with pytest.raises(InputError, match="no such file; expected a file of episodes"):
        read_episodes(tmp_path / "no.json")
