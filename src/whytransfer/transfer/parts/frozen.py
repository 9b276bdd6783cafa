"""The first levels of a backbone, kept as they are while the rest is fine-tuned."""

from torch import nn

from whytransfer.backbone.model import Backbone


def frozen_modules(backbone: Backbone, num_levels: int) -> list[nn.Module]:
    """Returns the modules of the first levels, the stem being the first of them."""
    levels = backbone.levels[:num_levels]
    names = [("conv1", "bn1") if level.name == "stem" else (level.name,) for level in levels]
    return [backbone.net.get_submodule(name) for group in names for name in group]
