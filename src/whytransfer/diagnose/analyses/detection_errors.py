"""Which errors a detector makes, by Hoiem's and TIDE's types, and which pretraining makes fewer.

Every arm's errors are typed and costed, in all and by class, group of classes and size of object;
every other arm is compared with the reference arm under the same draws of the test images and,
from three seeds on, over the seeds as well. The differences of all arms in TIDE's six main types
are one family, corrected by Holm's method. Where further complete runs of other lengths are given,
and one comes near enough, the comparison is made again at matched AP, because a better detector has
other errors anyway.

Source: Zhao et al. 2021, detection error diagnosis; Hoiem et al. 2012; Bolya et al. 2020.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat

from whytransfer.core.config import Config as BaseConfig
from whytransfer.core.records import Finding, Metric, Picture
from whytransfer.core.streams import Stream
from whytransfer.data.dataset import Dataset
from whytransfer.diagnose.analysis import DetectionRun, Variant, of_lengths
from whytransfer.diagnose.comparable_runs import Arms, by_arm, groups_in
from whytransfer.diagnose.comparing import paired_seeds, reference_arm
from whytransfer.diagnose.error_answer import comparison, costliest, points
from whytransfer.diagnose.error_comparison import Compared, compared
from whytransfer.diagnose.error_differences import COSTS, IN_HOIEM, Profiles
from whytransfer.diagnose.error_estimates import FEWEST_IMAGES, estimates, metric
from whytransfer.diagnose.error_matching import at_matched_ap
from whytransfer.diagnose.error_profile import ErrorProfile, ErrorRules, error_profile
from whytransfer.diagnose.error_tables import figures, tables
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
_FEW_COMMON = (
    "Fewer than three seeds, of its own or in common with {reference}: {arms}. There seeds are"
    " shown as points, and intervals of differences resample the test images under fixed models,"
    " which says nothing about another seed."
)
_SEEDS = "Intervals are over other seeds and other test images."
_FEW_IMAGES = (
    "Fewer than two test images have an object, so there is no interval and nothing is shown."
)
_MATCHED = (
    "At matched AP, the better arm stands in by the complete run whose AP is nearest, if at most"
    " {within:g} AP points are left."
)
_FIXED = "There fixed models are compared of {arms}, for lack of three seeds in common."
_TOO_FAR = "Of {arms} no run comes so near, so no difference is given there."
_NOT_MATCHED = (
    "No further complete runs of the better arm were given for {arms}, so nothing is said there at"
    " matched AP, and a better detector has other errors anyway."
)


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
        matched_within: AP points at foreground that two arms may be apart to be compared at matched
            AP; of those that no run brings so near, no difference is given there.
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
    matched_within: NonNegativeFloat = 1.0
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
    found = Compared()
    if len(profiles) > 1:
        within = config.matched_within
        matched = at_matched_ap(profiles, arms.variants, reference, rules, weights, within)
        found = compared(profiles, reference, num_images, matched)
    own_metrics = [m for profile in profiles.values() for m in _metrics(profile, num_images)]
    sentence, headline, kind = (
        comparison(found, reference)
        if found.plain.tide
        else costliest(profiles[reference], own_metrics)
    )
    compared_by_type = (*found.plain.tide, *found.at_matched.tide)
    metrics = (*own_metrics, *(difference.metric for difference in compared_by_type))
    return Finding(
        analysis="detection_errors",
        question=QUESTION,
        answer=sentence,
        headline=headline,
        caveat=_caveat(config, profiles, found, reference),
        metrics=tuple(one for one in metrics if one.name != headline.name),
        tables=tables(profiles, found, truth.classes, rules.groups, config.rule),
        figures=figures(profiles, found.plain.tide, kind),
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


def _caveat(config: Config, profiles: Profiles, found: Compared, reference: str) -> str:
    return _CAVEAT.format(
        foreground=config.foreground,
        seeds=_of_seeds(profiles, reference),
        matched=_of_matched_ap(found, profiles, reference, config.matched_within),
    ).strip()


def _of_seeds(profiles: Profiles, reference: str) -> str:
    """What intervals speak of: other seeds only where every comparison pairs some."""
    base = profiles[reference]
    if base.dap.num_images < FEWEST_IMAGES:
        return _FEW_IMAGES
    few = [arm for arm, own in profiles.items() if not paired_seeds(own.seeds, base.seeds)]
    if not few:
        return _SEEDS
    words = _FEW_SEEDS if len(profiles) == 1 else _FEW_COMMON
    return words.format(arms=", ".join(few), reference=reference)


def _of_matched_ap(found: Compared, profiles: Profiles, reference: str, within: float) -> str:
    """Which arms are compared at matched AP, and why others are not."""
    base = profiles[reference].seeds
    holding = [pair for pair in found.matched if pair.holds]
    # Of arms that are fixed models as they are, the caveat says so already.
    fixed = [
        pair.arm
        for pair in holding
        if paired_seeds(profiles[pair.arm].seeds, base) and not pair.over_seeds
    ]
    others = [pair for pair in found.matched if not pair.holds]
    too_far = [f"{o.arm} ({points(o.gap_left, '+.1f')} left)" for o in others if o.tried]
    without = [pair.arm for pair in others if not pair.tried]
    sentences = [
        (_MATCHED.format(within=within), holding or too_far),
        (_FIXED.format(arms=", ".join(fixed)), fixed),
        (_TOO_FAR.format(arms=", ".join(too_far)), too_far),
        (_NOT_MATCHED.format(arms=", ".join(without)), without),
    ]
    return " ".join(words for words, said in sentences if said)


def _metrics(profile: ErrorProfile, n: int) -> list[Metric]:
    """What one arm loses to each TIDE type, Hoiem's types' shares, what they cost, AP by size."""
    own = f"[{profile.arm}]"
    metrics = [
        metric(found, f"dAP_{kind}{own}", "AP points", n)
        for kind, found in zip(tide.TYPES, estimates(profile.dap), strict=True)
    ]
    for kind, found in zip(hoiem.TYPES, estimates(profile.shares), strict=True):
        metrics.append(metric(found, f"hoiem_{kind}{own}", "%", n, kind in IN_HOIEM.better))
    for kind, found in zip(COSTS.types, estimates(profile.costs), strict=True):
        name = COSTS.name.format(kind) + own
        metrics.append(metric(found, name, COSTS.unit, n, kind in COSTS.better))
    for (_, size), measured in profile.sizes.items():
        name = f"{COSTS.name.format('AP')}[{profile.arm}, {size}]"
        metrics += [metric(found, name, COSTS.unit, n, True) for found in estimates(measured)]
    return metrics
