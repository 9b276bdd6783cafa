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
  detector:    {transfer: {task: voc07_detection, data: boxes, method: random_init}}
tasks:
  detection: {task: voc07_detection, data: boxes, headline: AP}
analyses:
  errors: {analysis: detection_errors, task: detection}
  collapse: {analysis: invariance, data: world}
  lengths: {analysis: convergence, task: detection}     # plans further runs by itself
  leaks: {analysis: leakage, task: detection, against: photos}

A task may have a grid of settings, whose winner is chosen on held-out training images:
``grid: {training.sgd.lr: [0.01, 0.02, 0.04]}`` with ``validation: 0.1``.

``base: other.yaml`` lays a file over another one beside it. A study at several scales has
``scales: {world: {...}, full: {...}}``, each merged over the rest of the file, and ``scale: world``
says which; on a command line, ``scale=full``.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import ConfigDict, Field, model_validator

from whytransfer.core import plugins
from whytransfer.core.config import Config, build, merge, override, read_yaml
from whytransfer.core.errors import InputError, InputErrors, nearest
from whytransfer.study import shipped

ENOUGH_SEEDS = 3
"""Below so many pretraining seeds nothing can be said of a method, only of its trained models."""

_NOT_SWEPT = ("validation", "limit", "num_draws")

_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$"


class DataEntry(Config):
    """A dataset: either made by the world (``make``), or a folder in a format (``format``).

    Further fields of a folder's format (``root``, ``classes``, ...) stand beside ``format``.

    Attributes:
        config: The maker's settings.
        read: Fields of the maker's format by which this study reads its files otherwise, such as a
            list of images.
    """

    model_config = ConfigDict(extra="allow")

    make: str | None = None
    format: str | None = None
    seed: int = 0
    config: dict[str, Any] = Field(default_factory=dict)
    read: dict[str, Any] = Field(default_factory=dict)

    @property
    def fields(self) -> dict[str, Any]:
        """The fields that belong to the format."""
        return dict(self.model_extra or {})


class PretrainEntry(Config):
    """What all arms share: the data they are pretrained on, and settings laid under their own.

    Attributes:
        config: Settings of every arm that trains.
        by_method: Method → settings that all its arms have beside those.
    """

    data: str
    config: dict[str, Any] = Field(default_factory=dict)
    by_method: dict[str, dict[str, Any]] = Field(default_factory=dict)


class SupervisionEntry(Config):
    """A transfer whose backbone, once fine-tuned, is an arm: supervision by boxes or masks.

    Attributes:
        task: A downstream task that fine-tunes the backbone.
        data: What it is trained on.
        config: The task's settings.
        method: The pretraining that it starts from; the arm's own ``config`` and ``data`` are that
            method's.
    """

    task: str
    data: str
    config: dict[str, Any] = Field(default_factory=dict)
    method: str = "random_init"


class ArmEntry(Config):
    """One pretraining: a ``method`` with its settings, a ``checkpoint`` file, or a ``transfer``."""

    method: str | None = None
    checkpoint: Path | None = None
    transfer: SupervisionEntry | None = None
    data: str | None = None
    config: dict[str, Any] = Field(default_factory=dict)


class TaskEntry(Config):
    """One downstream task; ``headline`` is the metric that arms are compared by.

    Attributes:
        grid: Dotted name of a setting → the values that are tried. For each arm and seed every
            combination is trained on part of the training split and scored on the rest; the best
            by the headline is then trained on all of it and scored on the test split.
        validation: Share of the training images that is held out for that choice.
    """

    task: str
    data: str
    headline: str
    config: dict[str, Any] = Field(default_factory=dict)
    grid: dict[str, tuple[Any, ...]] = Field(default_factory=dict)
    validation: float | None = Field(default=None, gt=0, lt=1)

    @model_validator(mode="after")
    def _grid_is_chosen_from(self) -> Self:
        if bool(self.grid) != (self.validation is not None):
            raise ValueError(
                "grid and validation go together: validation is the share of the training images "
                "on which the grid's winner is chosen"
            )
        for field, values in self.grid.items():
            if field in _NOT_SWEPT:
                raise ValueError(f"{field} is the same for all points of a grid")
            if not values:
                raise ValueError(f"grid.{field} has no values")
        return self


class AnalysisEntry(Config):
    """One analysis: of the runs of one task, or of the pretrained backbones of all arms.

    Attributes:
        task: Whose finished runs are read, and whose test images where ``data`` says no other. An
            analysis of backbones needs none.
        data: The images that the analysis looks at.
        against: What the arms were pretrained on, where it is not what the study says of each: an
            arm's own ``data``, which a checkpoint may have, too. Of arms that were not trained:
            nothing.
    """

    analysis: str
    task: str | None = None
    data: str | None = None
    against: str | None = None
    config: dict[str, Any] = Field(default_factory=dict)


class StudySpec(Config):
    """A whole study.

    Attributes:
        scale: Which of the file's ``scales`` this is; it is part of the name.
        caveats: What this study's budget can and cannot show; the report's first screen says it,
            and by itself what a small number of seeds means.
        assumed: Choices that the paper leaves open and no plug-in's field declares: what → why.
        reference: The arm that differences are shown against.
        limit: Keep only this many images of every split (a smoke run); changes fingerprints.
        num_draws: Bootstrap draws behind every interval of the comparisons.
        expected_seconds: Node key, or the beginning of one → seconds it took where it was
            measured; the plan's estimate until this store has timings of its own.
    """

    name: str = Field(pattern=_NAME)
    description: str = ""
    scale: str | None = None
    caveats: tuple[str, ...] = ()
    assumed: dict[str, str] = Field(default_factory=dict)
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

    @property
    def seeds_caveat(self) -> str | None:
        """What can't be concluded from so few seeds; ``None`` with enough of them."""
        if len(self.seeds) >= ENOUGH_SEEDS:
            return None
        one = len(self.seeds) == 1
        return (
            f"{'One pretraining seed' if one else f'{len(self.seeds)} pretraining seeds'}: this "
            "proves the path; no conclusion about the methods below three pretraining seeds. "
            "Intervals are over test images and speak of these fixed models only."
        )


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
    spec = build(StudySpec, _at_scale(_with_base(path), overrides, str(path)), str(path))
    _check_names(spec, str(path))
    return _with_roots(spec, path.parent)


def _with_base(path: Path) -> dict[str, Any]:
    values = read_yaml(path)
    base = values.pop("base", None)
    return values if base is None else merge(read_yaml(path.parent / str(base)), values)


def _at_scale(file: Mapping[str, Any], overrides: tuple[str, ...], where: str) -> dict[str, Any]:
    """Lays the chosen scale over the file, and the overrides over both."""
    scales = file.get("scales")
    if scales is None:
        return override(file, overrides)
    scale = str(override(file, overrides).get("scale"))
    if not isinstance(scales, Mapping) or not isinstance(scales.get(scale), Mapping):
        known = [str(name) for name in scales] if isinstance(scales, Mapping) else []
        raise InputError(
            f"{where}, field scale", f"no scale {scale!r} under scales",
            f"one of {', '.join(known)}", nearest(scale, known),
        )  # fmt: skip
    rest = {key: value for key, value in file.items() if key != "scales"}
    merged = merge(merge(rest, scales[scale]), {"scale": scale})
    return override(merged | {"name": f"{merged.get('name')}_{scale}"}, overrides)


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
    for method in spec.pretrain.by_method:
        _plugin(known, f"pretrain.by_method.{method}", "method", method)
    for key, entry in spec.data.items():
        problems += _one_of(f"{where}, field data.{key}", make=entry.make, format=entry.format)
        _plugin(known, f"data.{key}.make", "world", entry.make)
        _plugin(known, f"data.{key}.format", "format", entry.format)
        if entry.make and entry.fields:
            extra = ", ".join(entry.fields)
            problems.append(InputError(f"{where}, field data.{key}", f"unknown field {extra}"))
        if entry.format and entry.read:
            problems.append(
                InputError(
                    f"{where}, field data.{key}.read",
                    "goes with make",
                    "no read",
                    "put the fields beside format",
                )
            )
    for key, arm in spec.arms.items():
        problems += _one_of(
            f"{where}, field arms.{key}",
            method=arm.method, checkpoint=arm.checkpoint, transfer=arm.transfer,
        )  # fmt: skip
        _check_arm(known, key, arm, list(spec.data))
    for key, task in spec.tasks.items():
        known(f"tasks.{key}.data", task.data, list(spec.data))
        _plugin(known, f"tasks.{key}.task", "task", task.task)
    for key, analysis in spec.analyses.items():
        if analysis.task:
            known(f"analyses.{key}.task", analysis.task, list(spec.tasks))
        if analysis.data:
            known(f"analyses.{key}.data", analysis.data, list(spec.data))
        if analysis.against:
            known(f"analyses.{key}.against", analysis.against, list(spec.data))
        _plugin(known, f"analyses.{key}.analysis", "analysis", analysis.analysis)
    if problems:
        raise InputErrors(problems)


def _check_arm(known: Any, key: str, arm: ArmEntry, data: list[str]) -> None:
    _plugin(known, f"arms.{key}.method", "method", arm.method)
    if arm.data:
        known(f"arms.{key}.data", arm.data, data)
    if arm.transfer:
        _plugin(known, f"arms.{key}.transfer.method", "method", arm.transfer.method)
        _plugin(known, f"arms.{key}.transfer.task", "task", arm.transfer.task)
        known(f"arms.{key}.transfer.data", arm.transfer.data, data)


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
        if "root" in entry.fields and "://" not in str(entry.fields["root"])
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
