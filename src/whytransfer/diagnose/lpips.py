"""LPIPS: how different two pictures look, by a network whose channels were weighted by people.

The weights are files that the user has; nothing is downloaded. The linear layers are those of
version 0.1, and they are told by their content: the files of version 0.0, which were fitted to
inputs of another scale, look the same from outside.

Source: Zhang et al. 2018; PerceptualSimilarity, lpips/{lpips,pretrained_networks}.py @v0.1.4.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
import torchvision
from pydantic import Field
from torch import Tensor, nn

from whytransfer.backbone.artifact import read_tensors
from whytransfer.core.config import Config
from whytransfer.core.errors import InputError
from whytransfer.core.fingerprint import hash_file
from whytransfer.ops.image_quality import feature_distance

Net = Literal["alex", "vgg", "squeeze"]

_TRUNKS = {"alex": "alexnet", "vgg": "vgg16", "squeeze": "squeezenet1_1"}
_TAPS = {
    "alex": (1, 4, 7, 9, 11),
    "vgg": (3, 8, 15, 22, 29),
    "squeeze": (1, 4, 7, 9, 10, 11, 12),
}
"""Modules of the trunk's ``features`` whose outputs are compared."""

_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)

_VERSIONS = {
    ("alex", "718a8b40b0d22f96192d34ab93c0db5c7943558ff6c2407f44812dce2f29b5f4"): "0.1",
    ("vgg", "9153a2043dccf3b525d4f13db916e93ef040548ea923b6f2100de5ebac141a78"): "0.1",
    ("squeeze", "68f1b1752260e0335c6394983132e210e3ed5c2540e78d239be07671a77130e4"): "0.1",
    ("alex", "8a9f071221953c589f32ea6727d04f800af07c3f4d97ef07514bcc3c4e82f687"): "0.0",
    ("vgg", "e60d8ee2c0926a5b9ea5353744a0b2d63f81e12b5df5365fbfe1375a034f8619"): "0.0",
    ("squeeze", "1a1c8db5a561a6810279754ae5f042398fc4cc02b0b8c64d48be743b450da288"): "0.0",
}
"""Network and SHA-256 of its linear layers' numbers → the version that they are of."""

_WANTED = "0.1"


class LpipsFiles(Config):
    """The weights that LPIPS needs.

    Attributes:
        net: The trunk: ``alex`` is its authors' advice for measuring, ``vgg`` is the nearest to
            the usual perceptual loss.
        linear: File of the linear layers, as ``lpips/weights/v0.1/NET.pth`` has them.
        trunk: File of torchvision's ImageNet weights of AlexNet, VGG-16 or SqueezeNet 1.1.
        linear_hash: Of the file's content, which stands in records and fingerprints in its place.
        trunk_hash: The same of the other.
    """

    net: Net = "alex"
    linear: Path = Field(exclude=True)
    trunk: Path = Field(exclude=True)
    linear_hash: str | None = None
    trunk_hash: str | None = None

    def settled(self) -> "LpipsFiles":
        """Returns the same with both hashes.

        Raises:
            InputError: A file is missing.
        """
        for path in (self.linear, self.trunk):
            if not path.is_file():
                raise InputError(path, "no such file", "weights for LPIPS", "check the path")
        hashes = {"linear_hash": hash_file(self.linear), "trunk_hash": hash_file(self.trunk)}
        return self.model_copy(update=hashes)


class Lpips(nn.Module):
    """The distance, ready to measure.

    Args:
        net: Which trunk.
        linear: (C,) weights of each of the compared layers.
        features: The trunk's state, under the names of torchvision's ``features``.
    """

    def __init__(self, net: Net, linear: Sequence[Tensor], features: Mapping[str, Tensor]) -> None:
        super().__init__()
        with torch.device("meta"):
            trunk = getattr(torchvision.models, _TRUNKS[net])(weights=None).features
        trunk.load_state_dict(features, assign=True)
        self._trunk = trunk.eval().requires_grad_(False)
        self._taps, self._linear = _TAPS[net], nn.ParameterList(linear).requires_grad_(False)

    @property
    def least_px(self) -> int:
        """Side of the smallest pictures that the trunk can look at."""
        side = 1
        for module in reversed(list(self._trunk)[: self._taps[-1] + 1]):
            if isinstance(module, nn.Conv2d | nn.MaxPool2d):
                side = _least_input(side, module)
        return side

    @torch.no_grad()
    def forward(self, pictures: Tensor, originals: Tensor) -> Tensor:
        """Returns the distance of each pair, (N,), more where they differ more.

        Args:
            pictures: (N, 3, H, W) RGB in [0, 1].
            originals: The same shape.
        """
        total = pictures.new_zeros(len(pictures))
        pairs = zip(self._taps_of(pictures), self._taps_of(originals), self._linear, strict=True)
        for maps, original_maps, weights in pairs:
            total = total + feature_distance(maps, original_maps, weights)
        return total

    def _taps_of(self, images: Tensor) -> list[Tensor]:
        shift, scale = (images.new_tensor(one).view(1, 3, 1, 1) for one in (_SHIFT, _SCALE))
        maps, found = (2 * images - 1 - shift) / scale, []
        for place, module in enumerate(self._trunk):
            maps = module(maps)
            if place in self._taps:
                # The next ReLU writes into what it is given.
                found.append(maps.clone())
            if place == self._taps[-1]:
                break
        return found


def _least_input(side: int, module: nn.Conv2d | nn.MaxPool2d) -> int:
    """Returns the smallest input whose output has at least that side."""
    settings: Any = (module.kernel_size, module.stride, module.padding)
    kernel, stride, pad = (one if isinstance(one, int) else one[0] for one in settings)
    # What rounds up has one more where a window begins inside the input, wherever it ends.
    rounds_up = isinstance(module, nn.MaxPool2d) and module.ceil_mode
    spared = stride - 1 if rounds_up else 0
    return max(1, int((side - 1) * stride + kernel - 2 * pad - spared))


def read_lpips(files: LpipsFiles) -> Lpips:
    """Reads LPIPS from its two files.

    Raises:
        InputError: One is missing, holds code or other weights, or the linear layers are not of
            version 0.1.
    """
    return Lpips(files.net, _linear(files), _features(files))


def _linear(files: LpipsFiles) -> list[Tensor]:
    net, tensors = files.net, read_tensors(files.linear)
    names = [f"lin{layer}.model.1.weight" for layer in range(len(_TAPS[net]))]
    expected = f"the {len(names)} linear layers of {net}, version {_WANTED}"
    todo = f"give lpips/weights/v{_WANTED}/{net}.pth of the lpips package"
    if sorted(tensors) != sorted(names):
        raise InputError(files.linear, f"holds {_some(tensors)}", expected, todo)
    weights = [tensors[name].float() for name in names]
    found = content_version(net, weights)
    if found != _WANTED:
        what = "linear layers of no known version" if found is None else f"those of version {found}"
        raise InputError(files.linear, f"holds {what}", expected, todo)
    return [weight.flatten() for weight in weights]


def content_version(net: Net, weights: Sequence[Tensor]) -> str | None:
    """Returns the version whose linear layers these are, in order; ``None`` for no known one."""
    digest = hashlib.sha256()
    for weight in weights:
        digest.update(weight.float().contiguous().numpy().tobytes())
    return _VERSIONS.get((net, digest.hexdigest()))


def _features(files: LpipsFiles) -> dict[str, Tensor]:
    name = _TRUNKS[files.net]
    prefix = "features."
    found = {
        key.removeprefix(prefix): value.float()
        for key, value in read_tensors(files.trunk).items()
        if key.startswith(prefix)
    }
    with torch.device("meta"):
        expected = getattr(torchvision.models, name)(weights=None).features.state_dict()
    shapes = {key: tuple(value.shape) for key, value in expected.items()}
    if {key: tuple(value.shape) for key, value in found.items()} != shapes:
        raise InputError(
            files.trunk, f"is not torchvision's {name}", f"its {len(shapes)} tensors features.*",
            f"save torchvision.models.{name}(weights='IMAGENET1K_V1').state_dict()",
        )  # fmt: skip
    return found


def _some(tensors: Mapping[str, Tensor]) -> str:
    names = sorted(tensors)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
