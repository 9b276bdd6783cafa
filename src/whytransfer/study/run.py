"""Runs a plan: what is ready, on whatever slot is free; a crash stops only what needed it."""

import json
import shutil
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, NamedTuple

from whytransfer.core.stage import Execution
from whytransfer.core.store import Store
from whytransfer.study import nodes
from whytransfer.study.executors import MakeExecutor, local
from whytransfer.study.nodes import Job, Outcome
from whytransfer.study.plan import Node, Plan

State = Literal["cached", "started", "running", "done", "failed", "skipped"]
_PULSE_SECONDS = 15.0


@dataclass(frozen=True)
class Event:
    """Something a person watching would want to read.

    ``text`` is the last line of the node's log while it runs, or the reason why it did not finish.
    """

    state: State
    key: str
    text: str = ""
    seconds: float = 0.0
    num_left: int = 0


Watch = Callable[[Event], None]


@dataclass
class _Slot:
    """One executor and the node that it is busy with."""

    make: MakeExecutor
    executor: Executor
    node: Node | None = None
    future: Future[Outcome] | None = None
    started: float = 0.0

    def renew(self) -> None:
        """Replaces an executor whose process died."""
        self.executor.shutdown(wait=False, cancel_futures=True)
        self.executor = self.make()


@dataclass
class _Progress:
    """Which nodes have finished, failed, or wait."""

    done: set[str] = field(default_factory=set)
    failed: dict[str, Outcome] = field(default_factory=dict)
    waiting: list[Node] = field(default_factory=list)


def run(
    plan: Plan,
    store: Store,
    *,
    num_slots: int,
    execution: Execution | None = None,
    make_executor: MakeExecutor = local,
    watch: Watch = lambda event: None,
) -> dict[str, Outcome]:
    """Computes what the store lacks of a plan, and returns the nodes that did not finish.

    Args:
        num_slots: Nodes that run at the same time.
        watch: Told of every start and end, and every few seconds how a running node stands.

    Returns:
        Key → outcome of each node that failed or could not run because one that it needs failed;
        empty when everything is there. A node that crashed in an earlier run is not tried again
        until :func:`retry` has taken its record away; one that was given bad input is, since the
        input may have been mended.
    """
    execution = execution or Execution()
    progress = _sort(plan, store, watch)
    num_slots = min(num_slots, len(progress.waiting))
    slots = [_Slot(make_executor, make_executor()) for _ in range(num_slots)]
    try:
        while progress.waiting or any(slot.future for slot in slots):
            _skip_hopeless(progress, watch)
            for slot in (slot for slot in slots if slot.future is None):
                _feed(slot, progress, watch, lambda node: _job(node, plan, store, execution))
            _collect(slots, progress, store, watch)
    finally:
        for slot in slots:
            slot.executor.shutdown(wait=True, cancel_futures=True)
    return progress.failed


def _sort(plan: Plan, store: Store, watch: Watch) -> _Progress:
    """Tells what is cached, what failed before, and what is to be done."""
    progress = _Progress()
    missing = {node.key for node in plan.missing(store)}
    for node in plan.nodes:
        if node.key not in missing:
            progress.done.add(node.key)
            watch(Event("cached", node.key))
        elif (earlier := failure(store, node)) and not earlier.user_error:
            reason = f"failed in an earlier run ({earlier.reason}); `study retry` tries it again"
            progress.failed[node.key] = replace(earlier, reason=reason)
            watch(Event("failed", node.key, reason))
        else:
            progress.waiting.append(node)
    return progress


def failure(store: Store, node: Node) -> Outcome | None:
    """Reads the record of a node that failed in an earlier run."""
    path = store.failure(node.step.fingerprint) / nodes.REASON
    if not path.exists():
        return None
    entry = json.loads(path.read_text(encoding="utf-8"))
    return Outcome(node.key, done=False, reason=entry["reason"], user_error=entry["user_error"])


def retry(plan: Plan, store: Store) -> list[str]:
    """Forgets the failures of a plan's nodes, so that the next run tries them again."""
    cleared = []
    for node in plan.nodes:
        if failure(store, node):
            shutil.rmtree(store.failure(node.step.fingerprint))
            cleared.append(node.key)
    return cleared


def _skip_hopeless(progress: _Progress, watch: Watch) -> None:
    """Takes out the nodes that need one which failed, and in turn those that need them."""
    for node in list(progress.waiting):
        lost = [key for key in node.needs.values() if key in progress.failed]
        if lost:
            progress.waiting.remove(node)
            outcome = Outcome(
                node.key, done=False, reason=f"not run, because {lost[0]} did not finish",
                user_error=progress.failed[lost[0]].user_error,
            )  # fmt: skip
            progress.failed[node.key] = outcome
            watch(Event("skipped", node.key, outcome.reason))


def _next_ready(progress: _Progress) -> Node | None:
    for node in progress.waiting:
        if all(key in progress.done for key in node.needs.values()):
            progress.waiting.remove(node)
            return node
    return None


def _feed(slot: _Slot, progress: _Progress, watch: Watch, job_of: Callable[[Node], Job]) -> None:
    """Gives a free slot the first node whose inputs are all there, if there is one."""
    if node := _next_ready(progress):
        slot.node, slot.started = node, time.monotonic()
        slot.future = slot.executor.submit(nodes.run, job_of(node))
        watch(Event("started", node.key, num_left=len(progress.waiting)))


def _job(node: Node, plan: Plan, store: Store, execution: Execution) -> Job:
    inputs = {role: _path(plan[key], store) for role, key in node.needs.items()}
    return Job(node, inputs, store.root, execution)


def _path(node: Node, store: Store) -> Path:
    return store.path(node.step.stage, node.step.name, node.step.fingerprint)


def _collect(slots: list[_Slot], progress: _Progress, store: Store, watch: Watch) -> None:
    """Waits until a node ends, or for one pulse, and takes note of what ended."""
    futures = [slot.future for slot in slots if slot.future]
    if not futures:
        return
    wait(futures, timeout=_PULSE_SECONDS, return_when=FIRST_COMPLETED)
    for slot in slots:
        if slot.node is None or slot.future is None:
            continue
        seconds = time.monotonic() - slot.started
        if not slot.future.done():
            watch(Event("running", slot.node.key, _last_line(store, slot.node), seconds))
            continue
        outcome = _outcome(slot, slot.node, store)
        if outcome.done:
            progress.done.add(outcome.key)
            watch(Event("done", outcome.key, seconds=seconds, num_left=len(progress.waiting)))
        else:
            progress.failed[outcome.key] = outcome
            watch(Event("failed", outcome.key, outcome.reason, seconds))
        slot.node = slot.future = None


def _outcome(slot: _Slot, node: Node, store: Store) -> Outcome:
    """Reads how a node ended; a process that died without a word is a crash of its node."""
    assert slot.future is not None
    try:
        return slot.future.result()
    except Exception as error:
        reason = f"its process died ({type(error).__name__}): killed, or out of memory"
        outcome = Outcome(node.key, done=False, reason=reason)
        nodes.record_failure(store, node, outcome, store.work(node.step.fingerprint) / nodes.LOG)
        slot.renew()
        return outcome


def _last_line(store: Store, node: Node) -> str:
    log = store.work_path(node.step.fingerprint) / nodes.LOG
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


class NodeStatus(NamedTuple):
    """How one node stands, and what there is to say of it."""

    key: str
    state: Literal["done", "failed", "begun", "to do"]
    text: str


def status(plan: Plan, store: Store) -> list[NodeStatus]:
    """Says how every node of a plan stands, without running anything."""
    missing = {node.key for node in plan.missing(store)}
    states = []
    for node in plan.nodes:
        if node.key not in missing:
            states.append(NodeStatus(node.key, "done", ""))
        elif earlier := failure(store, node):
            states.append(NodeStatus(node.key, "failed", earlier.reason))
        elif store.work_path(node.step.fingerprint).exists():
            states.append(NodeStatus(node.key, "begun", _last_line(store, node)))
        else:
            states.append(NodeStatus(node.key, "to do", ""))
    return states
