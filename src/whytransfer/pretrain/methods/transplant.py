"""Transplant: some stages of a pretrained backbone, the others initialised again.

Which levels make the transfer is asked by taking the rest away. The weights of the other stages
are drawn again in one of two ways, each of which is a control for the other:

standard   as ``random_init`` of the same seed has them (:func:`whytransfer.backbone.build.build`)
matched    every weight tensor normal, with the mean and standard deviation of the pretrained one

Matched weights keep the scale that pretraining found, so a gain that they keep may be the scale's.
BatchNorm of those stages starts anew in both: scale 1, shift 0, running mean 0, running variance 1.

Source: Zhao et al. 2021 (low- and mid-level features transfer); Raghu et al. 2019, "Transfusion"
(weight transfusion, and weights drawn with the pretrained moments).
"""

from typing import Literal

import torch
from pydantic import field_validator
from torch import nn

from whytransfer.backbone.architecture import Architecture, levels_of
from whytransfer.backbone.build import build
from whytransfer.backbone.model import Backbone
from whytransfer.backbone.preprocessing import Preprocessing
from whytransfer.core.streams import seeded_torch
from whytransfer.pretrain.method import MethodConfig, Setting, Untrained


class Config(MethodConfig):
    """Which stages are kept, and how the others start.

    Attributes:
        architecture: ``None``, the one that was pretrained.
        preprocessing: ``None``, what it was pretrained with.
        keep: ``up_to``, from the image up to and including ``level``; or ``from`` it to the last.
        level: ``stem``, ``layer1`` to ``layer4``.
        rest: How the weights of the other stages are drawn.
    """

    architecture: Architecture | None = None  # type: ignore[assignment]
    preprocessing: Preprocessing | None = None  # type: ignore[assignment]
    keep: Literal["up_to", "from"] = "up_to"
    level: str = "layer2"
    rest: Literal["standard", "matched"] = "standard"

    @field_validator("level")
    @classmethod
    def _is_a_level(cls, level: str) -> str:
        # Every architecture has the same names.
        names = [one.name for one in levels_of(Architecture())]
        if level not in names:
            raise ValueError(f"no level {level!r}: a backbone has {', '.join(names)}")
        return level


class Method(Untrained):
    """A backbone of which some stages are as they were pretrained.

    Args:
        config: The module's ``Config``.
        backbone: The pretrained one; its other stages are initialised again in place.
        setting: Of it only the seed counts.
    """

    def __init__(self, config: Config, backbone: Backbone, setting: Setting) -> None:
        super().__init__(config, backbone, setting)
        fresh = build(backbone.architecture, setting.stream("backbone"))
        for level in _others(config, backbone):
            stages = zip(backbone.modules_of(level), fresh.modules_of(level), strict=True)
            for number, (old, new) in enumerate(stages):
                if config.rest == "matched":
                    _match(new, old, setting, f"transplant/{level}/{number}")
                old.load_state_dict(new.state_dict())


def _others(config: Config, backbone: Backbone) -> list[str]:
    """Lists the levels that are not kept."""
    names = [level.name for level in backbone.levels]
    place = names.index(config.level)
    return names[place + 1 :] if config.keep == "up_to" else names[:place]


def _match(new: nn.Module, old: nn.Module, setting: Setting, stream: str) -> None:
    """Draws the convolutions of a fresh module with the moments of the pretrained ones."""
    with seeded_torch(setting.stream(stream)), torch.no_grad():
        for fresh, trained in zip(new.modules(), old.modules(), strict=True):
            if isinstance(fresh, nn.Conv2d) and isinstance(trained, nn.Conv2d):
                weight = trained.weight.float()
                fresh.weight.normal_(weight.mean().item(), weight.std(correction=0).item())
