"""Which errors a detector makes, by Hoiem's and TIDE's types, and which pretraining makes fewer.

Every arm's errors are typed and costed, in all and by class, group of classes and size of object;
every other arm is compared with the reference arm under the same draws of the test images and,
from three seeds on, over the seeds as well. The differences of all arms in TIDE's six main types
are one family, corrected by Holm's method. Where further complete runs of other lengths are given,
the comparison is made again at matched AP, because a better detector has other errors anyway.

Source: Zhao et al. 2021, detection error diagnosis; Hoiem et al. 2012; Bolya et al. 2020.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, PositiveFloat

from whytransfer.core.config import Config as BaseConfig
from whytransfer.core.records import Finding, Metric, Picture
from whytransfer.core.streams import Stream
from whytransfer.data.dataset import Dataset
from whytransfer.diagnose import error_differences
from whytransfer.diagnose.analysis import DetectionRun, Variant, of_lengths
from whytransfer.diagnose.comparable_runs import Arms, by_arm, groups_in
from whytransfer.diagnose.comparing import FEWEST_SEEDS, family_of, reference_arm
from whytransfer.diagnose.error_differences import Difference, Profiles
from whytransfer.diagnose.error_estimates import estimates, metric
from whytransfer.diagnose.error_profile import ErrorProfile, ErrorRules, error_profile
from whytransfer.diagnose.error_tables import Compared, figures, tables
from whytransfer.diagnose.gallery import Gallery, test_images
from whytransfer.ops import hoiem, tide
from whytransfer.ops.comparisons import fewest_draws
from whytransfer.ops.object_sizes import Sizes
from whytransfer.ops.resampling import image_weights

QUESTION = "Which detection errors does each pretraining make, and which does it make less of?"
NEEDS = "detections"

_CAVEAT = (
    "dAP is what fixing one type of error alone would gain at IoU {foreground:g}; the gains don't"
    " add up, and a better detector can lose more to one type because it loses less to another."
    " {seeds} Hoiem's shares count the best Npos detections of each class (or the"
    " prefix that was configured), chosen once and reweighted. The pictures are each arm's surest"
    " detections of a type, not typical ones. {matched}"
)
_FEW_SEEDS = (
    "With fewer than three seeds ({arms}), seeds are shown as points: intervals resample the test"
    " images under fixed models, and say nothing about another seed."
)
_SEEDS = "Intervals are over other seeds and other test images."
_MATCHED = "At matched AP, the better arm stands in by the complete run whose AP is nearest."
_NOT_MATCHED = (
    "No further complete runs of the better arm were given for {arms}, so nothing is said there at"
    " matched AP, and a better detector has other errors anyway."
)

_NUM_NAMED = 3
_LEVELS = ("group", "size", "class")


class Config(BaseConfig):
    """How errors are typed, compared and shown.

    Attributes:
        foreground: IoU from which TIDE takes a detection for a hit.
        background: IoU up to which TIDE takes a detection for background.
        max_per_image: Best detections of an image that TIDE looks at.
        overlap: What overlaps for TIDE's types; Hoiem's are of boxes.
        similar: Sets of similar class names for Hoiem's types; ``voc`` are the original's.
        groups: Name → classes that are reported together; ``voc`` are the original's, of which
            those are taken whose classes are all there.
        sizes: Bands of size: ``percentiles`` of each class, as Hoiem's, or ``coco``'s areas.
        rule: Which detections Hoiem's shares count.
        lengths: Complete schedules of other lengths, in lengths of the study's own: a study runs
            them for every arm, and the better arm is looked at once more where its AP is nearest to
            the other's. Those of ``convergence`` are the same runs.
        reference: The arm that the others are compared with; by default ``random_init`` where it
            is among the arms, else the first one.
        num_draws: Draws of the bootstrap, at least; as many more as Holm's correction needs.
        num_pictures: Pictures per arm and type of error.
        seed: Of the bootstrap.
    """

    foreground: float = Field(0.5, ge=0.5, lt=1)
    background: float = Field(0.1, gt=0, lt=0.5)
    max_per_image: int = Field(100, ge=1)
    overlap: Literal["boxes", "masks"] = "boxes"
    similar: Literal["voc"] | tuple[tuple[str, ...], ...] = "voc"
    groups: Literal["voc"] | dict[str, tuple[str, ...]] = "voc"
    sizes: Sizes = "percentiles"
    rule: hoiem.Rule = "top_npos"
    lengths: tuple[PositiveFloat, ...] = ()
    reference: str | None = None
    num_draws: int = Field(1000, ge=100)
    num_pictures: int = Field(3, ge=0)
    seed: int = 0


def variants(config: Config) -> Sequence[Variant]:
    """Lists the further runs among which arms of equal AP are looked for."""
    return of_lengths(config.lengths)


def answer(
    runs: Sequence[DetectionRun], data: Dataset | None, config: Config, workspace: Path
) -> Finding:
    """Types the errors of finished detectors and says where the pretrainings differ.

    Args:
        data: Where the test images are, for pictures.

    Raises:
        InputError: The runs were not tested on the same images, classes and objects, one stands
            twice, the truth holds no object or the detections lack masks that are asked for, or
            the reference or a group's class is not there.
    """
    arms = by_arm(runs, config.overlap)
    reference = reference_arm(list(arms.runs), config.reference, "detection_errors")
    truth = runs[0].truth
    rules, num_images = _rules(config, truth.classes), len(truth.images)
    num_draws = max(config.num_draws, fewest_draws(len(tide.MAIN_TYPES) * (len(arms.runs) - 1)))
    stream = Stream(config.seed, "detection_errors/images")
    weights = image_weights(stream, num_images, num_draws)
    profiles = {arm: error_profile(own, rules, weights) for arm, own in arms.runs.items()}
    compared = Compared()
    if len(profiles) > 1:
        compared = Compared(
            error_differences.in_tide(profiles, reference, num_images),
            error_differences.in_hoiem(profiles, reference, num_images),
            {
                level: error_differences.in_parts(profiles, reference, num_images, level)
                for level in _LEVELS
            },
            error_differences.at_matched_ap(profiles, arms.variants, reference, rules, weights),
        )
    own_metrics = [m for profile in profiles.values() for m in _metrics(profile, num_images)]
    sentence, headline, kind = (
        _comparison(compared.tide, reference)
        if compared.tide
        else _costliest(profiles[reference], own_metrics)
    )
    matched = [d for pair in compared.matched for d in pair.differences]
    metrics = (*own_metrics, *(difference.metric for difference in (*compared.tide, *matched)))
    return Finding(
        analysis="detection_errors",
        question=QUESTION,
        answer=sentence,
        headline=headline,
        caveat=_caveat(config, profiles, compared, reference),
        metrics=tuple(one for one in metrics if one.name != headline.name),
        tables=tables(profiles, compared, truth.classes, rules.groups, config.rule),
        figures=figures(profiles, compared.tide, kind),
        pictures=_pictures(arms, profiles, data, config, workspace),
    )


def _rules(config: Config, classes: Sequence[str]) -> ErrorRules:
    is_voc = config.groups == "voc"
    groups = hoiem.VOC_GROUPS if config.groups == "voc" else config.groups
    return ErrorRules(
        foreground=config.foreground,
        background=config.background,
        max_per_image=config.max_per_image,
        similar=hoiem.VOC_SIMILAR if config.similar == "voc" else config.similar,
        rule=config.rule,
        groups=groups_in(classes, groups, complete=not is_voc),
        sizes=config.sizes,
        by=config.overlap,
    )


def _pictures(
    arms: Arms, profiles: Profiles, data: Dataset | None, config: Config, workspace: Path
) -> tuple[Picture, ...]:
    gallery = Gallery(workspace, test_images(data))
    return tuple(
        picture
        for arm, own in arms.runs.items()
        for picture in gallery.detections(own[0], profiles[arm].types[0], config.num_pictures)
    )


def _caveat(config: Config, profiles: Profiles, compared: Compared, reference: str) -> str:
    few = [arm for arm, profile in profiles.items() if len(profile.seeds) < FEWEST_SEEDS]
    others = [arm for arm in profiles if arm != reference]
    unmatched = [arm for arm in others if arm not in {pair.arm for pair in compared.matched}]
    matched = [_MATCHED] if compared.matched else []
    matched += [_NOT_MATCHED.format(arms=", ".join(unmatched))] if unmatched else []
    return _CAVEAT.format(
        foreground=config.foreground,
        seeds=_FEW_SEEDS.format(arms=", ".join(few)) if few else _SEEDS,
        matched=" ".join(matched),
    ).strip()


def _metrics(profile: ErrorProfile, n: int) -> list[Metric]:
    """What one arm loses to each TIDE type, and each of Hoiem's types' share of its detections."""
    metrics = [
        metric(found, f"dAP_{kind}[{profile.arm}]", "AP points", n)
        for kind, found in zip(tide.TYPES, estimates(profile.dap), strict=True)
    ]
    for kind, found in zip(hoiem.TYPES, estimates(profile.shares), strict=True):
        better = kind == hoiem.TYPES[hoiem.CORRECT]
        metrics.append(metric(found, f"hoiem_{kind}[{profile.arm}]", "%", n, better))
    return metrics


def _size(difference: Difference) -> float:
    return abs(difference.metric.value or 0.0)


def _comparison(differences: Sequence[Difference], reference: str) -> tuple[str, Metric, str]:
    """The sentence about several arms, and the largest difference: of those shown, if any is."""
    family = family_of(len(differences))
    shown = sorted((d for d in differences if d.shown), key=_size, reverse=True)
    if not shown:
        largest = max(differences, key=_size)
        return (
            f"No difference shown to {reference} in any type of error ({family}); the largest is"
            f" {largest.arm}'s in {largest.type}, {_points(largest.metric, '+.1f')}.",
            largest.metric,
            largest.type,
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
        shown[0].type,
    )


def _costliest(profile: ErrorProfile, metrics: Sequence[Metric]) -> tuple[str, Metric, str]:
    """The sentence about a single arm, and what its costliest main type costs."""
    index = int(np.argmax(profile.dap.mean[: len(tide.MAIN_TYPES)]))
    kind, costliest = tide.MAIN_TYPES[index], metrics[index]
    return (
        f"{profile.arm} loses most to {kind} errors: {_points(costliest, '.1f')}.",
        costliest,
        kind,
    )


def _points(metric: Metric, style: str) -> str:
    if metric.value is None or metric.low is None or metric.high is None:
        return "undefined"
    interval = f"[{metric.low:{style}}, {metric.high:{style}}]"
    return f"{metric.value:{style}} AP points {interval}"
