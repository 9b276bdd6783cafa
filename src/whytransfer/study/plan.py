"""The plan: a study as a graph of steps, made without running any of them.

Every step's fingerprint follows from its configuration and the fingerprints of its inputs, so the
plan knows what the store already holds, what two studies share, and what is left to do.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from whytransfer.core.config import merge
from whytransfer.core.stage import Step
from whytransfer.core.store import Store
from whytransfer.data import stage as data_stage
from whytransfer.data.dataset import Dataset, from_spec
from whytransfer.data.make import configure
from whytransfer.diagnose import stage as diagnose_stage
from whytransfer.pretrain import stage as pretrain_stage
from whytransfer.study.spec import ArmEntry, StudySpec
from whytransfer.transfer import stage as transfer_stage


@dataclass(frozen=True)
class Node:
    """One step of a study.

    Attributes:
        key: Unique within the study, such as ``transfer/detection/moco_v2/seed0``.
        needs: Role of each input → the key of the node that makes it.
        data: The user's own dataset, where the step reads one that no node makes.
        checkpoint: The foreign file, for an arm that is one.
        labels: ``arm``, ``task``, ``analysis``, ``seed``: what the node is, for rows and reports.
    """

    key: str
    step: Step
    needs: dict[str, str] = field(default_factory=dict)
    data: Dataset | None = None
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


class _Planner:
    """Carries what the four kinds of nodes know of each other while the graph is laid out."""

    def __init__(self, spec: StudySpec, store: Store) -> None:
        self.spec, self.store = spec, store
        self.limit = {} if spec.limit is None else {"limit": spec.limit}
        self.datasets: dict[str, tuple[str, str | None, Dataset | None]] = {}
        self.backbones: dict[tuple[str, int], Node] = {}
        self.transfers: dict[str, list[Node]] = {}

    def nodes(self) -> Iterator[Node]:
        yield from self._data()
        for seed in self.spec.seeds:
            for name, arm in self.spec.arms.items():
                self.backbones[name, seed] = node = self._pretrain(name, arm, seed)
                yield node
        for task in self.spec.tasks:
            self.transfers[task] = [
                self._transfer(task, arm, seed)
                for seed in self.spec.seeds
                for arm in self.spec.arms
            ]
            yield from self.transfers[task]
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
                self.datasets[name] = step.fingerprint, key, None
                yield Node(key, step, labels={"data": name, "seed": entry.seed})
            else:
                spec = {"format": entry.format, **entry.fields}
                dataset = from_spec(spec, self.store.root / data_stage.HASHES, where)
                self.datasets[name] = dataset.fingerprint, None, dataset

    def _pretrain(self, name: str, arm: ArmEntry, seed: int) -> Node:
        where = f"study {self.spec.name}, arms.{name}"
        values = merge(merge(self.spec.pretrain.config, arm.config), self.limit)
        labels = {"arm": name, "seed": seed}
        key = f"pretrain/{name}/seed{seed}"
        if arm.checkpoint:
            config = pretrain_stage.resolve(pretrain_stage.CHECKPOINT, arm.config, where)
            step = pretrain_stage.step_for_checkpoint(arm.checkpoint, config)
            return Node(key, step, checkpoint=arm.checkpoint, labels=labels)
        method = str(arm.method)
        config = pretrain_stage.resolve(method, values, where)
        fingerprint, made_by, dataset = self.datasets[arm.data or self.spec.pretrain.data]
        step = pretrain_stage.step_for(method, fingerprint, config, seed)
        needs = {"data": made_by} if made_by else {}
        return Node(key, step, needs, dataset, labels=labels)

    def _transfer(self, name: str, arm: str, seed: int) -> Node:
        entry = self.spec.tasks[name]
        where = f"study {self.spec.name}, tasks.{name}"
        config = transfer_stage.resolve(entry.task, merge(entry.config, self.limit), where)
        fingerprint, made_by, dataset = self.datasets[entry.data]
        backbone = self.backbones[arm, seed]
        step = transfer_stage.step_for(
            entry.task, backbone.step.fingerprint, fingerprint, config, seed
        )
        needs = {"backbone": backbone.key} | ({"data": made_by} if made_by else {})
        labels = {"arm": arm, "task": name, "seed": seed}
        return Node(f"transfer/{name}/{arm}/seed{seed}", step, needs, dataset, labels=labels)

    def _diagnose(self, name: str) -> Node:
        entry = self.spec.analyses[name]
        where = f"study {self.spec.name}, analyses.{name}"
        config = diagnose_stage.resolve(entry.analysis, entry.config, where)
        runs = self.transfers[entry.task]
        roles = {
            diagnose_stage.input_name(run.labels["arm"], run.labels["seed"]): run for run in runs
        }
        inputs = {role: run.step.fingerprint for role, run in roles.items()}
        step = diagnose_stage.step_for(entry.analysis, config, inputs)
        _, made_by, dataset = self.datasets[self.spec.tasks[entry.task].data]
        needs = {role: run.key for role, run in roles.items()}
        labels = {"analysis": name, "task": entry.task}
        return Node(
            f"diagnose/{name}", step, needs | ({"data": made_by} if made_by else {}), dataset,
            labels=labels,
        )  # fmt: skip
