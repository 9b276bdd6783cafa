"""The study file: arms × tasks × analyses × seeds, and the data that they use.

name: mine
seeds: [0, 1, 2]
reference: random_init                  # the arm that differences are shown against
data:
  photos: {format: imagefolder, root: /data/photos}
  boxes:  {format: coco, root: /data/mine, train_images: images, ...}
  world:  {make: things, config: {num_train: 4000}}
pretrain: {data: photos, config: {training: {epochs: 20}}}
arms:
  random_init: {method: random_init}
  moco:        {method: moco_v2, config: {queue_size: 4096}}
  theirs:      {checkpoint: moco_v2_800ep_pretrain.pth.tar}
tasks:
  detection: {task: voc07_detection, data: boxes, headline: AP}
analyses:
  errors: {analysis: detection_errors, task: detection}
"""

from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field

from whytransfer.core import plugins
from whytransfer.core.config import Config, build, override, read_yaml
from whytransfer.core.errors import InputError, InputErrors, nearest
from whytransfer.study import shipped

_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$"


class DataEntry(Config):
    """A dataset: either made by the world (``make``), or a folder in a format (``format``).

    Further fields of a folder's format (``root``, ``classes``, ...) stand beside ``format``.
    """

    model_config = ConfigDict(extra="allow")

    make: str | None = None
    format: str | None = None
    seed: int = 0
    config: dict[str, Any] = Field(default_factory=dict)

    @property
    def fields(self) -> dict[str, Any]:
        """The fields that belong to the format."""
        return dict(self.model_extra or {})


class PretrainEntry(Config):
    """What all arms share: the data they are pretrained on, and settings laid under their own."""

    data: str
    config: dict[str, Any] = Field(default_factory=dict)


class ArmEntry(Config):
    """One pretraining: a ``method`` with its settings, or a ``checkpoint`` file of anybody's."""

    method: str | None = None
    checkpoint: Path | None = None
    data: str | None = None
    config: dict[str, Any] = Field(default_factory=dict)


class TaskEntry(Config):
    """One downstream task; ``headline`` is the metric that arms are compared by."""

    task: str
    data: str
    headline: str
    config: dict[str, Any] = Field(default_factory=dict)


class AnalysisEntry(Config):
    """One analysis of the runs of one task."""

    analysis: str
    task: str
    config: dict[str, Any] = Field(default_factory=dict)


class StudySpec(Config):
    """A whole study.

    Attributes:
        caveats: What this study's budget can and cannot show; the report's first screen says it.
        reference: The arm that differences are shown against.
        limit: Keep only this many images of every split (a smoke run); changes fingerprints.
        num_draws: Bootstrap draws behind every interval of the comparisons.
        expected_seconds: Node key, or the beginning of one → seconds it took where it was
            measured; the plan's estimate until this store has timings of its own.
    """

    name: str = Field(pattern=_NAME)
    description: str = ""
    caveats: tuple[str, ...] = ()
    seeds: tuple[int, ...] = Field((0,), min_length=1)
    reference: str
    limit: int | None = Field(None, ge=1)
    num_draws: int = Field(1000, ge=100)
    expected_seconds: dict[str, float] = Field(default_factory=dict)
    data: dict[str, DataEntry] = Field(min_length=1)
    pretrain: PretrainEntry
    arms: dict[str, ArmEntry] = Field(min_length=1)
    tasks: dict[str, TaskEntry] = Field(min_length=1)
    analyses: dict[str, AnalysisEntry] = Field(default_factory=dict)


def read(name: str, overrides: tuple[str, ...] = ()) -> StudySpec:
    """Reads a study: the name of a shipped one, or the path of a YAML file.

    Paths inside the file are relative to the file's folder.

    Raises:
        InputError: No such study; unknown fields, names that nothing defines, wrong types.
    """
    path = Path(name)
    if path.suffix not in (".yaml", ".yml") and not path.exists():
        if name not in shipped.names():
            raise InputError(
                f"study {name!r}", "unknown",
                f"the path of a YAML file, or one of {', '.join(shipped.names())}",
                nearest(name, shipped.names()),
            )  # fmt: skip
        path = shipped.path(name)
    values = override(read_yaml(path), overrides)
    spec = build(StudySpec, values, str(path))
    _check_names(spec, str(path))
    return _with_roots(spec, path.parent)


def _check_names(spec: StudySpec, where: str) -> None:
    """Refuses every name that nothing in the study defines, all of them at once."""
    problems: list[InputError] = []

    def known(field: str, name: str, allowed: list[str]) -> None:
        if name not in allowed:
            expected = "one of " + ", ".join(allowed)
            problem = f"unknown name {name!r}"
            problems.append(
                InputError(f"{where}, field {field}", problem, expected, nearest(name, allowed))
            )

    known("reference", spec.reference, list(spec.arms))
    known("pretrain.data", spec.pretrain.data, list(spec.data))
    for key, entry in spec.data.items():
        problems += _one_of(f"{where}, field data.{key}", make=entry.make, format=entry.format)
        _plugin(known, f"data.{key}.make", "world", entry.make)
        _plugin(known, f"data.{key}.format", "format", entry.format)
        if entry.make and entry.fields:
            extra = ", ".join(entry.fields)
            problems.append(InputError(f"{where}, field data.{key}", f"unknown field {extra}"))
    for key, arm in spec.arms.items():
        problems += _one_of(
            f"{where}, field arms.{key}", method=arm.method, checkpoint=arm.checkpoint
        )
        _plugin(known, f"arms.{key}.method", "method", arm.method)
        if arm.data:
            known(f"arms.{key}.data", arm.data, list(spec.data))
    for key, task in spec.tasks.items():
        known(f"tasks.{key}.data", task.data, list(spec.data))
        _plugin(known, f"tasks.{key}.task", "task", task.task)
    for key, analysis in spec.analyses.items():
        known(f"analyses.{key}.task", analysis.task, list(spec.tasks))
        _plugin(known, f"analyses.{key}.analysis", "analysis", analysis.analysis)
    if problems:
        raise InputErrors(problems)


def _plugin(known: Any, field: str, kind: str, name: str | None) -> None:
    if name and "." not in name:
        known(field, name, plugins.names(kind))


def _one_of(where: str, **choices: object) -> list[InputError]:
    given = [name for name, value in choices.items() if value is not None]
    if len(given) == 1:
        return []
    return [InputError(where, f"gives {' and '.join(given) or 'neither'}", " or ".join(choices))]


def _with_roots(spec: StudySpec, folder: Path) -> StudySpec:
    """Makes the paths of a study file independent of where the command was started."""
    data = {
        key: entry.model_copy(update={"root": str(folder / str(entry.fields["root"]))})
        if "root" in entry.fields
        else entry
        for key, entry in spec.data.items()
    }
    arms = {
        key: arm.model_copy(update={"checkpoint": folder / arm.checkpoint})
        if arm.checkpoint
        else arm
        for key, arm in spec.arms.items()
    }
    return spec.model_copy(update={"data": data, "arms": arms})
