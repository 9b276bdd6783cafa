"""On a CPU, memory that a step frees is kept for the next one, not given back to the system.

glibc gives the end of its heap back whenever much of it is free, which is so after a backward, and
takes it again in the next forward: up to 10,000 page faults in a step, each of which clears a page.
A process that keeps it has next to none after its first steps.
"""

import ctypes
import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# Parameters of mallopt, from glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4

_NEVER = -1
_LARGEST_THRESHOLD = 32 << 20
_SEPARATE_BLOCKS = 65536


@contextmanager
def kept_memory(on_cpu: bool) -> Iterator[None]:
    """Runs a block in which freed memory stays with this process; then what is free is given back.

    What the process needed at most, it holds until the block's end. Nothing happens on a GPU, with
    another C library, or where the environment sets glibc's allocator (``MALLOC_...``,
    ``GLIBC_TUNABLES``). No number depends on it.

    Args:
        on_cpu: Whether the block computes on the CPU.

    Source: mallopt(3). Setting a threshold ends glibc's own adapting of it, which is why at the
        end they are set to what it adapts them to where large blocks were freed.
    """
    allocator = _glibc() if on_cpu and not _set_by_user() else None
    if allocator is None:
        yield
        return
    allocator.mallopt(_MMAP_MAX, 0)  # a block of its own would be given back when freed
    allocator.mallopt(_TRIM_THRESHOLD, _NEVER)
    try:
        yield
    finally:
        allocator.mallopt(_MMAP_MAX, _SEPARATE_BLOCKS)
        allocator.mallopt(_MMAP_THRESHOLD, _LARGEST_THRESHOLD)
        allocator.mallopt(_TRIM_THRESHOLD, 2 * _LARGEST_THRESHOLD)
        allocator.malloc_trim(0)


@functools.cache
def _glibc() -> Any:
    """Returns this process's C library where it is glibc, else ``None``."""
    try:
        library = ctypes.CDLL(None)
    except (OSError, TypeError):  # Windows has no one library of all
        return None
    names = ("gnu_get_libc_version", "mallopt", "malloc_trim")
    return library if all(hasattr(library, name) for name in names) else None


def _set_by_user() -> bool:
    tuned = "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "")
    return tuned or any(name.startswith("MALLOC_") for name in os.environ)
