"""How far pretraining collapses categories, and what each network's features are invariant to.

Test images are seen as they are, under the augmentation that contrastive methods train with, under
each of its parts alone, and with the object elsewhere, larger or smaller, and turned. At each level
it is measured how much of the features' variance lies between the categories, whether a second view
of an image finds that image among those of its category, how far each change moves the features,
and how alike two views and how evenly spread all images are. Arms are compared in the share of the
variance that lies between the categories.

Source: Zhao et al. 2021 (supervised pretraining looks for what is the same in a category, and may
lose what tells its images apart); Wang and Isola 2020 (alignment and uniformity).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from pydantic import Field, PositiveInt

from whytransfer.backbone.features import Centre
from whytransfer.backbone.model import Backbone
from whytransfer.core.config import Config as BaseConfig
from whytransfer.core.errors import InputError
from whytransfer.core.records import Finding, Metric
from whytransfer.core.streams import Stream
from whytransfer.data.augmentation import Augmentation
from whytransfer.data.dataset import Dataset
from whytransfer.data.factors import Drawn, factors
from whytransfer.data.sample import Source
from whytransfer.diagnose.analysis import BackboneRun
from whytransfer.diagnose.changes import POSES, Changes, Magnitudes
from whytransfer.diagnose.comparing import (
    Floats,
    Key,
    Measure,
    by_arm,
    differences,
    estimates,
    few_seeds,
    level_of,
    plain_and_drawn,
    reference_arm,
    said,
    sentence,
)
from whytransfer.diagnose.comparing_tables import difference_table, figures, value_tables
from whytransfer.diagnose.looking import Look, View, images, same_levels
from whytransfer.ops import similarity

QUESTION = "How far does pretraining collapse a category, and what do its features not see?"
NEEDS = "backbones"

_NAME = "invariance"
_FEWEST = 4
_UNCHANGED = ("plain", "first", "second", "still")
_CAVEAT = (
    "Seen on {n} test images of {classes} categories, as squares of {crop_px} px, features averaged"
    " over the map. A small share between the categories of these data is no collapse of others;"
    " one image finds itself by chance in {chance:.1%} of cases. Sensitivity is relative to how far"
    " apart two images are, so a network that tells images apart better looks less sensitive."
    " Position, scale and rotation are {poses}."
)
_EXACT = "of the rendered object alone, which is exact"
_WARPED = "of the whole view, background and all, with mirrored borders"


class Config(BaseConfig):
    """What is looked at, and who is compared with whom.

    Attributes:
        levels: Of the network; none takes all.
        view: How an image is seen.
        num_images: The most test images that are looked at.
        augmentation: Whose parts are applied; its crop is that of ``view``.
        magnitudes: How far objects are moved.
        reference: The arm that the others are compared with; by default ``random_init`` where it
            is among the arms, else the first one.
        num_draws: Draws of the bootstrap, at least; as many more as Holm's correction needs.
        seed: Of the views and the draws.
    """

    levels: tuple[str, ...] = ()
    view: View = View()
    num_images: PositiveInt = 500
    augmentation: Augmentation = Augmentation()
    magnitudes: Magnitudes = Magnitudes()
    reference: str | None = None
    num_draws: int = Field(1000, ge=100)
    seed: int = 0


def answer(
    runs: Sequence[BackboneRun], data: Dataset | None, config: Config, workspace: Path
) -> Finding:
    """Measures every network's invariances and says where the pretrainings differ.

    Raises:
        InputError: There are no data, images have no labels or are of one class, a network lacks a
            level, the view is smaller than a level's stride, an arm has a seed twice, or the
            reference is no arm.
    """
    arms = by_arm(runs, _NAME)
    reference = reference_arm(list(arms), config.reference, _NAME)
    source = images(data, "test", config.num_images, _NAME, _FEWEST)
    labels = _labels(source)
    assert data is not None
    view = config.view.of(source)
    drawn = _single_objects(factors(data, source), source)
    changes = Changes(source, view, config.augmentation, config.magnitudes, config.seed, drawn)
    look = Look(_NAME, config.levels, view)
    measures: dict[str, Measure] = {}
    weights = np.empty((0, len(source)))
    levels: list[tuple[str, ...]] = []
    for own in arms.values():
        for run in own:
            backbone = run.load()
            levels.append(look.levels_of(backbone))
            same_levels(levels, _NAME)
            if not len(weights):
                family = len(levels[0]) * (len(arms) - 1)
                stream = Stream(config.seed, "invariance/images")
                weights = plain_and_drawn(stream, len(source), config.num_draws, family)
            seen = _seen(backbone, look, changes)
            for level in levels[0]:
                at_level = {name: values[level] for name, values in seen.items()}
                _add(measures, (run.arm, run.seed, level), at_level, labels, weights)
    caveat = _CAVEAT.format(
        n=len(source),
        classes=len(np.unique(labels)),
        crop_px=view.crop_px,
        chance=_chance(labels),
        poses=_WARPED if drawn is None else _EXACT,
    )
    return _finding(list(measures.values()), reference, caveat + few_seeds(arms, reference))


def _labels(source: Source) -> similarity.Labels:
    found = [source.label(index) for index in range(len(source))]
    if None in found:
        raise InputError(
            _NAME, f"{source.name(found.index(None))} has no label", "one class per image",
            "take data with classes, such as an imagefolder",
        )  # fmt: skip
    labels = np.array(found, dtype=np.int64)
    classes, counts = np.unique(labels, return_counts=True)
    if len(classes) < 2:
        raise InputError(
            _NAME, f"all {len(source)} images are of the class {source.classes[int(classes[0])]}",
            "images of at least two classes",
        )  # fmt: skip
    if (counts > 1).sum() < 2:
        raise InputError(
            _NAME, f"{len(source)} images of {len(classes)} classes: no two classes have two",
            "several images of a class", "raise num_images",
        )  # fmt: skip
    return labels


def _single_objects(drawn: tuple[Drawn, ...] | None, source: Source) -> tuple[Drawn, ...] | None:
    """What was drawn, where every image is a square with one object; else nothing exact."""
    if drawn is None or any(len(one.figures) != 1 for one in drawn):
        return None
    sizes = {source.size(index) for index in range(len(source))}
    return drawn if all(height == width for height, width in sizes) else None


def _chance(labels: similarity.Labels) -> float:
    _, counts = np.unique(labels, return_counts=True)
    return len(counts) / len(labels)


def _seen(backbone: Backbone, look: Look, changes: Changes) -> dict[str, dict[str, Floats]]:
    """The features of every kind of view: by view, then by level."""
    still, moved = changes.poses()
    views = {
        "plain": changes.plain(),
        "first": changes.augmented(0),
        "second": changes.augmented(1),
        **changes.augmentations(),
        **moved,
    }
    side = look.view.crop_px
    ready = Look(look.analysis, look.levels, Centre(resize_px=side, crop_px=side))
    seen = {name: ready.read(backbone, view) for name, view in views.items()}
    seen["still"] = seen["plain"] if changes.drawn is None else ready.read(backbone, still)
    return seen


def _add(
    measures: dict[str, Measure],
    key: Key,
    seen: Mapping[str, Floats],
    labels: similarity.Labels,
    weights: Floats,
) -> None:
    """Adds what the features of one network at one level say, plain and under every draw."""
    n = len(labels)

    def add(measure: Measure, values: Floats) -> None:
        measures.setdefault(measure.name, measure).add(key, values)

    apart = similarity.squared_distances(similarity.gram(seen["plain"]))
    within, between = similarity.class_variances(weights, apart, labels)
    share = similarity.category_share(within, between)
    add(Measure("category_share", "share of variance between categories", n), share)
    ratio = np.divide(within, between, out=np.full(len(within), np.nan), where=between > 0)
    add(Measure("within_over_between", "within-category by between-category variance", n), ratio)
    unit = {name: similarity.unit(seen[name]) for name in ("plain", "first", "second")}
    found = found_among_class(unit["first"], unit["plain"], labels)
    retrieval = similarity.weighted_means(weights, found)
    add(Measure("retrieval", "share of images that a view finds", n), retrieval)
    for name in (name for name in seen if name not in _UNCHANGED):
        start = "still" if name in POSES else "plain"
        moved = ((seen[name] - seen[start]) ** 2).sum(axis=1)
        words = f"sensitivity to {name.replace('_', ' ')}"
        values = similarity.sensitivity(weights, moved, apart)
        add(Measure(f"sensitivity_{name}", words, n), values)
    aligned = similarity.alignment(unit["first"], unit["second"])
    aligned = similarity.weighted_means(weights, aligned)
    add(Measure("alignment", "distance of two views", n), aligned)
    even = similarity.uniformity(weights, unit["plain"])
    add(Measure("uniformity", "log potential", n), even)


def found_among_class(
    queries_ND: Floats, gallery_ND: Floats, labels_N: similarity.Labels
) -> Floats:
    """Returns (N,) whether each image's view is nearest to it among the images of its class.

    By cosine; of several equally near images each counts its share, as if one of them were picked
    at random.

    Args:
        queries_ND: Features of length 1 of a view of each image.
        gallery_ND: Those of the images, in the same order.
        labels_N: Their classes.
    """
    cosines = queries_ND @ gallery_ND.T
    cosines[labels_N[:, None] != labels_N[None, :]] = -np.inf
    nearest = cosines >= cosines.max(axis=1, keepdims=True)
    found: Floats = np.diag(nearest) / nearest.sum(axis=1)
    return found


def _finding(measures: Sequence[Measure], reference: str, caveat: str) -> Finding:
    first, rest = measures[0], measures[1:]
    found = differences([first], reference)
    further = [difference for measure in rest for difference in differences([measure], reference)]
    metrics = [metric for measure in measures for metric in estimates(measure)]
    tables = value_tables(measures, "Invariances, mean over the seeds")
    if found:
        answered, headline = sentence(found, reference)
        shown = sum(difference.shown for difference in further)
        answered += f" Of {len(further)} further comparisons the table shows {shown}."
        title = "Differences to the reference in category share (p corrected by Holm's method)"
        tables.insert(0, difference_table(found, title))
        title = "Differences in all else (p corrected by Holm's method within each measure)"
        tables.insert(1, difference_table(further, title))
    else:
        answered, headline = _alone(reference, estimates(first))
    metrics += [difference.metric for difference in (*found, *further)]
    return Finding(
        analysis=_NAME,
        question=QUESTION,
        answer=answered,
        headline=headline,
        caveat=caveat,
        metrics=tuple(metric for metric in metrics if metric.name != headline.name),
        tables=tuple(tables),
        figures=figures(measures),
    )


def _alone(arm: str, found: Sequence[Metric]) -> tuple[str, Metric]:
    """The sentence about a single arm: the level at which categories are furthest apart."""
    known = [metric for metric in found if metric.value is not None] or list(found)
    most = max(known, key=lambda metric: metric.value or 0.0)
    level = level_of(most)
    nothing = most.low is not None and most.high is not None and most.low <= 0 <= most.high
    lies = f"{arm} separates categories most at {level}: {said(most)} of the variance is between."
    return f"{lies} No difference shown between the categories." if nothing else lies, most
