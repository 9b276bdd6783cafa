"""What a result was made with: versions that determine it, and the machine that it ran on."""

import functools
import importlib.metadata
import os
import platform
import resource
import subprocess
import sys
from pathlib import Path

import whytransfer


def version_of(package: str) -> str:
    """Returns the installed version of a distribution, or ``absent``; imports nothing."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


def versions(*packages: str) -> dict[str, str]:
    """Returns the versions that a record names: whytransfer, Python, and the packages given."""
    found = {"whytransfer": whytransfer.__version__, "python": platform.python_version()}
    return found | {package: version_of(package) for package in packages}


def major_versions(*packages: str) -> dict[str, str]:
    """Returns the versions that enter a fingerprint, cut to ``major.minor``.

    A bug-fix release does not move a fingerprint; a minor release of torch can move numbers.
    """
    return {name: ".".join(version_of(name).split("+")[0].split(".")[:2]) for name in packages}


@functools.cache
def commit() -> str | None:
    """Returns the commit of the whytransfer checkout that runs, or ``None`` when installed.

    A ``+`` at the end says that tracked files differ from that commit.
    """
    here = Path(__file__).resolve().parent
    if not any((parent / ".git").exists() for parent in list(here.parents)[:4]):
        return None
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty=+"],
            cwd=here, capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None


def peak_memory_mb() -> float:
    """Returns the largest resident size of this process so far, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def num_cores() -> int:
    """Returns how many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def host() -> str:
    """Returns the machine's name, for the volatile part of a record."""
    return platform.node()
