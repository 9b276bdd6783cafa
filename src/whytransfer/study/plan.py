"""The plan: a study as a graph of steps, made without running any of them.

Every step's fingerprint follows from its configuration and the fingerprints of its inputs, so the
plan knows what the store already holds, what two studies share, and what is left to do.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from whytransfer.core import plugins
from whytransfer.core.config import merge, to_plain
from whytransfer.core.errors import InputError
from whytransfer.core.stage import Step
from whytransfer.core.store import Store
from whytransfer.data import stage as data_stage
from whytransfer.data.dataset import Dataset, from_spec
from whytransfer.data.make import configure
from whytransfer.diagnose import stage as diagnose_stage
from whytransfer.pretrain import stage as pretrain_stage
from whytransfer.study.spec import AnalysisEntry, ArmEntry, StudySpec, SupervisionEntry, TaskEntry
from whytransfer.transfer import selection
from whytransfer.transfer import stage as transfer_stage
from whytransfer.transfer.task import TaskConfig


@dataclass(frozen=True)
class Node:
    """One step of a study.

    Attributes:
        key: Unique within the study, such as ``transfer/detection/moco_v2/seed0``. An arm that is
            a transfer's backbone has ``start/ARM`` (unless another arm is the same network),
            ``supervise/ARM`` and ``pretrain/ARM``, in this order. A task with a grid has
            ``grid/TASK/ARM/SEED/POINT`` for each point and ``select/TASK/ARM/SEED``.
        needs: Role of each input → the key of the node that makes it.
        data: The user's own dataset, where the step reads one that no node makes.
        reads: Fields by which a dataset that a node makes is read otherwise than as made.
        checkpoint: The foreign file, for an arm that is one.
        labels: ``arm``, ``task``, ``analysis``, ``seed``: what the node is, for rows and reports;
            a point of a grid has ``grid`` and ``point`` in the place of ``task``.
    """

    key: str
    step: Step
    needs: dict[str, str] = field(default_factory=dict)
    data: Dataset | None = None
    reads: dict[str, Any] = field(default_factory=dict)
    checkpoint: Path | None = None
    labels: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """The graph, in an order in which every node stands behind its inputs."""

    spec: StudySpec
    nodes: tuple[Node, ...]

    def __getitem__(self, key: str) -> Node:
        return next(node for node in self.nodes if node.key == key)

    def of(self, stage: str, **labels: Any) -> Iterator[Node]:
        """Yields the nodes of a stage whose labels have the values given."""
        for node in self.nodes:
            wanted = all(node.labels.get(name) == value for name, value in labels.items())
            if node.step.stage == stage and wanted:
                yield node

    def missing(self, store: Store) -> list[Node]:
        """Lists what is still to be computed; looks at names only, reads no payload."""
        return [
            node
            for node in self.nodes
            if not store.has(node.step.stage, node.step.name, node.step.fingerprint)
        ]


def make(spec: StudySpec, store: Store) -> Plan:
    """Plans a study.

    Raises:
        InputError: A setting, a dataset or a checkpoint can't be used; nothing was started.
    """
    return Plan(spec, tuple(_Planner(spec, store).nodes()))


@dataclass(frozen=True)
class _Data:
    """A dataset of the study: made by a node and read in some way, or opened already."""

    fingerprint: str
    made_by: str | None = None
    opened: Dataset | None = None
    reads: dict[str, Any] = field(default_factory=dict)

    def feed(self, node: Node) -> Node:
        """Returns the node with this dataset as its data."""
        needs = {**node.needs, "data": self.made_by} if self.made_by else node.needs
        return replace(node, needs=needs, data=self.opened, reads=self.reads)


class _Planner:
    """Carries what the four kinds of nodes know of each other while the graph is laid out."""

    def __init__(self, spec: StudySpec, store: Store) -> None:
        self.spec, self.store = spec, store
        self.limit = {} if spec.limit is None else {"limit": spec.limit}
        self.datasets: dict[str, _Data] = {}
        self.backbones: dict[tuple[str, int], Node] = {}
        self.transfers: dict[str, list[Node]] = {}

    def nodes(self) -> Iterator[Node]:
        yield from self._data()
        for seed in self.spec.seeds:
            # What a transfer starts from is often an arm already, so those come first.
            for name, arm in sorted(self.spec.arms.items(), key=lambda a: bool(a[1].transfer)):
                if arm.transfer:
                    yield from self._supervised(name, arm, arm.transfer, seed)
                else:
                    self.backbones[name, seed] = node = self._pretrain(name, arm, seed)
                    yield node
        for task in self.spec.tasks:
            self.transfers[task] = []
            for seed, name in itertools.product(self.spec.seeds, self.spec.arms):
                *before, final = self._transfer(task, name, seed)
                self.transfers[task].append(final)
                yield from (*before, final)
        for name in self.spec.analyses:
            yield self._diagnose(name)

    def _data(self) -> Iterator[Node]:
        """Lays out the makers; a user's folder is read and hashed here, so it fails here."""
        for name, entry in self.spec.data.items():
            where = f"study {self.spec.name}, data.{name}"
            if entry.make:
                config = configure(entry.make, entry.config, where)
                step = data_stage.step_for(entry.make, config, entry.seed)
                key = f"data/{name}"
                made = data_stage.fingerprint_as_read(step.fingerprint, entry.read)
                self.datasets[name] = _Data(made, key, reads=entry.read)
                yield Node(key, step, labels={"data": name, "seed": entry.seed})
            else:
                spec = {"format": entry.format, **entry.fields}
                dataset = from_spec(spec, self.store.root / data_stage.HASHES, where)
                self.datasets[name] = _Data(dataset.fingerprint, opened=dataset)

    def _pretrain(self, name: str, arm: ArmEntry, seed: int) -> Node:
        where = f"study {self.spec.name}, arms.{name}"
        shared = self.spec.pretrain
        common = merge(shared.config, shared.by_method.get(str(arm.method), {}))
        values = merge(merge(common, arm.config), self.limit)
        labels = {"arm": name, "seed": seed}
        key = f"pretrain/{name}/seed{seed}"
        if arm.checkpoint:
            config = pretrain_stage.resolve(pretrain_stage.CHECKPOINT, arm.config, where)
            step = pretrain_stage.step_for_checkpoint(arm.checkpoint, config)
            return Node(key, step, checkpoint=arm.checkpoint, labels=labels)
        method = str(arm.method)
        config = pretrain_stage.resolve(method, values, where)
        data = self.datasets[arm.data or self.spec.pretrain.data]
        step = pretrain_stage.step_for(method, data.fingerprint, config, seed)
        return data.feed(Node(key, step, labels=labels))

    def _supervised(
        self, name: str, arm: ArmEntry, supervision: SupervisionEntry, seed: int
    ) -> Iterator[Node]:
        """Lays out an arm that is what a task makes of a backbone: start, transfer, backbone."""
        where = f"study {self.spec.name}, arms.{name}.transfer"
        config = transfer_stage.resolve(supervision.task, supervision.config, where)
        if not plugins.find("task", supervision.task).Task.fine_tunes(config):
            raise InputError(
                f"{where}.task", f"{supervision.task} does not fine-tune the backbone",
                "a task that trains all layers, such as voc07_detection",
            )  # fmt: skip
        begun = self._pretrain(name, arm.model_copy(update={"method": supervision.method}), seed)
        start = self._same(begun) or replace(begun, key=f"start/{name}/seed{seed}")
        if start.key.startswith("start/"):
            yield start
        labels = {"arm": name, "seed": seed}
        key = f"supervise/{name}/seed{seed}"
        trained = self._fine_tuning(key, supervision, start, seed, where, labels)
        yield trained
        taking = pretrain_stage.resolve(pretrain_stage.FROM_TRANSFER, {}, where)
        step = pretrain_stage.step_for_transfer(trained.step.fingerprint, taking, seed)
        needs = {"transfer": trained.key}
        taken = Node(f"pretrain/{name}/seed{seed}", step, needs, labels=labels)
        self.backbones[name, seed] = taken
        yield taken

    def _same(self, node: Node) -> Node | None:
        """Returns the arm that is the same network already, if there is one."""
        found = self.backbones.values()
        return next((n for n in found if n.step.fingerprint == node.step.fingerprint), None)

    def _transfer(self, name: str, arm: str, seed: int) -> Iterator[Node]:
        """Lays out a task on an arm; with a grid its points and the choice, then the transfer."""
        where = f"study {self.spec.name}, tasks.{name}"
        labels = {"arm": arm, "task": name, "seed": seed}
        backbone, entry = self.backbones[arm, seed], self.spec.tasks[name]
        key = f"transfer/{name}/{arm}/seed{seed}"
        final = self._fine_tuning(key, entry, backbone, seed, where, labels)
        if not entry.grid:
            yield final
            return
        points = list(self._points(name, backbone, labels, f"{where}.grid"))
        select = self._select(name, points, labels)
        data = self.datasets[entry.data]
        inputs = backbone.step.fingerprint, data.fingerprint
        config = cast(TaskConfig, final.step.config)
        step = transfer_stage.step_for(entry.task, *inputs, config, seed, select.step.fingerprint)
        needs = {**final.needs, selection.ROLE: select.key}
        yield from (*points, select, replace(final, step=step, needs=needs))

    def _points(
        self, name: str, backbone: Node, labels: dict[str, Any], where: str
    ) -> Iterator[Node]:
        """Lays out the transfer at each point of a task's grid, scored on held-out images."""
        entry, seed = self.spec.tasks[name], labels["seed"]
        rest = {"arm": labels["arm"], "seed": seed, "grid": name}
        keys: set[str] = set()
        for settings in selection.grid_points(entry.grid):
            values = merge(selection.overrides(settings), {"validation": entry.validation})
            tried = entry.model_copy(update={"config": merge(entry.config, values)})
            node = self._fine_tuning("", tried, backbone, seed, where, rest)
            point = {field: _value(node.step.config, field) for field in settings}
            key = f"grid/{name}/{labels['arm']}/seed{seed}/{selection.written(point)}"
            if key in keys:
                raise InputError(
                    where, f"{selection.written(point)} stands twice", "each value once"
                )
            keys.add(key)
            yield replace(node, key=key, labels={**rest, "point": point})

    def _select(self, name: str, points: Sequence[Node], labels: dict[str, Any]) -> Node:
        entry = self.spec.tasks[name]
        assert entry.validation is not None
        config = selection.SelectionConfig(
            metric=entry.headline,
            validation=entry.validation,
            points=tuple(node.labels["point"] for node in points),
        )
        runs = [node.step.fingerprint for node in points]
        step = selection.step_for(entry.task, config, runs, labels["seed"])
        needs = {role: node.key for role, node in zip(step.inputs, points, strict=True)}
        key = f"select/{name}/{labels['arm']}/seed{labels['seed']}"
        return Node(key, step, needs, labels=labels)

    def _fine_tuning(
        self,
        key: str,
        entry: TaskEntry | SupervisionEntry,
        backbone: Node,
        seed: int,
        where: str,
        labels: dict[str, Any],
    ) -> Node:
        config = transfer_stage.resolve(entry.task, merge(entry.config, self.limit), where)
        data = self.datasets[entry.data]
        step = transfer_stage.step_for(
            entry.task, backbone.step.fingerprint, data.fingerprint, config, seed
        )
        return data.feed(Node(key, step, {"backbone": backbone.key}, labels=labels))

    def _diagnose(self, name: str) -> Node:
        entry = self.spec.analyses[name]
        where = f"study {self.spec.name}, analyses.{name}"
        config = diagnose_stage.resolve(entry.analysis, entry.config, where)
        runs = self._subjects(entry, where)
        data = self._looked_at(entry, where)
        roles = {
            diagnose_stage.input_name(run.labels["arm"], run.labels["seed"]): run for run in runs
        }
        inputs = {role: run.step.fingerprint for role, run in roles.items()}
        step = diagnose_stage.step_for(entry.analysis, config, inputs, data.fingerprint)
        needs = {role: run.key for role, run in roles.items()}
        labels = {"analysis": name, "task": entry.task or ""}
        return data.feed(Node(f"diagnose/{name}", step, needs, labels=labels))

    def _subjects(self, entry: AnalysisEntry, where: str) -> list[Node]:
        """Returns what an analysis reads: every arm's backbone, or its runs of a task."""
        if diagnose_stage.kind_of(entry.analysis) == "backbones":
            return list(self.backbones.values())
        if entry.task is None:
            raise InputError(
                f"{where}.task", f"missing: {entry.analysis} reads the runs of a task",
                f"one of {', '.join(self.spec.tasks)}",
            )  # fmt: skip
        return self.transfers[entry.task]

    def _looked_at(self, entry: AnalysisEntry, where: str) -> _Data:
        name = entry.data or (self.spec.tasks[entry.task].data if entry.task else None)
        if name is None:
            raise InputError(
                f"{where}.data", "missing: nothing says which images are looked at",
                f"one of {', '.join(self.spec.data)}",
            )  # fmt: skip
        return self.datasets[name]


def _value(config: Any, path: str) -> Any:
    """Returns the value of a setting by its dotted name, as plain data."""
    found: Any = to_plain(config)
    for part in path.split("."):
        found = found[part]
    return found
