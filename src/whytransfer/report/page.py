"""Writes the page: one HTML file that needs nothing else, from the plain result of a study."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whytransfer import __version__
from whytransfer.core.errors import InputError
from whytransfer.core.store import write_text
from whytransfer.report import figures, vega
from whytransfer.report.choices import choice_table
from whytransfer.report.content import FindingResult, StudyResult, TaskResult
from whytransfer.report.figures import Chart
from whytransfer.report.finding_charts import finding_charts
from whytransfer.report.gallery import Gallery, gallery_of, is_sheet, role_class
from whytransfer.report.provenance import stages_of
from whytransfer.report.strip import Strip, strip_of
from whytransfer.report.tables import (
    TableView,
    comparison_table,
    free_table,
    further_table,
    headline_text,
    metric_list,
    row_table,
    task_table,
)
from whytransfer.report.verdict import Verdict, interval_note, judge

_TEMPLATES = Path(__file__).parent / "templates"
_NUM_CHARTS = 4
"""Of a finding, that are shown at once; more than one beyond are folded away."""


@dataclass(frozen=True)
class TaskView:
    """A task as the page shows it; ``chart`` and the tables are absent where nothing finished."""

    id: str
    task: TaskResult
    verdict: Verdict
    strip: Strip | None
    chart: Chart | None
    tables: tuple[TableView, ...]
    further: TableView | None


@dataclass(frozen=True)
class FindingView:
    """A finding as the page shows it."""

    id: str
    result: FindingResult
    number: str
    covered: str
    charts: tuple[Chart, ...]
    further: tuple[Chart, ...]
    tables: tuple[TableView, ...]
    details: tuple[TableView, ...]
    gallery: Gallery | None


def write(result: StudyResult, path: Path) -> Path:
    """Writes the report of a study and returns where it lies.

    The file is self-contained (styles, scripts, pictures), so it opens from ``file://`` without a
    network, and it appears under its name only when it is whole. File names that are no UTF-8 are
    written with backslashes.

    Raises:
        InputError: The path can't be written, or a picture of a finding is missing.
    """
    if path.is_dir():
        raise InputError(path, "is a folder", "the name of a file", f"give {path / 'report.html'}")
    if not path.parent.is_dir():
        raise InputError(path.parent, "no such folder", "the folder of the report", "make it first")
    text = render(result)
    write_text(path, text.encode("utf-8", "backslashreplace").decode("utf-8"))
    return path


def render(result: StudyResult) -> str:
    """Returns the page as text; the same result gives the same text."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup, escape

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.globals["role_class"] = role_class
    environment.globals["is_sheet"] = is_sheet
    # A long name breaks behind an underscore, not within a word.
    environment.filters["breakable"] = lambda name: escape(name).replace("_", Markup("_<wbr>"))
    tasks = [_task_view(task, result, i) for i, task in enumerate(result.tasks, start=1)]
    context: dict[str, Any] = {
        "result": result,
        "tasks": tasks,
        "interval_note": interval_note([c for task in result.tasks for c in task.comparisons]),
        "findings": [_finding_view(f, result, i) for i, f in enumerate(result.findings, start=1)],
        "curves": figures.curve_charts(result.curves, result.arms),
        "stages": stages_of(result.provenance),
        "chart_config": figures.CONFIG,
        "vega": Markup(vega.script()),
        "version": __version__,
    }
    return environment.get_template("page.html.j2").render(context)


def _task_view(task: TaskResult, result: StudyResult, number: int) -> TaskView:
    verdict = judge(task, result.arms)
    ranking = [standing.arm for standing in verdict.standings]
    arms = ranking + [arm for arm in result.arms if arm not in ranking]
    tables: list[TableView] = []
    if task.runs:
        tables.append(task_table(task, arms))
    if task.choices:
        tables.append(choice_table(task, result.arms))
    if task.comparisons:
        tables.append(comparison_table(task, result.arms, result.reference))
    return TaskView(
        f"task-{number}",
        task,
        verdict,
        strip_of(verdict),
        figures.result_chart(task, ranking, verdict.scale, f"chart-result-{number}")
        if ranking
        else None,
        tuple(tables),
        further_table(task, arms) if task.runs else None,
    )


def _finding_view(found: FindingResult, result: StudyResult, number: int) -> FindingView:
    finding, place = found.finding, f"finding-{number}"
    charts = finding_charts(finding.figures, result.arms, f"chart-{place}")
    shown = _NUM_CHARTS if len(charts) > _NUM_CHARTS + 1 else len(charts)
    behind = [
        row_table(f"Figures of {figures.words(name)}", _columns(rows), rows)
        for name, rows in finding.figures.items()
        if rows
    ]
    numbers = [metric_list("All numbers of this finding", finding.metrics)]
    headline, covered = headline_text(finding)
    return FindingView(
        place,
        found,
        headline,
        covered,
        tuple(charts[:shown]),
        tuple(charts[shown:]),
        tuple(free_table(table) for table in finding.tables if table.rows),
        tuple(table for table in [*behind, *numbers] if table.rows),
        gallery_of(found, place),
    )


def _columns(rows: Sequence[figures.Row]) -> list[str]:
    return list(dict.fromkeys(column for row in rows for column in row))
