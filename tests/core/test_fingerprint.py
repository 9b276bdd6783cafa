import math

import pytest

from whytransfer.core.fingerprint import canonical, fingerprint, hash_file


def test_order_of_keys_does_not_matter_but_everything_else_does():
    base = {"a": 1, "b": [1, 2.5, "x", None, True]}
    assert fingerprint(base) == fingerprint(dict(reversed(base.items())))
    others = [
        {"a": 1.0, "b": base["b"]},
        {"a": True, "b": base["b"]},
        {"a": "1", "b": base["b"]},
        {"a": 1, "b": [2.5, 1, "x", None, True]},
        {"a": 1, "b": [1, math.nextafter(2.5, 3), "x", None, True]},
    ]
    assert len({fingerprint(v) for v in [base, *others]}) == 6


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1: 2}, object(), {"a": {1, 2}}])
def test_what_can_not_be_named_is_refused(value):
    with pytest.raises((TypeError, ValueError)):
        canonical(value)


def test_hash_file_is_sha256(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    assert hash_file(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
