"""The selection stage: which settings of a grid do best on images held out from the training split?

The test split is read by none of the runs that it compares, so a score on the test images is not
made of having looked at them. The winner is then trained on the whole training split.

selection.json    every point of the grid with its score, and which one was chosen
"""

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from whytransfer.core.config import Config, build, merge, to_plain
from whytransfer.core.errors import InputError, nearest
from whytransfer.core.records import Metric, Record
from whytransfer.core.stage import Step, materialise
from whytransfer.core.store import Artifact, Store, write_text
from whytransfer.transfer.task import DIVERGED, TaskConfig

SELECTION = "selection.json"
ROLE = "selection"
"""The name of a selection among the inputs of the transfer that takes its winner."""

Settings = dict[str, Any]
"""Dotted name of a setting → its value: one point of a grid."""


class SelectionConfig(Config):
    """What is chosen, and by what.

    Attributes:
        metric: The score that decides.
        validation: Share of the training images that it is measured on.
        points: The grid; of equal scores the first point wins.
    """

    metric: str
    validation: float = Field(gt=0, lt=1)
    points: tuple[Settings, ...] = Field(min_length=1)


class Candidate(BaseModel):
    """One point of the grid.

    Attributes:
        settings: Its values.
        score: Of the run on held-out images; ``None`` where there is none.
        note: Why there is none.
        fingerprint: Of that run.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    settings: Settings
    score: Metric | None
    note: str = ""
    fingerprint: str


class Selection(BaseModel):
    """What was chosen among what.

    Attributes:
        metric: The score that decided.
        validation: Share of the training images that were held out.
        candidates: All points, in the order of the grid.
        chosen: Number of the winner among them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    metric: str
    validation: float
    candidates: tuple[Candidate, ...]
    chosen: int

    @property
    def winner(self) -> Candidate:
        """The point that was chosen."""
        return self.candidates[self.chosen]

    @property
    def at_edge(self) -> tuple[str, ...]:
        """Names the settings whose chosen number is the grid's smallest or largest.

        A better one may lie beyond.
        """
        found = []
        for field, value in self.winner.settings.items():
            numbers = [_number(point.settings[field]) for point in self.candidates]
            known = {number for number in numbers if number is not None}
            if None not in numbers and len(known) > 1 and value in (min(known), max(known)):
                found.append(field)
        return tuple(found)


def grid_points(grid: Mapping[str, Sequence[Any]]) -> Iterator[Settings]:
    """Yields every combination, the last setting changing fastest.

    >>> list(grid_points({"a": [1, 2], "b": [3]}))
    [{'a': 1, 'b': 3}, {'a': 2, 'b': 3}]
    """
    for values in itertools.product(*grid.values()):
        yield dict(zip(grid, values, strict=True))


def overrides(settings: Settings) -> dict[str, Any]:
    """Returns settings by dotted name as nested plain data.

    >>> overrides({"training.sgd.lr": 0.1, "training.steps": 5})
    {'training': {'sgd': {'lr': 0.1}, 'steps': 5}}
    """
    nested: dict[str, Any] = {}
    for path, value in settings.items():
        own = value
        for part in reversed(path.split(".")):
            own = {part: own}
        nested = merge(nested, own)
    return nested


def step_for(task: str, config: SelectionConfig, runs: Sequence[str], seed: int) -> Step:
    """Says what is to be chosen among; its fingerprint names the choice before it is made.

    Args:
        task: Name or dotted path.
        config: The grid, and what decides.
        runs: Fingerprint of the run at each of its points.
        seed: Of those runs; kept in the record.
    """
    inputs = {f"point{number}": run for number, run in enumerate(runs)}
    return Step(stage="select", plugin=task, config=config, inputs=inputs, seed=seed)


def run(step: Step, runs: Sequence[Artifact], store: Store) -> Artifact:
    """Chooses, where the store does not have the choice yet.

    Args:
        step: From :func:`step_for`.
        runs: The finished run at each point, in the order of the grid.
        store: Where the artifact lies or will lie.

    Raises:
        InputError: No run has that score, or it is undefined in all of them.
    """
    config = step.config
    assert isinstance(config, SelectionConfig)

    def compute(folder: Path, _work: Path) -> tuple[Metric, ...]:
        selection = choose(config, [artifact.record for artifact in runs])
        write_text(folder / SELECTION, selection.model_dump_json(indent=1))
        return tuple(_metrics(selection))

    return materialise(store, step, compute)


def choose(config: SelectionConfig, records: Sequence[Record]) -> Selection:
    """Returns the point whose run scores best; raises as :func:`run` does."""
    candidates = [
        _candidate(settings, record, config.metric)
        for settings, record in zip(config.points, records, strict=True)
    ]
    values = [_worth(candidate.score) for candidate in candidates]
    if not any(value is not None for value in values):
        raise _no_score(config.metric, candidates, records)
    best = max(value for value in values if value is not None)
    return Selection(
        metric=config.metric,
        validation=config.validation,
        candidates=tuple(candidates),
        chosen=values.index(best),
    )


def read(artifact: Artifact) -> Selection:
    """Reads the choice of a selection's artifact."""
    return Selection.model_validate_json(artifact.file(SELECTION).read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Chosen:
    """A configuration of which a selection decides a part.

    Attributes:
        base: The configuration without it.
        selection: The artifact.
    """

    base: TaskConfig
    selection: Artifact

    @property
    def config(self) -> TaskConfig:
        """The configuration with the winner's settings."""
        winner = overrides(read(self.selection).winner.settings)
        values = merge(to_plain(self.base), winner)
        return build(type(self.base), values, str(self.selection.path))


def written(settings: Settings) -> str:
    """Writes a point of a grid in one line.

    >>> written({"training.sgd.lr": 0.1, "training.sgd.nesterov": True})
    'training.sgd.lr=0.1,training.sgd.nesterov=true'
    """
    return ",".join(f"{field}={json.dumps(value)}" for field, value in settings.items())


def _candidate(settings: Settings, record: Record, metric: str) -> Candidate:
    found = {m.name: m for m in record.metrics}
    score = found.get(metric)
    note = ""
    if DIVERGED in found:
        note = found[DIVERGED].interval.removeprefix("none: ")
    elif score is None or score.value is None:
        note = f"{metric} is undefined on the held-out images"
    return Candidate(
        settings=settings,
        score=score if score and score.value is not None else None,
        note=note,
        fingerprint=record.fingerprint,
    )


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number else None


def _worth(score: Metric | None) -> float | None:
    """Returns a number that is larger where the score is better."""
    if score is None or score.value is None:
        return None
    return -score.value if score.higher_is_better is False else score.value


def _no_score(
    metric: str, candidates: Sequence[Candidate], records: Sequence[Record]
) -> InputError:
    where = "selection on held-out images"
    known = list(dict.fromkeys(m.name for record in records for m in record.metrics))
    if metric not in known and set(known) != {DIVERGED}:
        return InputError(
            where, f"no run has the metric {metric!r}", f"one of {', '.join(known)}",
            nearest(metric, known) or "give one of them as the task's headline",
        )  # fmt: skip
    notes = "; ".join(f"{written(c.settings)}: {c.note}" for c in candidates)
    return InputError(
        where, f"no point of the grid has a score ({notes})", "at least one that has",
        "give the grid smaller learning rates, or hold out more images",
    )  # fmt: skip


def _metrics(selection: Selection) -> Iterator[Metric]:
    """Yields the chosen values, then the score of every point."""
    how = f"none: chosen by {selection.metric} on held-out training images"
    for field, value in selection.winner.settings.items():
        number = _number(value)
        yield Metric(
            name=f"chosen {field}", value=number, n=len(selection.candidates),
            higher_is_better=None, interval=how if number is not None else f"{how}: {value}",
        )  # fmt: skip
    for candidate in selection.candidates:
        name = f"{selection.metric} at {written(candidate.settings)}"
        yield (
            candidate.score.model_copy(update={"name": name})
            if candidate.score
            else Metric(name=name, value=None, n=0, interval=f"none: {candidate.note}")
        )
