"""MoCo v1 and v2: the query encoder is the backbone.

Dropped: the heads (``fc.*`` of v1, ``fc.0.*`` and ``fc.2.*`` of v2), the momentum encoder, the
queue and its pointer.

Source: facebookresearch/moco, main_lincls.py @132aea9.
"""

from collections.abc import Collection

_QUERY = "module.encoder_q."
_DROPPED = ("module.encoder_k.", "module.queue", _QUERY + "fc.")


def matches(keys: Collection[str]) -> bool:
    """Says whether there is a query encoder."""
    return _QUERY + "conv1.weight" in keys


def rename(key: str) -> str | None:
    """Strips the query encoder's prefix; drops its head, the key encoder and the queue."""
    return None if key.startswith(_DROPPED) else key.removeprefix(_QUERY)
