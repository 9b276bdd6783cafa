"""Layer 3: downstream tasks and the stage that runs them; never imports ``pretrain``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from whytransfer.core.records import Metric
    from whytransfer.core.store import Artifact
    from whytransfer.data.dataset import Dataset


def run(
    task: str,
    backbone: str | Path | Artifact,
    data: str | Path | Dataset,
    *,
    seed: int = 0,
    store: str | Path = "runs",
    execution: dict[str, Any] | None = None,
    **settings: Any,
) -> Artifact:
    """Trains a task on a backbone, predicts and scores, or takes it all from the store.

    >>> a = run("voc07_detection", moco, "/data/VOCdevkit")  # doctest: +SKIP

    Args:
        task: A name of ``whytransfer ls``, or a dotted path.
        backbone: What :func:`whytransfer.pretrain.run` gave, or the folder of such an artifact.
        data: ``world:crowds``, ``FORMAT:PATH``, or a path whose format is recognised.
        seed: Of every stream.
        store: The folder that holds all artifacts.
        execution: Workers and device; moves no number.
        settings: Fields of the task's ``Config``; nested ones as dictionaries.

    Raises:
        InputError: Something given can't be used.
    """
    from pathlib import Path

    from whytransfer.core.config import build
    from whytransfer.core.errors import InputError
    from whytransfer.core.stage import Execution
    from whytransfer.core.store import Store, open_artifact
    from whytransfer.data.stage import open_reference
    from whytransfer.transfer import stage

    opened = Store(store)
    how = build(Execution, execution or {}, "execution")
    config = stage.resolve(task, settings, f"transfer {task}", how.device)
    if isinstance(backbone, str | Path):
        backbone = open_artifact(Path(backbone))
    if backbone.record.stage != "pretrain":
        raise InputError(
            backbone.path, f"holds the result of {backbone.record.stage}", "a backbone's artifact",
            "of a transfer, take what pretrain.open_backbone(FOLDER) returns",
        )  # fmt: skip
    dataset = open_reference(data, opened)
    return stage.run(task, backbone, dataset, config, seed=seed, store=opened, execution=how)


def score_coco_results(
    results: str | Path, annotations: str | Path, num_draws: int = 1000
) -> tuple[Metric, ...]:
    """Scores detections that anybody wrote in COCO's result format, with intervals.

    >>> score_coco_results("results.json", "instances_val2017.json")  # doctest: +SKIP

    Args:
        results: A list of ``{image_id, category_id, bbox, score, segmentation}``.
        annotations: COCO's file of the truth.
        num_draws: Resamplings of the images behind every interval.

    Raises:
        InputError: A file is missing, not readable, or does not belong to the other.
    """
    from pathlib import Path

    from whytransfer.transfer.measure import metrics
    from whytransfer.transfer.parts.instance_score import measure_coco_results

    return metrics(measure_coco_results(Path(results), Path(annotations)), num_draws)
