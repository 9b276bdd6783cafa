"""The table of a grid: what every point scored on held-out images, and which one was chosen."""

import json
from collections.abc import Sequence

from whytransfer.report.content import Choice, TaskResult, Tried
from whytransfer.report.numbers import UNDEFINED, Scale, count, scale_of
from whytransfer.report.tables import Cell, Column, TableView


def choice_table(task: TaskResult, arms: Sequence[str]) -> TableView:
    """Returns points of the grid × arms; the chosen ones are strong and say so."""
    choices = task.choices
    scores = [tried.score for choice in choices for tried in choice.tried if tried.score]
    scale = scale_of(score.value for score in scores)
    sizes = sorted({score.n for score in scores})
    images = f"{count(sizes[0])} images" if len(sizes) == 1 else "images"
    shown = [arm for arm in arms if any(choice.arm == arm for choice in choices)]
    unit = scores[0].unit if scores else ""
    columns = [
        Column("settings tried", numeric=False),
        *(Column(arm, ", ".join(filter(None, (choices[0].metric, unit)))) for arm in shown),
    ]
    rows = [
        (
            Cell(_written(point)),
            *(_cell([c for c in choices if c.arm == arm], number, scale) for arm in shown),
        )
        for number, point in enumerate(choices[0].tried)
    ]
    title = (
        f"{task.name}: settings, chosen on {images} held out of the training split "
        f"({choices[0].validation:.0%} of it); the test split was not read"
    )
    return TableView(title, tuple(columns), tuple(rows))


def _cell(choices: Sequence[Choice], number: int, scale: Scale) -> Cell:
    """One seed: its score. Several: each on its own line."""
    lines = [_line(choice, number, scale, len(choices) > 1) for choice in choices]
    chosen = any(choice.chosen == number for choice in choices)
    tone = "strong" if chosen else ""
    return Cell(lines[0], lines=tuple(lines[1:]), tone=tone)


def _line(choice: Choice, number: int, scale: Scale, with_seed: bool) -> str:
    tried = choice.tried[number]
    parts = [f"seed {choice.seed}:"] if with_seed else []
    parts.append(_score(tried, scale))
    if choice.chosen == number:
        edge = f", at the edge of the grid in {', '.join(choice.at_edge)}"
        parts.append(f"(chosen{edge if choice.at_edge else ''})")
    return " ".join(parts)


def _score(tried: Tried, scale: Scale) -> str:
    if tried.score is None:
        return f"{UNDEFINED}: {tried.note}"
    interval = scale.interval(tried.score.low, tried.score.high)
    return " ".join(filter(None, (scale.value(tried.score.value), interval)))


def _written(point: Tried) -> str:
    return ", ".join(f"{name} = {json.dumps(value)}" for name, value in point.settings.items())
