"""A plain vision transformer as a backbone: its patch tokens as maps, its class token as a level.

The levels are the patches with their positions (``embed``), what every quarter of the blocks makes
of them, and the class token (``class_token``), a map of one cell. The final LayerNorm is applied to
the last block's tokens and to the class token, and to no level before: the last two are what a
linear readout of DINO, MAE and timm reads. The last level is the class token, so that is what a
readout takes where nothing is said; the mean of the patches is ``block12`` (``block24``) pooled.

Letters: N images, C channels, H×W pixels, T tokens, the class token first.

Source: Dosovitskiy et al. 2021, section 3.1; timm, models/vision_transformer.py
    (``forward_features``; ``forward_intermediates(norm=False)`` for the levels before the last).
    Class token behind the final norm: DINO, eval_linear.py; MAE, models_vit.py
    (``global_pool=False``); MoCo v3, main_lincls.py.
Differs: DINO's own readout of a small network joins the class tokens of its last four blocks.
"""

from collections.abc import Collection, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from whytransfer.backbone.model import Backbone, Level


class TransformerBackbone(Backbone):
    """A vision transformer without its classifier, in one piece: it runs from the image on.

    Between two of its levels more is handed on than a map, the class token.

    Images of any size: a side that is no multiple of 16 px is filled up at its end with zeros, the
    mean colour, and the learned positions are interpolated to as many patches as there are
    (bicubic, antialiased: timm's ``resample_abs_pos_embed``).
    """

    def modules_of(self, name: str) -> tuple[nn.Module, ...]:
        """Returns the modules that lead to a level from the one before.

        All of them together are the net but for two parameters of its own: the class token as it
        is learned, and the positions. No module leads to ``class_token`` alone.
        """
        net: Any = self.net
        place, quarter = self._index(name), len(net.blocks) // 4
        if place == 0:
            return (net.patch_embed,)
        blocks = tuple(net.blocks[quarter * (place - 1) : quarter * place])
        return (*blocks, net.norm) if name == self.levels[-2].name else blocks

    def weights_of(self, name: str) -> list[str]:
        """Lists the parameters that lead to a level; to the class token the last block's do."""
        whole = self.level(name).whole
        return super().weights_of(self.levels[-2].name if whole else name)

    def run(self, x: Tensor, after: str | None, upto: str) -> Tensor:
        """Runs from the images up to and including a level.

        Raises:
            ValueError: There is no level of that name, or it is to begin after one.
        """
        if after is not None:
            raise ValueError(f"a vision transformer runs from the images on, not from {after!r}")
        self._index(upto)
        ((_, found),) = self.maps(x, (upto,))
        return found

    def maps(self, x: Tensor, names: Collection[str]) -> Iterator[tuple[str, Tensor]]:
        """Yields name and map of some levels, from the image on, in one run."""
        wanted = [place for place, level in enumerate(self.levels) if level.name in names]
        tokens, size = self._embed(x)
        for place in range(max(wanted, default=-1) + 1):
            for module in self.modules_of(self.levels[place].name) if place else ():
                tokens = module(tokens)
            if place in wanted:
                yield self.levels[place].name, _map(tokens, self.levels[place], size)

    def _level_of(self, parameter: str) -> str:
        part, _, rest = parameter.partition(".")
        if part == "blocks":
            net: Any = self.net
            return self.levels[1 + int(rest.partition(".")[0]) * 4 // len(net.blocks)].name
        return self.levels[-2 if part == "norm" else 0].name

    def _embed(self, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Returns tokens (N, T, C) of images (N, 3, H, W), and how many rows and columns."""
        from timm.layers.pos_embed import resample_abs_pos_embed  # seconds, as in build.py

        net: Any = self.net
        patches = net.patch_embed(x.to(net.pos_embed.dtype))
        size = (patches.shape[1], patches.shape[2])
        positions = resample_abs_pos_embed(
            net.pos_embed, new_size=list(size), old_size=list(net.patch_embed.grid_size)
        )
        first = net.cls_token.expand(len(x), -1, -1)
        return torch.cat([first, patches.flatten(1, 2)], dim=1) + positions, size


def _map(tokens: Tensor, level: Level, size: tuple[int, int]) -> Tensor:
    """Returns tokens (N, T, C) as a map: all patches (N, C, H/16, W/16), or the class token's."""
    if level.whole:
        return tokens[:, 0, :, None, None]
    patches = tokens[:, 1:].transpose(1, 2)
    return patches.reshape(*patches.shape[:2], *size)
