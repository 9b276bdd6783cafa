"""The page's charts of results and training logs, and what all charts share.

Charts are Vega-Lite specifications made with Altair. Colours are CSS variables (``var(--arm-1)``):
a chart is drawn as SVG inside the page, so it follows the page's light, dark and printed look
without being drawn again. Altair is imported inside the functions, because the command line must
start without it.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from whytransfer.report.content import Curve, TaskResult
from whytransfer.report.numbers import Scale

if TYPE_CHECKING:
    import altair as alt

Row = Mapping[str, str | int | float | None]

NUM_COLOURS = 8
"""Colours that the page has for arms, and as many for types; further ones start again."""

CONFIG: dict[str, Any] = {
    "background": "transparent",
    "font": "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": "var(--ink-soft)", "titleColor": "var(--ink-soft)", "labelFontSize": 12,
        "titleFontSize": 12, "titleFontWeight": "normal", "gridColor": "var(--line)",
        "domain": False, "ticks": False, "labelPadding": 8, "titlePadding": 10, "labelLimit": 220,
    },
    "axisX": {"tickCount": 6},
    "axisY": {"labelColor": "var(--ink)", "labelFontSize": 13},
}  # fmt: skip
"""The one Vega-Lite theme of the page; a chart itself sets only what it means."""

_MIN_POINTS, _MAX_POINTS, _MAX_CHART_POINTS = 40, 160, 3000
_ROWS = "rows"
_DASHES = ("1 0", "7 3", "3 3", "10 3 2 3")


@dataclass(frozen=True)
class Key:
    """One entry of a legend: a colour, for lines a dash pattern, and what it stands for.

    The page writes legends as text, which wraps on a narrow screen; the charts have none.
    """

    label: str
    colour: str
    dash: str | None = None


@dataclass(frozen=True)
class Chart:
    """A chart of the page: its place, its title, what it shows in words, its specification."""

    id: str
    title: str
    description: str
    spec: dict[str, Any]
    legend: tuple[Key, ...] = ()


def result_chart(task: TaskResult, ranking: Sequence[str], scale: Scale, chart_id: str) -> Chart:
    """Draws the headline metric of each run as a dot on its interval, the best arm on top."""
    import altair as alt

    rows = _result_rows(task, scale)
    num_seeds = len({row["seed"] for row in rows})
    title = f"{task.headline}{f' ({scale.unit})' if scale.unit else ''}"
    base = alt.Chart(named_rows()).encode(y=alt.Y("arm:N", sort=list(ranking), title=None))
    runs = base.encode(
        tooltip=[
            tip("arm"),
            tip("seed"),
            tip("text", task.headline),
            alt.Tooltip("n:Q", format=","),
        ]
    )
    x = alt.X("value:Q", title=None, scale=alt.Scale(zero=False, nice=True, padding=12))
    low = alt.X("low:Q", title=None)
    if num_seeds > 1:
        runs = runs.encode(yOffset=alt.YOffset("seed:N"))
    layers = [
        runs.mark_rule(strokeWidth=2, opacity=0.55, color="var(--accent)").encode(low, x2="high:Q"),
        runs.mark_point(filled=True, size=75, opacity=1, color="var(--accent)").encode(x),
    ]
    if num_seeds > 1:
        mean = base.mark_tick(thickness=2, size=12 * num_seeds, color="var(--ink)")
        layers.append(mean.encode(alt.X("mean(value):Q", title=None), tooltip=[tip("arm")]))
        title += "; the upright line is the mean over seeds"
    description = f"{task.headline} of each arm with its interval; the numbers stand in the table."
    height_px = len(ranking) * (34 if num_seeds == 1 else 14 + 14 * num_seeds)
    return Chart(chart_id, title, description, specification(alt.layer(*layers), rows, height_px))


def _result_rows(task: TaskResult, scale: Scale) -> list[dict[str, Any]]:
    return [
        {"arm": run.arm, "seed": str(run.seed), "value": m.value, "low": m.low, "high": m.high,
         "n": m.n, "text": f"{scale.value(m.value)} {scale.interval(m.low, m.high)}".strip()}
        for run in task.runs for m in run.metrics if m.name == task.headline and m.value is not None
    ]  # fmt: skip


def curve_charts(curves: Sequence[Curve], arms: Sequence[str]) -> list[Chart]:
    """Draws training logs: one chart per stage, task and scalar, one line per arm and seed."""
    groups: dict[tuple[str, str, str], list[Curve]] = {}
    for curve in curves:
        groups.setdefault((curve.stage, curve.task, curve.name), []).append(curve)
    return [
        _curve_chart(group, arms, f"chart-curve-{number}")
        for number, group in enumerate(groups.values(), start=1)
    ]


def _curve_chart(curves: Sequence[Curve], arms: Sequence[str], chart_id: str) -> Chart:
    import altair as alt

    scalar, legend = words(curves[0].name), arm_keys(arms, {curve.arm for curve in curves})
    hover = alt.selection_point(
        name="hover", fields=["step"], nearest=True, on="pointermove", clear="pointerout",
        empty=False,
    )  # fmt: skip
    most = max(_MAX_CHART_POINTS // len(curves), _MIN_POINTS)
    rows = [row for curve in curves for row in _curve_rows(curve, min(most, _MAX_POINTS))]
    base = alt.Chart(named_rows()).encode(
        x=alt.X("step:Q", title="step", axis=alt.Axis(grid=False, tickCount=5)),
        y=alt.Y("value:Q", title=None, scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=5)),
        color=colour_of("arm", legend),
        detail="seed:N",
    )
    line = base.mark_line(strokeWidth=1.7).encode(strokeDash=_dash_of(legend))
    alone = all(len(curve.steps) == 1 for curve in curves)
    shown = alt.condition(hover, alt.value(1), alt.value(1 if alone else 0))
    tips = [tip("arm"), tip("seed"), alt.Tooltip("step:Q", format=","), tip("text", scalar)]
    points = base.mark_point(filled=True, size=45).encode(opacity=shown, tooltip=tips)
    spec = specification(alt.layer(line, points.add_params(hover)), rows, 210)
    title = " · ".join(part for part in (curves[0].stage, curves[0].task, scalar) if part)
    return Chart(chart_id, title, f"{title} of each arm against the training step.", spec, legend)


def _curve_rows(curve: Curve, most: int) -> list[dict[str, Any]]:
    """Thins a log to what a chart can show: means over equal stretches of steps."""
    pairs = [(s, v) for s, v in zip(curve.steps, curve.values, strict=True) if math.isfinite(v)]
    size = math.ceil(len(pairs) / most) or 1
    rows = []
    for start in range(0, len(pairs), size):
        stretch = pairs[start : start + size]
        mean = f"{math.fsum(value for _, value in stretch) / len(stretch):.4g}"
        rows.append({"arm": curve.arm, "seed": str(curve.seed), "step": stretch[-1][0],
                     "value": float(mean), "text": mean})  # fmt: skip
    return rows


def words(name: str) -> str:
    """Turns a field name into words: ``hoiem_share`` reads ``hoiem share``."""
    return name.replace("_", " ")


def arm_keys(arms: Sequence[str], drawn: Collection[str]) -> tuple[Key, ...]:
    """Gives each arm its own colour and dash in every chart; only the drawn ones are returned."""
    colours = colour_cycle("arm", len(arms))
    dashes = [_DASHES[i % len(_DASHES)] for i in range(len(arms))]
    keys = map(Key, arms, colours, dashes)
    return tuple(key for key in keys if key.label in drawn)


def colour_of(field: str, legend: Sequence[Key]) -> "alt.Color":
    """Returns the colours of a field's values as the legend names them."""
    import altair as alt

    labels = [key.label for key in legend]
    scale = alt.Scale(domain=labels, range=[key.colour for key in legend])
    return alt.Color(f"{field}:N", sort=labels, scale=scale, legend=None)


def _dash_of(legend: Sequence[Key]) -> "alt.StrokeDash":
    import altair as alt

    dashes = [[int(length) for length in (key.dash or "").split()] for key in legend]
    scale = alt.Scale(domain=[key.label for key in legend], range=dashes)
    return alt.StrokeDash("arm:N", scale=scale, legend=None)


def colour_cycle(kind: str, num: int) -> list[str]:
    """Returns the page's colour variables for so many arms (``arm``) or types (``type``)."""
    return [f"var(--{kind}-{i % NUM_COLOURS + 1})" for i in range(num)]


def tip(field: str, title: str | None = None) -> "alt.Tooltip":
    """Returns a line of a tooltip that shows a field as it is."""
    import altair as alt

    return alt.Tooltip(f"{field}:N", title=title or field)


def named_rows() -> "alt.NamedData":
    """Returns the place of a chart's rows, which :func:`specification` fills."""
    import altair as alt

    return alt.NamedData(name=_ROWS)


def specification(
    chart: "alt.TopLevelMixin", rows: Sequence[Mapping[str, Any]], height_px: int
) -> dict[str, Any]:
    """Returns a chart with its rows, as wide as its place, without Altair's own theme.

    Rows go in as they are: Altair would check each against the schema, which takes longer than all
    the rest. What is not finite becomes null, which no chart draws.
    """
    spec: dict[str, Any] = chart.to_dict()
    spec.pop("config", None)
    clean = [
        {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
        for row in rows
    ]
    place = {"width": "container", "height": height_px,
             "autosize": {"type": "fit-x", "contains": "padding"}}  # fmt: skip
    return {**spec, **place, "datasets": {_ROWS: clean}}
