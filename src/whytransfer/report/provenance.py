"""Where each number comes from: what every artifact recorded of itself, ready to be read."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from whytransfer.core.records import Record
from whytransfer.report.content import Provenance
from whytransfer.report.numbers import count
from whytransfer.report.tables import Cell, Column, TableView

_STAGES = {
    "data": "Data",
    "pretrain": "Pretraining",
    "transfer": "Transfer",
    "select": "Selection of settings",
    "diagnose": "Analyses",
}


@dataclass(frozen=True)
class RunView:
    """One artifact: its label, one line of what it is, and its tables."""

    label: str
    summary: str
    tables: tuple[TableView, ...]


def stages_of(provenance: Sequence[Provenance]) -> list[tuple[str, list[RunView]]]:
    """Groups the artifacts by stage, in the order of the work."""
    groups = [
        (title, [_view(entry) for entry in provenance if entry.record.stage == stage])
        for stage, title in _STAGES.items()
    ]
    return [(title, views) for title, views in groups if views]


def _view(entry: Provenance) -> RunView:
    record = entry.record
    seed = "" if record.seed is None else f"seed {record.seed}"
    num_assumed = len(record.assumed)
    assumed = f"{num_assumed} assumed setting{'s' * (num_assumed != 1)}" if num_assumed else ""
    parts = (record.plugin, seed, record.fingerprint[:12], assumed)
    tables = [
        _assumed(record),
        _pairs("Settings", flattened(record.config)),
        _pairs("Made from", record.inputs.items()),
        _pairs("Versions", _versions(record)),
        _pairs("Where and when (differs between two runs of the same)", _volatile(entry)),
    ]
    return RunView(
        entry.label,
        " · ".join(part for part in parts if part),
        tuple(table for table in tables if table.rows),
    )


def _assumed(record: Record) -> TableView:
    columns = ("setting that the sources leave open", "value", "reason")
    rows = [
        (Cell(a.field), Cell(_written(a.value)), Cell(a.reason)) for a in record.assumed
    ]  # fmt: skip
    heads = tuple(Column(name, numeric=False) for name in columns)
    return TableView("Assumed settings", heads, tuple(rows))


def _versions(record: Record) -> Iterator[tuple[str, Any]]:
    yield from record.versions.items()
    yield "commit", record.commit or "not in a git checkout"
    yield "fingerprint", record.fingerprint


def _volatile(entry: Provenance) -> Iterator[tuple[str, Any]]:
    volatile = entry.record.volatile
    yield "folder", str(entry.folder)
    yield "finished", volatile.finished
    yield "seconds", f"{volatile.seconds:,.1f}"
    yield "peak memory", f"{count(round(volatile.peak_memory_mb))} MB"
    yield "device", volatile.device
    yield "host", volatile.host


def flattened(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields every setting with its dotted path."""
    for name, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from flattened(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _pairs(title: str, pairs: Any) -> TableView:
    rows = tuple((Cell(str(name)), Cell(_written(value))) for name, value in pairs)
    return TableView(title, (Column("name", numeric=False), Column("value", numeric=False)), rows)


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
