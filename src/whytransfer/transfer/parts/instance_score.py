"""What do these boxes and masks score? COCO's two families of AP, and VOC's AP of the boxes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from whytransfer.core.errors import InputError
from whytransfer.data.coco_results import read_coco_results, read_coco_truth
from whytransfer.data.predictions import read_detections, read_truth
from whytransfer.ops.average_precision import (
    Metric,
    average_precision,
    coco_family,
    coco_summary,
    summary,
    voc_matches,
)
from whytransfer.ops.detections import Detections, Truth
from whytransfer.ops.masks import Masks, of_counts
from whytransfer.transfer.measure import Measure, Values
from whytransfer.transfer.task import PREDICTIONS, TRUTH


def measure_instances(folder: Path, voc_rule: Metric, *, masks: bool) -> Measure:
    """Measures a folder's prediction file against its truth file; see :func:`measure_columns`.

    Raises:
        InputError: A file is missing, not readable, or does not belong to the other, or masks are
            to be scored and one of the two has none.
    """
    truth = read_truth(folder / TRUTH)
    detections = read_detections(folder / PREDICTIONS, truth)
    if masks:
        detections = replace(
            detections, masks=_present(detections.masks, len(detections), folder / PREDICTIONS)
        )
        truth = replace(truth, masks=_present(truth.masks, len(truth), folder / TRUTH))
    return measure_columns(detections, truth, voc_rule, masks=masks)


def measure_coco_results(results: Path, annotations: Path) -> Measure:
    """Measures results that anybody wrote in COCO's form; masks where they and the truth have some.

    Args:
        results: See :mod:`whytransfer.data.coco_results`.
        annotations: COCO's file of the truth.

    Raises:
        InputError: A file is missing, not readable, or does not belong to the other.
    """
    coco = read_coco_truth(annotations)
    detections = read_coco_results(results, coco)
    masks = detections.masks is not None and coco.truth.masks is not None
    return measure_columns(detections, coco.truth, None, masks=masks)


def measure_columns(
    detections: Detections, truth: Truth, voc_rule: Metric | None, *, masks: bool
) -> Measure:
    """Measures coco_AP, coco_AP50, coco_AP75, coco_APs, coco_APm, coco_APl; the same of masks.

    All in percent. Those of masks are called mask_AP and so on. A class without any object that
    counts has no value (NaN) and is left out of the means; so is a mean without any class, as
    APl is where no object is large.

    Args:
        detections: What was found.
        truth: What is there.
        voc_rule: Where given, AP, AP50, AP75 of the boxes by VOC's rules and AP[class] follow.
        masks: Measure masks, too; then both have some.
    """
    families = {"coco": coco_family(detections, truth, by="boxes")}
    if masks:
        families["mask"] = coco_family(detections, truth, by="masks")
    by_voc = None if voc_rule is None else voc_matches(detections, truth)

    def at(weights: NDArray[np.int64] | None) -> Values:
        found = {
            f"{name}_{metric}": value
            for name, family in families.items()
            for metric, value in coco_summary(family, weights).items()
        }
        if by_voc is None or voc_rule is None:
            return found
        voc = average_precision(by_voc, weights, metric=voc_rule)
        own = 100.0 * voc.mean(axis=-1)
        classes = {f"AP[{name}]": own[..., label] for label, name in enumerate(truth.classes)}
        return {**found, **summary(voc), **classes}

    return Measure(len(truth.images), at)


def _present(masks: Masks | None, count: int, path: Path) -> Masks:
    """Returns the masks; where there is no row, none."""
    if masks is None and count:
        raise InputError(
            path, "its rows have no masks", "a mask in every row",
            "for boxes alone set detector.masks to null",
        )  # fmt: skip
    return of_counts([], []) if masks is None else masks
