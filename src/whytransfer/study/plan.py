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
from whytransfer.core.errors import InputError, nearest
from whytransfer.core.stage import Step
from whytransfer.core.store import Store
from whytransfer.data import stage as data_stage
from whytransfer.data.dataset import Dataset, from_spec
from whytransfer.data.make import configure
from whytransfer.diagnose import stage as diagnose_stage
from whytransfer.diagnose.analysis import Variant
from whytransfer.pretrain import stage as pretrain_stage
from whytransfer.pretrain.method import TrainedConfig
from whytransfer.study.spec import AnalysisEntry, ArmEntry, StudySpec, SupervisionEntry, TaskEntry
from whytransfer.study.variants import varied
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
            ``grid/TASK/ARM/SEED/POINT`` for each point and ``select/TASK/ARM/SEED``. A further run
            that an analysis needs is ``variant/ANALYSIS/NAME/ARM/SEED``, and the backbone that is
            made for it ``transplant/...``; where another node is the same step, that one serves.
        needs: Role of each input → the key of the node that makes it.
        data: The user's own dataset, where the step reads one that no node makes.
        reads: Fields by which a dataset that a node makes is read otherwise than as made.
        checkpoint: The foreign file, for an arm that is one.
        labels: ``arm``, ``task``, ``analysis``, ``seed``: what the node is, for rows and reports;
            a point of a grid has ``grid`` and ``point`` in the place of ``task``, a further run
            ``analysis``, ``variant`` and ``of``, the key of the run that it differs from.
        against: Role → a dataset that an arm was pretrained on, as the analysis is to read it; one
            that a node makes is under the same role in ``needs``.
    """

    key: str
    step: Step
    needs: dict[str, str] = field(default_factory=dict)
    data: Dataset | None = None
    reads: dict[str, Any] = field(default_factory=dict)
    checkpoint: Path | None = None
    labels: dict[str, Any] = field(default_factory=dict)
    against: "dict[str, DataUse]" = field(default_factory=dict)


@dataclass(frozen=True)
class DataUse:
    """A dataset of the study: made by a node and read in some way, or opened already."""

    fingerprint: str
    made_by: str | None = None
    opened: Dataset | None = None
    reads: dict[str, Any] = field(default_factory=dict)

    def feed(self, node: Node) -> Node:
        """Returns the node with this dataset as its data."""
        needs = {**node.needs, "data": self.made_by} if self.made_by else node.needs
        return replace(node, needs=needs, data=self.opened, reads=self.reads)


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


class _Planner:
    """Carries what the four kinds of nodes know of each other while the graph is laid out."""

    def __init__(self, spec: StudySpec, store: Store) -> None:
        self.spec, self.store = spec, store
        self.limit = {} if spec.limit is None else {"limit": spec.limit}
        self.datasets: dict[str, DataUse] = {}
        self.backbones: dict[tuple[str, int], Node] = {}
        self.transfers: dict[str, list[Node]] = {}
        self.laid: dict[str, Node] = {}

    def nodes(self) -> Iterator[Node]:
        for node in self._nodes():
            self.laid.setdefault(node.step.fingerprint, node)
            yield node

    def _nodes(self) -> Iterator[Node]:
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
            yield from self._diagnose(name)

    def _data(self) -> Iterator[Node]:
        """Lays out the makers; a user's folder is read and hashed here, so it fails here."""
        for name, entry in self.spec.data.items():
            where = f"study {self.spec.name}, data.{name}"
            if entry.make:
                config = configure(entry.make, entry.config, where)
                step = data_stage.step_for(entry.make, config, entry.seed)
                key = f"data/{name}"
                made = data_stage.fingerprint_as_read(step.fingerprint, entry.read)
                self.datasets[name] = DataUse(made, key, reads=entry.read)
                yield Node(key, step, labels={"data": name, "seed": entry.seed})
            else:
                spec = {"format": entry.format, **entry.fields}
                dataset = from_spec(spec, self.store.root / data_stage.HASHES, where)
                self.datasets[name] = DataUse(dataset.fingerprint, opened=dataset)

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

    def _diagnose(self, name: str) -> Iterator[Node]:
        """Lays out an analysis, after the further runs that it needs."""
        entry = self.spec.analyses[name]
        where = f"study {self.spec.name}, analyses.{name}"
        config = diagnose_stage.resolve(entry.analysis, entry.config, where)
        runs = self._subjects(entry, where)
        data = self._looked_at(entry, where)
        roles = {diagnose_stage.input_name(n.labels["arm"], n.labels["seed"]): n for n in runs}
        for variant in diagnose_stage.variants_of(entry.analysis, config):
            if unknown := next((a for a in variant.except_for if a not in self.spec.arms), None):
                raise InputError(
                    f"{where}.config", f"no arm is called {unknown!r}",
                    f"one of {', '.join(self.spec.arms)}", nearest(unknown, self.spec.arms),
                )  # fmt: skip
            for run in runs:
                arm, seed = run.labels["arm"], run.labels["seed"]
                if arm not in variant.except_for:
                    *new, node = self._varied(name, variant, run)
                    roles[diagnose_stage.input_name(arm, seed, variant.name)] = node
                    yield from (*new, *([] if self._known(node) else [node]))
        against = self._against(entry, where)
        inputs = {role: run.step.fingerprint for role, run in roles.items()}
        inputs |= {role: used.fingerprint for role, used in against.items()}
        step = diagnose_stage.step_for(entry.analysis, config, inputs, data.fingerprint)
        needs = {role: run.key for role, run in roles.items()}
        needs |= {role: used.made_by for role, used in against.items() if used.made_by}
        labels = {"analysis": name, "task": entry.task or ""}
        key = f"diagnose/{name}"
        yield data.feed(Node(key, step, needs, labels=labels, against=against))

    def _known(self, node: Node) -> Node | None:
        """Returns the node that is the same step already, if there is one."""
        return self.laid.get(node.step.fingerprint)

    def _varied(self, name: str, variant: Variant, run: Node) -> Iterator[Node]:
        """Lays out a further run: its backbone where that is a new one, then the transfer.

        With a grid, it has the settings that were chosen for the run that it differs from. The
        last one may be known already: it is the node to read either way.
        """
        entry = self.spec.analyses[name]
        assert entry.task is not None
        where = f"study {self.spec.name}, analyses.{name}, variant {variant.name}"
        task = varied(self.spec.tasks[entry.task], variant, where)
        place = f"{name}/{variant.name}/{run.labels['arm']}/seed{run.labels['seed']}"
        labels = {k: run.labels[k] for k in ("arm", "seed")}
        labels |= {"analysis": name, "variant": variant.name, "of": run.key}
        seed, backbone = labels["seed"], self.backbones[labels["arm"], labels["seed"]]
        if variant.transplant:
            backbone = self._transplanted(f"transplant/{place}", variant, backbone, labels)
            if not self._known(backbone):
                yield backbone
        node = self._fine_tuning(f"variant/{place}", task, backbone, seed, where, labels)
        if chosen := run.needs.get(selection.ROLE):
            choice = run.step.inputs[selection.ROLE]
            inputs = backbone.step.fingerprint, node.step.inputs["data"]
            config = cast(TaskConfig, node.step.config)
            step = transfer_stage.step_for(task.task, *inputs, config, seed, choice)
            node = replace(node, step=step, needs={**node.needs, selection.ROLE: chosen})
        yield self._known(node) or node

    def _transplanted(
        self, key: str, variant: Variant, backbone: Node, labels: dict[str, Any]
    ) -> Node:
        where = f"study {self.spec.name}, {key}"
        config = pretrain_stage.resolve(pretrain_stage.TRANSPLANT, variant.transplant, where)
        print_ = backbone.step.fingerprint
        step = pretrain_stage.step_for_transplant(print_, config, labels["seed"])
        node = Node(key, step, {"backbone": backbone.key}, labels=labels)
        return self._known(node) or node

    def _against(self, entry: AnalysisEntry, where: str) -> dict[str, DataUse]:
        """Returns what each arm was pretrained on, where the analysis reads it."""
        if not diagnose_stage.reads_pretraining(entry.analysis):
            return {}
        return {
            diagnose_stage.against_name(arm, number): self.datasets[name]
            for arm in self.spec.arms
            for number, name in enumerate(self._pretrained_on(arm, entry.against, where))
        }

    def _pretrained_on(self, name: str, against: str | None, where: str) -> list[str]:
        """Lists the datasets whose training splits an arm saw; none where it was not trained."""
        arm = self.spec.arms[name]
        if arm.checkpoint:
            found = against or arm.data
            if found is None:
                raise InputError(
                    f"{where}.against", f"missing: nothing says what the checkpoint of {name} was "
                    "pretrained on", f"one of {', '.join(self.spec.data)}",
                    f"or give arms.{name}.data",
                )  # fmt: skip
            return [found]
        method = arm.transfer.method if arm.transfer else str(arm.method)
        trained = issubclass(plugins.find("method", method).Config, TrainedConfig)
        names = [arm.data or self.spec.pretrain.data] if trained else []
        names += [arm.transfer.data] if arm.transfer else []
        return [against] if names and against else names

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

    def _looked_at(self, entry: AnalysisEntry, where: str) -> DataUse:
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
