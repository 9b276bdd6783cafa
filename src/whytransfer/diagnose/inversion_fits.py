"""Fits a picture to what each network saw of each image, chunk after chunk, and keeps what is done.

A problem is one image, one level and one network. A chunk of them is in memory at a time: their
generators, and one network for each of its runs. Finished chunks, and now and then the state of
the one at work, are kept in a folder that survives a kill.

Letters: P problems of a chunk, K moments at which pictures are taken, S side of a picture.
"""

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from whytransfer.backbone.features import Precision
from whytransfer.backbone.folding import folded
from whytransfer.backbone.model import Backbone
from whytransfer.backbone.preprocessing import Preprocessing
from whytransfer.core.devices import on_gpu
from whytransfer.core.errors import InputError, TrainingError
from whytransfer.core.store import writing
from whytransfer.core.streams import Stream
from whytransfer.diagnose.analysis import BackboneRun
from whytransfer.diagnose.deep_image_prior import Fit, Group, Prior, generator, noise

_log = logging.getLogger(__name__)

KEEP_SECONDS = 600.0
"""How often the state of the chunk at work is kept."""

_IMAGENET = Preprocessing()


@dataclass(frozen=True)
class Problem:
    """One picture to be found: by numbers of the run and of the image, and the level's name."""

    run: int
    level: str
    image: int


@dataclass(frozen=True)
class Recipe:
    """How the pictures are found.

    Attributes:
        moments: The numbers of steps after which a picture is taken, ascending; the last ends it.
        chunk_size: Problems at a time.
        precision: Settled; ``64-true`` for proofs.
        seed: Of the generators' weights and inputs.
    """

    prior: Prior
    moments: tuple[int, ...]
    chunk_size: int
    precision: Precision
    seed: int

    @property
    def dtype(self) -> torch.dtype:
        """Of weights and losses."""
        return torch.float64 if self.precision == "64-true" else torch.float32


@dataclass(frozen=True)
class Chunk:
    """What was found for some problems.

    Attributes:
        pictures: (P, K, S, S, 3) uint8 RGB.
        losses: (P, K) mean squared error of the features at the step that led to each picture.
    """

    problems: tuple[Problem, ...]
    pictures: NDArray[np.uint8]
    losses: NDArray[np.float64]


def moments(num_steps: int, count: int) -> tuple[int, ...]:
    """Returns steps at which pictures are taken: even on a logarithmic scale, the last one too.

    >>> moments(3001, 8)
    (1, 3, 10, 31, 97, 305, 956, 3001)
    """
    found = np.geomspace(1, num_steps, count) if count > 1 else np.array([num_steps])
    return tuple(sorted({round(float(step)) for step in found} | {num_steps}))


def chunks(
    runs: Sequence[BackboneRun],
    levels: Sequence[str],
    views: Tensor,
    recipe: Recipe,
    work: Path | None = None,
) -> Iterator[Chunk]:
    """Yields what was found, chunk by chunk: every run, its levels, the images of each.

    For an image all networks and levels begin with the same generator and noise, so that what
    differs between two pictures is due to the features.

    Args:
        runs: Whose networks are looked through.
        levels: Names that all of them have.
        views: (N, S, S, 3) uint8, the images as the networks see them.
        recipe: How.
        work: Where finished chunks are kept, and found again; of this recipe and these inputs.

    Raises:
        InputError: A network's features are not finite.
        TrainingError: A loss is no longer finite.
    """
    problems = [
        Problem(run, level, image)
        for run in range(len(runs))
        for level in levels
        for image in range(len(views))
    ]
    starts = range(0, len(problems), recipe.chunk_size)
    for number, start in enumerate(starts):
        own = tuple(problems[start : start + recipe.chunk_size])
        kept = _Kept(work, number)
        found = kept.read(own)
        if found is None:
            _log.info("inversion: chunk %d of %d", number + 1, len(starts))
            found = _Chunk(runs, views, recipe, own, kept).fit()
            kept.write(found)
        yield found


class _Kept:
    """The files of one chunk; without a folder nothing is kept."""

    def __init__(self, work: Path | None, number: int) -> None:
        self._folder = work
        self._done = f"chunk-{number:05d}.npz"
        self._state = f"chunk-{number:05d}.pt"

    def read(self, problems: tuple[Problem, ...]) -> Chunk | None:
        if self._folder is None or not (self._folder / self._done).is_file():
            return None
        with np.load(self._folder / self._done) as file:
            return Chunk(problems, file["pictures"], file["losses"])

    def write(self, chunk: Chunk) -> None:
        if self._folder is not None:
            _write_whole(
                self._folder / self._done,
                lambda file: np.savez(file, pictures=chunk.pictures, losses=chunk.losses),
            )
            (self._folder / self._state).unlink(missing_ok=True)

    def read_state(self) -> dict[str, Any] | None:
        if self._folder is None or not (self._folder / self._state).is_file():
            return None
        state: dict[str, Any] = torch.load(self._folder / self._state, weights_only=True)
        return state

    def write_state(self, state: dict[str, Any]) -> None:
        if self._folder is not None:
            _write_whole(self._folder / self._state, lambda file: torch.save(state, file))


def _write_whole(path: Path, fill: Callable[[BinaryIO], None]) -> None:
    """Writes a file that is either the old or the whole new one, even after a kill."""
    aside = path.with_name(f".{path.name}")
    with writing(path.parent):
        with aside.open("wb") as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)


class _Chunk:
    """The fit of one chunk's problems."""

    def __init__(
        self,
        runs: Sequence[BackboneRun],
        views: Tensor,
        recipe: Recipe,
        problems: tuple[Problem, ...],
        kept: _Kept,
    ) -> None:
        self._runs, self._recipe, self._problems, self._kept = runs, recipe, problems, kept
        self._device = torch.device("cuda" if on_gpu() else "cpu")
        mixed = recipe.precision == "bf16-mixed"
        groups = [
            self._group(run, level, views[[problem.image for problem in own]], mixed)
            for (run, level), own in groupby(problems, lambda one: (one.run, one.level))
        ]
        seeds = [problem.image for problem in problems]
        self._fit = Fit(
            recipe.prior,
            [self._to(generator(recipe.prior, self._stream("generator", k))) for k in seeds],
            [self._to(noise(recipe.prior, self._stream("noise", k))) for k in seeds],
            groups,
            views.shape[1],
            mixed,
            together=self._device.type == "cuda",
        )

    def fit(self) -> Chunk:
        """Takes all steps, from where they were left."""
        done, pictures, losses = self._begin()
        saved = time.monotonic()
        for step in range(done + 1, self._recipe.moments[-1] + 1):
            loss = self._fit.step()
            if step in self._recipe.moments:
                self._require_finite(loss, step)
                pictures.append(_pixels(self._fit.pictures()))
                losses.append(loss.double().cpu())
            if time.monotonic() - saved >= KEEP_SECONDS:
                self._keep(step, pictures, losses)
                saved = time.monotonic()
        return Chunk(
            self._problems, torch.stack(pictures, dim=1).numpy(), torch.stack(losses, 1).numpy()
        )

    def _begin(self) -> tuple[int, list[Tensor], list[Tensor]]:
        state = self._kept.read_state()
        if state is None:
            return 0, [], []
        # A state of before generators could stand side by side does not say that they do not.
        if state.get("together", False) != self._fit.together:
            _log.warning("inversion: a chunk was begun on another kind of device and begins anew")
            return 0, [], []
        self._fit.restore(state["fit"])
        return state["step"], state["pictures"], state["losses"]

    def _keep(self, step: int, pictures: list[Tensor], losses: list[Tensor]) -> None:
        state = {"fit": self._fit.state(), "pictures": pictures, "losses": losses}
        self._kept.write_state({"step": step, "together": self._fit.together, **state})

    def _group(self, run: int, level: str, views: Tensor, mixed: bool) -> Group:
        backbone = folded(self._runs[run].load(), self._recipe.dtype).to(self._device)
        shown = backbone.preprocessing.normalise(views.to(self._device))
        with torch.no_grad(), torch.autocast(self._device.type, torch.bfloat16, enabled=mixed):
            targets = backbone.features(shown, level).to(self._recipe.dtype)
        bad = (~torch.isfinite(targets)).flatten(1).any(dim=1)
        if bad.any():
            raise InputError(
                f"inversion, {self._named(run)}", f"its features at {level} are not finite",
                "finite numbers", "look at the backbone's weights",
            )  # fmt: skip
        return Group(_Seeing(backbone, level), targets)

    def _stream(self, what: str, image: int) -> Stream:
        return Stream(self._recipe.seed, f"inversion/{what}", image)

    def _to(self, given: Any) -> Any:
        return given.to(self._device, self._recipe.dtype)

    def _named(self, run: int) -> str:
        return f"{self._runs[run].arm} (seed {self._runs[run].seed})"

    def _require_finite(self, losses: Tensor, step: int) -> None:
        for problem, loss in zip(self._problems, losses.tolist(), strict=True):
            if not np.isfinite(loss):
                what = f"the loss at {problem.level} of {self._named(problem.run)} is {loss}"
                raise TrainingError(f"inversion, step {step}: {what}; lower prior.learning_rate")


@dataclass(frozen=True)
class _Seeing:
    """What a frozen network sees at a level of pictures that are ImageNet-normalised."""

    backbone: Backbone
    level: str

    def __call__(self, pictures: Tensor) -> Tensor:
        wanted = self.backbone.preprocessing
        if wanted != _IMAGENET:
            pictures = _of_unit(_to_unit(pictures), wanted)
        # The first convolution would go another, slower way in the other order.
        pictures = pictures.contiguous(memory_format=torch.channels_last)
        return self.backbone.features(pictures, self.level)


def _to_unit(pictures: Tensor) -> Tensor:
    """Returns RGB that is 0 for black and 1 for white, of what is ImageNet-normalised."""
    mean, std = (pictures.new_tensor(v).view(1, 3, 1, 1) for v in (_IMAGENET.mean, _IMAGENET.std))
    return pictures * std + mean


def _of_unit(images: Tensor, wanted: Preprocessing) -> Tensor:
    """Does to RGB in [0, 1] what a network's preprocessing does to an image."""
    scaled = images * wanted.pixel_max
    if wanted.channel_order == "bgr":
        scaled = scaled.flip(1)
    mean, std = (scaled.new_tensor(v).view(1, 3, 1, 1) for v in (wanted.mean, wanted.std))
    return (scaled - mean) / std


def _pixels(pictures: Tensor) -> Tensor:
    """Returns pictures as they are saved: (P, S, S, 3) uint8, clipped and rounded."""
    unit = _to_unit(pictures.float()).clamp(0, 1)
    return (unit * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu()
