"""A backbone on disk: weights without code, and beside them all that is needed to use them.

    FOLDER/backbone.safetensors   the weights, under torchvision's names, a transformer's timm's
    FOLDER/backbone.json          architecture, preprocessing, provenance

Foreign checkpoints come in through :func:`load_checkpoint`. Either every weight finds its place or
nothing is loaded: a backbone that is silently half random is the worst of results.
"""

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from pydantic import Field
from torch import Tensor

from whytransfer.backbone.architecture import Architecture
from whytransfer.backbone.build import build
from whytransfer.backbone.matching import (
    fit_to,
    grid_of,
    layout_of,
    recognise_architecture,
    renamed,
    require_plain,
)
from whytransfer.backbone.model import Backbone
from whytransfer.backbone.preprocessing import Preprocessing
from whytransfer.core import config
from whytransfer.core.config import Config
from whytransfer.core.errors import InputError
from whytransfer.core.store import MANIFEST, open_artifact, write_text, writing
from whytransfer.core.streams import Stream

WEIGHTS = "backbone.safetensors"
DESCRIPTION = "backbone.json"
FOLDER = "backbone"
"""The folder of a larger artifact, such as a transfer's, that holds its backbone."""

SCHEMA_VERSION = 1

_UNREADABLE = (
    pickle.UnpicklingError,
    safetensors.SafetensorError,
    RuntimeError,
    EOFError,
    ValueError,
    KeyError,
)
_CONTAINERS = ("state_dict", "model", "model_state_dict", "teacher")
"""Where tensors may lie; of DINO's two networks the teacher is the one that DINO evaluates."""


class Description(Config):
    """What ``backbone.json`` holds.

    Attributes:
        provenance: How the weights came to be: plain data, for people and for reports.
    """

    schema_version: int = SCHEMA_VERSION
    architecture: Architecture
    preprocessing: Preprocessing
    provenance: dict[str, Any] = Field(default_factory=dict)


def save(folder: Path, backbone: Backbone, provenance: Mapping[str, Any]) -> None:
    """Writes a backbone into an existing folder.

    Raises:
        InputError: The folder can't be written.
    """
    description = Description(
        architecture=backbone.architecture,
        preprocessing=backbone.preprocessing,
        provenance=dict(provenance),
    )
    weights = {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in backbone.net.state_dict().items()
    }
    with writing(folder):
        (folder / WEIGHTS).write_bytes(safetensors.torch.save(weights))
    write_text(folder / DESCRIPTION, json.dumps(config.to_plain(description), indent=1))


def describe(folder: Path) -> Description:
    """Reads what a backbone's folder says of itself, without its weights.

    Raises:
        InputError: There is no folder, no description, or one of another version.
    """
    file = folder / DESCRIPTION
    if not file.is_file():
        raise InputError(
            folder, f"holds no {DESCRIPTION}", f"a folder with {WEIGHTS} and {DESCRIPTION}",
            "for somebody else's checkpoint give the file itself",
        )  # fmt: skip
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        version = values["schema_version"]
    except (ValueError, KeyError, TypeError):
        raise InputError(file, "not readable", "the description of a backbone") from None
    if version != SCHEMA_VERSION:
        raise InputError(file, f"schema version {version}", f"version {SCHEMA_VERSION}")
    return config.build(Description, values, str(file))


def folder_in(path: Path) -> Path:
    """Returns where the backbone of a folder lies: in it, or in its own folder for backbones."""
    inside = path / FOLDER
    return inside if (inside / DESCRIPTION).is_file() else path


def load(path: Path | str) -> Backbone:
    """Loads a backbone: a folder that :func:`save` wrote, or anyone's checkpoint file.

    A folder of the store is verified first.

    Raises:
        InputError: It is missing, altered, or not a backbone.
    """
    path = Path(path)
    if path.is_file() and path.name == WEIGHTS and (path.parent / DESCRIPTION).is_file():
        path = path.parent
    if path.is_file():
        return load_checkpoint(path)
    if not path.is_dir():
        raise InputError(path, "no such file or folder", "a backbone", "check the path")
    if (path / MANIFEST).is_file():
        open_artifact(path)
    description = describe(path)
    tensors = read_tensors(path / WEIGHTS)
    backbone = _blank(description.architecture, description.preprocessing, grid_of(tensors))
    fit_to(backbone, tensors, path / WEIGHTS)
    return backbone


def load_checkpoint(
    file: Path,
    architecture: Architecture | None = None,
    preprocessing: Preprocessing | None = None,
) -> Backbone:
    """Loads somebody else's checkpoint, whose layout is recognised by the names in it.

    Args:
        file: ``.safetensors``, or what ``torch.save`` wrote (opened without running any code).
        architecture: What it should be; recognised from names and shapes where not given.
        preprocessing: What it was trained with; ImageNet's mean and std where not given.

    Raises:
        InputError: Not readable, of no known layout, of another architecture (lists what is
            missing, unknown or of another shape), with the 3×3 stem of small images, or a vision
            transformer that is not plain.
    """
    found = read_tensors(file)
    layout = layout_of(found, file)
    tensors = renamed(found, layout)
    require_plain(tensors, file)
    heads = getattr(layout, "HEADS", {})
    architecture = architecture or recognise_architecture(tensors, file, heads)
    backbone = _blank(architecture, preprocessing or Preprocessing(), grid_of(tensors))
    fit_to(backbone, tensors, file)
    return backbone


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Reads the tensors of a checkpoint file by name, out of the container they may lie in.

    Raises:
        InputError: Missing, cut short, holding code, or without any tensor.
    """
    if not file.is_file():
        raise InputError(file, "no such file", "a checkpoint", "check the path")
    values = _unpack(file)
    # A container first: beside it may lie tensors of the training, such as its best accuracy.
    inner = [values[name] for name in _CONTAINERS if isinstance(values.get(name), Mapping)]
    for mapping in (*inner, values):
        tensors = {str(k): v for k, v in mapping.items() if isinstance(v, Tensor)}
        if tensors:
            return tensors
    places = "at the top or under " + ", ".join(_CONTAINERS)
    raise InputError(file, "holds no tensors by name", f"a checkpoint with them {places}")


def _unpack(file: Path) -> Mapping[str, Any]:
    expected = "a .safetensors file or a state_dict that torch.save wrote"
    try:
        if file.suffix == ".safetensors":
            return safetensors.torch.load_file(file)
        values = torch.load(file, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        if "global" in str(error).lower():
            raise InputError(
                file, "holds Python objects, which could run code when loaded", expected,
                "where it was made, keep the tensors alone: torch.save(model.state_dict(), path)",
            ) from None  # fmt: skip
        reason = str(error).strip().partition("\n")[0]
        raise InputError(file, f"not readable ({reason})", expected, "fetch it again") from None
    if not isinstance(values, Mapping):
        raise InputError(file, f"holds {type(values).__name__}", expected)
    return values


def _blank(architecture: Architecture, preprocessing: Preprocessing, grid: int) -> Backbone:
    """Builds a backbone whose weights are all about to be replaced."""
    return build(architecture, Stream(0, "replaced"), preprocessing, grid)
