"""The page's tables, as plain views: what each cell says, whether it is a number."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from whytransfer.core.records import Comparison, Finding, Metric, Table
from whytransfer.report.content import Run, TaskResult
from whytransfer.report.numbers import UNDEFINED, Scale, count, plain, scale_of
from whytransfer.report.verdict import headline_scale, mean_of, turned

_MAX_COLUMNS = 4
_MANY_ROWS = 20


@dataclass(frozen=True)
class Cell:
    """One cell: its main text, the quieter text beside it, and lines below.

    ``tone`` is ``strong``, ``quiet`` or empty.
    """

    text: str
    aside: str = ""
    lines: tuple[str, ...] = ()
    tone: str = ""


@dataclass(frozen=True)
class Column:
    """A column head: its text, a quieter second line, and whether numbers stand below."""

    title: str
    aside: str = ""
    numeric: bool = True


@dataclass(frozen=True)
class TableView:
    """A table as the page draws it; the first cell of each row is its head."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]

    @property
    def is_long(self) -> bool:
        """Whether the table is better folded away until it is asked for."""
        return len(self.rows) > _MANY_ROWS


def task_table(task: TaskResult, arms: Sequence[str]) -> TableView:
    """Returns arms × the first few metrics, the headline first."""
    return _metric_table(f"{task.name}: results", task, arms, _names(task)[:_MAX_COLUMNS])


def further_table(task: TaskResult, arms: Sequence[str]) -> TableView | None:
    """Returns the metrics that :func:`task_table` has no room for: metrics × arms."""
    names = _names(task)[_MAX_COLUMNS:]
    if not names:
        return None
    cells = [_metric_cells(task, arms, name) for name in names]
    rows = [(_head(name, task), *row) for name, row in zip(names, cells, strict=True)]
    columns = (Column("metric", numeric=False), *(Column(arm) for arm in arms))
    return TableView(f"{task.name}: all further metrics", columns, tuple(rows))


def _head(name: str, task: TaskResult) -> Cell:
    first = _metrics(task.runs, name)[0]
    return Cell(name, aside=first.unit, lines=(_better(first),) if _better(first) else ())


def _metric_table(
    title: str, task: TaskResult, arms: Sequence[str], names: Sequence[str]
) -> TableView:
    by_metric = [_metric_cells(task, arms, name) for name in names]
    rows = [(Cell(arm), *(cells[i] for cells in by_metric)) for i, arm in enumerate(arms)]
    columns = [Column("arm", numeric=False), *(_metric_column(task, name) for name in names)]
    return TableView(title, tuple(columns), tuple(rows))


def _metric_column(task: TaskResult, name: str) -> Column:
    metrics = _metrics(task.runs, name)
    counts = sorted({metric.n for metric in metrics})
    size = f"n = {count(counts[0])}" if len(counts) == 1 else ""
    notes = (metrics[0].unit, _better(metrics[0]), size)
    return Column(name, ", ".join(note for note in notes if note))


def _better(metric: Metric) -> str:
    return "lower is better" if metric.higher_is_better is False else ""


def _metric_cells(task: TaskResult, arms: Sequence[str], name: str) -> list[Cell]:
    metrics = _metrics(task.runs, name)
    scale = scale_of(m.value for m in metrics)
    several_n = len({metric.n for metric in metrics}) > 1
    return [
        _metric_cell([run for run in task.runs if run.arm == arm], name, scale, several_n)
        for arm in arms
    ]


def _metric_cell(runs: Sequence[Run], name: str, scale: Scale, with_n: bool) -> Cell:
    """One seed: its value and interval. Several: their mean, and each seed on its own line."""
    found = [(run.seed, metric) for run in runs for metric in run.metrics if metric.name == name]
    if not found:
        return Cell("no result", tone="quiet")
    if len(found) == 1:
        metric = found[0][1]
        size = (f"n = {count(metric.n)}",) if with_n else ()
        return Cell(
            scale.value(metric.value), scale.interval(metric.low, metric.high), size,
            tone="quiet" if metric.value is None else "",
        )  # fmt: skip
    mean = mean_of([metric.value for _, metric in found])
    if mean is None:
        return Cell(UNDEFINED, tone="quiet")
    lines = tuple(_seed_line(seed, metric, scale, with_n) for seed, metric in found)
    return Cell(scale.value(mean), "mean", lines)


def _seed_line(seed: int, metric: Metric, scale: Scale, with_n: bool) -> str:
    parts = [f"seed {seed}:", scale.value(metric.value), scale.interval(metric.low, metric.high)]
    parts.append(f"n = {count(metric.n)}" if with_n else "")
    return " ".join(part for part in parts if part)


def _metrics(runs: Iterable[Run], name: str) -> list[Metric]:
    return [metric for run in runs for metric in run.metrics if metric.name == name]


def _names(task: TaskResult) -> list[str]:
    """Returns the metric names in the order of their first appearance, the headline first."""
    names = dict.fromkeys(metric.name for run in task.runs for metric in run.metrics)
    return sorted(names, key=lambda name: name != task.headline)


def comparison_table(task: TaskResult, arms: Sequence[str], reference: str) -> TableView:
    """Returns every pair of arms: those against the study's reference arm first.

    What the intervals cover stands in the column's head where it is the same for all. With a
    single seed there are no columns for seeds: its points are the differences themselves.
    """
    scale = headline_scale(task)
    rank = {arm: index for index, arm in enumerate([reference, *arms])}
    rank.update({reference: -1})
    pairs = [
        turned(c) if rank.get(c.arm, 0) < rank.get(c.reference, 0) else c for c in task.comparisons
    ]
    pairs.sort(key=lambda c: (c.reference != reference, rank.get(c.reference, 0)))
    covers = {_covered(pair) for pair in pairs}
    with_seeds = any(len(pair.points) > 1 for pair in pairs)
    columns = [
        Column("difference", numeric=False),
        Column(task.headline, scale.difference_unit.strip()),
        Column("interval", covers.pop() if len(covers) == 1 else ""),
        Column("shown?", numeric=False),
        Column("smallest showable", "in 80 % of studies"),
        Column(pairs[0].sampled if pairs else "images"),
    ]
    if with_seeds:
        columns += [Column("at each seed"), Column("spread over seeds", "standard deviation")]
    rows = [
        _comparison_row(pair, scale, with_cover=bool(covers))
        + (_seed_cells(pair, scale) if with_seeds else ())
        for pair in pairs
    ]
    return TableView(f"{task.name}: differences between arms", tuple(columns), tuple(rows))


def _comparison_row(pair: Comparison, scale: Scale, with_cover: bool) -> tuple[Cell, ...]:
    interval, detectable = scale.interval(pair.low, pair.high), pair.smallest_detectable
    return (
        Cell(f"{pair.arm} − {pair.reference}"),
        Cell(scale.signed(pair.difference), tone="strong" if pair.shown else ""),
        Cell(interval or "none", lines=(_covered(pair),) if with_cover else ()),
        Cell(
            "shown" if pair.shown else "not\N{NO-BREAK SPACE}shown",
            tone="strong" if pair.shown else "quiet",
        ),
        Cell("not known", tone="quiet") if detectable is None else Cell(scale.value(detectable)),
        Cell(count(pair.num_images)),
    )


def _seed_cells(pair: Comparison, scale: Scale) -> tuple[Cell, Cell]:
    spread = pair.seed_spread
    return (
        Cell(" · ".join(scale.signed(point) for point in pair.points)),
        Cell("needs 3 seeds", tone="quiet") if spread is None else Cell(scale.value(spread)),
    )


def _covered(pair: Comparison) -> str:
    """Says what the interval of a pair was resampled over, or why there is none."""
    return f"{100 * pair.level:g} %, {pair.interval}" if pair.low is not None else pair.interval


def metric_list(title: str, metrics: Sequence[Metric]) -> TableView:
    """Returns a table with one row per metric: value, interval, n, unit."""
    columns = (
        Column("metric", numeric=False), Column("value"), Column("interval"), Column("n"),
        Column("unit", numeric=False),
    )  # fmt: skip
    rows = []
    for metric in metrics:
        scale = scale_of([metric.value, metric.low, metric.high])
        interval = scale.interval(metric.low, metric.high)
        rows.append(
            (
                Cell(metric.name),
                Cell(scale.value(metric.value), tone="quiet" if metric.value is None else ""),
                Cell(interval or metric.interval, tone="" if interval else "quiet"),
                Cell(count(metric.n)),
                Cell(metric.unit),
            )
        )
    return TableView(title, columns, tuple(rows))


def headline_text(finding: Finding) -> tuple[str, str]:
    """Returns a finding's headline number with unit, and its interval, level and n in words."""
    metric = finding.headline
    scale = scale_of([metric.value, metric.low, metric.high], metric.unit)
    number = scale.value(metric.value)
    if metric.value is not None:
        number += scale.value_unit
    interval = scale.interval(metric.low, metric.high)
    covered = f"{interval} at {100 * metric.level:g} %" if interval else "no interval"
    return number, f"{metric.name}, {covered} ({metric.interval}), n = {count(metric.n)}"


def free_table(table: Table) -> TableView:
    """Returns a finding's own table; a column of numbers keeps the same decimals downwards."""
    return row_table(table.title, table.columns, table.rows)


def row_table(
    title: str,
    names: Sequence[str],
    rows: Sequence[Mapping[str, str | int | float | None]],
) -> TableView:
    """Returns a table of plain rows; what a row lacks or holds as ``None`` is undefined."""
    columns, texts = [], []
    for name in names:
        values = [row.get(name) for row in rows]
        numeric = any(isinstance(value, int | float) for value in values)
        columns.append(Column(name, numeric=numeric))
        texts.append(_column_texts(values))
    cells = [tuple(Cell(t, tone="quiet" if t == UNDEFINED else "") for t in column)
             for column in texts]  # fmt: skip
    return TableView(title, tuple(columns), tuple(zip(*cells, strict=True)))


def _column_texts(values: Sequence[str | int | float | None]) -> list[str]:
    if any(isinstance(value, str) for value in values):
        return [plain(value) for value in values]
    numbers = [value for value in values if not isinstance(value, str)]
    if not any(isinstance(value, float) for value in numbers):
        return [plain(value) for value in numbers]
    scale = Scale(max(1, scale_of(numbers).decimals))
    return [scale.value(value) for value in numbers]
