"""What a frozen backbone makes of every image: pooled features, computed once for all who ask.

A row per image of a source, in its order, at the end of any of the backbone's levels. With a
:class:`Cache` they are an artifact of the store, named by all that determines them (backbone, data,
which images, view, levels, pooling, precision), so that every task on the same backbone shares
them; without one they are computed for the caller alone.

STORE/features/features-.../<level>.npy    (N, values) float32

Letters: N images, C channels, S cells on a side of the grid.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn

from whytransfer.backbone.model import Backbone, Level
from whytransfer.core.config import Config as BaseConfig
from whytransfer.core.errors import InputError, nearest
from whytransfer.core.fingerprint import fingerprint
from whytransfer.core.processes import ALONE, Processes
from whytransfer.core.records import Metric
from whytransfer.core.stage import Step, materialise
from whytransfer.core.store import Artifact, Store
from whytransfer.data.loader import in_order
from whytransfer.data.part import in_turn
from whytransfer.data.sample import Source, Split
from whytransfer.data.views import (
    Augmentation,
    apply_view,
    center_view,
    resize,
    sample_view,
    view_stream,
)

Precision = Literal["auto", "32-true", "64-true", "bf16-mixed"]


class _Middle(BaseConfig):
    """The middle square of a resized image."""

    resize_px: PositiveInt
    crop_px: PositiveInt

    @model_validator(mode="after")
    def _crop_lies_inside(self) -> Self:
        require_inside(self.crop_px, self.resize_px)
        return self


def require_inside(crop_px: int, resize_px: int) -> None:
    """Checks that a square crop is no larger than the image it is cut from.

    torchvision's ``CenterCrop``, and so the view, would fill up with black.

    Raises:
        ValueError: It is; what a configuration's validator turns into an error of its field.
    """
    if crop_px > resize_px:
        raise ValueError(
            f"crop_px {crop_px} is larger than the image of resize_px {resize_px}: "
            "make it smaller, or resize_px larger"
        )


class Centre(_Middle):
    """The middle of an image: its short side to ``resize_px``, then a square of ``crop_px``."""

    kind: Literal["centre"] = "centre"
    resize_px: PositiveInt = 256
    crop_px: PositiveInt = 224


class Squashed(_Middle):
    """The middle of an image that was made square: both sides ``resize_px``, then the crop.

    Source: CloserLookFewShot, data/datamgr.py.
    """

    kind: Literal["squashed"] = "squashed"
    resize_px: PositiveInt = 257
    crop_px: PositiveInt = 224


class Drawn(BaseConfig):
    """The augmented view that a training image has in one epoch of a run with that seed."""

    kind: Literal["drawn"] = "drawn"
    augmentation: Augmentation
    seed: int = 0
    epoch: int = 0


View = Annotated[Centre | Squashed | Drawn, Field(discriminator="kind")]


class Config(BaseConfig):
    """What features are wanted.

    Attributes:
        view: How an image is seen.
        levels: At the end of which levels; none names the last one, which of a vision transformer
            is its class token.
        num_values: Numbers per image and level, about: a level of C channels is averaged over a
            square grid of :func:`cells` cells. ``None`` averages over the whole map.
        batch_size: Images at once; it can move a last bit, so it is part of the recipe.
        precision: ``bf16-mixed`` computes in bfloat16 where that is safe.
    """

    view: View = Centre()
    levels: tuple[str, ...] = ()
    num_values: PositiveInt | None = None
    batch_size: PositiveInt = 64
    precision: Precision = "32-true"


class _OfImages(Config):
    """What a step needs to know besides: which images.

    Attributes:
        split: Of the dataset.
        images: The fingerprint of their names, in order: a source may be a part of its split.
    """

    split: Split
    images: str


@dataclass(frozen=True)
class Cache:
    """Where the features of one backbone on one dataset are kept.

    Attributes:
        store: That they are kept in.
        backbone: Fingerprint of the backbone's artifact.
        data: Fingerprint of the dataset.
        processes: Those that all ask for the same features; each computes its share of them.
    """

    store: Store
    backbone: str
    data: str
    processes: Processes = ALONE

    def step(self, config: Config, source: Source, split: Split) -> Step:
        """Says what is to be computed; its fingerprint names the features."""
        images = fingerprint([source.name(index) for index in range(len(source))])
        fields = {name: getattr(config, name) for name in Config.model_fields}
        return Step(
            stage="features",
            plugin=__name__,
            config=_OfImages(**fields, split=split, images=images),
            inputs={"backbone": self.backbone, "data": self.data},
        )


def features(
    backbone: Backbone,
    source: Source,
    split: Split,
    config: Config,
    *,
    cache: Cache | None = None,
    workers: int = 0,
) -> dict[str, Tensor]:
    """Returns the pooled features of every image of a source, in its order, by level.

    Args:
        backbone: Used in evaluation mode, where its weights lie; left as it was.
        source: The images: a split of a dataset, or a part of one.
        split: Which split that is.
        config: What is wanted.
        cache: Where the features are kept, or will be; of this backbone and this data.
        workers: Processes that read images; moves no number.

    Returns:
        Level → (N, values) float32 on the CPU, values as the maps' channels, then rows of the
        grid, then columns; from a cache the file itself, read where it is looked at.

    Raises:
        InputError: The backbone has no such level, an image can't be read, features are not finite
            (names the image), or what the cache holds was altered.
    """
    levels = [level.name for level in named_levels(backbone, config.levels)]
    asked = config.model_copy(update={"levels": tuple(levels)})
    if cache is None:
        found = list(stream(backbone, source, asked, workers))
        return {name: torch.cat([batch[name] for batch in found]) for name in levels}

    def compute(folder: Path, _work: Path) -> tuple[Metric, ...]:
        own = stream(backbone, source, asked, workers, cache.processes)
        everyone = in_turn(([batch] for batch in own), cache.processes)
        if cache.processes.leads:
            _write(folder, len(source), everyone)
        return ()

    step = cache.step(asked, source, split)
    artifact = materialise(cache.store, step, compute, processes=cache.processes)
    return {name: _read(artifact, name) for name in levels}


def named_levels(backbone: Backbone, names: Sequence[str]) -> tuple[Level, ...]:
    """Returns a backbone's levels of those names, from the image on; no names mean the last one.

    Raises:
        InputError: It has no such level.
    """
    known = [level.name for level in backbone.levels]
    for name in names:
        if name not in known:
            raise InputError(
                "levels", f"the backbone has no level {name!r}", f"some of {', '.join(known)}",
                nearest(name, known),
            )  # fmt: skip
    wanted = names or known[-1:]
    return tuple(level for level in backbone.levels if level.name in wanted)


def cells(channels: int, wanted: int) -> int:
    """Returns S: how many cells a side of the grid has, so that C·S² is about ``wanted``.

    Source: VISSL, eval_resnet_8gpu_transfer_in1k_linear.yaml @1465c2c, whose heads take 9216, 9216,
        8192, 9216 and 8192 numbers; the rule that gives those is ours.

    >>> [cells(channels, 9216) for channels in (64, 256, 512, 1024, 2048)]
    [12, 6, 4, 3, 2]
    """
    return max(1, round(math.sqrt(wanted / channels)))


def num_values(level: Level, crop_px: int, wanted: int | None) -> int:
    """Counts the numbers per image of a square crop that :func:`pool` gives at a level."""
    if wanted is None or level.whole:
        return level.channels
    return level.channels * min(cells(level.channels, wanted), -(-crop_px // level.stride)) ** 2


def pool(maps: Tensor, wanted: int | None) -> Tensor:
    """Averages maps (N, C, H, W) over a grid: (N, C·S²), with no more cells than the map has.

    Source: VISSL, as :func:`cells`.
    Differs: VISSL's windows leave out a border or overlap; these are adaptive, and so fit any map.
    """
    if wanted is None:
        return maps.mean(dim=(2, 3))
    side = cells(maps.shape[1], wanted)
    grid = (min(side, maps.shape[2]), min(side, maps.shape[3]))
    return F.adaptive_avg_pool2d(maps, grid).flatten(1)


@torch.no_grad()
def pooled(backbone: Backbone, images: Tensor, config: Config) -> dict[str, Tensor]:
    """Returns the features of a batch, by level; the backbone is used in the mode it is in.

    Args:
        backbone: Runs once, from level to level.
        images: (N, H, W, 3) uint8 on its device.
        config: Its view plays no part.
    """
    names = [level.name for level in named_levels(backbone, config.levels)]
    every = backbone.maps(backbone.preprocessing.normalise(images), names)
    return {name: pool(maps, config.num_values) for name, maps in every}


def stream(
    backbone: Backbone,
    source: Source,
    config: Config,
    workers: int = 0,
    processes: Processes = ALONE,
) -> Iterator[dict[str, Tensor]]:
    """Yields the features of batch after batch, on the CPU, for what is too much to be kept.

    Of several processes each gets every so many-th batch, as from
    :func:`whytransfer.data.loader.in_order`. Arguments and errors are those of :func:`features`.
    """
    batch_size = config.batch_size
    seen = in_order(
        _Seen(source, config.view), len(source), batch_size, torch.stack, workers, processes
    )
    device = next(backbone.parameters()).device
    for number, images in enumerate(seen):
        # Not around the loop: a caller between two batches must find everything as it was.
        with evaluating(backbone), _autocast(device, config.precision):
            found = pooled(backbone, images.to(device), config)
        batch = {name: values.float().cpu() for name, values in found.items()}
        start = (processes.rank + number * processes.size) * batch_size
        for name, values in batch.items():
            _require_finite(values, name, source, start)
        yield batch


def _require_finite(values: Tensor, level: str, source: Source, start: int) -> None:
    bad = (~torch.isfinite(values)).any(dim=1).nonzero()
    if len(bad):
        raise InputError(
            source.path(start + int(bad[0])), f"its features at {level} are not finite",
            "finite numbers", "look at the image, or at the backbone's weights",
        )  # fmt: skip


def _write(folder: Path, num_images: int, batches: Iterator[dict[str, Tensor]]) -> None:
    """Writes a file per level, batch by batch, so that they need not fit into memory."""
    files: dict[str, np.memmap[tuple[int, ...], np.dtype[np.float32]]] = {}
    start = 0
    for batch in batches:
        for name, values in batch.items():
            if name not in files:
                shape = (num_images, values.shape[1])
                path = folder / f"{name}.npy"
                files[name] = np.lib.format.open_memmap(path, "w+", np.dtype(np.float32), shape)
            files[name][start : start + len(values)] = values.numpy()
        start += len(values)
    for file in files.values():
        file.flush()


def _read(artifact: Artifact, name: str) -> Tensor:
    # Copy-on-write: a page is read when it is looked at, and nobody can alter the file.
    return torch.from_numpy(np.load(artifact.file(f"{name}.npy"), mmap_mode="c"))


@contextmanager
def evaluating(backbone: nn.Module) -> Iterator[None]:
    """Runs a block with a network in evaluation mode; afterwards each module is as it was."""
    modes = [(module, module.training) for module in backbone.modules()]
    backbone.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _autocast(device: torch.device, precision: Precision) -> torch.autocast | nullcontext[None]:
    mixed = precision == "bf16-mixed"
    return torch.autocast(device.type, dtype=torch.bfloat16) if mixed else nullcontext()


@dataclass(frozen=True)
class _Seen:
    """Reads one image and makes the view of it, (H, W, 3) uint8."""

    source: Source
    view: Centre | Squashed | Drawn

    def __call__(self, _epoch: int, index: int) -> Tensor:
        image, view = self.source[index].image, self.view
        if isinstance(view, Squashed):
            image = resize(image, view.resize_px, view.resize_px)
        if not isinstance(view, Drawn):
            return torch.from_numpy(center_view(image, view.resize_px, view.crop_px))
        stream = view_stream(view.seed, view.epoch, index, 0)
        parameters = sample_view(view.augmentation, stream, *image.shape[:2])
        return torch.from_numpy(apply_view(image, parameters, view.augmentation.crop_px))
