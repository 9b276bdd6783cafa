"""Fingerprints: one short name for all that determines the content of an artifact."""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

_CHUNK = 1 << 20


def canonical(value: Any) -> str:
    """Writes plain data (dict, list, str, int, float, bool, None) in one way only.

    Keys are sorted, floats written so that they read back to the same bits, integral floats told
    apart from integers. Raises ``TypeError`` for anything else and ``ValueError`` for NaN, because
    a fingerprint must not depend on how an object happens to print.

    >>> canonical({"b": 1, "a": [0.1, True]})
    '{"a":[0.1,true],"b":1}'
    """
    _check(value)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _check(value: Any) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"a fingerprint needs text keys, found {key!r}")
            _check(item)
    elif isinstance(value, list | tuple):
        for item in value:
            _check(item)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"a fingerprint can't hold {value}")
    elif value is not None and not isinstance(value, str | int | bool):
        raise TypeError(f"a fingerprint can't hold {type(value).__name__}")


def fingerprint(value: Any) -> str:
    """Returns the SHA-256 of plain data's canonical form, as 64 hexadecimal digits."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def hash_file(path: Path) -> str:
    """Returns the SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
