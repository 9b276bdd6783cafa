"""How close inverted pictures are to their images: in pixels, in structure, to networks' eyes.

Everything is measured on pictures as they are saved, 8 bits a channel.

Letters: P pictures of a batch, S side.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from whytransfer.backbone.folding import folded
from whytransfer.backbone.model import Backbone
from whytransfer.core.devices import on_gpu
from whytransfer.core.errors import InputError
from whytransfer.diagnose.analysis import BackboneRun
from whytransfer.diagnose.comparing import Measure
from whytransfer.diagnose.inversion_fits import Chunk
from whytransfer.diagnose.lpips import Lpips
from whytransfer.ops.image_quality import feature_distance, psnr, ssim

Floats = NDArray[np.float64]

_MOST_DB = 10.0 * math.log10(12.0 * 255.0**2)
"""PSNR of a picture that is exact but for its rounding to 8 bits; equal pictures count as that."""


FEWEST_IMAGES = 2
"""Of fewer no draw of them says what others would have given."""


class Eyes:
    """The measures, and the networks that some of them look with.

    Args:
        trunks: Name → network; the perceptual distance is in its eyes, over all of its levels.
        lpips: Where its weights are present.
    """

    def __init__(self, trunks: Mapping[str, Backbone], lpips: Lpips | None) -> None:
        self._device = torch.device("cuda" if on_gpu() else "cpu")
        self._trunks = {name: folded(one).to(self._device) for name, one in trunks.items()}
        self._lpips = None if lpips is None else lpips.to(self._device)

    def require_side(self, side_px: int) -> None:
        """Checks that pictures are large enough for every network.

        Raises:
            InputError: They are smaller than the stride of a trunk's level, or LPIPS's network
                can't look at them.
        """
        field, few = "inversion, field view.crop_px", f"{side_px} px are too few for"
        todo = "raise view.resize_px and view.crop_px, or leave"
        for name, trunk in self._trunks.items():
            level = max(trunk.levels, key=lambda one: one.stride)
            if level.stride > side_px:
                raise InputError(
                    field,
                    f"{few} {name} as a trunk: the stride of its {level.name} is {level.stride} px",
                    f"at least {level.stride} px", f"{todo} it out with trunks",
                )  # fmt: skip
        if self._lpips is not None and side_px < self._lpips.least_px:
            raise InputError(
                field, f"{few} LPIPS's network", f"at least {self._lpips.least_px} px",
                f"{todo} lpips out",
            )  # fmt: skip

    @torch.no_grad()
    def measure(self, pictures: Tensor, originals: Tensor) -> dict[str, Tensor]:
        """Returns every measure of every picture, (P,).

        ``psnr`` in dB, ``ssim``, ``distance_NAME`` in the eyes of a trunk (the sum over its levels,
        as LPIPS sums over its layers) and its parts ``distance_NAME.LEVEL``, and ``lpips``.

        Args:
            pictures, originals: (P, S, S, 3) uint8.
        """
        pictures, originals = pictures.to(self._device), originals.to(self._device)
        shown, true = (images.permute(0, 3, 1, 2).float() / 255 for images in (pictures, originals))
        found = {"psnr": psnr(shown, true).clamp(max=_MOST_DB), "ssim": ssim(shown, true)}
        for name, trunk in self._trunks.items():
            parts = self._distances(trunk, pictures, originals)
            found[f"distance_{name}"] = torch.stack(list(parts.values())).sum(dim=0)
            found |= {f"distance_{name}.{level}": value for level, value in parts.items()}
        if self._lpips is not None:
            found["lpips"] = self._lpips(shown, true)
        return found

    @staticmethod
    def _distances(trunk: Backbone, pictures: Tensor, originals: Tensor) -> dict[str, Tensor]:
        shown, true = (trunk.preprocessing.normalise(images) for images in (pictures, originals))
        names = [level.name for level in trunk.levels]
        pairs = zip(trunk.maps(shown, names), trunk.maps(true, names), strict=True)
        return {name: feature_distance(ours, theirs) for (name, ours), (_, theirs) in pairs}


@dataclass
class Scores:
    """What was measured, filled chunk by chunk.

    Attributes:
        runs: In the order of the problems' numbers.
        moments: Steps after which pictures were taken.
        num_images: Of each run and level.
        values: Measure → (arm, seed, level) → (moments, images).
    """

    runs: Sequence[BackboneRun]
    moments: tuple[int, ...]
    num_images: int
    values: dict[str, dict[tuple[str, int, str], Floats]] = field(default_factory=dict)

    def add(self, chunk: Chunk, views: Tensor, eyes: Eyes) -> None:
        """Measures the pictures of a chunk, one moment at a time."""
        originals = views[[problem.image for problem in chunk.problems]]
        for moment in range(len(self.moments)):
            pictures = torch.from_numpy(chunk.pictures[:, moment])
            found = eyes.measure(pictures, originals)
            for name, values in found.items():
                self._put(name, moment, chunk, values.double().cpu().numpy())
            self._put("loss", moment, chunk, chunk.losses[:, moment])

    def _put(self, name: str, moment: int, chunk: Chunk, values: Floats) -> None:
        table = self.values.setdefault(name, {})
        for problem, value in zip(chunk.problems, values.tolist(), strict=True):
            run = self.runs[problem.run]
            key = (run.arm, run.seed, problem.level)
            if key not in table:
                table[key] = np.full((len(self.moments), self.num_images), np.nan)
            table[key][moment, problem.image] = value

    def measure(self, name: str, weights: NDArray[np.int64], moment: int = -1) -> Measure:
        """Returns the mean of a measure over the images, with its draws; of one image, undefined.

        Args:
            weights: (B, images) how often each image counts in each draw.
            moment: Number of the moment; the last one where not given.
        """
        words, unit, better = describe(name)
        found = Measure(name, words, self.num_images, unit, better)
        for key, values in self.values[name].items():
            at = values[moment]
            drawn = weights @ at / self.num_images
            if self.num_images < FEWEST_IMAGES:
                drawn = np.full_like(drawn, np.nan)
            found.add(key, np.append(at.mean(), drawn))
        return found


def describe(name: str) -> tuple[str, str, bool | None]:
    """Returns what a measure is in words, its unit, and whether more is better."""
    if name == "loss":
        # Features of two networks have different scales, so neither is better.
        return "loss", "", None
    known = {
        "psnr": ("PSNR", "dB", True),
        "ssim": ("SSIM", "", True),
        "lpips": ("LPIPS", "", False),
    }
    return known.get(name, (f"distance to {name.removeprefix('distance_')}'s eyes", "", False))
