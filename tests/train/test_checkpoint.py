"""Checkpoints: the newest whole one is in force, whatever happened to the others."""

import logging
import os
import resource

import pytest
import torch

from whytransfer.core.errors import InputError
from whytransfer.train.checkpoint import Checkpoints


def state(value):
    return {"model": {"w": torch.full((100,), float(value))}, "log": {"lines": ["a\n"], "n": 0.1}}


def test_what_was_saved_is_read_back(tmp_path):
    checkpoints = Checkpoints(tmp_path / "new" / "folder")
    assert checkpoints.newest() is None
    path = checkpoints.save(7, state(1))
    found = checkpoints.newest()
    assert (found.step, found.path) == (7, path)
    assert torch.equal(found.state["model"]["w"], torch.ones(100))
    assert found.state["log"] == {"lines": ["a\n"], "n": 0.1}


def test_the_newest_two_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for step in (9, 10, 11, 100):
        checkpoints.save(step, state(step))
    assert sorted(path.name.split("-")[1] for path in tmp_path.iterdir()) == [
        "00000011",
        "00000100",
    ]
    assert checkpoints.newest().step == 100


@pytest.mark.parametrize("damage", ["cut", "emptied", "altered", "swapped"])
def test_a_damaged_one_is_passed_over_for_the_one_before(tmp_path, damage, caplog):
    checkpoints = Checkpoints(tmp_path)
    before = checkpoints.save(5, state(5))
    newest = checkpoints.save(10, state(10))
    data = bytearray(newest.read_bytes())
    if damage == "altered":
        data[len(data) // 2] ^= 1
    length = {"cut": len(data) // 2, "emptied": 0}.get(damage, len(data))
    newest.write_bytes(before.read_bytes() if damage == "swapped" else data[:length])
    with caplog.at_level(logging.WARNING):
        found = checkpoints.newest()
    assert found.step == 5 and found.state["model"]["w"][0] == 5
    assert newest.name in caplog.text and not newest.exists()


def test_a_half_written_file_is_never_taken_and_is_cleared_away(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(5, state(5))
    part = tmp_path / "checkpoint-00000010-0123456789abcdef.part"
    part.write_bytes(b"half")
    assert checkpoints.newest().step == 5
    assert not part.exists()


def test_a_full_disk_is_one_clear_error_and_the_one_before_stands(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(5, state(5))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, hard))
    try:
        with pytest.raises(InputError, match="file-size limit is reached"):
            checkpoints.save(10, state(10))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(os.listdir(tmp_path)) == 1
    assert checkpoints.newest().step == 5


def test_no_code_is_ever_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, {"model": Bomb()})
    with pytest.raises(Exception, match="Weights only"):
        checkpoints.newest()
    assert not (tmp_path / "ran").exists()
