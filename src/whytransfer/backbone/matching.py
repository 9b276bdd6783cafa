"""From a foreign checkpoint's tensors to a backbone's: every one in its place, or an error."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from whytransfer.backbone.architecture import DEPTHS, Architecture
from whytransfer.backbone.model import Backbone
from whytransfer.core import plugins
from whytransfer.core.errors import InputError

_LISTED = 5
_COUNTER = "num_batches_tracked"


def renamed(tensors: Mapping[str, Tensor], file: Path) -> dict[str, Tensor]:
    """Returns a foreign checkpoint's backbone under torchvision's names.

    Raises:
        InputError: Its names are of no known layout.
    """
    known = plugins.names("layout")
    for name in known:
        layout = plugins.find("layout", name)
        if layout.matches(tensors.keys()):
            break
    else:
        raise InputError(
            file, f"names of no known layout ({_some(tensors)})", "one of " + ", ".join(known)
        )
    target = {layout.rename(key): tensor for key, tensor in tensors.items()}
    return {key: tensor for key, tensor in target.items() if key is not None}


def require_plain_stem(tensors: Mapping[str, Tensor], file: Path) -> None:
    """Refuses a stem that is not one 7×7 convolution of RGB, such as the 3×3 one for CIFAR."""
    kernel = tuple(tensors["conv1.weight"].shape[1:])
    if kernel != (3, 7, 7):
        raise InputError(
            file, f"a stem of {'×'.join(map(str, kernel))} weights, as in ResNets for small images",
            "a ResNet with a 3×7×7 stem of stride 2",
        )  # fmt: skip


def recognise_architecture(tensors: Mapping[str, Tensor], file: Path) -> Architecture:
    """Returns the architecture that names and shapes speak of, with a stem that pools.

    Raises:
        InputError: No known ResNet has these stages.
    """
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
