"""Layer 4: why does one backbone transfer better? Reads artifacts, never a method or a task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from whytransfer.core.store import Artifact
    from whytransfer.data.dataset import Dataset


def run(
    analysis: str,
    runs: Mapping[str, str | Path | Artifact],
    data: str | Path | Dataset | None = None,
    *,
    store: str | Path = "runs",
    **settings: Any,
) -> Artifact:
    """Answers an analysis' question about finished transfers, by the names given to them.

    >>> why = run("detection_errors", {"random": a, "moco": b})  # doctest: +SKIP

    Args:
        analysis: A name of ``whytransfer ls``, or a dotted path.
        runs: Name → what :func:`whytransfer.transfer.run` gave, or the folder of such an artifact.
        data: The dataset of the test images, for pictures.
        store: The folder that holds all artifacts.
        settings: Fields of the analysis' ``Config``.

    Raises:
        InputError: Something given can't be used.
    """
    from pathlib import Path

    from whytransfer.core.store import Store, open_artifact
    from whytransfer.data.stage import open_reference
    from whytransfer.diagnose import stage

    opened = Store(store)
    config = stage.resolve(analysis, settings, f"diagnose {analysis}")
    subjects = []
    for name, given in runs.items():
        artifact = open_artifact(Path(given)) if isinstance(given, str | Path) else given
        subjects.append(stage.Subject(name, artifact.record.seed or 0, artifact))
    dataset = None if data is None else open_reference(data, opened)
    return stage.run(analysis, subjects, dataset, config, store=opened)
