"""The diagnose stage: an analysis reads finished runs from disk and answers one question."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from whytransfer.core import plugins
from whytransfer.core.config import build
from whytransfer.core.errors import InputError
from whytransfer.core.records import Finding, Metric
from whytransfer.core.stage import Step, materialise
from whytransfer.core.store import Artifact, Store, write_text
from whytransfer.data.dataset import Dataset
from whytransfer.data.predictions import read_detections, read_truth
from whytransfer.diagnose.analysis import BackboneRun, DetectionRun, FineTunedRun, Kind
from whytransfer.diagnose.foreign_detections import Foreign, content_hash

if TYPE_CHECKING:
    from whytransfer.backbone.model import Backbone

FINDING = "finding.json"

_LOOKING_AT_DATA: tuple[Kind, ...] = ("backbones", "fine_tuned")


@dataclass(frozen=True)
class Subject:
    """A finished run, or somebody else's file, as the analysis is to call it.

    Attributes:
        found: The artifact, or the path of what is from elsewhere: a checkpoint, or predictions (a
            file, or a folder of VOC's results).
    """

    arm: str
    seed: int
    found: Artifact | Path

    @property
    def fingerprint(self) -> str:
        """Names the content: of the artifact, or of what is from elsewhere."""
        if isinstance(self.found, Artifact):
            return self.found.fingerprint
        return content_hash(self.found)


def resolve(analysis: str, values: Mapping[str, Any], where: str) -> BaseModel:
    """Checks settings against an analysis' ``Config``; raises all problems at once."""
    config: BaseModel = build(plugins.find("analysis", analysis).Config, values, where)
    return config


def kind_of(analysis: str) -> Kind:
    """Says which kind of runs an analysis reads."""
    kind: Kind = plugins.find("analysis", analysis).NEEDS
    return kind


def looks_at_data(analysis: str) -> bool:
    """Whether an analysis' numbers depend on the images given, beside the runs."""
    return kind_of(analysis) in _LOOKING_AT_DATA


def step_for(
    analysis: str, config: BaseModel, runs: Mapping[str, str], data: str | None = None
) -> Step:
    """Says what is to be answered.

    Args:
        runs: ``arm/seed`` of each run (:func:`input_name`) → its fingerprint.
        data: Fingerprint of the dataset; it counts where the analysis looks at the images.
    """
    inputs = {**runs, "data": data} if data and looks_at_data(analysis) else runs
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
    """Answers the analysis' question about finished runs.

    Args:
        data: The dataset of the test images. An analysis of detections takes pictures from it, and
            the truth of predictions from elsewhere; one of backbones looks at nothing else.

    Raises:
        InputError: No runs, one that stands twice, one of another kind than the analysis reads, or
            no data where it looks at images or at predictions from elsewhere.
    """
    module = plugins.find("analysis", analysis)
    where = f"diagnose {analysis}"
    named = [input_name(subject.arm, subject.seed) for subject in subjects]
    if not subjects:
        raise InputError(where, "no runs given", "at least one finished run")
    if twice := next((name for name in named if named.count(name) > 1), None):
        raise InputError(where, f"{twice} stands twice", "one run per arm and seed")
    if data is None and looks_at_data(analysis):
        raise InputError(where, "no data given", "the images to look at", "name them with --data")
    prints = [subject.fingerprint for subject in subjects]
    inputs = dict(zip(named, prints, strict=True))
    if data is not None and any(isinstance(subject.found, Path) for subject in subjects):
        inputs["data"] = data.fingerprint  # their truth

    def compute(folder: Path, _work: Path) -> tuple[Metric, ...]:
        read, foreign = _READERS[kind_of(analysis)], Foreign(data)
        runs = [read(subject, store, foreign) for subject in subjects]
        finding: Finding = module.answer(runs, data, config, folder)
        write_text(folder / FINDING, finding.model_dump_json(indent=1))
        return (finding.headline, *finding.metrics)

    step = step_for(analysis, config, inputs, None if data is None else data.fingerprint)
    return materialise(store, step, compute)


def read_finding(artifact: Artifact) -> Finding:
    """Reads what the stage wrote."""
    return Finding.model_validate_json(artifact.file(FINDING).read_text(encoding="utf-8"))


def _detections(subject: Subject, _store: Store, foreign: Foreign) -> DetectionRun:
    if isinstance(subject.found, Path):
        found = foreign.read(subject.found)
        return DetectionRun(subject.arm, subject.seed, subject.fingerprint, *found)
    artifact = subject.found
    truth = read_truth(artifact.file("truth.json"))
    detections = read_detections(artifact.file("predictions.json"), truth)
    return DetectionRun(subject.arm, subject.seed, artifact.fingerprint, truth, detections)


def _backbone(subject: Subject, _store: Store, _foreign: Foreign) -> BackboneRun:
    found = subject.found
    path = found.path if isinstance(found, Artifact) else found
    return BackboneRun(subject.arm, subject.seed, subject.fingerprint, partial(_load, path))


def _fine_tuned(subject: Subject, store: Store, _foreign: Foreign) -> FineTunedRun:
    artifact = _artifact(subject, "a transfer that trains the backbone")
    start = artifact.record.inputs.get("backbone")
    before = next((a for a in store.all() if a.fingerprint == start), None)
    if before is None:
        raise InputError(
            artifact.path, f"the store {store.root} lacks the backbone that it began with",
            "both in one store", "give the store in which it was made with --store",
        )  # fmt: skip
    return FineTunedRun(
        subject.arm,
        subject.seed,
        artifact.fingerprint,
        before=partial(_load, before.path),
        after=partial(_load, artifact.path),
    )


def _artifact(subject: Subject, expected: str) -> Artifact:
    if isinstance(subject.found, Artifact):
        return subject.found
    raise InputError(subject.found, "is no artifact of a store", expected)


def _load(path: Path) -> "Backbone":
    from whytransfer.backbone import artifact

    return artifact.load(artifact.folder_in(path)).eval()


_READERS: dict[Kind, Callable[[Subject, Store, Foreign], Any]] = {
    "detections": _detections,
    "backbones": _backbone,
    "fine_tuned": _fine_tuned,
}
