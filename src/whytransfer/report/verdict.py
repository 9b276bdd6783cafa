"""Which arm transfers best to a task, and whether the study shows it: the first screen's words."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from whytransfer.core.records import Comparison, Metric
from whytransfer.report.content import StudyResult, TaskResult
from whytransfer.report.numbers import Scale, scale_of

_RESAMPLED = {
    "images": "Intervals say how far a difference could move on other test images with these two "
    "trained models; another training run may move it further.",
    "seeds then images": "Intervals say how far a difference could move with another training run "
    "on other test images.",
    "episodes": "Intervals say how far a difference could move on other episodes of the same test "
    "images with these two trained models; another training run may move it further.",
    "seeds then episodes": "Intervals say how far a difference could move with another training "
    "run on other episodes of the same test images.",
}


@dataclass(frozen=True)
class Standing:
    """One arm in a task's ranking.

    Attributes:
        value: Mean of the headline metric over the arm's seeds; ``None`` where undefined.
        to_best: This arm minus the best one; ``None`` for the best and where not compared.
    """

    arm: str
    value: float | None
    to_best: Comparison | None = None


@dataclass(frozen=True)
class Verdict:
    """What the first screen says about one task.

    Attributes:
        title: The answer in a few words.
        sentence: The answer with its numbers.
        detectable: The smallest difference that the study could have shown.
        standings: Arms from best to worst; those without a result are left out.
    """

    title: str
    sentence: str
    detectable: str
    standings: tuple[Standing, ...]
    scale: Scale


def headline(result: StudyResult) -> str:
    """Returns the answer of the first screen in plain text, one line per task."""
    if not result.tasks:
        return "No task was run, so there is nothing to compare."
    verdicts = [(task.name, judge(task, result.arms)) for task in result.tasks]
    return "\n".join(
        " ".join(part for part in (f"{name}: {v.title}.", v.sentence, v.detectable) if part)
        for name, v in verdicts
    )


def judge(task: TaskResult, arms: Sequence[str]) -> Verdict:
    """Ranks the arms of a task and says which differences from the best one are shown."""
    scale, ranked = headline_scale(task), _ranked(task, arms)
    if not ranked:
        return Verdict("No result", "No run of this task has finished.", "", (), scale)
    best = ranked[0].arm
    standings = (
        ranked[0],
        *(Standing(s.arm, s.value, oriented(task, s.arm, best)) for s in ranked[1:]),
    )
    title, sentence = _words(task, standings, scale)
    return Verdict(title, sentence, _detectable(standings, scale), standings, scale)


def headline_scale(task: TaskResult) -> Scale:
    """Returns how the task's headline metric, its intervals and differences are written."""
    metrics = headline_metrics(task)
    return scale_of([m.value for m in metrics], metrics[0].unit if metrics else "")


def headline_metrics(task: TaskResult) -> list[Metric]:
    """Returns the headline metric of every run that has it."""
    return [m for run in task.runs for m in run.metrics if m.name == task.headline]


def oriented(task: TaskResult, arm: str, reference: str) -> Comparison | None:
    """Finds the comparison of two arms on the headline metric, turned to ``arm − reference``."""
    for found in task.comparisons:
        if found.metric != task.headline:
            continue
        if (found.arm, found.reference) == (arm, reference):
            return found
        if (found.arm, found.reference) == (reference, arm):
            return turned(found)
    return None


def turned(comparison: Comparison) -> Comparison:
    """Returns the same comparison the other way round."""
    low, high = comparison.low, comparison.high
    update = {
        "arm": comparison.reference,
        "reference": comparison.arm,
        "difference": -comparison.difference,
        "low": None if high is None else -high,
        "high": None if low is None else -low,
        "points": tuple(-point for point in comparison.points),
    }
    return comparison.model_copy(update=update)


def interval_note(comparisons: Sequence[Comparison]) -> str:
    """Explains in words what the intervals of these comparisons were resampled over."""
    kinds = dict.fromkeys(c.interval for c in comparisons if c.interval)
    return " ".join(dict.fromkeys(_resampled(kind) for kind in kinds))


def _resampled(kind: str) -> str:
    known = (words for start, words in _RESAMPLED.items() if kind.startswith(start))
    return next(known, f"Interval: {kind}.")


def lower_is_better(task: TaskResult) -> bool:
    """Says whether a smaller headline metric is the better one."""
    return any(m.higher_is_better is False for m in headline_metrics(task))


def _ranked(task: TaskResult, arms: Sequence[str]) -> list[Standing]:
    values: dict[str, list[float | None]] = {}
    for run in task.runs:
        values.setdefault(run.arm, []).extend(
            metric.value for metric in run.metrics if metric.name == task.headline
        )
    order = [arm for arm in arms if values.get(arm)]
    standings = [Standing(arm, mean_of(values[arm])) for arm in order]
    sign = 1.0 if lower_is_better(task) else -1.0
    return sorted(standings, key=lambda s: (s.value is None, sign * (s.value or 0.0)))


def mean_of(values: Sequence[float | None]) -> float | None:
    """Returns the mean of the defined values; ``None`` where there are none."""
    defined = [value for value in values if value is not None]
    return fmean(defined) if defined else None


def _is_behind(standing: Standing, lower: bool) -> bool:
    """Says whether an arm is shown to be worse than the best one."""
    gap = standing.to_best
    return gap is not None and gap.shown and (gap.difference > 0 if lower else gap.difference < 0)


def _words(task: TaskResult, standings: Sequence[Standing], scale: Scale) -> tuple[str, str]:
    """Returns the title and the sentence."""
    best, *others = standings
    if best.value is None:
        return "No result", f"{task.headline} is undefined for every arm."
    reached = f"{best.arm} has {task.headline} {scale.value(best.value)}{scale.value_unit}"
    num_seeds = sum(run.arm == best.arm for run in task.runs)
    reached += f" (mean of {num_seeds} seeds)" if num_seeds > 1 else ""
    if not others:
        return "Nothing to compare", f"{reached}; no other arm has a result."
    lower = lower_is_better(task)
    behind = [s for s in others if _is_behind(s, lower)]
    level = [s for s in others if not _is_behind(s, lower)]
    better = "; lower is better" if lower else ""
    if not level:
        lead = (
            f"{reached}, {_gap(others[0], scale)} against {others[0].arm}, the next best{better}."
        )
        return f"{best.arm} transfers best", lead
    title = "No difference shown"
    if behind:
        title += f" between {_listed([best.arm, *(s.arm for s in level)])}"
    gaps = _listed([f"{_gap(s, scale)} against {s.arm}" for s in level])
    rest = f" Shown to be behind: {_listed([s.arm for s in behind])}." if behind else ""
    return title, f"{reached}: {gaps}{better}.{rest}"


def _gap(standing: Standing, scale: Scale) -> str:
    """Writes by how much the best arm is ahead of this one, with interval."""
    if standing.to_best is None:
        return "not compared"
    gap = turned(standing.to_best)
    interval = scale.interval(gap.low, gap.high) or f"no interval: {gap.interval}"
    return f"{scale.signed(gap.difference)}{scale.difference_unit} {_bracketed(interval)}"


def _bracketed(text: str) -> str:
    return text if text.startswith("[") else f"({text})"


def _detectable(standings: Sequence[Standing], scale: Scale) -> str:
    gaps = [s.to_best.smallest_detectable for s in standings if s.to_best]
    known = [gap for gap in gaps if gap is not None]
    if not known:
        return "What difference could have been shown is not known." if gaps else ""
    return (
        f"Smallest difference that could have been shown (in 80 % of such studies): "
        f"{scale.value(max(known))}{scale.difference_unit}."
    )


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
