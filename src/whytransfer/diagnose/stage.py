"""The diagnose stage: an analysis reads finished runs from disk and answers one question."""

from collections.abc import Mapping, Sequence
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
from whytransfer.diagnose.analysis import Kind, Variant
from whytransfer.diagnose.reading import Reader
from whytransfer.diagnose.subjects import Subject, input_name

FINDING = "finding.json"

_NEEDING_DATA: tuple[Kind, ...] = ("backbones", "fine_tuned")
_LOOKING_AT_DATA: tuple[Kind, ...] = (*_NEEDING_DATA, "exposed")


def resolve(analysis: str, values: Mapping[str, Any], where: str) -> BaseModel:
    """Checks settings against an analysis' ``Config``; raises all problems at once.

    Settings that this machine or a file decides are settled, where the analysis has such.
    """
    module = plugins.find("analysis", analysis)
    config: BaseModel = build(module.Config, values, where)
    if hasattr(module, "settled"):
        config = module.settled(config)
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

    def compute(folder: Path, work: Path) -> tuple[Metric, ...]:
        runs = Reader(kind_of(analysis), store, data).read(subjects)
        keeps = {"work": work} if getattr(module, "RESUMES", False) else {}
        finding: Finding = module.answer(runs, data, config, folder, **keeps)
        write_text(folder / FINDING, finding.model_dump_json(indent=1))
        return (finding.headline, *finding.metrics)

    step = step_for(analysis, config, inputs, None if data is None else data.fingerprint)
    return materialise(store, step, compute)


def read_finding(artifact: Artifact) -> Finding:
    """Reads what the stage wrote."""
    return Finding.model_validate_json(artifact.file(FINDING).read_text(encoding="utf-8"))
