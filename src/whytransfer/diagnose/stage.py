"""The diagnose stage: an analysis reads finished runs from disk and answers one question."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
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
from whytransfer.data.predictions import read_classifications, read_detections, read_truth
from whytransfer.diagnose.analysis import (
    BackboneRun,
    ClassRun,
    DetectionRun,
    ExposedRun,
    FineTunedRun,
    Kind,
    Variant,
)
from whytransfer.diagnose.foreign_detections import Foreign, content_hash
from whytransfer.ops.average_precision import Metric as Rule

if TYPE_CHECKING:
    from whytransfer.backbone.model import Backbone

FINDING = "finding.json"

AGAINST = "against"
"""Role of what an arm was pretrained on among the inputs of an analysis: ``against/ARM/NUMBER``."""

PREDICTIONS, TRUTH = "predictions.json", "truth.json"

_NEEDING_DATA: tuple[Kind, ...] = ("backbones", "fine_tuned")
_LOOKING_AT_DATA: tuple[Kind, ...] = (*_NEEDING_DATA, "exposed")
_ROLE = re.compile(r"(.*)/seed(-?\d+)(?::([^/:]+))?")


@dataclass(frozen=True)
class Subject:
    """A finished run, or somebody else's file, as the analysis is to call it.

    Attributes:
        found: The artifact, or the path of what is from elsewhere: a checkpoint, or predictions (a
            file, or a folder of VOC's results); ``None`` for pretraining data alone, of which
            nothing was made yet.
        variant: Name of the further run that it is; empty for a run as it is.
        against: What the arm was pretrained on, for an analysis that reads it; empty for a network
            that was not trained, ``None`` where nobody said.
    """

    arm: str
    seed: int
    found: Artifact | Path | None
    variant: str = ""
    against: tuple[Dataset, ...] | None = None

    @property
    def fingerprint(self) -> str:
        """Names the content: of the artifact, or of what is from elsewhere."""
        if self.found is None:
            return ""
        if isinstance(self.found, Artifact):
            return self.found.fingerprint
        return content_hash(self.found)

    @property
    def inputs(self) -> dict[str, str]:
        """Role → fingerprint of the run, and of what it is held against."""
        own = input_name(self.arm, self.seed, self.variant)
        sets = enumerate(self.against or ())
        roles = {against_name(self.arm, number): found.fingerprint for number, found in sets}
        return {own: self.fingerprint, **roles}


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


def reads_pretraining(analysis: str) -> bool:
    """Whether an analysis reads the data that the arms were pretrained on."""
    return kind_of(analysis) == "exposed"


def variants_of(analysis: str, config: BaseModel) -> tuple[Variant, ...]:
    """Lists the further runs that an analysis needs of every arm and seed."""
    module = plugins.find("analysis", analysis)
    found = tuple(module.variants(config)) if hasattr(module, "variants") else ()
    names = [variant.name for variant in found]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise InputError(f"diagnose {analysis}", f"two variants are called {twice}", "each once")
    return found


def step_for(
    analysis: str, config: BaseModel, runs: Mapping[str, str], data: str | None = None
) -> Step:
    """Says what is to be answered.

    Args:
        runs: ``arm/seed`` of each run (:func:`input_name`) → its fingerprint; and so of what they
            are held against.
        data: Fingerprint of the dataset; it counts where the analysis looks at the images.
    """
    inputs = {**runs, "data": data} if data and looks_at_data(analysis) else runs
    return Step(stage="diagnose", plugin=analysis, config=config, inputs=inputs)


def input_name(arm: str, seed: int, variant: str = "") -> str:
    """Names a run among the inputs of an analysis."""
    return f"{arm}/seed{seed}" + (f":{variant}" if variant else "")


def read_input_name(name: str) -> tuple[str, int, str]:
    """Reads the arm, the seed and the variant that :func:`input_name` wrote."""
    found = _ROLE.fullmatch(name)
    assert found is not None, name
    return found[1], int(found[2]), found[3] or ""


def against_name(arm: str, number: int) -> str:
    """Names a dataset that an arm was pretrained on among the inputs of an analysis."""
    return f"{AGAINST}/{arm}/{number}"


def read_against_name(name: str) -> str:
    """Reads the arm that :func:`against_name` wrote."""
    return name.removeprefix(f"{AGAINST}/").rpartition("/")[0]


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
    named = [input_name(subject.arm, subject.seed, subject.variant) for subject in subjects]
    if not subjects:
        raise InputError(where, "no runs given", "at least one finished run")
    if twice := next((name for name in named if named.count(name) > 1), None):
        raise InputError(where, f"{twice} stands twice", "one run per arm and seed")
    if data is None and kind_of(analysis) in _NEEDING_DATA:
        raise InputError(where, "no data given", "the images to look at", "name them with --data")
    inputs = {role: found for subject in subjects for role, found in subject.inputs.items()}
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
        return DetectionRun(
            subject.arm, subject.seed, subject.fingerprint, *found, variant=subject.variant
        )
    artifact = _artifact(subject, "a transfer that detects")
    truth = read_truth(artifact.file(TRUTH))
    detections = read_detections(artifact.file(PREDICTIONS), truth)
    return DetectionRun(
        subject.arm,
        subject.seed,
        artifact.fingerprint,
        truth,
        detections,
        subject.variant,
        _rule(artifact),
    )


def _rule(artifact: Artifact) -> Rule:
    """Says how the task of a run averages precision: as its headline, its first metric, does."""
    by_voc: dict[object, Rule] = {"voc07": "voc07", "voc12": "voc12"}
    first = next((metric.name for metric in artifact.record.metrics), "")
    found = by_voc.get(artifact.record.config.get("voc_rule"), "coco101")
    return "coco101" if first.startswith("coco_") else found


def _says(artifact: Artifact) -> str:
    """Says of what kind the predictions of a run are; nothing, where it has none."""
    if PREDICTIONS not in artifact.manifest["files"]:
        return ""
    content = json.loads(artifact.file(PREDICTIONS).read_text(encoding="utf-8"))
    return str(content.get("kind", ""))


def _scored(subject: Subject, store: Store, foreign: Foreign) -> DetectionRun | ClassRun:
    artifact = _artifact(subject, "a finished transfer")
    kind = _says(artifact)
    if kind == "detections":
        return _detections(subject, store, foreign)
    if kind != "classifications":
        raise InputError(
            artifact.path, f"its predictions are {kind or 'none'}",
            "detections or classifications, whose score can be drawn",
        )  # fmt: skip
    found = read_classifications(artifact.file(PREDICTIONS))
    return ClassRun(
        subject.arm,
        subject.seed,
        artifact.fingerprint,
        found.names,
        found.correct(),
        subject.variant,
    )


def _exposed(subject: Subject, store: Store, foreign: Foreign) -> ExposedRun:
    found = subject.found
    run = ExposedRun(
        subject.arm, subject.seed, subject.fingerprint, subject.against, variant=subject.variant
    )
    if isinstance(found, Artifact) and _says(found) == "detections":
        own = _detections(subject, store, foreign)
        return replace(run, truth=own.truth, detections=own.detections, rule=own.rule)
    return run


def _backbone(subject: Subject, _store: Store, _foreign: Foreign) -> BackboneRun:
    found = subject.found
    assert found is not None
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
        variant=subject.variant,
    )


def _artifact(subject: Subject, expected: str) -> Artifact:
    if isinstance(subject.found, Artifact):
        return subject.found
    raise InputError(subject.found or subject.arm, "is no artifact of a store", expected)


def _load(path: Path) -> "Backbone":
    from whytransfer.backbone import artifact

    return artifact.load(artifact.folder_in(path)).eval()


_READERS: dict[Kind, Callable[[Subject, Store, Foreign], Any]] = {
    "detections": _detections,
    "backbones": _backbone,
    "fine_tuned": _fine_tuned,
    "scored": _scored,
    "exposed": _exposed,
}
