"""Memory that a step frees stays with the process while it trains, and goes back afterwards."""

import os
import subprocess
import sys

import pytest

from whytransfer.train import kept_memory as module
from whytransfer.train.kept_memory import kept_memory

needs_glibc = pytest.mark.skipif(module._glibc() is None, reason="needs glibc")

SCRIPT = """
import resource, sys
import torch
from whytransfer.train.kept_memory import kept_memory

PAGES = 6 * (48 << 20) // resource.getpagesize()

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [torch.ones(48 << 20, dtype=torch.uint8) for _ in range(6)]
    del blocks
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / PAGES

def held():
    return int(open("/proc/self/statm").read().split()[1]) / PAGES

at_first = held()
with kept_memory(on_cpu=sys.argv[1] == "cpu"):
    for _ in range(3):  # free pieces join
        faults()
    inside = faults()
    kept = held() - at_first
print(inside, kept, held() - at_first, faults())
"""


def run(device, **variables):
    """Returns faults of a later step, memory held then and after the block, faults afterwards."""
    environment = {name: os.environ[name] for name in os.environ if "MALLOC" not in name}
    environment |= variables
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, device], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return [float(number) for number in done.stdout.split()]


@needs_glibc
def test_a_later_step_takes_no_memory_from_the_system_and_the_end_gives_it_back():
    inside, kept, after, faults_after = run("cpu")
    assert inside < 0.05 and kept > 0.9
    assert after < 0.1 and faults_after > 0.2


@needs_glibc
@pytest.mark.parametrize(
    ("device", "variables"),
    [
        ("cuda", {}),
        ("cpu", {"MALLOC_ARENA_TEST": "8"}),
        ("cpu", {"GLIBC_TUNABLES": "glibc.malloc.arena_test=8"}),
    ],
)
def test_on_a_gpu_or_under_a_users_own_setting_glibc_goes_on_as_it_does(device, variables):
    inside, _, _, _ = run(device, **variables)
    assert inside > 0.9


def test_with_another_c_library_nothing_happens(monkeypatch):
    monkeypatch.setattr(module.ctypes, "CDLL", lambda _: object())
    module._glibc.cache_clear()
    try:
        with kept_memory(on_cpu=True):
            assert module._glibc() is None
    finally:
        module._glibc.cache_clear()
