"""A backbone: a ResNet that describes its own levels and runs from any one to any other.

What every backbone can do is here; a vision transformer is one that can't begin in the middle
(:mod:`whytransfer.backbone.transformer`).
"""

from collections.abc import Collection, Iterator
from typing import cast

from torch import Tensor, nn

from whytransfer.backbone.architecture import Architecture, levels_of
from whytransfer.backbone.architecture import Level as Level
from whytransfer.backbone.preprocessing import Preprocessing

_MODULES = {
    "stem": ("conv1", "bn1", "act1"),
    "layer1": ("maxpool", "layer1"),
    "layer2": ("layer2",),
    "layer3": ("layer3",),
    "layer4": ("layer4",),
}
"""Level → the modules of ``net`` that lead to it from the level before."""


class Backbone(nn.Module):
    """A ResNet without its classifier, with its description and its preprocessing.

    Attributes:
        net: The plain network. Its ``state_dict`` has torchvision's keys without ``fc.*``; its
            stages are ``net.layer1`` to ``net.layer4``. Of a transformer it has timm's.
        architecture: What was built.
        preprocessing: What the input must have gone through; the caller applies it.
        levels: The outputs that can be asked for, from the image on.
    """

    def __init__(
        self, net: nn.Module, architecture: Architecture, preprocessing: Preprocessing
    ) -> None:
        super().__init__()
        self.net = net
        self.architecture = architecture
        self.preprocessing = preprocessing
        self.levels = levels_of(architecture)

    @property
    def num_features(self) -> int:
        """The channels of the last level, and so of the pooled output."""
        return self.levels[-1].channels

    def level(self, name: str) -> Level:
        """Returns the level of that name; raises ``ValueError`` where there is none."""
        return self.levels[self._index(name)]

    def modules_of(self, name: str) -> tuple[nn.Module, ...]:
        """Returns the modules that lead to a level from the one before; together they are all."""
        return tuple(self.net.get_submodule(module) for module in _MODULES[self.level(name).name])

    def weights_of(self, name: str) -> list[str]:
        """Lists the parameters of ``net`` that lead to a level from the one before, by name."""
        every = (parameter for parameter, _ in self.net.named_parameters())
        return [parameter for parameter in every if self._level_of(parameter) == name]

    def forward(self, x: Tensor) -> Tensor:
        """Returns the last level averaged over space: (N, num_features) of (N, 3, H, W)."""
        return self.features(x).mean(dim=(2, 3))

    def features(self, x: Tensor, upto: str | None = None) -> Tensor:
        """Returns one level's map: (N, channels, ⌈H/stride⌉, ⌈W/stride⌉) of (N, 3, H, W).

        Args:
            x: The normalised images.
            upto: Name of the level; ``None`` is the last one.
        """
        return self.run(x, after=None, upto=upto or self.levels[-1].name)

    def maps(self, x: Tensor, names: Collection[str]) -> Iterator[tuple[str, Tensor]]:
        """Yields name and map of some levels, from the image on, in one run.

        Args:
            x: The normalised images.
            names: Of the levels; in any order.
        """
        after = None
        for level in self.levels:
            if level.name in names:
                x = self.run(x, after, level.name)
                after = level.name
                yield level.name, x

    def run(self, x: Tensor, after: str | None, upto: str) -> Tensor:
        """Runs the stages that follow one level, up to and including another.

        Args:
            x: The map of level ``after``, or the normalised images.
            after: Name of a level, or ``None`` to begin at the images.
            upto: Name of a level, not before ``after``; the same one returns ``x``.

        Raises:
            ValueError: There is no level of that name, or the two stand in the wrong order.
        """
        first = 0 if after is None else self._index(after) + 1
        last = self._index(upto) + 1
        if first > last:
            raise ValueError(f"level {upto!r} comes before {after!r}")
        if after is None:
            x = x.to(next(self.net.parameters()).dtype)  # other than float32 in proofs alone
        for level in self.levels[first:last]:
            for module in _MODULES[level.name]:
                x = cast(Tensor, self.net.get_submodule(module)(x))
        return x

    def _level_of(self, parameter: str) -> str:
        first = parameter.partition(".")[0]
        return first if first in _MODULES else "stem"

    def _index(self, name: str) -> int:
        names = [level.name for level in self.levels]
        if name not in names:
            raise ValueError(f"no level {name!r}: there are {', '.join(names)}")
        return names.index(name)
