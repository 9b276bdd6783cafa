"""The options that several commands share, and how results are printed."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from whytransfer.core.errors import InputError

if TYPE_CHECKING:
    from whytransfer.core.records import Metric
    from whytransfer.core.store import Store
    from whytransfer.study.plan import Plan

StoreOption = Annotated[Path, typer.Option("--store", help="Folder that holds all artifacts.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
SeedOption = Annotated[int, typer.Option("--seed", help="Seed of every random stream.")]
LimitOption = Annotated[
    int | None, typer.Option("--limit", min=1, help="Use only N images per split: a smoke run.")
]
WorkersOption = Annotated[int, typer.Option("--workers", min=0, help="Processes that read images.")]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]
DeterministicOption = Annotated[
    bool, typer.Option("--deterministic", help="The same bits on a GPU too, at some speed.")
]
SlotsOption = Annotated[
    int | None,
    typer.Option("--slots", min=1, help="Nodes at the same time; default: cores, at most 2."),
]
Overrides = Annotated[
    list[str] | None, typer.Argument(help="Settings as field=value, such as training.sgd.lr=0.03.")
]
DataOption = Annotated[str, typer.Option("--data", help="FORMAT:PATH, or PATH to be recognised.")]
StudyArgument = Annotated[str, typer.Argument(help="A shipped study's name, or a YAML file.")]
ReportOption = Annotated[Path | None, typer.Option("--report", help="The page to write.")]


DEFAULT_STORE = Path("runs")


def say(text: str) -> None:
    """Tells a person what goes on, apart from the output that a program may read."""
    print(text, file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    """Prints for a program."""
    print(json.dumps(value, indent=1, ensure_ascii=False))


def metric_line(metric: "Metric") -> str:
    """Writes a metric in one line: name, value, interval, unit, n."""
    value = "undefined" if metric.value is None else f"{metric.value:.4g}"
    interval = "" if metric.low is None else f" [{metric.low:.4g}, {metric.high:.4g}]"
    unit = f" {metric.unit}" if metric.unit else ""
    return f"{metric.name} {value}{interval}{unit} n={metric.n}"


def existing(path: Path) -> "Store":
    """Opens a store that must be there."""
    from whytransfer.core.store import Store

    if not path.is_dir():
        raise InputError(path, "no such folder", "a store of artifacts", "check the path")
    return Store(path)


def plan_of(study: str, overrides: list[str], store: Path) -> "tuple[Plan, Store]":
    """Plans a study on a store."""
    from whytransfer.core.store import Store
    from whytransfer.study import plan, spec

    opened = Store(store)
    return plan.make(spec.read(study, tuple(overrides)), opened), opened
