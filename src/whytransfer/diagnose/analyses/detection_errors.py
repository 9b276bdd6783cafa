"""Which errors a detector makes, by Hoiem's and TIDE's types, and which pretraining makes fewer.

Every arm's errors are typed and costed; every other arm is compared with the reference arm under
the same draws of the test images (a paired bootstrap of two fixed models; what another seed would
change stands in a table of its own). The differences of all arms in TIDE's six main types are one
family, corrected by Holm's method.

Source: Zhao et al. 2021, detection error diagnosis; Hoiem et al. 2012; Bolya et al. 2020.
"""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from whytransfer.core.config import Config as BaseConfig
from whytransfer.core.errors import InputError, nearest
from whytransfer.core.records import Finding, Metric
from whytransfer.core.streams import Stream
from whytransfer.data.dataset import Dataset
from whytransfer.diagnose.analysis import DetectionRun
from whytransfer.diagnose.error_profile import ErrorProfile, ErrorRules, Floats, error_profile
from whytransfer.diagnose.error_tables import Difference, figures, number, shares_of, tables
from whytransfer.diagnose.gallery import Gallery, test_images
from whytransfer.ops import hoiem, tide
from whytransfer.ops.comparisons import bootstrap_p_value, fewest_draws, holm
from whytransfer.ops.detections import Truth
from whytransfer.ops.resampling import image_weights, percentile_interval

QUESTION = "Which detection errors does each pretraining make, and which does it make less of?"
NEEDS = "detections"

_CAVEAT = (
    "dAP is what fixing one type of error alone would gain at IoU {foreground:g}; the gains don't"
    " add up, and a better detector can lose more to one type because it loses less to another."
    " Intervals resample the test images under fixed models; they say nothing"
    " about another seed. Hoiem's shares count the best Npos detections of each class (or the"
    " prefix that was configured), chosen once and reweighted. The pictures are each arm's surest"
    " detections of a type, not typical ones."
)

_INTERVAL = "images (these fixed models)"
_ALPHA = 0.05
_NUM_NAMED = 3


class Config(BaseConfig):
    """How errors are typed, compared and shown.

    Attributes:
        foreground: IoU from which TIDE takes a detection for a hit.
        background: IoU up to which TIDE takes a detection for background.
        max_per_image: Best detections of an image that TIDE looks at.
        similar: Sets of similar class names for Hoiem's types; ``voc`` are the original's.
        rule: Which detections Hoiem's shares count.
        reference: The arm that the others are compared with; by default ``random_init`` where it
            is among the arms, else the first one.
        num_draws: Draws of the bootstrap, at least; as many more as Holm's correction needs.
        num_pictures: Pictures per arm and type of error.
        seed: Of the bootstrap.
    """

    foreground: float = Field(0.5, ge=0.5, lt=1)
    background: float = Field(0.1, gt=0, lt=0.5)
    max_per_image: int = Field(100, ge=1)
    similar: Literal["voc"] | tuple[tuple[str, ...], ...] = "voc"
    rule: hoiem.Rule = "top_npos"
    reference: str | None = None
    num_draws: int = Field(1000, ge=100)
    num_pictures: int = Field(3, ge=0)
    seed: int = 0


def answer(
    runs: Sequence[DetectionRun], data: Dataset | None, config: Config, workspace: Path
) -> Finding:
    """Types the errors of finished detectors and says where the pretrainings differ.

    Args:
        data: Where the test images are, for pictures.

    Raises:
        InputError: The runs were not tested on the same objects, one stands twice, the truth
            holds no object, or the reference is not among the arms.
    """
    by_arm = _by_arm(runs)
    reference = _reference(list(by_arm), config.reference)
    truth = runs[0].truth
    num_draws = max(config.num_draws, fewest_draws(len(tide.MAIN_TYPES) * (len(by_arm) - 1)))
    stream = Stream(config.seed, "detection_errors/images")
    weights = image_weights(stream, len(truth.images), num_draws)
    rules = ErrorRules(
        foreground=config.foreground,
        background=config.background,
        max_per_image=config.max_per_image,
        similar=hoiem.VOC_SIMILAR if config.similar == "voc" else config.similar,
        rule=config.rule,
    )
    profiles = {arm: error_profile(own, rules, weights) for arm, own in by_arm.items()}
    own_metrics = [m for profile in profiles.values() for m in _metrics(profile, len(truth.images))]
    differences = _differences(profiles, reference, len(truth.images))
    if differences:
        sentence, headline = _comparison(differences, reference)
    else:
        sentence, headline = _costliest(profiles[reference], own_metrics)
    metrics = (*own_metrics, *(difference.metric for difference in differences))
    gallery = Gallery(workspace, test_images(data))
    return Finding(
        analysis="detection_errors",
        question=QUESTION,
        answer=sentence,
        headline=headline,
        caveat=_CAVEAT.format(foreground=config.foreground),
        metrics=tuple(metric for metric in metrics if metric.name != headline.name),
        tables=tables(profiles, differences, truth.classes),
        figures=figures(profiles),
        pictures=tuple(
            picture
            for arm, own in by_arm.items()
            for picture in gallery.detections(own[0], profiles[arm].types[0], config.num_pictures)
        ),
    )


def _by_arm(runs: Sequence[DetectionRun]) -> dict[str, list[DetectionRun]]:
    """The runs of each arm in the order given, once they are known to be comparable."""
    where = "detection_errors"
    first = runs[0].truth
    if not np.any(~(first.difficult | first.crowd)):
        raise InputError(where, "the truth holds no object that counts", "a test set with objects")
    by_arm: dict[str, list[DetectionRun]] = {}
    for run in runs:
        name = f"{run.arm} (seed {run.seed})"
        if not _same(first, run.truth):
            raise InputError(
                where, f"{name} was tested on other objects than {runs[0].arm}",
                "runs over one test set", "diagnose them apart",
            )  # fmt: skip
        own = by_arm.setdefault(run.arm, [])
        if run.seed in {other.seed for other in own}:
            raise InputError(where, f"{name} stands twice", "one run per arm and seed")
        own.append(run)
    return by_arm


def _same(first: Truth, second: Truth) -> bool:
    pairs = ((getattr(first, f.name), getattr(second, f.name)) for f in fields(Truth))
    return all(np.array_equal(a, b) for a, b in pairs)


def _reference(arms: Sequence[str], wanted: str | None) -> str:
    if wanted is None:
        return "random_init" if "random_init" in arms else arms[0]
    if wanted not in arms:
        raise InputError(
            "detection_errors, field reference",
            f"found {wanted!r}",
            "one of " + ", ".join(arms),
            nearest(wanted, arms),
        )
    return wanted


def _metric(name: str, value: float, draws: Floats, unit: str, n: int) -> Metric:
    low, high = (number(end) for end in percentile_interval(draws))
    return Metric(
        name=name,
        value=number(value),
        unit=unit,
        higher_is_better=False,
        n=n,
        low=low,
        high=high,
        interval="none" if low is None else _INTERVAL,
    )


def _metrics(profile: ErrorProfile, n: int) -> list[Metric]:
    """What one arm loses to each TIDE type, and each of Hoiem's types' share of its detections."""
    metrics = [
        _metric(f"dAP_{kind}[{profile.arm}]", value, draws, "AP points", n)
        for kind, value, draws in zip(
            tide.TYPES, profile.dap.mean(axis=0), profile.dap_draws.T, strict=True
        )
    ]
    shares = zip(hoiem.TYPES, shares_of(profile.counts.sum(axis=0)),
                 shares_of(profile.count_draws).T, strict=True)  # fmt: skip
    for kind, value, draws in shares:
        metric = _metric(f"hoiem_{kind}[{profile.arm}]", value, draws, "%", n)
        better = kind == hoiem.TYPES[hoiem.CORRECT]
        metrics.append(metric.model_copy(update={"higher_is_better": better}))
    return metrics


def _differences(profiles: dict[str, ErrorProfile], reference: str, n: int) -> list[Difference]:
    """How much more each other arm loses to each main type, p-values corrected as one family."""
    base = profiles[reference]
    found: list[tuple[str, str, Metric]] = []
    p_values = []
    for arm, profile in profiles.items():
        if arm == reference:
            continue
        for index, kind in enumerate(tide.MAIN_TYPES):
            value = profile.dap[:, index].mean() - base.dap[:, index].mean()
            draws = profile.dap_draws[:, index] - base.dap_draws[:, index]
            name = f"dAP_{kind}[{arm} - {reference}]"
            found.append((arm, kind, _metric(name, value, draws, "AP points", n)))
            p_values.append(bootstrap_p_value(draws))
    return [
        Difference(arm, kind, metric, p_value, corrected, corrected < _ALPHA)
        for (arm, kind, metric), p_value, corrected in zip(
            found, p_values, holm(p_values), strict=True
        )
    ]


def _size(difference: Difference) -> float:
    return abs(difference.metric.value or 0.0)


def _comparison(differences: Sequence[Difference], reference: str) -> tuple[str, Metric]:
    """The sentence about several arms, and the largest difference: of those shown, if any is."""
    family = f"{len(differences)} comparisons, Holm"
    shown = sorted((d for d in differences if d.shown), key=_size, reverse=True)
    if not shown:
        largest = max(differences, key=_size)
        return (
            f"No difference shown to {reference} in any type of error ({family}); the largest is"
            f" {largest.arm}'s in {largest.type}, {_points(largest.metric, '+.1f')}.",
            largest.metric,
        )
    parts = []
    for difference in shown[:_NUM_NAMED]:
        verb = "less" if (difference.metric.value or 0.0) < 0 else "more"
        parts.append(
            f"{difference.arm} loses {verb} to {difference.type} errors"
            f" ({_points(difference.metric, '+.1f')})"
        )
    rest = len(shown) - len(parts)
    more = f"; {rest} more in the table" if rest else ""
    return (
        f"Compared with {reference}, " + "; ".join(parts) + f"{more} ({family}).",
        shown[0].metric,
    )


def _costliest(profile: ErrorProfile, metrics: Sequence[Metric]) -> tuple[str, Metric]:
    """The sentence about a single arm, and what its costliest main type costs."""
    index = int(np.argmax(profile.dap.mean(axis=0)[: len(tide.MAIN_TYPES)]))
    kind, metric = tide.MAIN_TYPES[index], metrics[index]
    return (
        f"{profile.arm} loses most to {kind} errors: {_points(metric, '.1f')}.",
        metric,
    )


def _points(metric: Metric, style: str) -> str:
    if metric.value is None or metric.low is None or metric.high is None:
        return "undefined"
    interval = f"[{metric.low:{style}}, {metric.high:{style}}]"
    return f"{metric.value:{style}} AP points {interval}"
