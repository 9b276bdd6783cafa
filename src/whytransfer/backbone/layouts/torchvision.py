"""torchvision's own names, with or without ``module.`` before them.

timm's plain ResNets use the same names. ``module.`` comes from DataParallel; the checkpoints of
Zhao et al. 2021 are loaded that way by their own code.

Source: nanxuanzhao/Good_transfer, code_reconstruction_DIP/customized_resnet.py.
"""

from collections.abc import Collection


def matches(keys: Collection[str]) -> bool:
    """Says whether the first convolution has torchvision's name."""
    return "conv1.weight" in keys or "module.conv1.weight" in keys


def rename(key: str) -> str | None:
    """Strips ``module.`` and drops the classifier."""
    name = key.removeprefix("module.")
    return None if name.startswith("fc.") else name
