"""From a foreign checkpoint's tensors to a backbone's: every one in its place, or an error."""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from whytransfer.backbone.architecture import DEPTHS, PATCH_PX, TRANSFORMERS, Architecture
from whytransfer.backbone.build import GRID
from whytransfer.backbone.model import Backbone
from whytransfer.core import plugins
from whytransfer.core.errors import InputError

_LISTED = 5
_COUNTER = "num_batches_tracked"
_POSITIONS, _PATCHES = "pos_embed", "patch_embed.proj.weight"
_UNLIKE_A_PLAIN_TRANSFORMER = {
    "reg_token": "register tokens",
    "register_tokens": "register tokens",
    "dist_token": "a distillation token",
    "relative_position": "relative positions",
    "rel_pos": "relative positions",
    ".ls1.": "scaled layers",
    ".gamma_1": "scaled layers",
    "q_norm": "normalised queries",
    "norm_pre.": "a norm before the blocks",
    "fc_norm.": "a norm behind the pooling, as a fine-tuned classifier has it",
    "layers.0.": "stages, as Swin has them",
}
"""Part of a name → what it says of a network that is not ours."""


def layout_of(tensors: Mapping[str, Tensor], file: Path) -> Any:
    """Returns the module of the layout that a foreign checkpoint's names are of.

    Raises:
        InputError: They are of no known layout.
    """
    known = plugins.names("layout")
    for name in known:
        layout = plugins.find("layout", name)
        if layout.matches(tensors.keys()):
            return layout
    raise InputError(
        file, f"names of no known layout ({_some(tensors)})", "one of " + ", ".join(known)
    )


def renamed(tensors: Mapping[str, Tensor], layout: Any) -> dict[str, Tensor]:
    """Returns a foreign checkpoint's backbone under torchvision's or timm's names."""
    target = {layout.rename(key): tensor for key, tensor in tensors.items()}
    return {key: tensor for key, tensor in target.items() if key is not None}


def require_plain(tensors: Mapping[str, Tensor], file: Path) -> None:
    """Refuses variants of a network that are not built here.

    Raises:
        InputError: A ResNet's stem is not one 7×7 convolution of RGB, such as the 3×3 one for
            CIFAR; or a vision transformer is not a plain one.
    """
    if "conv1.weight" not in tensors:
        return _require_plain_transformer(tensors, file)
    kernel = tuple(tensors["conv1.weight"].shape[1:])
    if kernel != (3, 7, 7):
        raise InputError(
            file, f"a stem of {'×'.join(map(str, kernel))} weights, as in ResNets for small images",
            "a ResNet with a 3×7×7 stem of stride 2",
        )  # fmt: skip
    return None


def grid_of(tensors: Mapping[str, Tensor]) -> int:
    """Returns how many positions a side of the image has; the usual number where there are none."""
    return _side(tensors[_POSITIONS]) if _POSITIONS in tensors else GRID


def recognise_architecture(
    tensors: Mapping[str, Tensor], file: Path, heads: Mapping[int, int]
) -> Architecture:
    """Returns the architecture that names and shapes speak of; a ResNet's stem pools.

    Args:
        tensors: Under torchvision's or timm's names, of a plain network.
        file: They came from.
        heads: By a transformer's channels, how many heads the layout's family has where it is not
            64 channels to each: nothing in the weights says it.

    Raises:
        InputError: No known network has these stages, or these blocks.
    """
    if _PATCHES in tensors:
        return _recognise_transformer(tensors, file, heads)
    depths = tuple(_num_blocks(tensors, stage) for stage in range(1, 5))
    bottleneck = "layer1.0.conv3.weight" in tensors
    for name, known in DEPTHS.items():
        architecture = Architecture(name=name, width=len(tensors["conv1.weight"]))
        if known == depths and architecture.bottleneck == bottleneck:
            return architecture
    raise InputError(
        file, f"stages of {depths} blocks, {'bottleneck' if bottleneck else 'basic'}",
        "one of " + ", ".join(DEPTHS),
    )  # fmt: skip


def fit_to(backbone: Backbone, tensors: Mapping[str, Tensor], file: Path) -> None:
    """Copies tensors into a backbone; BatchNorm's batch counters alone may be missing.

    Raises:
        InputError: Anything is missing, unknown or of another shape; the backbone is untouched.
    """
    own = backbone.net.state_dict()
    missing = [key for key in own if key not in tensors and not key.endswith(_COUNTER)]
    unknown = [key for key in tensors if key not in own]
    misshaped = [
        f"{key} {tuple(tensor.shape)} instead of {tuple(own[key].shape)}"
        for key, tensor in tensors.items()
        if key in own and tensor.shape != own[key].shape
    ]
    problems = (("missing", missing), ("unknown", unknown), ("of another shape", misshaped))
    told = [f"{len(keys)} {what}: {_some(keys)}" for what, keys in problems if keys]
    if told:
        wanted = backbone.architecture
        raise InputError(
            file, "a checkpoint of another architecture (" + "; ".join(told) + ")",
            f"{wanted.name} of width {wanted.width}", "give the architecture it was made with",
        )  # fmt: skip
    with torch.no_grad():
        for key, tensor in tensors.items():
            own[key].copy_(tensor)


def _num_blocks(tensors: Iterable[str], stage: int) -> int:
    prefix = f"layer{stage}."
    return len({key.split(".")[1] for key in tensors if key.startswith(prefix)})


def _some(keys: Iterable[str]) -> str:
    listed = list(keys)
    more = f", … {len(listed) - _LISTED} more" if len(listed) > _LISTED else ""
    return ", ".join(listed[:_LISTED]) + more


def _require_plain_transformer(tensors: Mapping[str, Tensor], file: Path) -> None:
    parts = _UNLIKE_A_PLAIN_TRANSFORMER.items()
    found = [what for part, what in parts if any(part in name for name in tensors)]
    kernel = tuple(tensors[_PATCHES].shape[1:]) if _PATCHES in tensors else ()
    if kernel != (3, PATCH_PX, PATCH_PX):
        shape = "×".join(map(str, kernel)) or "several layers"
        found.insert(0, f"patches of {shape}")
    found += [f"no {name}" for name in ("cls_token", _POSITIONS) if name not in tensors]
    positions = tensors.get(_POSITIONS)
    if positions is not None and len(positions[0]) != 1 + _side(positions) ** 2:
        found.append(f"{len(positions[0])} positions")
    if found:
        raise InputError(
            file, "a vision transformer with " + ", ".join(dict.fromkeys(found)),
            f"a plain one: patches of 3×{PATCH_PX}×{PATCH_PX}, a class token, one learned position"
            " for it and for each patch of a square image, LayerNorm before attention and MLP",
        )  # fmt: skip


def _recognise_transformer(
    tensors: Mapping[str, Tensor], file: Path, heads: Mapping[int, int]
) -> Architecture:
    channels = len(tensors[_PATCHES])
    depth = len({key.split(".")[1] for key in tensors if key.startswith("blocks.")})
    usual = channels // 64 if channels % 64 == 0 else 0
    num_heads = heads.get(channels, usual)
    for name, size in TRANSFORMERS.items():
        if (size.depth, size.num_heads) == (depth, num_heads) and channels % num_heads == 0:
            return Architecture(name=name, width=channels // num_heads)
    raise InputError(
        file, f"a vision transformer of {depth} blocks of {channels} channels", "one of "
        + ", ".join(f"{n} ({s.depth} of {64 * s.num_heads})" for n, s in TRANSFORMERS.items()),
        "of another width, say which it is: nothing in the weights tells how many heads they have",
    )  # fmt: skip


def _side(positions: Tensor) -> int:
    return math.isqrt(positions.shape[1] - 1)
