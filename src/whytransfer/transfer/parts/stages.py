"""What needs the stages of a ResNet, and what any backbone can be asked instead."""

from collections.abc import Collection, Mapping, Sequence

from whytransfer.backbone.architecture import Architecture, levels_of
from whytransfer.backbone.model import Backbone
from whytransfer.core.errors import InputError

C4 = ("layer3", "layer4")
DILATED = ("layer2", "layer3", "layer4")

BUILT_ON: Mapping[str, Sequence[str]] = {
    "voc07_detection": C4,
    "coco_detection": C4,
    "semantic_segmentation": DILATED,
    "cityscapes_segmentation": DILATED,
}
"""Task → the stages that its model is built on, so that it is refused before anything is begun.

The model itself refuses, too, and so do other people's tasks that are made of ours.
"""

WITHOUT_STAGES = (
    "linear_readout", "stage_readout", "knn_readout", "lbfgs_readout", "few_shot", "mafl_landmarks"
)  # fmt: skip
"""The tasks that take a backbone of any levels, such as a vision transformer."""


def require_task(task: str, architecture: Architecture) -> None:
    """Checks that a task of ours can be built on a network.

    Raises:
        InputError: It can't; names the tasks that can.
    """
    needed = BUILT_ON.get(task, ())
    _require([level.name for level in levels_of(architecture)], needed, task)


def require_levels(backbone: Backbone, needed: Sequence[str], what: str) -> None:
    """Checks that a backbone has the levels that something is built on, a ResNet's stages.

    Args:
        backbone: Of any kind.
        needed: Names of levels.
        what: Is built on them, for the message.

    Raises:
        InputError: It lacks one; names the tasks that do without.
    """
    _require([level.name for level in backbone.levels], needed, what)


def _require(names: Collection[str], needed: Sequence[str], what: str) -> None:
    if not {*needed} <= {*names}:
        kind = "a vision transformer, " if "class_token" in names else ""
        raise InputError(
            "backbone", f"{kind}its levels are {', '.join(names)}",
            f"a ResNet with {', '.join(needed[:-1])} and {needed[-1]}, which {what} is built on",
            f"take such a backbone, or a task without stages: {', '.join(WITHOUT_STAGES)}",
        )  # fmt: skip
