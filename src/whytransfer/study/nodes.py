"""Runs one node of a study, in whatever process it was sent to."""

import contextlib
import faulthandler
import json
import multiprocessing
import multiprocessing.connection
import os
import shutil
import sys
import threading
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from whytransfer.core.errors import InputError
from whytransfer.core.stage import Execution
from whytransfer.core.store import Artifact, Store, open_artifact, write_text
from whytransfer.data import stage as data_stage
from whytransfer.data.dataset import Dataset
from whytransfer.diagnose import stage as diagnose_stage
from whytransfer.pretrain import stage as pretrain_stage
from whytransfer.pretrain.method import MethodConfig
from whytransfer.study.plan import Node
from whytransfer.transfer import selection
from whytransfer.transfer import stage as transfer_stage
from whytransfer.transfer.selection import Chosen
from whytransfer.transfer.task import UntrainedConfig

LOG = "node.log"
REASON = "reason.json"


@dataclass(frozen=True)
class Job:
    """All that another process needs to run a node: the node, and where its inputs lie."""

    node: Node
    inputs: dict[str, Path]
    store: Path
    execution: Execution


@dataclass(frozen=True)
class Outcome:
    """How a node ended: ``done``, or why not. ``user_error`` tells bad input from a crash."""

    key: str
    done: bool
    reason: str = ""
    user_error: bool = False


def run(job: Job) -> Outcome:
    """Runs a node; whatever it prints goes to its log, and a crash is recorded, not raised."""
    store = Store(job.store)
    fingerprint = job.node.step.fingerprint
    log = store.work(fingerprint) / LOG
    try:
        with _redirected(log):
            _compute(job, store)
    except InputError as error:
        return _failed(job, store, str(error), log, user_error=True)
    except Exception as error:
        with log.open("a", encoding="utf-8") as file:
            traceback.print_exc(file=file)
        return _failed(job, store, f"{type(error).__name__}: {error}", log)
    shutil.rmtree(store.failure(fingerprint), ignore_errors=True)  # of an earlier attempt
    return Outcome(job.node.key, done=True)


def _compute(job: Job, store: Store) -> Artifact:
    """Hands the node to its stage. The stages take different inputs; nothing else differs."""
    step, dataset = job.node.step, _dataset(job)
    how: Any = {"seed": step.seed or 0, "store": store, "execution": job.execution}
    if step.stage == "data":
        return data_stage.run(step.plugin, step.config, seed=step.seed or 0, store=store)
    if step.stage == "diagnose":
        subjects = list(_subjects(job))
        return diagnose_stage.run(step.plugin, subjects, dataset, step.config, store=store)
    if step.stage == "transfer":
        assert dataset is not None
        backbone = open_artifact(job.inputs["backbone"])
        task_config = cast(UntrainedConfig, step.config)
        config: UntrainedConfig | Chosen = task_config
        if selection.ROLE in job.inputs:
            config = Chosen(task_config, open_artifact(job.inputs[selection.ROLE]))
        return transfer_stage.run(step.plugin, backbone, dataset, config, **how)
    if step.stage == "select":
        return selection.run(step, [open_artifact(p) for p in job.inputs.values()], store)
    method_config = cast(MethodConfig, step.config)
    if job.node.checkpoint:
        return pretrain_stage.run_checkpoint(job.node.checkpoint, method_config, store=store)
    if "transfer" in job.inputs:
        trained = open_artifact(job.inputs["transfer"])
        return pretrain_stage.run_transfer(trained, method_config, store=store)
    if "backbone" in job.inputs:
        whole, seed = open_artifact(job.inputs["backbone"]), step.seed or 0
        return pretrain_stage.run_transplant(whole, method_config, seed=seed, store=store)
    return pretrain_stage.run(step.plugin, dataset, method_config, **how)


def _subjects(job: Job) -> Iterator[diagnose_stage.Subject]:
    against = _against(job)
    for role, path in job.inputs.items():
        if role != "data" and role not in job.node.against:
            arm, seed, variant = diagnose_stage.read_input_name(role)
            found, seen = open_artifact(path), tuple(against.get(arm, ()))
            yield diagnose_stage.Subject(arm, seed, found, variant, seen)


def _against(job: Job) -> dict[str, list[Dataset]]:
    """Opens what each arm was pretrained on, where the analysis reads it."""
    found: dict[str, list[Dataset]] = {}
    for role, used in job.node.against.items():
        opened = used.opened
        if opened is None:
            opened = data_stage.dataset(open_artifact(job.inputs[role]), used.reads)
        found.setdefault(diagnose_stage.read_against_name(role), []).append(opened)
    return found


def _dataset(job: Job) -> Dataset | None:
    if "data" in job.inputs:
        return data_stage.dataset(open_artifact(job.inputs["data"]), job.node.reads)
    return job.node.data


def _failed(job: Job, store: Store, reason: str, log: Path, *, user_error: bool = False) -> Outcome:
    outcome = Outcome(job.node.key, done=False, reason=reason, user_error=user_error)
    record_failure(store, job.node, outcome, log)
    return outcome


def record_failure(store: Store, node: Node, outcome: Outcome, log: Path) -> None:
    """Keeps why a node failed, and its log, until ``study retry`` takes them away."""
    folder = store.failure(node.step.fingerprint)
    folder.mkdir(parents=True, exist_ok=True)
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    write_text(folder / LOG, text)
    entry = {"key": node.key, "reason": outcome.reason, "user_error": outcome.user_error}
    write_text(folder / REASON, json.dumps(entry))


@contextlib.contextmanager
def _redirected(log: Path) -> Iterator[None]:
    """Sends the process's output to a file, of native code too, so that a crash leaves its trace.

    Only in a worker: in the user's own process (``slots=0``) the output stays where it is.
    """
    if multiprocessing.parent_process() is None:
        yield
        return
    with log.open("a", encoding="utf-8") as file:
        sys.stdout.flush()
        sys.stderr.flush()
        saved = os.dup(1), os.dup(2)
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        faulthandler.enable(file)
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            faulthandler.disable()
            for descriptor, number in zip(saved, (1, 2), strict=True):
                os.dup2(descriptor, number)
                os.close(descriptor)


def start_worker() -> None:
    """Prepares a worker process: it ends at once when the process that started it dies.

    Without this, a study killed with -9 would leave workers behind that hold its locks.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
