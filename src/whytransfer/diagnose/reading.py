"""Reads the runs that an analysis is asked about, as the kind that it needs.

Predictions that others made are read wherever detections will do: as ``detections``, ``scored`` and
``exposed``. An analysis of networks refuses them and names those that don't.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from whytransfer.core import plugins
from whytransfer.core.errors import InputError
from whytransfer.core.store import Artifact, Store
from whytransfer.data.dataset import Dataset
from whytransfer.data.label_map_pairs import read_pixel_counts
from whytransfer.data.landmark_files import read_errors
from whytransfer.data.predictions import read_classifications, read_detections, read_truth
from whytransfer.diagnose.analysis import (
    BackboneRun,
    ClassRun,
    DetectionRun,
    ExposedRun,
    FineTunedRun,
    Kind,
    PixelRun,
    PointRun,
    ScoredRun,
)
from whytransfer.diagnose.foreign_detections import Foreign, holds_predictions
from whytransfer.diagnose.subjects import Subject
from whytransfer.ops.average_precision import Metric as Rule

if TYPE_CHECKING:
    from whytransfer.backbone.model import Backbone

_OF_PREDICTIONS: tuple[Kind, ...] = ("detections", "scored", "exposed")

PREDICTIONS, TRUTH = "predictions.json", "truth.json"


class Reader:
    """Reads subjects as runs of one kind.

    Args:
        kind: Which.
        store: Where the inputs of an artifact are looked for.
        data: Of the test images, whose truth predictions from elsewhere are held against.
    """

    def __init__(self, kind: Kind, store: Store, data: Dataset | None) -> None:
        self._store, self._foreign = store, Foreign(data)
        readers: dict[Kind, Callable[[Subject], Any]] = {
            "detections": self._detections,
            "backbones": self._backbone,
            "fine_tuned": self._fine_tuned,
            "scored": self._scored,
            "exposed": self._exposed,
        }
        self._read = readers[kind]

    def read(self, subjects: Sequence[Subject]) -> list[Any]:
        """Returns a run of each subject.

        Predictions from elsewhere don't say how their precision is to be averaged: it is done as
        for the runs beside them, else as the data's format does.

        Raises:
            InputError: One is of another kind, or its inputs are not in the store.
        """
        runs = [self._read(subject) for subject in subjects]
        foreign = [isinstance(subject.found, Path) for subject in subjects]
        pairs = list(zip(runs, foreign, strict=True))
        rules = {rule for run, other in pairs if not other and (rule := _rule_of(run))}
        if len(rules) != 1:
            return runs
        rule = rules.pop()
        return [replace(run, rule=rule) if other and _rule_of(run) else run for run, other in pairs]

    def _detections(self, subject: Subject) -> DetectionRun:
        if isinstance(subject.found, Path):
            truth, detections = self._foreign.read(subject.found)
            rule = self._foreign.rule
        else:
            artifact = _artifact(subject, "a transfer that detects")
            truth = read_truth(artifact.file(TRUTH))
            detections = read_detections(artifact.file(PREDICTIONS), truth)
            rule = _rule(artifact)
        return DetectionRun(
            subject.arm,
            subject.seed,
            subject.fingerprint,
            truth,
            detections,
            subject.variant,
            rule,
        )

    def _scored(self, subject: Subject) -> ScoredRun:
        if _is_predictions(subject.found):
            return self._detections(subject)
        artifact = _artifact(subject, "a finished transfer")
        kind = _says(artifact)
        if kind == "detections":
            return self._detections(subject)
        named = subject.arm, subject.seed, artifact.fingerprint
        if kind == "classifications":
            found = read_classifications(artifact.file(PREDICTIONS))
            return ClassRun(*named, found.names, found.correct(), subject.variant)
        if kind == "label_maps":
            maps, counts = read_pixel_counts(artifact.file(PREDICTIONS), artifact.file(TRUTH))
            return PixelRun(*named, maps.names, counts, subject.variant)
        if kind == "landmarks":
            files = artifact.file(PREDICTIONS), artifact.file(TRUTH)
            truth, errors = read_errors(*files, _eyes(artifact))
            return PointRun(*named, truth.images, errors.mean(axis=1), subject.variant)
        raise InputError(
            artifact.path, f"its predictions are {kind or 'none'}",
            "detections, classifications, label maps or landmarks, whose score can be drawn",
        )  # fmt: skip

    def _exposed(self, subject: Subject) -> ExposedRun:
        found = subject.found
        run = ExposedRun(
            subject.arm, subject.seed, subject.fingerprint, subject.against, variant=subject.variant
        )
        detects = isinstance(found, Artifact) and _says(found) == "detections"
        if detects or _is_predictions(found):
            own = self._detections(subject)
            return replace(run, truth=own.truth, detections=own.detections, rule=own.rule)
        return run

    def _backbone(self, subject: Subject) -> BackboneRun:
        found = subject.found
        assert found is not None
        if _is_predictions(found):
            raise _no_network(found, "a backbone")
        path = found.path if isinstance(found, Artifact) else found
        return BackboneRun(subject.arm, subject.seed, subject.fingerprint, partial(_load, path))

    def _fine_tuned(self, subject: Subject) -> FineTunedRun:
        if _is_predictions(subject.found):
            raise _no_network(subject.found, "a transfer that trains the backbone")
        todo = "give a run of `whytransfer transfer`: a file doesn't say how it began"
        artifact = _artifact(subject, "a transfer that trains the backbone", todo)
        start = artifact.record.inputs.get("backbone")
        if start is None:
            raise InputError(
                artifact.path, f"began with no backbone ({artifact.record.stage})",
                "a transfer that trains the backbone",
            )  # fmt: skip
        before = next((a for a in self._store.all() if a.fingerprint == start), None)
        if before is None:
            raise InputError(
                artifact.path, f"the store {self._store.root} lacks the backbone it began with",
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


def _rule(artifact: Artifact) -> Rule:
    """Says how the task of a run averages precision: as its headline, its first metric, does."""
    by_voc: dict[object, Rule] = {"voc07": "voc07", "voc12": "voc12"}
    first = next((metric.name for metric in artifact.record.metrics), "")
    found = by_voc.get(artifact.record.config.get("voc_rule"), "coco101")
    return "coco101" if first.startswith("coco_") else found


def _eyes(artifact: Artifact) -> tuple[int, int]:
    """Says by which two landmarks' distance the task of a run measures errors."""
    found = artifact.record.config.get("eyes")
    if not isinstance(found, list | tuple) or len(found) != 2:
        raise InputError(
            artifact.path, f"its task {artifact.record.plugin} says of no two landmarks that they"
            " are the eyes", "a setting eyes, with their two numbers",
            "give the task's Config that field: errors are measured by the distance between them",
        )  # fmt: skip
    return int(found[0]), int(found[1])


def _says(artifact: Artifact) -> str:
    """Says of what kind the predictions of a run are; nothing, where it has none."""
    if PREDICTIONS not in artifact.manifest["files"]:
        return ""
    content = json.loads(artifact.file(PREDICTIONS).read_text(encoding="utf-8"))
    return str(content.get("kind", ""))


def _is_predictions(found: Artifact | Path | None) -> TypeGuard[Path]:
    return isinstance(found, Path) and holds_predictions(found)


def _rule_of(run: Any) -> Rule | None:
    """Says how the precision of a run that detects is averaged; of another, nothing."""
    if isinstance(run, DetectionRun):
        return run.rule
    return run.rule if isinstance(run, ExposedRun) and run.detections is not None else None


def _no_network(path: Path, expected: str) -> InputError:
    names = plugins.names("analysis")
    able = [name for name in names if plugins.find("analysis", name).NEEDS in _OF_PREDICTIONS]
    return InputError(
        path, "holds predictions, and this analysis looks at networks", expected,
        "predictions can be given to " + ", ".join(able),
    )  # fmt: skip


def _artifact(subject: Subject, expected: str, todo: str = "") -> Artifact:
    if isinstance(subject.found, Artifact):
        return subject.found
    raise InputError(subject.found or subject.arm, "is no artifact of a store", expected, todo)


def _load(path: Path) -> "Backbone":
    from whytransfer.backbone import artifact

    return artifact.load(artifact.folder_in(path)).eval()
