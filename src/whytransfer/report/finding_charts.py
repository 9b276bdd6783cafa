"""Charts of a finding's figures: which a figure becomes is decided by its columns alone.

    arm, type, share   stacked bars: what the detections of each arm are
    arm, type, dap     bars side by side, because AP gains of single repairs do not add up
    arm, level, value  dots per level of the backbone; the first such figure of a finding also
                       colours a diagram of the stages
    arm, group, value  the same dots per group of whatever else was compared, and no diagram
    arm, x, value      lines over a number; the figure's name says what it is

The last three may have ``low`` and ``high``, an interval, and ``seed``: then every seed is drawn. A
figure of other columns stays a table; the numbers of every figure stand in one anyway.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from whytransfer.report.figures import (
    Chart,
    Key,
    Row,
    arm_keys,
    colour_cycle,
    colour_of,
    named_rows,
    specification,
    tip,
    words,
)
from whytransfer.report.level_charts import level_dots, lines, stage_diagram

_LABELLED_SHARE = 0.07
"""A segment narrower than this has no room for its number; the tooltip has it."""

_BAR_PX, _GROUP_GAP_PX = 11, 16


def finding_charts(
    figures: Mapping[str, Sequence[Row]], arms: Sequence[str], prefix: str
) -> list[Chart]:
    """Draws every figure of a finding whose columns have a known form."""
    drawn: list[Chart] = []
    has_diagram = False
    for number, (name, rows) in enumerate(figures.items(), start=1):
        columns, chart_id = {column for row in rows for column in row}, f"{prefix}-{number}"
        if {"arm", "type", "share"} <= columns:
            drawn.append(_share_bars(name, _seed_means(rows, "share"), arms, chart_id))
        elif {"arm", "type", "dap"} <= columns:
            drawn.append(_gain_bars(name, _seed_means(rows, "dap"), arms, chart_id))
        elif {"arm", "level", "value"} <= columns:
            if not has_diagram:
                drawn.append(stage_diagram(name, rows, arms, f"{chart_id}-stages"))
            has_diagram = True
            drawn.append(level_dots(name, rows, arms, chart_id))
        elif {"arm", "group", "value"} <= columns:
            drawn.append(level_dots(name, rows, arms, chart_id, by="group"))
        elif {"arm", "x", "value"} <= columns:
            drawn.append(lines(name, rows, arms, chart_id))
    return drawn


def _seed_means(rows: Sequence[Row], column: str) -> list[dict[str, Any]]:
    """Returns one row per arm and type: the mean over the seeds where there are several."""
    groups: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        value = row[column]
        if isinstance(value, int | float) and math.isfinite(value):
            groups.setdefault((str(row["arm"]), str(row["type"])), []).append(value)
    return [
        {"arm": arm, "type": kind, column: math.fsum(values) / len(values)}
        for (arm, kind), values in groups.items()
    ]


def _share_bars(
    name: str, rows: Sequence[dict[str, Any]], arms: Sequence[str], chart_id: str
) -> Chart:
    import altair as alt

    types = list(dict.fromkeys(row["type"] for row in rows))
    legend = _type_keys(types)
    whole = 1 if all(row["share"] <= 1 for row in rows) else 100
    short, exact = (".0%", ".1%") if whole == 1 else (".0f", ".1f")
    ordered = [{**row, "order": types.index(row["type"])} for row in rows]
    base = alt.Chart(named_rows()).encode(
        y=alt.Y("arm:N", sort=list(arms), title=None),
        order="order:Q",
        detail="type:N",
        tooltip=[tip("arm"), tip("type"), alt.Tooltip("share:Q", format=exact)],
    )
    axis = alt.Axis(format=short)
    x = alt.X("share:Q", stack="zero", title=None, axis=axis, scale=alt.Scale(nice=False))
    bars = base.mark_bar(stroke="var(--paper)", strokeWidth=1.5, height={"band": 0.72}).encode(
        x, color=colour_of("type", legend)
    )
    middle = alt.X("share:Q", stack="zero", bandPosition=0.5)
    has_room = f"datum.share >= {_LABELLED_SHARE * whole}"
    numbers = base.mark_text(fontSize=12, color="var(--on-type)").encode(
        middle,
        text=alt.Text("share:Q", format=short),
        opacity=alt.condition(has_room, alt.value(1), alt.value(0)),
    )
    height_px = 38 * len({row["arm"] for row in rows})
    title = f"Share of each type per arm{', %' if whole == 100 else ''} ({words(name)})"
    description = f"Stacked bars, one per arm: {', '.join(types)}."
    spec = specification(bars + numbers, ordered, height_px)
    return Chart(chart_id, title, description, spec, legend)


def _type_keys(types: Sequence[str]) -> tuple[Key, ...]:
    """Gives every error its own colour, and what is no error a neutral one."""
    colours = iter(colour_cycle("type", len(types)))
    return tuple(
        Key(kind, "var(--no-error)" if kind == "correct" else next(colours)) for kind in types
    )


def _gain_bars(
    name: str, rows: Sequence[dict[str, Any]], arms: Sequence[str], chart_id: str
) -> Chart:
    import altair as alt

    types = list(dict.fromkeys(row["type"] for row in rows))
    legend = arm_keys(arms, {row["arm"] for row in rows})
    gain = alt.Tooltip("dap:Q", title="AP gain", format=".3~f")
    chart = (
        alt.Chart(named_rows())
        .mark_bar(height={"band": 0.85})
        .encode(
            x=alt.X("dap:Q", title=None),
            y=alt.Y("type:N", sort=types, title=None, scale=alt.Scale(paddingInner=0.3)),
            yOffset=alt.YOffset("arm:N", sort=list(arms)),
            color=colour_of("arm", legend),
            tooltip=[tip("arm"), tip("type"), gain],
        )
    )
    height_px = len(types) * (_BAR_PX * len(legend) + _GROUP_GAP_PX)
    title = f"AP gained if all errors of one type were repaired ({words(name)})"
    description = f"AP gain per type and arm: {', '.join(types)}; the gains do not add up."
    bars = tuple(Key(key.label, key.colour) for key in legend)
    return Chart(chart_id, title, description, specification(chart, rows, height_px), bars)
