"""A deep image prior that is fitted until a frozen network sees what it saw of an image.

A generator of its own for every image maps fixed noise to a picture; its weights are all that is
learnt. Several are fitted at once: their pictures go through the frozen network as one batch. The
generators run one after another on a CPU, and on a GPU side by side, as groups of one network's
channels; either way BatchNorm is over each one's own picture.

Letters: P problems (an image and a level of a network each), C channels, H × W places.

Source: Ulyanov, Vedaldi and Lempitsky 2018 (the prior); Good_transfer,
    code_reconstruction_DIP/{reconstruction,skip,common}.py @060ba39 (its use here).
"""

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn

from whytransfer.core.config import Config
from whytransfer.core.streams import Stream, seeded_torch

_SLOPE = 0.2
_FEWEST_PX = 2


class Prior(Config):
    """The generator, and how long it is fitted; the defaults are the authors'.

    Attributes:
        widths: Channels of each level, down and up alike, the finest level first; their number is
            the depth.
        filters: Side of each level's convolutions, down and up alike; odd.
        skip_width: Channels of each skip connection.
        noise_channels: Of the input, which has the size of the canvas.
        noise_scale: The input is uniform in [0, 1) times this.
        canvas_px: Side of what is generated; its top-left corner is the picture.
        learning_rate: Adam's; its other settings are torch's defaults.
        num_steps: Steps of Adam. The authors' 3000 are one more, by their loop's condition.
    """

    widths: tuple[PositiveInt, ...] = Field((16, 32, 64, 128, 128, 128), min_length=1)
    filters: tuple[PositiveInt, ...] = (7, 7, 5, 5, 3, 3)
    skip_width: PositiveInt = 4
    noise_channels: PositiveInt = 32
    noise_scale: PositiveFloat = 0.1
    canvas_px: PositiveInt = 256
    learning_rate: PositiveFloat = 0.001
    num_steps: PositiveInt = 3001

    @model_validator(mode="after")
    def _fits(self) -> "Prior":
        if len(self.filters) != len(self.widths):
            raise ValueError(f"{len(self.widths)} widths need as many filters")
        if any(side % 2 == 0 for side in self.filters):
            raise ValueError("every filter needs an odd side")
        stride = 1 << len(self.widths)
        if self.canvas_px % stride or self.canvas_px // stride < _FEWEST_PX:
            raise ValueError(
                f"{len(self.widths)} levels need a canvas_px that is a multiple of their stride"
                f" {stride} px, and at least {_FEWEST_PX * stride} px; give another, or fewer"
                " widths"
            )
        return self


class Generator(nn.Module):
    """The authors' skip network: (1, noise, canvas, canvas) to (1, 3, canvas, canvas).

    Or several of them side by side, which share nothing: every convolution is one of as many
    groups, every normalisation is of a picture's own channels. Their noises lie one after another
    in the input's channels, (1, G · noise, canvas, canvas), and their pictures come out as a batch,
    (G, 3, canvas, canvas).

    Down each level: convolution, 2 × 2 average, BatchNorm, LeakyReLU, and the same without the
    average. Up: the level below enlarged by repeating, beside a 1 × 1 skip, BatchNorm, convolution,
    BatchNorm, LeakyReLU, and the same 1 × 1. Zero padding throughout; at the end 1 × 1 to RGB, and
    no sigmoid.

    Differs: What the network computes is the same function of the same weights, done with less
        work. Averaging after a convolution is one convolution of stride 2 with the averaged filter;
        a convolution of an enlarged map is a transposed one of stride 2 with the summed filter;
        BatchNorm of an enlarged map is that of the map. A bias before BatchNorm cancels and has no
        gradient, so only the last convolution has one; where weights are drawn, the draws of the
        others' biases are not made.

    Args:
        prior: Its shape.
        count: G.
    """

    def __init__(self, prior: Prior, count: int = 1) -> None:
        super().__init__()
        self.count = count
        below = (*prior.widths[1:], prior.widths[-1])
        above = (prior.noise_channels, *prior.widths[:-1])
        shapes = zip(above, prior.widths, below, prior.filters, strict=True)
        self.levels = nn.ModuleList(_Level(*shape, prior.skip_width, count) for shape in shapes)
        self.last = _conv(prior.widths[0], 3, 1, count, bias=True)

    def forward(self, noise: Tensor) -> Tensor:
        """Returns the canvases."""
        levels = cast(Sequence[_Level], self.levels)
        skips, maps = [], noise
        for level in levels:
            skips.append(level.skip(maps))
            maps = level.down(maps)
        for level, skip in zip(reversed(levels), reversed(skips), strict=True):
            maps = level.up(skip, maps)
        canvases: Tensor = self.last(maps)
        return canvases.view(self.count, 3, *canvases.shape[2:])


class _Level(nn.Module):
    """One level of the generator, from above to above."""

    to_average: Tensor
    to_repeat: Tensor

    def __init__(
        self, above: int, width: int, below: int, side: int, skip_width: int, count: int
    ) -> None:
        super().__init__()
        self.pad, self.count = side // 2, count
        self.skip_conv = _conv(above, skip_width, 1, count)
        self.skip_norm = _norm(skip_width, count)
        self.down_filters = _filters(width, above, side, above, count)
        self.down_norm = _norm(width, count)
        self.inner_conv = _conv(width, width, side, count)
        self.inner_norm = _norm(width, count)
        # Of the authors' one BatchNorm and one convolution over both, the part of each.
        self.joined_skip_norm = _norm(skip_width, count)
        self.joined_below_norm = _norm(below, count)
        self.up_skip_filters = _filters(width, skip_width, side, skip_width + below, count)
        self.up_below_filters = _filters(below, width, side, skip_width + below, count)
        self.up_norm = _norm(width, count)
        self.mixing_conv = _conv(width, width, 1, count)
        self.mixing_norm = _norm(width, count)
        self.register_buffer("to_average", _box(side, flipped=False) / 4, persistent=False)
        self.register_buffer("to_repeat", _box(side, flipped=True), persistent=False)

    def skip(self, maps: Tensor) -> Tensor:
        normalised: Tensor = self.joined_skip_norm(_active(self.skip_norm(self.skip_conv(maps))))
        return normalised

    def down(self, maps: Tensor) -> Tensor:
        filters = _square(self.down_filters @ self.to_average)
        maps = F.conv2d(maps, filters, stride=2, padding=self.pad, groups=self.count)
        maps = _active(self.down_norm(maps))
        return _active(self.inner_norm(self.inner_conv(maps)))

    def up(self, skip: Tensor, below: Tensor) -> Tensor:
        filters = _square(self.up_below_filters @ self.to_repeat)
        below = self.joined_below_norm(below)
        pad, count = self.pad, self.count
        maps = F.conv_transpose2d(below, filters, stride=2, padding=pad, groups=count)
        maps = maps + F.conv2d(skip, _square(self.up_skip_filters), padding=pad, groups=count)
        maps = _active(self.up_norm(maps))
        return _active(self.mixing_norm(self.mixing_conv(maps)))


def _conv(above: int, width: int, side: int, count: int, bias: bool = False) -> nn.Conv2d:
    """A convolution that keeps the size, of as many groups as there are generators."""
    channels = count * above, count * width
    return nn.Conv2d(*channels, side, padding=side // 2, groups=count, bias=bias)


def _filters(first: int, second: int, side: int, fan_in: int, count: int) -> nn.Parameter:
    """Draws square filters, (count · first, second, side²), as torch does for a convolution."""
    bound = (fan_in * side**2) ** -0.5
    return nn.Parameter(torch.empty(count * first, second, side**2).uniform_(-bound, bound))


def _square(filters: Tensor) -> Tensor:
    """Returns filters (..., k²) as (..., k, k)."""
    side = math.isqrt(filters.shape[-1])
    return filters.view(*filters.shape[:-1], side, side)


def _box(side: int, flipped: bool) -> Tensor:
    """Returns (k², (k + 1)²): what makes of a filter its full convolution with a 2 × 2 of ones.

    Args:
        side: k.
        flipped: Turn the result by half a turn, as a transposed convolution wants it.
    """
    ones = torch.eye(side, side + 1) + torch.eye(side, side + 1).roll(1, dims=1)
    both = torch.kron(ones, ones)
    return both.flip(1) if flipped else both


def _norm(channels: int, count: int) -> nn.BatchNorm2d:
    """BatchNorm that always takes the statistics of what it is given, as in training."""
    return nn.BatchNorm2d(count * channels, track_running_stats=False)


def _active(maps: Tensor) -> Tensor:
    return F.leaky_relu(maps, _SLOPE, inplace=True)


def generator(prior: Prior, stream: Stream) -> Generator:
    """Returns a generator with torch's initial weights, a function of the stream alone."""
    with seeded_torch(stream):
        return Generator(prior)


def side_by_side(prior: Prior, generators: Sequence[Generator]) -> Generator:
    """Returns one network that computes what several do, with their weights, each once."""
    states = [one.state_dict() for one in generators]
    joined = Generator(prior, len(generators)).to(states[0]["last.weight"])
    # Outputs come first in every tensor, or the inputs of a transposed convolution: the channels.
    joined.load_state_dict({name: torch.cat([s[name] for s in states]) for name in states[0]})
    return joined


def noise(prior: Prior, stream: Stream) -> Tensor:
    """Draws a generator's input, (1, channels, canvas, canvas) float64, uniform in [0, scale)."""
    shape = (1, prior.noise_channels, prior.canvas_px, prior.canvas_px)
    drawn = stream.uniform(prior.noise_channels * prior.canvas_px**2)
    return torch.from_numpy(drawn).view(shape) * prior.noise_scale


@dataclass(frozen=True)
class Group:
    """Problems that share a network and a level.

    Attributes:
        see: Maps pictures (N, 3, crop, crop), ImageNet-normalised, to the frozen network's maps.
        targets: (N, C, H, W) what it saw of the images.
    """

    see: Callable[[Tensor], Tensor]
    targets: Tensor


class Fit:
    """Fits P generators, one for each problem, a step at a time.

    Args:
        prior: Adam's learning rate is read.
        generators: One for each problem, in the order of the groups; on their device.
        noises: Their inputs.
        groups: What is to be seen; P problems in all.
        crop_px: Side of a picture.
        mixed: Whether convolutions run in bfloat16.
        together: Whether the generators run side by side: the same numbers up to rounding, in as
            many operations as one takes, which a GPU would have to wait for.
    """

    def __init__(
        self,
        prior: Prior,
        generators: Sequence[Generator],
        noises: Sequence[Tensor],
        groups: Sequence[Group],
        crop_px: int,
        mixed: bool = False,
        together: bool = False,
    ) -> None:
        if sum(len(group.targets) for group in groups) != len(generators):
            raise ValueError("as many generators as targets are needed")
        self.together = together
        if together:
            generators, noises = [side_by_side(prior, generators)], [torch.cat(list(noises), dim=1)]
        channels_last: Any = torch.channels_last
        self._generators = nn.ModuleList(generators).to(memory_format=channels_last)
        self._noises = [one.contiguous(memory_format=torch.channels_last) for one in noises]
        self._groups, self._crop_px, self._mixed = groups, crop_px, mixed
        self._optimiser = torch.optim.Adam(
            self._generators.parameters(), lr=prior.learning_rate, fused=True
        )

    def step(self) -> Tensor:
        """Takes one step and returns each problem's loss before it, (P,): a mean squared error."""
        self._optimiser.zero_grad()
        losses = []
        with self._precision():
            sizes = [len(group.targets) for group in self._groups]
            for own, group in zip(torch.split(self._pictures(), sizes), self._groups, strict=True):
                seen = group.see(own).to(group.targets.dtype)
                losses.append((seen - group.targets).square().mean(dim=(1, 2, 3)))
        found = torch.cat(losses)
        torch.autograd.backward(found.sum())
        self._optimiser.step()
        return found.detach()

    @torch.no_grad()
    def pictures(self) -> Tensor:
        """Returns what the generators make now, (P, 3, crop, crop), ImageNet-normalised."""
        with self._precision():
            return self._pictures()

    def state(self) -> dict[str, Any]:
        """Returns all that a later step depends on."""
        return {
            "generators": self._generators.state_dict(),
            "optimiser": self._optimiser.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Goes back to where :meth:`state` was taken, to the bit."""
        self._generators.load_state_dict(state["generators"])
        self._optimiser.load_state_dict(state["optimiser"])

    def _pictures(self) -> Tensor:
        side = slice(self._crop_px)
        canvases = [g(z) for g, z in zip(self._generators, self._noises, strict=True)]
        return torch.cat([canvas[:, :, side, side] for canvas in canvases])

    def _precision(self) -> torch.autocast | nullcontext[None]:
        device = self._noises[0].device.type
        return torch.autocast(device, dtype=torch.bfloat16) if self._mixed else nullcontext()
