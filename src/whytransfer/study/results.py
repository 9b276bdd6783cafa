"""The result of a study: what its artifacts say, put together for the report and for programs."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from whytransfer.core import plugins
from whytransfer.core.fingerprint import fingerprint
from whytransfer.core.records import Comparison, Metric
from whytransfer.core.store import Artifact, Store, write_text
from whytransfer.diagnose.stage import read_finding
from whytransfer.pretrain.stage import CHECKPOINT
from whytransfer.report.content import (
    Choice,
    Curve,
    Failure,
    FindingResult,
    Provenance,
    Run,
    StudyResult,
    TaskResult,
    Tried,
)
from whytransfer.report.kept import FOLDER
from whytransfer.study import nodes, statistics
from whytransfer.study.nodes import Outcome
from whytransfer.study.plan import Node, Plan
from whytransfer.study.spec import ArmEntry
from whytransfer.transfer import selection
from whytransfer.transfer import stage as transfer_stage

TRAINING_LOG = "training.jsonl"
_CURVE_POINTS = 200


def collect(plan: Plan, store: Store, failed: dict[str, Outcome]) -> StudyResult:
    """Reads every finished artifact of a plan, compares the arms, and keeps the result.

    The result lies in ``STORE/studies/NAME.json``, from which a page is rebuilt without reading
    the artifacts again; as long as the artifacts are the same, it is not computed again either.
    """
    artifacts = {node.key: a for node in plan.nodes if (a := node.step.find(store))}
    kept = store.root / FOLDER / f"{plan.spec.name}.json"
    name = fingerprint(
        {
            "spec": plan.spec.model_dump(mode="json", exclude={"data", "expected_seconds"}),
            "artifacts": {key: a.fingerprint for key, a in artifacts.items()},
            "failed": {key: outcome.reason for key, outcome in failed.items()},
        }
    )
    if kept.exists() and (earlier := _read(kept))["fingerprint"] == name:
        return StudyResult.model_validate(earlier["result"])
    result = _collect(plan, store, artifacts, failed)
    kept.parent.mkdir(parents=True, exist_ok=True)
    write_text(kept, json.dumps({"fingerprint": name, "result": result.model_dump(mode="json")}))
    return result


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _collect(
    plan: Plan, store: Store, artifacts: dict[str, Artifact], failed: dict[str, Outcome]
) -> StudyResult:
    spec = plan.spec
    finished = [node for node in plan.nodes if node.key in artifacts]
    return StudyResult(
        name=spec.name,
        description=spec.description,
        caveats=tuple(filter(None, (*spec.caveats, spec.seeds_caveat))),
        assumed=spec.assumed,
        reference=spec.reference,
        seeds=spec.seeds,
        arms=tuple(spec.arms),
        arm_descriptions={name: _description(arm) for name, arm in spec.arms.items()},
        tasks=tuple(_task(name, plan, artifacts) for name in spec.tasks),
        findings=tuple(_findings(plan, artifacts)),
        curves=tuple(_curves(finished, artifacts)),
        provenance=tuple(
            Provenance(label=n.key, record=artifacts[n.key].record, folder=artifacts[n.key].path)
            for n in finished
        ),
        failures=tuple(_failure(plan[key], outcome, store) for key, outcome in failed.items()),
    )


def _description(arm: ArmEntry) -> str:
    if arm.transfer is None:
        return plugins.describe("method", arm.method or CHECKPOINT)
    task = plugins.describe("task", arm.transfer.task).removesuffix(".")
    return f"What {arm.transfer.task} made of {arm.transfer.method}. {task}."


def _task(name: str, plan: Plan, artifacts: dict[str, Artifact]) -> TaskResult:
    spec, entry = plan.spec, plan.spec.tasks[name]
    found = [
        (node, artifacts[node.key])
        for node in plan.of("transfer", task=name)
        if node.key in artifacts
    ]
    runs = tuple(
        Run(arm=node.labels["arm"], seed=node.labels["seed"], metrics=artifact.record.metrics)
        for node, artifact in found
    )
    comparisons: tuple[Comparison, ...] = ()
    if len({run.arm for run in runs}) > 1:
        scores = _scores(name, plan, found)
        comparisons = statistics.compare_all(scores, list(spec.arms), spec.reference)
    return TaskResult(
        name=name,
        plugin=entry.task,
        headline=entry.headline,
        description=plugins.describe("task", entry.task),
        runs=runs,
        comparisons=comparisons,
        choices=tuple(_choices(name, plan, artifacts)),
    )


def _choices(name: str, plan: Plan, artifacts: dict[str, Artifact]) -> Iterator[Choice]:
    for node in plan.of("select", task=name):
        if artifact := artifacts.get(node.key):
            found = selection.read(artifact)
            yield Choice(
                arm=node.labels["arm"],
                seed=node.labels["seed"],
                metric=found.metric,
                validation=found.validation,
                tried=tuple(
                    Tried(settings=c.settings, score=c.score, note=c.note) for c in found.candidates
                ),
                chosen=found.chosen,
                at_edge=found.at_edge,
            )


def _scores(name: str, plan: Plan, found: list[tuple[Node, Artifact]]) -> statistics.Scores:
    """Resamples every run of a task under the same draws of the test images."""
    headline = plan.spec.tasks[name].headline
    metrics: dict[tuple[str, int], Metric] = {}
    draws: dict[tuple[str, int], np.ndarray[Any, np.dtype[np.float64]]] = {}
    for node, artifact in found:
        key = node.labels["arm"], node.labels["seed"]
        metrics[key] = artifact.record[headline]
        draws[key] = transfer_stage.resample(artifact, plan.spec.num_draws)[headline]
    first = next(iter(metrics.values()))
    values = {key: metric.value for key, metric in metrics.items() if metric.value is not None}
    return statistics.Scores(
        task=name,
        metric=headline,
        unit=first.unit,
        num_images=first.n,
        values=values,
        draws={key: draws[key] for key in values},
        sampled=next((m.interval for m in metrics.values() if m.value is not None), "images"),
    )


def _findings(plan: Plan, artifacts: dict[str, Artifact]) -> Iterator[FindingResult]:
    for node in plan.of("diagnose"):
        if artifact := artifacts.get(node.key):
            yield FindingResult(
                name=node.labels["analysis"],
                task=node.labels["task"],
                finding=read_finding(artifact),
                folder=artifact.path,
            )


def _curves(finished: list[Node], artifacts: dict[str, Artifact]) -> Iterator[Curve]:
    for node in finished:
        artifact = artifacts[node.key]
        if (
            TRAINING_LOG not in artifact.manifest["files"]
            or {"grid", "variant"} & node.labels.keys()
        ):
            continue
        lines = artifact.file(TRAINING_LOG).read_text(encoding="utf-8").splitlines()
        stage, task = _place(node)
        rows = [json.loads(line) for line in lines]
        rows = rows[:: max(1, -(-len(rows) // _CURVE_POINTS))]
        for scalar in ("loss", "accuracy"):
            points = [(row["step"], row[scalar]) for row in rows if scalar in row]
            if points:
                yield Curve(
                    stage=stage,
                    arm=node.labels["arm"],
                    task=task,
                    seed=node.labels["seed"],
                    name=scalar,
                    steps=tuple(step for step, _ in points),
                    values=tuple(value for _, value in points),
                )


def _place(node: Node) -> tuple[str, str]:
    """Says under which stage and task a log is drawn; a transfer that made an arm has its own."""
    if node.step.stage == "transfer" and "task" not in node.labels:
        return "supervise", node.step.name
    return node.step.stage, node.labels.get("task", "")


def _failure(node: Node, outcome: Outcome, store: Store) -> Failure:
    log = store.failure(node.step.fingerprint) / nodes.LOG
    text = log.read_text(encoding="utf-8") if log.exists() else ""
    return Failure(label=node.key, reason=outcome.reason, log=text[-4000:])
