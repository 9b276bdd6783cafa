"""The result schemas: ``Metric``, ``Record``, ``Finding``. Versioned; everything else reads these.

What a comparison may read stands apart from what changes between two runs of the same thing: the
``volatile`` part (device, host, seconds, memory, time of day) is in a record for people, and no
fingerprint, comparison or ``results --json`` row ever contains it.
"""

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION = 1


class _Schema(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Metric(_Schema):
    """One measured number, with what is needed to read it.

    ``value`` is ``None`` where the number is undefined (a class without any instance), which is
    not zero. ``low`` and ``high`` bound the interval at ``level``; both are ``None`` where no
    interval can be given, and ``interval`` says what was resampled (``images``, ``seeds``,
    ``seeds then images``), or why there is none.
    """

    name: str
    value: float | None
    unit: str = ""
    higher_is_better: bool | None = True
    n: int
    low: float | None = None
    high: float | None = None
    level: float = 0.95
    interval: str = "none"


class Volatile(_Schema):
    """What differs between two runs of the same thing; read by people only."""

    device: str = "cpu"
    host: str = ""
    seconds: float = 0.0
    peak_memory_mb: float = 0.0
    finished: str = ""


class Assumption(_Schema):
    """A setting that the paper's sources leave open, and the reason for the value used."""

    field: str
    value: Any
    reason: str


class Record(_Schema):
    """What a stage did: its resolved configuration, its inputs, its metrics.

    Attributes:
        stage: ``data``, ``pretrain``, ``transfer``, ``select`` or ``diagnose``.
        plugin: Name of the method, task, analysis or maker.
        inputs: Role of each input (``data``, ``backbone``, ...) to its fingerprint.
        versions: Whatever determines the numbers: package, plug-in, schema, torch, torchvision.
    """

    schema_version: int = SCHEMA_VERSION
    stage: Literal["data", "pretrain", "transfer", "select", "diagnose"]
    plugin: str
    fingerprint: str
    inputs: dict[str, str] = Field(default_factory=dict)
    config: dict[str, Any] = Field(default_factory=dict)
    assumed: tuple[Assumption, ...] = ()
    seed: int | None = None
    metrics: tuple[Metric, ...] = ()
    versions: dict[str, str] = Field(default_factory=dict)
    commit: str | None = None
    volatile: Volatile = Volatile()

    def __getitem__(self, name: str) -> Metric:
        """Returns the metric of that name; raises ``KeyError`` with the names that exist."""
        for metric in self.metrics:
            if metric.name == name:
                return metric
        raise KeyError(f"{name!r} is not among {[m.name for m in self.metrics]}")


class Table(_Schema):
    """A table of a finding: ``rows[i][columns[j]]`` is text, a number, or ``None`` (undefined)."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[dict[str, str | int | float | None], ...]


class Box(_Schema):
    """A rectangle drawn over a picture: pixels of that picture, and what it says."""

    xyxy: tuple[float, float, float, float]
    role: str
    label: str


class Picture(_Schema):
    """A picture of a finding: a file in its artifact, with the boxes that belong on it."""

    file: str
    width: int
    height: int
    caption: str
    tags: dict[str, str] = Field(default_factory=dict)
    boxes: tuple[Box, ...] = ()


class Finding(_Schema):
    """The answer of an analysis: a question in words, a number with interval, and its caveat.

    Attributes:
        answer: One sentence; says ``no difference shown`` where the interval holds 0.
        headline: The number behind the sentence.
        metrics: All further numbers, under stable names.
        figures: Plain rows for the report's charts, by figure name.
    """

    schema_version: int = SCHEMA_VERSION
    analysis: str
    question: str
    answer: str
    headline: Metric
    caveat: str
    metrics: tuple[Metric, ...] = ()
    tables: tuple[Table, ...] = ()
    figures: dict[str, tuple[dict[str, str | int | float | None], ...]] = Field(
        default_factory=dict
    )
    pictures: tuple[Picture, ...] = ()


class Comparison(_Schema):
    """The difference of one metric between two arms of a study, and how far it can be trusted.

    Attributes:
        difference: Metric of ``arm`` minus metric of ``reference``, mean over seeds.
        low, high: Interval over what ``interval`` names; ``None`` where none can be given.
        interval: ``images`` (two fixed models, other test images), ``seeds then images`` (another
            training run on other test images), or why there is none.
        num_images: Test images that both were scored on.
        points: The difference at each seed, in the order of ``seeds``.
        seed_spread: Standard deviation of ``points``; ``None`` below three seeds.
        smallest_detectable: The smallest true difference that this many images and seeds would
            show in 80 % of studies, in the metric's unit.
        shown: Whether the interval excludes 0.
    """

    task: str
    metric: str
    unit: str
    arm: str
    reference: str
    difference: float
    low: float | None
    high: float | None
    level: float = 0.95
    interval: str
    num_images: int
    seeds: tuple[int, ...]
    points: tuple[float, ...]
    seed_spread: float | None
    smallest_detectable: float | None
    shown: bool


def flat_rows(label: dict[str, Any], metrics: tuple[Metric, ...]) -> Iterator[dict[str, Any]]:
    """Yields one flat row per metric: its labels, then its own fields, nothing volatile."""
    for metric in metrics:
        yield {**label, **metric.model_dump(mode="json")}
