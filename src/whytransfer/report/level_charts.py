"""Charts of what is measured at each level of a backbone, or along a number, for every arm."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from whytransfer.report.figures import (
    Chart,
    Key,
    Row,
    arm_keys,
    colour_of,
    named_rows,
    specification,
    tip,
    words,
)

if TYPE_CHECKING:
    import altair as alt

_DOT_PX, _GROUP_GAP_PX = 15, 18
_BLOCK_PX = 40
_LINES_PX = 240
_FAINTEST, _STRONGEST = 0.06, 0.85


def stage_diagram(name: str, rows: Sequence[Row], arms: Sequence[str], chart_id: str) -> Chart:
    """Draws the stages of each arm's backbone from the image on, the stronger the larger the value.

    Several seeds are drawn as their mean.
    """
    import altair as alt

    shown = _means(_finite(rows))
    levels, drawn = _levels(rows), _drawn(shown, arms)
    base = alt.Chart(named_rows()).encode(
        x=alt.X("level:N", sort=levels, title=None, axis=alt.Axis(orient="top", labelAngle=0)),
        y=alt.Y("arm:N", sort=drawn, title=None),
        tooltip=[tip("arm"), tip("level"), tip("text", words(name))],
    )
    strength = alt.Scale(zero=False, range=[_FAINTEST, _STRONGEST])
    blocks = base.mark_rect(color="var(--accent)", cornerRadius=4, width={"band": 0.9},
                            height={"band": 0.8}).encode(
        opacity=alt.Opacity("value:Q", scale=strength, legend=None)
    )  # fmt: skip
    # A strong block is dark on a light page and light on a dark one: its number takes the paper's.
    middle = (min(r["value"] for r in shown) + max(r["value"] for r in shown)) / 2 if shown else 0
    numbers = base.mark_text(fontSize=12).encode(
        text="text:N",
        color=alt.condition(
            f"datum.value > {middle}", alt.value("var(--paper)"), alt.value("var(--ink)")
        ),
    )
    title = f"What each stage holds ({words(name)})"
    description = f"{title}, per arm from the image on: {', '.join(levels)}."
    spec = specification(alt.layer(blocks, numbers), shown, _BLOCK_PX * max(1, len(drawn)) + 24)
    return Chart(chart_id, title, description, spec)


def level_dots(
    name: str, rows: Sequence[Row], arms: Sequence[str], chart_id: str, by: str = "level"
) -> Chart:
    """Draws each arm's value at each level as a dot on its interval; every seed for itself.

    Args:
        by: The column that says what the rows of the chart are.
    """
    import altair as alt

    shown, levels = _finite(rows), _levels(rows, by)
    legend = arm_keys(arms, {row["arm"] for row in shown})
    base = alt.Chart(named_rows()).encode(
        y=alt.Y(f"{by}:N", sort=levels, title=None, scale=alt.Scale(paddingInner=0.3)),
        yOffset=alt.YOffset("arm:N", sort=[key.label for key in legend]),
        color=colour_of("arm", legend),
        tooltip=[tip("arm"), tip(by), *_tips(name, shown)],
    )
    layers: list[alt.Chart] = []
    if any(row.get("low") is not None for row in shown):
        rules = base.mark_rule(strokeWidth=2, opacity=0.5)
        layers.append(rules.encode(alt.X("low:Q", title=None), x2="high:Q"))
    dots = base.mark_point(filled=True, size=60, opacity=1).encode(
        alt.X("value:Q", title=None, scale=alt.Scale(zero=False, nice=True, padding=12))
    )
    title = f"{words(name)}, per level" if by == "level" else words(name)
    description = f"{title}, of each arm with its interval: {', '.join(levels)}."
    height_px = len(levels) * (_DOT_PX * len(legend) + _GROUP_GAP_PX)
    spec = specification(alt.layer(*layers, dots), shown, height_px)
    return Chart(chart_id, title, description, spec, _plain(legend))


def lines(name: str, rows: Sequence[Row], arms: Sequence[str], chart_id: str) -> Chart:
    """Draws each arm's value over a number, every seed for itself, with a band for an interval."""
    import altair as alt

    shown = _finite(rows)
    legend = arm_keys(arms, {row["arm"] for row in shown})
    base = alt.Chart(named_rows()).encode(
        x=alt.X("x:Q", title=None, axis=alt.Axis(grid=False, tickCount=6)),
        color=colour_of("arm", legend),
        detail="seed:N",
        tooltip=[tip("arm"), alt.Tooltip("x:Q", format=",~g"), *_tips(name, shown)],
    )
    y = alt.Y("value:Q", title=None, scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=5))
    layers: list[alt.Chart] = []
    if any(row.get("low") is not None for row in shown):
        band = base.mark_area(opacity=0.14).encode(alt.Y("low:Q", title=None), y2="high:Q")
        layers.append(band)
    layers += [
        base.mark_line(strokeWidth=1.7).encode(y),
        base.mark_point(filled=True, size=40, opacity=1).encode(y),
    ]
    title = words(name)
    description = f"{title}, of each arm against the number below."
    spec = specification(alt.layer(*layers), shown, _LINES_PX)
    return Chart(chart_id, title, description, spec, _plain(legend))


def _finite(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Rows that can be drawn, with the value as it is written."""
    return [
        {**row, "text": f"{value:.3g}"}
        for row in rows
        if isinstance(value := row["value"], int | float) and math.isfinite(value)
    ]


def _means(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns one row per arm and level: the mean over the seeds."""
    groups: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        groups.setdefault((str(row["arm"]), str(row["level"])), []).append(row["value"])
    means = {key: math.fsum(values) / len(values) for key, values in groups.items()}
    return [
        {"arm": arm, "level": level, "value": mean, "text": f"{mean:.3g}"}
        for (arm, level), mean in means.items()
    ]


def _levels(rows: Sequence[Row], by: str = "level") -> list[str]:
    """Names of the levels in the order of their first appearance: from the image on."""
    return list(dict.fromkeys(str(row[by]) for row in rows))


def _drawn(rows: Sequence[Row], arms: Sequence[str]) -> list[str]:
    """Arms that occur, in the study's order, then those that the study does not name."""
    occurring = list(dict.fromkeys(str(row["arm"]) for row in rows))
    return [arm for arm in arms if arm in occurring] + [a for a in occurring if a not in arms]


def _tips(name: str, rows: Sequence[Row]) -> list["alt.Tooltip"]:
    import altair as alt

    tips = [tip("text", words(name))]
    if any(row.get("low") is not None for row in rows):
        tips += [alt.Tooltip("low:Q", format=".3g"), alt.Tooltip("high:Q", format=".3g")]
    if any("seed" in row for row in rows):
        tips.append(tip("seed"))
    return tips


def _plain(legend: Sequence[Key]) -> tuple[Key, ...]:
    """The legend without dash patterns, which these charts do not have."""
    return tuple(Key(key.label, key.colour) for key in legend)
