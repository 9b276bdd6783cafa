import pickle

from whytransfer.core.errors import InputError, InputErrors, nearest


def test_errors_travel_between_processes():
    one = InputError("a.jpg", "is empty", "an image", "remove it")
    both = InputErrors([one, InputError("b", "is wrong")])
    assert str(pickle.loads(pickle.dumps(one))) == str(one)
    assert str(one) == "a.jpg: is empty; expected an image; remove it"
    again = pickle.loads(pickle.dumps(both))
    assert str(again) == str(both) == f"{one}\nb: is wrong"
    assert [p.where for p in again.problems] == ["a.jpg", "b"]


def test_nearest_is_silent_where_nothing_is_near():
    assert nearest("zebra", ["moco_v2", "supervised"]) == ""
