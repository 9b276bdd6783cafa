"""The diagnose stage: an analysis reads finished runs from disk and answers one question."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from whytransfer.core import plugins
from whytransfer.core.config import build
from whytransfer.core.errors import InputError
from whytransfer.core.records import Finding, Metric
from whytransfer.core.stage import Step, materialise
from whytransfer.core.store import Artifact, Store, write_text
from whytransfer.data.dataset import Dataset
from whytransfer.data.predictions import read_detections, read_truth
from whytransfer.diagnose.analysis import DetectionRun

FINDING = "finding.json"


@dataclass(frozen=True)
class Subject:
    """A finished transfer, as the analysis is to call it."""

    arm: str
    seed: int
    artifact: Artifact


def resolve(analysis: str, values: Mapping[str, Any], where: str) -> BaseModel:
    """Checks settings against an analysis' ``Config``; raises all problems at once."""
    config: BaseModel = build(plugins.find("analysis", analysis).Config, values, where)
    return config


def step_for(analysis: str, config: BaseModel, inputs: Mapping[str, str]) -> Step:
    """Says what is to be answered; ``inputs`` maps ``arm/seed`` to the transfer's fingerprint."""
    return Step(stage="diagnose", plugin=analysis, config=config, inputs=inputs)


def input_name(arm: str, seed: int) -> str:
    """Names a run among the inputs of an analysis."""
    return f"{arm}/seed{seed}"


def read_input_name(name: str) -> tuple[str, int]:
    """Reads the arm and the seed that :func:`input_name` wrote."""
    arm, _, seed = name.rpartition("/seed")
    return arm, int(seed)


def run(
    analysis: str,
    subjects: Sequence[Subject],
    data: Dataset | None,
    config: BaseModel,
    *,
    store: Store,
) -> Artifact:
    """Answers the analysis' question about finished transfers.

    Args:
        data: The dataset of the test images, for pictures; without it the finding has none.

    Raises:
        InputError: A run holds no predictions of the kind that the analysis needs.
    """
    module = plugins.find("analysis", analysis)
    inputs = {input_name(s.arm, s.seed): s.artifact.fingerprint for s in subjects}

    def compute(folder: Path, _work: Path) -> tuple[Metric, ...]:
        finding: Finding = module.answer(_detection_runs(subjects, data), config, folder)
        write_text(folder / FINDING, finding.model_dump_json(indent=1))
        return (finding.headline, *finding.metrics)

    return materialise(store, step_for(analysis, config, inputs), compute)


def read_finding(artifact: Artifact) -> Finding:
    """Reads what the stage wrote."""
    return Finding.model_validate_json(artifact.file(FINDING).read_text(encoding="utf-8"))


def _detection_runs(subjects: Sequence[Subject], data: Dataset | None) -> list[DetectionRun]:
    source = data.open("test") if data else None
    paths = {source.name(i): source.path(i) for i in range(len(source))} if source else {}
    runs = []
    for subject in subjects:
        truth = read_truth(subject.artifact.file("truth.json"))
        detections = read_detections(subject.artifact.file("predictions.json"), truth)

        def image_path(index: int, images: tuple[str, ...] = truth.images) -> Path | None:
            return paths.get(images[index])

        runs.append(
            DetectionRun(
                arm=subject.arm,
                seed=subject.seed,
                fingerprint=subject.artifact.fingerprint,
                truth=truth,
                detections=detections,
                image_path=image_path,
            )
        )
    if not runs:
        raise InputError("diagnose", "no runs given", "at least one finished transfer")
    return runs
