"""Layer 4: why does one backbone transfer better? Reads artifacts, never a method or a task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from whytransfer.core.store import Artifact
    from whytransfer.data.dataset import Dataset
    from whytransfer.diagnose.subjects import Subject

    Run = str | Path | Artifact


def run(
    analysis: str,
    runs: Mapping[str, Run | Sequence[Run]],
    data: str | Path | Dataset | None = None,
    *,
    against: str | Path | Dataset | None = None,
    store: str | Path = "runs",
    **settings: Any,
) -> Artifact:
    """Answers an analysis' question about finished runs, by the names given to them.

    >>> why = run("detection_errors", {"random": a, "moco": b})  # doctest: +SKIP

    Args:
        analysis: A name of ``whytransfer ls``, or a dotted path.
        runs: Name of an arm → what :func:`whytransfer.transfer.run` gave, or the folder of such an
            artifact, or predictions that others made: a COCO file of results, or a folder of VOC's;
            of an analysis of backbones what :func:`whytransfer.pretrain.run` gave, or anybody's
            checkpoint. Several where there are several seeds. Of an analysis that needs further
            runs, these are called ``ARM:VARIANT``.
        data: The dataset of the test images: for pictures, for the truth of predictions that others
            made, or for backbones to look at.
        against: What the arms were pretrained on, for an analysis that reads it; it alone will do
            for one that needs no runs.
        store: The folder that holds all artifacts.
        settings: Fields of the analysis' ``Config``.

    Raises:
        InputError: Something given can't be used.
    """
    from pathlib import Path

    from whytransfer.core.errors import InputError
    from whytransfer.core.store import Artifact, Store
    from whytransfer.data.stage import open_reference
    from whytransfer.diagnose import stage
    from whytransfer.diagnose.subjects import Subject

    opened = Store(store)
    config = stage.resolve(analysis, settings, f"diagnose {analysis}")
    where = f"diagnose {analysis}"
    if against is not None and not stage.reads_pretraining(analysis):
        raise InputError(where, "against is given", "none: it reads no pretraining data")
    seen = None if against is None else (open_reference(against, opened),)
    named = [variant.name for variant in stage.variants_of(analysis, config)]
    subjects = []
    for name, given in runs.items():
        called = _called(name, runs, named, where)
        several = [given] if isinstance(given, str | Path | Artifact) else given
        subjects += [_subject(*called, run, number, seen) for number, run in enumerate(several)]
    if seen and not subjects:
        subjects.append(Subject("pretraining", 0, None, against=seen))
    dataset = None if data is None else open_reference(data, opened)
    return stage.run(analysis, subjects, dataset, config, store=opened)


def _called(
    name: str, runs: Mapping[str, object], variants: Sequence[str], where: str
) -> tuple[str, str]:
    """Returns the arm and the variant that a name says; most have no variant."""
    from whytransfer.core.errors import InputError, nearest

    arm, _, variant = name.rpartition(":")
    if arm and variant in variants:
        return arm, variant
    if arm in runs:
        raise InputError(
            f"{where}, run {name}", f"no variant {variant!r} of {arm}",
            f"one of {', '.join(variants)}" if variants else "none, with the settings given",
            nearest(variant, variants) or "correct the name, or the settings that make variants",
        )  # fmt: skip
    return name, ""


def _subject(
    arm: str, variant: str, found: Run, number: int, against: tuple[Dataset, ...] | None
) -> Subject:
    """What was given, by its seed; what is from elsewhere is numbered in the order given."""
    from pathlib import Path

    from whytransfer.core.errors import InputError
    from whytransfer.core.store import is_artifact, open_artifact
    from whytransfer.diagnose.foreign_detections import FORMS, is_foreign
    from whytransfer.diagnose.subjects import Subject

    if isinstance(found, str | Path):
        path = Path(found)
        if is_foreign(path):
            return Subject(arm, number, path, variant, against)
        if not is_artifact(path):
            what = "is neither a run nor predictions" if path.exists() else "no such file or folder"
            expected = f"the folder of a finished run, a checkpoint, {FORMS}"
            raise InputError(path, what, expected, "check the path")
        found = open_artifact(path)
    return Subject(arm, found.record.seed or 0, found, variant, against)
