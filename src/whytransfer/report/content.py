"""What a page is made from: the typed, plain result of a study."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from whytransfer.core.records import Comparison, Finding, Metric, Record


class _Content(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Run(_Content):
    """One arm on one task at one seed: all its metrics."""

    arm: str
    seed: int
    metrics: tuple[Metric, ...]


class Tried(_Content):
    """One point of a grid: its settings by dotted name, and its score, or why there is none."""

    settings: dict[str, Any]
    score: Metric | None
    note: str = ""


class Choice(_Content):
    """The settings that one arm was given at one seed, and among which they were chosen.

    Attributes:
        metric: The score that decided.
        validation: Share of the training images that it was measured on; the test split was not
            read.
        tried: The whole grid, the same for every arm.
        chosen: Number of the winner among them.
        at_edge: Settings whose winner is the grid's smallest or largest.
    """

    arm: str
    seed: int
    metric: str
    validation: float
    tried: tuple[Tried, ...]
    chosen: int
    at_edge: tuple[str, ...] = ()


class TaskResult(_Content):
    """A downstream task of the study.

    Attributes:
        name: As the study calls it; ``plugin`` is the task that it runs.
        headline: The metric that arms are compared by.
        description: First line of the task's docstring.
        runs: One per arm and seed that finished.
        comparisons: Every arm against every other, on the headline metric.
        choices: How each run's settings were chosen, where the task has a grid.
    """

    name: str
    plugin: str
    headline: str
    description: str
    runs: tuple[Run, ...]
    comparisons: tuple[Comparison, ...]
    choices: tuple[Choice, ...] = ()


class FindingResult(_Content):
    """An analysis of the study; ``folder`` holds the picture files that the finding names."""

    name: str
    task: str
    finding: Finding
    folder: Path


class Curve(_Content):
    """A training log: ``values[i]`` of the scalar ``name`` at ``steps[i]``."""

    stage: str
    arm: str
    task: str
    seed: int
    name: str
    steps: tuple[int, ...]
    values: tuple[float, ...]


class Provenance(_Content):
    """One artifact of the study: what made it, and where it lies."""

    label: str
    record: Record
    folder: Path


class Failure(_Content):
    """A node that crashed, or that could not run because of one; with the end of its log."""

    label: str
    reason: str
    log: str


class StudyResult(_Content):
    """All that a report shows.

    Attributes:
        caveats: What this study's budget can and cannot show; printed on the first screen.
        assumed: What the paper leaves open and the study chose, beyond the fields that records
            list → why.
        arms: Names in the study's order; ``arm_descriptions`` says what each is.
    """

    name: str
    description: str
    caveats: tuple[str, ...]
    reference: str
    seeds: tuple[int, ...]
    arms: tuple[str, ...]
    arm_descriptions: dict[str, str]
    tasks: tuple[TaskResult, ...]
    findings: tuple[FindingResult, ...] = ()
    curves: tuple[Curve, ...] = ()
    provenance: tuple[Provenance, ...] = ()
    failures: tuple[Failure, ...] = ()
    assumed: dict[str, str] = {}
