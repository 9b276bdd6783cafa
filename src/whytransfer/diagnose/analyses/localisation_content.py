"""What can be read out of a network's features: position, size, pose and colour of an object.

At each level a ridge regression reads each factor from the features of training images, averaged
over the map (pooled) or over a grid that keeps where things are (grid); its penalty is chosen on
the training images by generalised cross-validation, and R² is of the test images. Of the world's
pictures the factors are exact; of images with boxes, position and size of the box are read.

Source: Hoerl and Kennard 1970 (ridge regression); Golub, Heath and Wahba 1979 (its penalty); Alain
and Bengio 2016 (linear readouts of every level).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, PositiveFloat, PositiveInt

from whytransfer.backbone.features import Centre
from whytransfer.backbone.model import Backbone
from whytransfer.core.config import Config as BaseConfig
from whytransfer.core.errors import InputError
from whytransfer.core.records import Finding, Metric, Table
from whytransfer.core.streams import Stream
from whytransfer.data.dataset import Dataset
from whytransfer.diagnose.analysis import BackboneRun
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
from whytransfer.diagnose.comparing_tables import Row, difference_table, figures, value_tables
from whytransfer.diagnose.contents import Contents, contents
from whytransfer.diagnose.looking import Look, View, same_levels
from whytransfer.ops.ridge import decompose, fit, r_squared

QUESTION = "Can position, size, pose and colour of an object be read out of the features?"
NEEDS = "backbones"

Pooling = Literal["pooled", "grid"]

_NAME = "localisation_content"
_FEWEST = 20
_CAVEAT = (
    "R² of a linear readout: what it can't read may still be there in another form, and more"
    " features read more from few images. Read from {train} training images, scored on {test} test"
    " images as squares of {crop_px} px, {kind}. Intervals resample the test images, not those that"
    " the readout was fitted to."
)
_EXACT = "factors exact; the angle of a round or symmetric shape can't be read from any features"
_BOXES = "position and size of the annotated box of images with a single object"


class Config(BaseConfig):
    """What is read, and who is compared with whom.

    Attributes:
        levels: Of the network; none takes all.
        view: How an image is seen: by default its whole short side.
        num_train: The most training images that a readout is fitted to.
        num_test: The most test images that it is scored on.
        poolings: Averaged over the map, over a grid, or both.
        num_values: Numbers per level, about, of the grid.
        penalties: That are tried, in units of the features' mean variance along a direction.
        reference: The arm that the others are compared with; by default ``random_init`` where it
            is among the arms, else the first one.
        num_draws: Draws of the bootstrap, at least; as many more as Holm's correction needs.
        seed: Of the draws.
    """

    levels: tuple[str, ...] = ()
    view: View = View()
    num_train: PositiveInt = 1000
    num_test: PositiveInt = 500
    poolings: tuple[Pooling, ...] = Field(("pooled", "grid"), min_length=1)
    num_values: PositiveInt = 4096
    penalties: tuple[PositiveFloat, ...] = Field(
        tuple(10.0**power for power in range(-6, 4)), min_length=1
    )
    reference: str | None = None
    num_draws: int = Field(1000, ge=100)
    seed: int = 0


@dataclass(frozen=True)
class _Task:
    """What every network is asked: the images to fit and to score on, and their factors."""

    train: Contents
    test: Contents
    fitted: dict[str, Floats]
    scored: dict[str, Floats]
    view: Centre


def answer(
    runs: Sequence[BackboneRun], data: Dataset | None, config: Config, workspace: Path
) -> Finding:
    """Reads the factors out of every network and says where the pretrainings differ.

    Raises:
        InputError: There are no data, or none with single objects whose factors or boxes are known,
            a network lacks a level, the view is smaller than a level's stride, an arm has a seed
            twice, or the reference is no arm.
    """
    arms = by_arm(runs, _NAME)
    reference = reference_arm(list(arms), config.reference, _NAME)
    task = _task(data, config)
    measures: dict[tuple[str, str], Measure] = {
        (factor, pooling): Measure(
            f"{factor}_{pooling}", f"R² of {factor} ({pooling})", len(task.test.source), better=True
        )
        for factor in task.fitted
        for pooling in dict.fromkeys(config.poolings)
    }
    penalties: list[Row] = []
    weights = np.empty((0, len(task.test.source)))
    levels: list[tuple[str, ...]] = []
    for own in arms.values():
        for run in own:
            backbone = run.load()
            levels.append(Look(_NAME, config.levels, task.view).levels_of(backbone))
            same_levels(levels, _NAME)
            if not len(weights):
                family = len(measures) * len(levels[0]) * (len(arms) - 1)
                stream = Stream(config.seed, "localisation_content/images")
                count = len(task.test.source)
                weights = plain_and_drawn(stream, count, config.num_draws, family)
            penalties += _read(run, backbone, task, config, measures, weights)
    caveat = _CAVEAT.format(
        train=len(task.train.source),
        test=len(task.test.source),
        crop_px=task.view.crop_px,
        kind=_EXACT if task.test.exact else _BOXES,
    )
    return _finding(
        list(measures.values()), reference, caveat + few_seeds(arms, reference), penalties
    )


def _task(data: Dataset | None, config: Config) -> _Task:
    if data is None:
        raise InputError(_NAME, "no data given", "the images to look at", "name them with --data")
    train = contents(data, "train", _NAME).limited(config.num_train)
    test = contents(data, "test", _NAME).limited(config.num_test)
    view = config.view.of(train.source, share=1.0)
    train, fitted = train.seen(view)
    test, scored = test.seen(view)
    for split, found in (("train", train), ("test", test)):
        if len(found.source) < _FEWEST:
            raise InputError(
                _NAME, f"{len(found.source)} {split} images show a single object inside the view",
                f"at least {_FEWEST}", "take other data, or a larger view",
            )  # fmt: skip
    return _Task(train, test, fitted, scored, view)


def _read(
    run: BackboneRun,
    backbone: Backbone,
    task: _Task,
    config: Config,
    measures: Mapping[tuple[str, str], Measure],
    weights: Floats,
) -> list[Row]:
    """Adds what can be read out of one network; returns the penalties that were chosen."""
    chosen: list[Row] = []
    for pooling in dict.fromkeys(config.poolings):
        wanted = config.num_values if pooling == "grid" else None
        look = Look(_NAME, config.levels, task.view, wanted)
        fitted_on = look.read(backbone, task.train.source, "train")
        scored_on = look.read(backbone, task.test.source, "test")
        for level, values in fitted_on.items():
            features = decompose(values)
            for factor, targets in task.fitted.items():
                ridge = fit(features, targets, config.penalties)
                predicted = ridge.predict(scored_on[level])
                key: Key = (run.arm, run.seed, level)
                explained = r_squared(weights, predicted, task.scored[factor])
                measures[factor, pooling].add(key, explained)
                edge = "yes" if ridge.at_edge else "no"
                chosen.append(
                    {
                        "arm": run.arm, "seed": run.seed, "level": level, "factor": factor,
                        "features": pooling, "penalty": ridge.penalty, "at an end": edge,
                    }
                )  # fmt: skip
    return chosen


def _finding(
    measures: Sequence[Measure], reference: str, caveat: str, penalties: Sequence[Row]
) -> Finding:
    found = differences(measures, reference)
    own = [metric for measure in measures for metric in estimates(measure)]
    title = "R² of linear readouts on test images, mean over the seeds"
    tables = value_tables(measures, title)
    if found:
        answered, headline = sentence(found, reference)
        title = "Differences to the reference in R² (p corrected by Holm's method)"
        tables.insert(0, difference_table(found, title))
    else:
        answered, headline = _alone(reference, measures)
    columns = ("arm", "seed", "level", "factor", "features", "penalty", "at an end")
    title = "Penalties chosen (one at an end of those tried says that more should be)"
    tables.append(Table(title=title, columns=columns, rows=tuple(penalties)))
    metrics = [*own, *(difference.metric for difference in found)]
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


def _alone(arm: str, measures: Sequence[Measure]) -> tuple[str, Metric]:
    """The sentence about a single arm: where each factor is read best, the best one first."""
    best = []
    for measure in measures:
        known = [metric for metric in estimates(measure) if metric.value is not None]
        if known:
            most = max(known, key=lambda metric: metric.value or 0.0)
            level = level_of(most)
            best.append((f"{measure.words} is {said(most)} at {level}", most))
    if not best:
        nothing = estimates(measures[0])[0]
        return f"Nothing can be read out of {arm}: the factors do not vary.", nothing
    best.sort(key=lambda pair: -(pair[1].value or 0.0))
    headline = best[0][1]
    empty = headline.low is not None and headline.low <= 0 <= (headline.high or 0.0)
    answered = f"{arm}, at its best level each: {'; '.join(words for words, _ in best)}."
    return answered + (" No difference shown to guessing the mean." if empty else ""), headline
