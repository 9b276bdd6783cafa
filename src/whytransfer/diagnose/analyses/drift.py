"""How far fine-tuning moves a network, level by level: features, weights and the features' rank.

Every network is read before and after its fine-tuning on the same test images. Their features at
each level are compared by linear CKA, their weights by relative distance, and the number of
directions that the features fill is counted on both sides. Arms are compared in CKA. The runs are
transfers of a store alone, since a checkpoint doesn't say with which network it began.

Source: Kornblith et al. 2019 (CKA); Song et al. 2012, Nguyen et al. 2021 (without its bias); Roy
and Vetterli 2007 (effective rank).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from whytransfer.backbone.model import Backbone
from whytransfer.core.config import Config as BaseConfig
from whytransfer.core.records import Finding, Metric, Table
from whytransfer.core.streams import Stream
from whytransfer.data.dataset import Dataset
from whytransfer.diagnose.analysis import FineTunedRun
from whytransfer.diagnose.comparing import (
    Measure,
    by_arm,
    differences,
    estimates,
    few_seeds,
    level_of,
    number,
    reference_arm,
    said,
    sentence,
)
from whytransfer.diagnose.comparing_tables import difference_table, figures, value_tables
from whytransfer.diagnose.looking import Look, View, images, same_levels
from whytransfer.ops.seeds_and_images import groups_left_out
from whytransfer.ops.similarity import (
    debiased_cka,
    effective_rank,
    gram,
    linear_cka,
    num_directions,
    relative_distance,
    spectrum,
)

QUESTION = "What of a pretrained network does fine-tuning keep?"
NEEDS = "fine_tuned"

_NAME = "drift"
_FEWEST_PER_GROUP = 2
_CAVEAT = (
    "Seen on {n} test images as squares of {crop_px} px, features averaged over"
    " {cells}. CKA is of what comes out at a level, so a level that was changed shows at every"
    " level behind it, too; the distance of weights is of the level alone, but weights can move far"
    " and compute the same. What is kept is not thereby what transfers. Intervals over images"
    " leave out one of {groups} groups of images at a time."
)


class Config(BaseConfig):
    """What is looked at, and who is compared with whom.

    Attributes:
        levels: Of the network; none takes all.
        view: How an image is seen.
        num_images: The most test images that are looked at.
        num_values: Numbers per level, about, of features averaged over a grid; ``None`` averages
            over the whole map.
        reference: The arm that the others are compared with; by default ``random_init`` where it
            is among the arms, else the first one.
        num_groups: Groups of images of the jackknife.
        share: Of the variance, whose directions are counted.
        seed: Of the groups.
    """

    levels: tuple[str, ...] = ()
    view: View = View()
    num_images: PositiveInt = 500
    num_values: PositiveInt | None = None
    reference: str | None = None
    num_groups: int = Field(20, ge=4)
    share: float = Field(0.99, gt=0, lt=1)
    seed: int = 0


@dataclass
class _Measures:
    """All that is measured, filled run by run."""

    cka: Measure
    plain_cka: Measure
    rank_before: Measure
    rank_after: Measure
    rank_change: Measure
    directions_before: Measure
    directions_after: Measure
    weights: Measure
    layers: dict[tuple[str, str], list[float]] = field(default_factory=dict)

    def all(self) -> list[Measure]:
        """All measures, in the order of the table."""
        return [value for value in vars(self).values() if isinstance(value, Measure)]


def answer(
    runs: Sequence[FineTunedRun], data: Dataset | None, config: Config, workspace: Path
) -> Finding:
    """Compares every network with what it became and says where the pretrainings differ.

    Raises:
        InputError: There are no data or too few images, a network lacks a level, the view is
            smaller than a level's stride, an arm has a seed twice, or the reference is no arm.
    """
    arms = by_arm(runs, _NAME)
    reference = reference_arm(list(arms), config.reference, _NAME)
    fewest = _FEWEST_PER_GROUP * config.num_groups
    source = images(data, "test", config.num_images, _NAME, fewest)
    look = Look(_NAME, config.levels, config.view.of(source), config.num_values)
    groups = groups_left_out(Stream(config.seed, "drift/groups"), len(source), config.num_groups)
    kept = [np.arange(len(source)), *(np.flatnonzero(row) for row in groups)]
    measures = _blank(len(source), config)
    read_levels = []
    for own in arms.values():
        for run in own:
            before, after = run.before(), run.after()
            read_levels += [look.levels_of(before), look.levels_of(after)]
            same_levels(read_levels, _NAME)
            first, second = look.read(before, source), look.read(after, source)
            for level in read_levels[0]:
                key = (run.arm, run.seed, level)
                _add_features(
                    measures, key, (gram(first[level]), gram(second[level])), kept, config
                )
            _add_weights(measures, run, before, after, read_levels[0])
    return _finding(measures, reference, few_seeds(arms, reference), look, config)


def _blank(n: int, config: Config) -> _Measures:
    percent = f"{100 * config.share:g}"
    return _Measures(
        cka=Measure("cka", "CKA", n, sampling="jackknife"),
        plain_cka=Measure("cka_uncorrected", "uncorrected CKA", n, sampling="jackknife"),
        rank_before=Measure("rank_before", "effective rank", n, sampling="jackknife"),
        rank_after=Measure("rank_after", "effective rank", n, sampling="jackknife"),
        rank_change=Measure("rank_change", "change of rank", n, sampling="jackknife"),
        directions_before=Measure(f"directions_{percent}_before", "number of directions", n),
        directions_after=Measure(f"directions_{percent}_after", "number of directions", n),
        weights=Measure("weight_distance", "distance of weights", n),
    )


def _add_features(
    measures: _Measures,
    key: tuple[str, int, str],
    grams: tuple[NDArray[np.float64], NDArray[np.float64]],
    kept: Sequence[NDArray[np.int64]],
    config: Config,
) -> None:
    """Adds what the features of one level say: of all images, then without each group of them."""
    found = []
    for rows in kept:
        first, second = (matrix[np.ix_(rows, rows)] for matrix in grams)
        before, after = effective_rank(spectrum(first)), effective_rank(spectrum(second))
        similar = debiased_cka(first, second), linear_cka(first, second)
        found.append((*similar, before, after, after - before))
    sampled = (
        measures.cka,
        measures.plain_cka,
        measures.rank_before,
        measures.rank_after,
        measures.rank_change,
    )
    for measure, values in zip(sampled, np.array(found).T, strict=True):
        measure.add(key, values)
    # A count jumps where an image is left out, so no jackknife tells how sure it is.
    counted = (measures.directions_before, measures.directions_after)
    for measure, matrix in zip(counted, grams, strict=True):
        measure.add(key, np.array([num_directions(spectrum(matrix), config.share)]))


def _add_weights(
    measures: _Measures,
    run: FineTunedRun,
    before: Backbone,
    after: Backbone,
    levels: Sequence[str],
) -> None:
    """Adds how far the weights of each level went, and those of each layer."""
    first, second = _weights(before), _weights(after)
    for level in levels:
        names = before.weights_of(level)
        flat = [np.concatenate([net[name].ravel() for name in names]) for net in (first, second)]
        distance = relative_distance(flat[0], flat[1])
        measures.weights.add((run.arm, run.seed, level), np.array([distance]))
    shown = {name for level in levels for name in before.weights_of(level)}
    for name, values in first.items():
        if name in shown and values.ndim in (2, 4):
            distance = relative_distance(values, second[name])
            measures.layers.setdefault((run.arm, name), []).append(distance)


def _weights(backbone: Backbone) -> dict[str, NDArray[np.float64]]:
    return {
        name: value.detach().numpy().astype(np.float64)
        for name, value in backbone.net.named_parameters()
    }


def _finding(measures: _Measures, reference: str, few: str, look: Look, config: Config) -> Finding:
    every = measures.all()
    found = differences([measures.cka], reference)
    further = [
        d for m in (measures.rank_change, measures.weights) for d in differences([m], reference)
    ]
    metrics = [metric for measure in every for metric in estimates(measure)]
    if found:
        answered, headline = sentence(found, reference)
        begins = {d.arm: d.level for d in reversed(found) if d.shown}
        if begins:
            first = (f"{arm} from {level} on" for arm, level in reversed(begins.items()))
            answered += f" CKA differs: {', '.join(first)}."
    else:
        answered, headline = _alone(reference, estimates(measures.cka))
    metrics += [difference.metric for difference in (*found, *further)]
    tables = value_tables(every, "What is kept, and the rank of the features before and after")
    tables.append(_layer_table(measures))
    if found:
        title = "Differences to the reference in CKA (p corrected by Holm's method)"
        tables.insert(0, difference_table(found, title))
        title = "Differences in rank and weights (p corrected by Holm's method within each measure)"
        tables.insert(1, difference_table(further, title))
    cells = (
        "the whole map"
        if config.num_values is None
        else f"a grid of about {config.num_values} numbers"
    )
    caveat = _CAVEAT.format(
        n=measures.cka.n, crop_px=look.view.crop_px, cells=cells, groups=config.num_groups
    )
    return Finding(
        analysis=_NAME,
        question=QUESTION,
        answer=answered,
        headline=headline,
        caveat=caveat + few,
        metrics=tuple(metric for metric in metrics if metric.name != headline.name),
        tables=tuple(tables),
        figures=figures(every),
    )


def _alone(arm: str, found: Sequence[Metric]) -> tuple[str, Metric]:
    """The sentence about a single arm: the level that keeps least of what it was."""
    known = [metric for metric in found if metric.value is not None] or list(found)
    least = min(known, key=lambda metric: metric.value or 0.0)
    level = level_of(least)
    nothing = least.low is not None and least.high is not None and least.low <= 0 <= least.high
    unrelated = " No difference shown to features that are unrelated." if nothing else ""
    return (
        f"{arm} keeps least at {level}: CKA {said(least)} between before and after.{unrelated}",
        least,
    )


def _layer_table(measures: _Measures) -> Table:
    """How far each layer's weights went, by their length before; mean over the seeds."""
    rows = [
        {"arm": arm, "layer": name, "distance": number(float(np.mean(values)))}
        for (arm, name), values in measures.layers.items()
    ]
    title = "Distance of each layer's weights, by their length before"
    return Table(title=title, columns=("arm", "layer", "distance"), rows=tuple(rows))
