"""What of an image a backbone's features still hold: pictures found from the features alone.

For each image a deep image prior is fitted until the frozen backbone sees in its picture what it
saw in the image; how close the picture is to the image says what the features still hold. Arms are
compared over the same images, each of which begins with the same generator under every arm.

Source: Zhao et al. 2021, reconstruction from features; Good_transfer, code_reconstruction_DIP
    @060ba39, whose procedure this is: layer4, 3001 steps of Adam at 0.001, 224 px of 256.
Differs: An image begins with the same weights and noise under every arm (the authors draw anew);
    the saved picture is rounded, theirs cut off. The picture is generated ImageNet-normalised and
    translated to what a backbone of other preprocessing wants.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, PositiveInt, model_validator

from whytransfer.backbone.features import Centre, Precision
from whytransfer.backbone.model import Backbone
from whytransfer.core.config import Config as BaseConfig
from whytransfer.core.config import assumed
from whytransfer.core.devices import native_bfloat16
from whytransfer.core.errors import InputError, nearest
from whytransfer.core.records import Finding, Metric, Table
from whytransfer.core.streams import Stream
from whytransfer.data.dataset import Dataset
from whytransfer.data.sample import Source
from whytransfer.data.views import center_view
from whytransfer.diagnose.analysis import BackboneRun
from whytransfer.diagnose.comparing import (
    Measure,
    by_arm,
    differences,
    estimates,
    few_seeds,
    number,
    reference_arm,
    said,
    sentence,
)
from whytransfer.diagnose.comparing_tables import difference_table, figures, value_tables
from whytransfer.diagnose.deep_image_prior import Prior
from whytransfer.diagnose.inversion_fits import Chunk, Recipe, chunks, moments
from whytransfer.diagnose.inversion_pictures import ORIGINAL, Row, write_rows
from whytransfer.diagnose.inversion_scores import FEWEST_IMAGES, Eyes, Scores
from whytransfer.diagnose.looking import Look, images
from whytransfer.diagnose.lpips import LpipsFiles, read_lpips
from whytransfer.ops.comparisons import fewest_draws
from whytransfer.ops.image_quality import SSIM_WINDOW_PX
from whytransfer.ops.resampling import image_weights, percentile_interval

QUESTION = "What of the image do the features still hold?"
NEEDS = "backbones"
RESUMES = True

_FigureRow = dict[str, str | int | float | None]

_NAME = "inversion"
_CAVEAT = (
    "{n} test images of {crop_px} px, {num_steps} steps. What a picture shows is what the features"
    " and the generator hold together: the generator alone prefers smooth, natural pictures, and"
    " what it adds is not in the features; what it could not find in that many steps may be."
    " Features of larger scale weigh more in the squared error, so channels and networks are not"
    " fitted alike, and losses of two networks are not comparable. A level is one choice among"
    " several, and another can turn the answer around. PSNR counts pixels and forgives no"
    " shift; in whose eyes a distance is measured can turn the order around. That an image can be"
    " found again does not make a backbone transfer. Intervals resample the images, each with its"
    " own start of the generator."
)
_ONE_IMAGE = (
    " One image says nothing of others: there is no interval over images, and one over seeds is of"
    " this image alone. Raise num_images."
)


class Config(BaseConfig):
    """What is inverted, how, and who is compared with whom.

    Attributes:
        levels: Whose features are inverted, each for itself.
        num_images: Test images, of more a fixed random choice. One gives pictures and numbers
            without an interval over images.
        view: How an image is seen.
        prior: The generator and its fit.
        metric: What the headline compares.
        trunks: Arms in whose eyes pictures are compared with the images (the first seed of each);
            ``None`` means all of them.
        lpips: Its weights; without them it is left out.
        reference: The arm that the others are compared with; by default ``random_init`` where it
            is among the arms, else the first one.
        num_moments: Pictures on the way, even on a logarithmic scale, for the curves.
        chunk_size: Pictures that are fitted at once. Memory grows with it: at the authors' sizes
            by about 0.15 GB each. It can move a last bit, so it is part of the recipe.
        precision: ``auto`` is ``bf16-mixed`` where the machine has it natively, else ``32-true``.
            Not the default: that it leaves the pictures what they are was not shown at full size.
        num_draws: Draws of the bootstrap, at least; as many more as Holm's correction needs.
        num_pictures: Images that are shown.
        seed: Of generators, their inputs and the bootstrap.
    """

    levels: tuple[str, ...] = Field(("layer4",), min_length=1)
    num_images: PositiveInt = assumed(
        16, "the paper shows a few and does not say over how many its distances are"
    )
    view: Centre = Centre()
    prior: Prior = Prior()
    metric: Literal["psnr", "ssim"] = assumed(
        "psnr", "the paper's numbers are perceptual distances of a network that it does not name"
    )
    trunks: tuple[str, ...] | None = assumed(
        None, "the paper does not say in whose eyes; in another's the order can be another"
    )
    lpips: LpipsFiles | None = None
    reference: str | None = None
    num_moments: PositiveInt = 8
    chunk_size: PositiveInt = 8
    precision: Precision = "32-true"
    num_draws: int = Field(1000, ge=100)
    num_pictures: int = Field(8, ge=0)
    seed: int = 0

    @model_validator(mode="after")
    def _fits(self) -> "Config":
        crop_px = self.view.crop_px
        if crop_px > self.prior.canvas_px:
            raise ValueError(
                f"view.crop_px {crop_px} is more than prior.canvas_px {self.prior.canvas_px}"
            )
        if crop_px < SSIM_WINDOW_PX:
            raise ValueError(f"view.crop_px {crop_px} is less than SSIM's window, {SSIM_WINDOW_PX}")
        return self


def settled(config: Config) -> Config:
    """Returns the settings with ``auto`` replaced and the weights' files named by their content.

    Raises:
        InputError: A file of weights is missing.
    """
    lpips = None if config.lpips is None else config.lpips.settled()
    precision = config.precision
    if precision == "auto":
        precision = "bf16-mixed" if native_bfloat16() else "32-true"
    return config.model_copy(update={"lpips": lpips, "precision": precision})


def answer(
    runs: Sequence[BackboneRun],
    data: Dataset | None,
    config: Config,
    workspace: Path,
    work: Path | None = None,
) -> Finding:
    """Inverts what every backbone saw of the test images and says whose pictures are closer.

    Args:
        work: Where what is done is kept, so that an interrupted run goes on to the same bits.

    Raises:
        InputError: There are no data, a backbone lacks a level, an image is too small for a level,
            a trunk or LPIPS, an arm has a seed twice, the reference or a trunk is no arm, or a file
            of LPIPS's weights can't be used.
        TrainingError: A loss is no longer finite.
    """
    config = settled(config)
    arms = by_arm(runs, _NAME)
    reference = reference_arm(list(arms), config.reference, _NAME)
    source = images(data, "test", config.num_images, _NAME)
    look = Look(_NAME, config.levels, config.view)
    for run in runs:
        look.levels_of(run.load())
    lpips = None if config.lpips is None else read_lpips(config.lpips)
    eyes = Eyes(_trunks(arms, config.trunks), lpips)
    eyes.require_side(config.view.crop_px)
    views = _views(source, config.view)
    recipe = Recipe(
        config.prior,
        moments(config.prior.num_steps, config.num_moments),
        config.chunk_size,
        config.precision,
        config.seed,
    )
    scores = Scores(runs, recipe.moments, len(source))
    album = _Album(runs, [own[0] for own in arms.values()], min(config.num_pictures, len(source)))
    for chunk in chunks(runs, config.levels, views, recipe, work):
        scores.add(chunk, views, eyes)
        album.add(chunk)
    found = _finding(scores, reference, few_seeds(arms, reference), config)
    pictures = [
        picture
        for level in config.levels
        for picture in write_rows(workspace, level, album.rows(level, source, views, scores))
    ]
    return found.model_copy(update={"pictures": tuple(pictures)})


def _trunks(
    arms: dict[str, list[BackboneRun]], wanted: tuple[str, ...] | None
) -> dict[str, Backbone]:
    for name in wanted or ():
        if name not in arms:
            raise InputError(
                f"{_NAME}, field trunks", f"found {name!r}", "some of " + ", ".join(arms),
                nearest(name, arms),
            )  # fmt: skip
    return {name: arms[name][0].load() for name in (arms if wanted is None else wanted)}


def _views(source: Source, view: Centre) -> torch.Tensor:
    """Returns the images as they are seen, (N, S, S, 3) uint8."""
    seen = [
        center_view(source[index].image, view.resize_px, view.crop_px)
        for index in range(len(source))
    ]
    return torch.from_numpy(np.stack(seen))


class _Album:
    """The last pictures of the images that are shown, of the first seed of every arm."""

    def __init__(
        self, runs: Sequence[BackboneRun], shown: Sequence[BackboneRun], num_images: int
    ) -> None:
        self._runs, self._shown, self._num_images = runs, shown, num_images
        self._tiles: dict[tuple[str, str, int], NDArray[np.uint8]] = {}

    def add(self, chunk: Chunk) -> None:
        """Keeps what is to be shown of a chunk."""
        for problem, pictures in zip(chunk.problems, chunk.pictures, strict=True):
            run = self._runs[problem.run]
            if run in self._shown and problem.image < self._num_images:
                self._tiles[run.arm, problem.level, problem.image] = pictures[-1]

    def rows(self, level: str, source: Source, views: torch.Tensor, scores: Scores) -> list[Row]:
        """Returns the rows of a level's contact sheet."""
        rows = []
        for image in range(self._num_images):
            tiles, captions = {ORIGINAL: views[image].numpy()}, {}
            for run in self._shown:
                key = (run.arm, run.seed, level)
                tiles[run.arm] = self._tiles[run.arm, level, image]
                own = {name: scores.values[name][key][-1, image] for name in ("psnr", "ssim")}
                captions[run.arm] = f"{own['psnr']:.1f} dB, SSIM {own['ssim']:.2f}"
            rows.append(Row(source.name(image), tiles, captions))
        return rows


def _finding(scores: Scores, reference: str, few: str, config: Config) -> Finding:
    main, *others = (name for name in _in_order(scores, config.metric) if "." not in name)
    num_arms = len({run.arm for run in scores.runs})
    num_draws = max(config.num_draws, fewest_draws((num_arms - 1) * len(config.levels)))
    weights = image_weights(Stream(config.seed, "inversion/images"), scores.num_images, num_draws)
    measure = scores.measure(main, weights)
    further = [scores.measure(name, weights) for name in others]
    every = [measure, *further]
    found = differences([measure], reference)
    # A loss of one network says nothing beside another's.
    more = [d for m in further if m.name != "loss" for d in differences([m], reference)]
    metrics = [metric for one in every for metric in estimates(one)]
    tables = value_tables(every, "How close the pictures are to the images")
    tables += _tables_of_eyes(scores, weights)
    if found:
        answered, headline = sentence(found, reference)
        title = f"Differences to the reference in {measure.words} (p corrected by Holm's method)"
        tables.insert(0, difference_table(found, title))
        title = "Differences in the other measures (p corrected by Holm's method within each)"
        tables.insert(1, difference_table(more, title))
    else:
        answered, headline = _alone(estimates(measure), reference, config)
    metrics += [difference.metric for difference in (*found, *more)]
    caveat = _CAVEAT.format(
        n=scores.num_images, crop_px=config.view.crop_px, num_steps=config.prior.num_steps
    )
    if scores.num_images < FEWEST_IMAGES:
        caveat += _ONE_IMAGE
    return Finding(
        analysis=_NAME,
        question=QUESTION,
        answer=answered,
        headline=headline,
        caveat=caveat + few,
        metrics=tuple(metric for metric in metrics if metric.name != headline.name),
        tables=tuple(tables),
        figures={
            **figures([one for one in every if one.name != "loss"]),
            **_curves(scores, weights, [one.name for one in every]),
        },
    )


def _in_order(scores: Scores, main: str) -> list[str]:
    """The measures, that of the headline first."""
    return [main, *(name for name in scores.values if name != main)]


def _alone(found: Sequence[Metric], arm: str, config: Config) -> tuple[str, Metric]:
    """The sentence about a single arm: what its first level gives."""
    level, metric = config.levels[0], found[0]
    name = config.metric.upper()
    return f"Pictures found from {arm}'s {level} have a {name} of {said(metric)}.", metric


def _tables_of_eyes(scores: Scores, weights: NDArray[np.int64]) -> list[Table]:
    """A table per trunk: the distance at each of its levels."""
    parts = [name for name in scores.values if "." in name]
    trunks = dict.fromkeys(name.rpartition(".")[0] for name in parts)
    found = []
    for trunk in trunks:
        own = [scores.measure(n, weights) for n in parts if n.rpartition(".")[0] == trunk]
        title = f"Distance in the eyes of {trunk.removeprefix('distance_')}, level by level"
        named = [_renamed(measure) for measure in own]
        found.append(value_tables(named, title)[0])
    return found


def _renamed(measure: Measure) -> Measure:
    measure.name = f"its {measure.name.rpartition('.')[2]}"
    return measure


def _curves(
    scores: Scores, weights: NDArray[np.int64], names: Sequence[str]
) -> dict[str, tuple[_FigureRow, ...]]:
    """Measures over the steps, one figure per measure and level: the mean over the seeds."""
    found: dict[str, list[_FigureRow]] = {}
    for name in names:
        for moment, step in enumerate(scores.moments):
            measure = scores.measure(name, weights, moment)
            for level in measure.levels:
                rows = found.setdefault(f"{name}_over_steps_{level}", [])
                rows += [
                    {"arm": arm, "x": step, **_point(measure, arm, level)} for arm in measure.arms
                ]
    return {name: tuple(rows) for name, rows in found.items()}


def _point(measure: Measure, arm: str, level: str) -> _FigureRow:
    """What an arm has at a level: the mean over its seeds, with the images' interval."""
    seeds = measure.seeds(arm)
    drawn = measure.drawn(arm, seeds, level)
    assert drawn is not None
    low, high = map(number, percentile_interval(drawn.mean(axis=0)))
    return {"value": float(measure.points(arm, seeds, level).mean()), "low": low, "high": high}
