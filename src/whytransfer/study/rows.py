"""Flat rows of all that a store holds: for programs, and for ``diff``."""

from typing import Any

from whytransfer.core.records import flat_rows
from whytransfer.core.store import Store

HELD_OUT = "images held out of the training split"
"""What ``scored_on`` says of the runs that settings were chosen by; no other row has it."""


def flat(store: Store) -> list[dict[str, Any]]:
    """Lists every metric and finding of a store as flat rows in a stable order.

    No times, hosts or paths, so that the rows of two runs of the same thing compare with ``diff``.

    Raises:
        InputError: An artifact was altered.
    """
    found: list[dict[str, Any]] = []
    for artifact in store.all():
        artifact.verify()
        record = artifact.record
        label = {
            "stage": record.stage,
            "plugin": record.plugin,
            "fingerprint": record.fingerprint[:16],
            "inputs": {role: value[:16] for role, value in sorted(record.inputs.items())},
            "seed": record.seed,
        }
        if record.config.get("validation") is not None:
            label["scored_on"] = HELD_OUT
        found += flat_rows(label, record.metrics)
    return found
