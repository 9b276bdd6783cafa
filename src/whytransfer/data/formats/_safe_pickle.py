"""Pickles of arrays from strangers: read without running any code of theirs.

A pickle is a program: it may name any function and have it called. Here it can name nothing but
what builds a NumPy array, and a text's bytes in Latin-1, which is how Python 2 and 3 tell each
other of them. So no more than arrays, numbers, texts and plain containers can come out.
"""

import importlib
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from whytransfer.core.errors import InputError


def _encoded(text: str, encoding: str) -> bytes:
    if encoding.lower().replace("-", "") != "latin1":
        raise pickle.UnpicklingError(f"names the encoding {encoding!r}")
    return text.encode("latin-1")


def _array_functions() -> dict[tuple[str, str], Callable[..., Any]]:
    """Lists what may be named, under the names of old and new versions of NumPy and Python."""
    known: dict[tuple[str, str], Callable[..., Any]] = {
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("_codecs", "encode"): _encoded,
    }
    for module, name in (
        ("multiarray", "_reconstruct"), ("multiarray", "scalar"), ("numeric", "_frombuffer"),
    ):  # fmt: skip
        function = getattr(importlib.import_module(f"numpy._core.{module}"), name)
        known[f"numpy.core.{module}", name] = known[f"numpy._core.{module}", name] = function
    return known


_ADMITTED = _array_functions()


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        """Returns what a pickle names, where that is admitted."""
        if (module, name) not in _ADMITTED:
            raise pickle.UnpicklingError(f"names {module}.{name}")
        return _ADMITTED[module, name]


def read_arrays(path: Path) -> Any:
    """Reads a pickle of arrays and plain containers, written by Python 2 or 3.

    Raises:
        InputError: The file is missing, cut short or no pickle, or names anything else.
    """
    expected = "a pickle of NumPy arrays in plain containers"
    try:
        with path.open("rb") as file:
            return _ArrayUnpickler(file, encoding="latin1").load()
    except FileNotFoundError:
        raise InputError(path, "no such file", expected, "check the path") from None
    except pickle.UnpicklingError as error:
        todo = "get the file from its authors; nothing in it was run"
        raise InputError(path, f"can't be read as one: it {error}", expected, todo) from None
    except Exception as error:
        # A damaged pickle fails in whatever way its bytes happen to say: no list of errors holds.
        reason = f"{type(error).__name__}: {error}"
        raise InputError(path, f"can't be read ({reason})", expected, "copy it again") from None
