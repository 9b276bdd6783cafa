"""The tables and figures of measures that were compared between arms."""

from collections.abc import Iterator, Sequence

from whytransfer.core.records import Table
from whytransfer.diagnose.comparing import Difference, Measure, number
from whytransfer.ops.resampling import seed_spread
from whytransfer.ops.seeds_and_images import mean_over_seeds

Row = dict[str, str | int | float | None]


def difference_table(found: Sequence[Difference], title: str) -> Table:
    """Returns every difference with its interval, its p-values and whether it is shown."""
    columns = ("arm", "measure", "level", "difference", "low", "high", "p", "corrected p", "shown")
    rows: list[Row] = [
        {
            "arm": one.arm,
            "measure": one.measure.name,
            "level": one.level,
            "difference": one.metric.value,
            "low": one.metric.low,
            "high": one.metric.high,
            "p": one.p_value,
            "corrected p": one.corrected,
            "shown": "yes" if one.shown else "no",
        }
        for one in found
    ]
    return Table(title=title, columns=columns, rows=tuple(rows))


def value_tables(measures: Sequence[Measure], title: str) -> list[Table]:
    """Returns what every arm has at every level; seed by seed, too, where there are several."""
    names = tuple(measure.name for measure in measures)
    rows = [row for arm in measures[0].arms for row in _mean_rows(measures, arm)]
    found = [Table(title=title, columns=("arm", "level", *names), rows=tuple(rows))]
    if any(len(measures[0].seeds(arm)) > 1 for arm in measures[0].arms):
        rows = [row for arm in measures[0].arms for row in _seed_rows(measures, arm)]
        columns = ("arm", "level", "seed", *names)
        found.append(Table(title=f"{title}, seed by seed", columns=columns, rows=tuple(rows)))
    return found


def figures(measures: Sequence[Measure]) -> dict[str, tuple[Row, ...]]:
    """Returns a figure per measure: a row per arm, level and seed, with its own interval."""
    return {measure.name: tuple(_points(measure)) for measure in measures}


def _mean_rows(measures: Sequence[Measure], arm: str) -> Iterator[Row]:
    seeds = measures[0].seeds(arm)
    for level in measures[0].levels:
        means = {m.name: number(float(m.points(arm, seeds, level).mean())) for m in measures}
        yield {"arm": arm, "level": level, **means}


def _seed_rows(measures: Sequence[Measure], arm: str) -> Iterator[Row]:
    """The points, and their standard deviation where there are enough seeds for one."""
    seeds = measures[0].seeds(arm)
    for level in measures[0].levels:
        for seed in seeds:
            own = {m.name: number(m.values[arm, seed, level]) for m in measures}
            yield {"arm": arm, "level": level, "seed": seed, **own}
        spreads = {m.name: seed_spread(m.points(arm, seeds, level).tolist()) for m in measures}
        if all(spread.interval is not None for spread in spreads.values()):
            deviations = {name: number(spread.deviation or 0.0) for name, spread in spreads.items()}
            yield {"arm": arm, "level": level, "seed": "sd", **deviations}


def _points(measure: Measure) -> Iterator[Row]:
    for (arm, seed, level), value in measure.values.items():
        drawn = measure.drawn(arm, (seed,), level)
        one = mean_over_seeds(
            measure.points(arm, (seed,), level), drawn, measure.sampling, num_sampled=measure.n
        )
        row: Row = {"arm": arm, "level": level, "value": number(value), "seed": seed}
        if one.low is not None and one.high is not None:
            row |= {"low": one.low, "high": one.high}
        yield row
