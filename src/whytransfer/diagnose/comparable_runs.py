"""Are these detectors comparable, and what is each of them? Runs by arm, checked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from whytransfer.core.errors import InputError, nearest
from whytransfer.diagnose.analysis import DetectionRun
from whytransfer.ops.average_precision import By
from whytransfer.ops.detections import Truth, same_boxes

_WHERE = "detection_errors"


@dataclass(frozen=True)
class Arms:
    """All runs of a diagnosis, over one truth.

    Attributes:
        runs: Arm → the runs that stand for it, in the order given.
        variants: Arm → name → its further complete runs, of the arms that have any.
    """

    runs: Mapping[str, Sequence[DetectionRun]]
    variants: Mapping[str, Mapping[str, Sequence[DetectionRun]]]


def by_arm(runs: Sequence[DetectionRun], by: By) -> Arms:
    """Sorts runs by arm.

    Args:
        by: What is to overlap.

    Raises:
        InputError: The runs were not tested on the same images, classes and objects, one stands
            twice, an arm has further runs alone, the truth holds no object, or masks are asked for
            and are missing.
    """
    first = runs[0]
    if not np.any(~(first.truth.difficult | first.truth.crowd)):
        raise InputError(_WHERE, "the truth holds no object that counts", "a test set with objects")
    found: dict[str, dict[str, list[DetectionRun]]] = {}
    for run in runs:
        name = f"{run.arm} (seed {run.seed})" + (f", {run.variant}" if run.variant else "")
        apart = _apart(run.truth, first.truth)
        if apart:
            raise InputError(
                _WHERE, f"{name} was tested on {apart} than {first.arm}", "runs over one test set",
                "diagnose them apart",
            )  # fmt: skip
        if by == "masks" and (run.truth.masks is None or run.detections.masks is None):
            lacking = "the truth" if run.truth.masks is None else name
            raise InputError(
                f"{_WHERE}, field overlap", f"'masks', but {lacking} has no masks",
                "masks in the truth and in all detections", "set overlap=boxes",
            )  # fmt: skip
        own = found.setdefault(run.arm, {}).setdefault(run.variant, [])
        if run.seed in {other.seed for other in own}:
            raise InputError(_WHERE, f"{name} stands twice", "one run per arm and seed")
        own.append(run)
    for arm, variants in found.items():
        if "" not in variants:
            known = ", ".join(variants)
            raise InputError(_WHERE, f"{arm} has only further runs ({known})", "its full run, too")
    return Arms(
        {arm: variants.pop("") for arm, variants in found.items()},
        {arm: variants for arm, variants in found.items() if variants},
    )


def groups_in(
    classes: Sequence[str], groups: Mapping[str, tuple[str, ...]], *, complete: bool
) -> dict[str, tuple[str, ...]]:
    """Returns the groups of classes that are reported.

    Args:
        complete: A user named them, so every name must be a class; else a group of which a class
            is missing is passed over.

    Raises:
        InputError: A name is no class of the truth.
    """
    for group, names in groups.items() if complete else ():
        for name in names:
            if name not in classes:
                raise InputError(
                    f"{_WHERE}, field groups", f"{group} names {name!r}, which is no class",
                    f"among {', '.join(classes)}", nearest(name, classes),
                )  # fmt: skip
    return {group: names for group, names in groups.items() if set(names) <= set(classes)}


def _apart(own: Truth, other: Truth) -> str:
    """Says in what two truths differ; empty where they are the same."""
    if own.classes != other.classes:
        names = sorted(set(own.classes) ^ set(other.classes)) or ["their order"]
        return f"other classes ({', '.join(names[:5])})"
    if own.images != other.images:
        number = len(set(own.images) ^ set(other.images))
        words = f"{number} are in one of the two alone" if number else "in another order"
        return f"other images ({words})"
    # A transfer that looks for boxes keeps no masks; what is from elsewhere has all there are.
    masks = own.masks is None or other.masks is None or own.masks == other.masks
    return "" if same_boxes(own, other) and masks else "other objects"
