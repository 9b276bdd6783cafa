"""From a backbone's maps to landmarks: virtual points found by soft arg-max, then a linear map.

Every landmark has virtual points of its own. Each is the mean place of the map under a softmax of
one linear score of the features; the landmark is a linear function of its virtual points' places.

Letters in shapes: N images, L landmarks, V virtual points per landmark, C channels, H and W rows
and columns of a map. Places are normalised, -1 and 1 at the edges of the view.

Source: Thewlis et al. 2019 (DVE), section 4.1; DVE model/keypoint_prediction.py
    ``IntermediateKeypointPredictor``; ContrastLandmark eval_face.py for hypercolumns.
Differs: a cell of the map has the place of its centre, where DVE gives -1 and 1 to the centres of
    the outer cells. Several levels are scored at their own size and the scores are resized and
    added, which is the score of the resized and stacked levels at a fraction of the work: the score
    acts on channels, the resize on places.
"""

import math
from collections.abc import Sequence
from typing import Self

import torch
import torch.nn.functional as F
from pydantic import PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn

from whytransfer.backbone.model import Backbone
from whytransfer.core.config import Config, assumed
from whytransfer.core.errors import InputError, nearest
from whytransfer.train.learner import Context
from whytransfer.transfer.parts.landmark_views import FaceBatch

_DVE = "the paper does not say; DVE's"
_CONTRAST = "the paper does not say; ContrastLandmark's for ResNets"


class RegressorConfig(Config):
    """The regressor's settings.

    Attributes:
        levels: The backbone's levels that are looked at, together as a hypercolumn.
        map_px: Side of the map that all of them are resized to; ``None`` takes the largest.
        virtual_points: Per landmark.
        temperature: What the scores are multiplied with before the softmax.
        init_std: Of the scores' normal weights.
        loss_scale: What normalised coordinates are multiplied with before the smooth L1 loss.
    """

    levels: tuple[str, ...] = assumed(("layer1", "layer2", "layer3", "layer4"), _CONTRAST)
    map_px: PositiveInt | None = assumed(48, _CONTRAST)
    virtual_points: PositiveInt = assumed(50, _DVE)
    temperature: PositiveFloat = assumed(100.0, _DVE)
    init_std: PositiveFloat = assumed(1.0, _DVE)
    loss_scale: PositiveFloat = assumed(10.0, _DVE)

    @model_validator(mode="after")
    def _levels_differ(self) -> Self:
        if not self.levels or len(set(self.levels)) < len(self.levels):
            raise ValueError(f"levels are {self.levels}: give at least one, each once")
        return self


class Regressor(nn.Module):
    """Landmarks from maps.

    Args:
        channels: Of the map of each level.
        num_landmarks: L.
        config: Points, temperature, size of the map.
    """

    def __init__(
        self, channels: Sequence[int], num_landmarks: int, config: RegressorConfig
    ) -> None:
        super().__init__()
        self.config, self.num_landmarks = config, num_landmarks
        num_points = num_landmarks * config.virtual_points
        # A bias would be the same everywhere on the map, and a softmax takes no notice of that.
        self.scores = nn.ModuleList(nn.Conv2d(c, num_points, 1, bias=False) for c in channels)
        for layer in self.scores:
            nn.init.normal_(layer.weight, std=config.init_std)  # type: ignore[arg-type]
        bound = 1.0 / math.sqrt(2 * config.virtual_points)  # torch's own for a linear layer
        self.linear = nn.Parameter(torch.empty(num_landmarks, 2, config.virtual_points, 2))
        nn.init.uniform_(self.linear, -bound, bound)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Returns landmarks (N, L, 2) of the maps (N, C, H, W) of each level."""
        size = self._size(maps)
        scores = [resized(layer(m), size) for layer, m in zip(self.scores, maps, strict=True)]
        transposed = precise(sum(scores[1:], scores[0]))
        places = soft_argmax(transposed, self.config.temperature).flip(2)
        virtual = places.view(-1, self.num_landmarks, self.config.virtual_points, 2)
        return torch.einsum("nlvi,lovi->nlo", virtual, self.linear)

    def _size(self, maps: Sequence[Tensor]) -> tuple[int, int]:
        side = self.config.map_px
        if side is not None:
            return side, side
        return max(m.shape[2] for m in maps), max(m.shape[3] for m in maps)


def resized(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Resizes maps (N, C, H, W) bilinearly, as ``interpolate`` does with ``align_corners=False``.

    By two matrix products, whose backward pass is several times as fast on a CPU; contiguous before
    each, so that it is one product of two matrices and not thousands of small ones.

    Returns:
        (N, C, W, H): the maps of that size, transposed, as the second product leaves them.
    """
    down, across = (_weights(*sides, maps) for sides in zip(maps.shape[2:], size, strict=True))
    wide = maps if maps.shape[3] == size[1] else maps.contiguous() @ across
    high = wide.transpose(2, 3).contiguous()
    return high if maps.shape[2] == size[0] else high @ down


def _weights(source: int, target: int, like: Tensor) -> Tensor:
    """Returns how much each cell of a resized row gets of each of before: (source, target)."""
    cells = torch.eye(source, dtype=like.dtype, device=like.device)
    return F.interpolate(cells[None], size=target, mode="linear", align_corners=False)[0]


def soft_argmax(scores: Tensor, temperature: float) -> Tensor:
    """Returns the mean places (N, P, 2) as (x, y) under a softmax of scores (N, P, H, W)."""
    height, width = scores.shape[2:]
    share = (temperature * scores).flatten(2).softmax(dim=2).view(*scores.shape[:2], height, width)
    x = share.sum(dim=2) @ centres(width, scores)
    y = share.sum(dim=3) @ centres(height, scores)
    return torch.stack([x, y], dim=2)


def centres(count: int, like: Tensor) -> Tensor:
    """Returns the normalised places (count,) of the centres of so many cells in a row.

    >>> centres(4, torch.zeros(1)).tolist()
    [-0.75, -0.25, 0.25, 0.75]
    """
    steps = torch.arange(count, dtype=like.dtype, device=like.device)
    return (2 * steps + 1) / count - 1


class LandmarkModel(nn.Module):
    """A backbone with a regressor on some of its levels.

    Args:
        backbone: Frozen in evaluation mode, or trained with the regressor.
        num_landmarks: L.
        config: Of the regressor.
        frozen: Which of the two.

    Raises:
        InputError: The backbone has no level of a name that the regressor looks at.
    """

    def __init__(
        self, backbone: Backbone, num_landmarks: int, config: RegressorConfig, frozen: bool
    ) -> None:
        super().__init__()
        _require_levels(backbone, config.levels)
        self.backbone = backbone.requires_grad_(not frozen)
        self.frozen, self.config = frozen, config
        # In the backbone's order, whatever order they are named in.
        self.levels = [level for level in backbone.levels if level.name in config.levels]
        # What comes after the last of them gets no gradient, which DDP must know beforehand.
        for level in backbone.levels[backbone.levels.index(self.levels[-1]) + 1 :]:
            for module in backbone.modules_of(level.name):
                module.requires_grad_(False)
        self.regressor = Regressor([lv.channels for lv in self.levels], num_landmarks, config)
        self.train()

    def train(self, mode: bool = True) -> "LandmarkModel":
        """Sets the mode, but not of a frozen backbone."""
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self

    def forward(self, inputs: Tensor | tuple[Tensor, ...]) -> Tensor:
        """Returns normalised landmarks (N, L, 2) of images (N, S, S, 3), or of their maps."""
        maps = inputs if isinstance(inputs, tuple) else self.maps(inputs)
        found: Tensor = self.regressor(maps)
        return found

    def maps(self, images: Tensor) -> tuple[Tensor, ...]:
        """Returns the maps of images (N, S, S, 3), one per level, the backbone run once."""
        images = images.to(self.regressor.linear.device)
        x = self.backbone.preprocessing.normalise(images)
        names = [level.name for level in self.levels]
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            return tuple(maps for _, maps in self.backbone.maps(x, names))

    def loss(self, batch: FaceBatch, _context: Context) -> dict[str, Tensor]:
        """Returns the smooth L1 loss, and the mean distance in shares of the view's side.

        Source: DVE model/loss.py ``regression_loss`` (``alpha``).
        """
        found = precise(self(batch.inputs))
        points = batch.points.to(found)
        scale = self.config.loss_scale
        distance = (found.detach() - points).norm(dim=2).mean() / 2
        return {"loss": F.smooth_l1_loss(scale * found, scale * points), "distance": distance}

    def after_step(self) -> None:
        """Nothing is left to do after an optimiser step."""


def precise(values: Tensor) -> Tensor:
    """Returns values in at least 32 bits: a softmax at temperature 100 has no use for fewer."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _require_levels(backbone: Backbone, names: Sequence[str]) -> None:
    known = [level.name for level in backbone.levels]
    for name in names:
        if name not in known:
            raise InputError(
                "regressor.levels", f"the backbone has no level {name!r}",
                f"some of {', '.join(known)}", nearest(name, known),
            )  # fmt: skip
