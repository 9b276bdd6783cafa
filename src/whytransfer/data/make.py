"""Writes a world, or tar shards of a dataset, into a folder of the user's: all or nothing."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from whytransfer.core import plugins
from whytransfer.core.config import build
from whytransfer.core.errors import InputError
from whytransfer.data.dataset import Dataset, made, parse_reference
from whytransfer.data.format import ReadConfig
from whytransfer.data.sharding import write_shards

_WRITTEN = "dataset"
_SIDECARS = (".json", ".jsonl")


def configure(maker: str, values: Mapping[str, Any], where: str) -> BaseModel:
    """Checks plain values against a maker's configuration, its defaults filled in.

    Args:
        maker: Name or dotted path.
        values: Nested plain data.
        where: The file or command that the values came from, for the messages.

    Raises:
        InputError: There is no such maker, or a value is wrong.
    """
    config: BaseModel = build(plugins.find("world", maker).Config, values, where)
    return config


def reading(maker: str, config: BaseModel) -> dict[str, Any]:
    """Returns the fields, format among them, that read what a maker writes, beside the folder.

    A maker with several layouts says it in ``dataset(config)``, any other in ``DATASET``.
    """
    module = plugins.find("world", maker)
    fields: dict[str, Any] = (
        module.dataset(config) if hasattr(module, "dataset") else module.DATASET
    )
    return fields


def make(
    maker: str, root: Path, config: BaseModel, seed: int, images_per_shard: int | None = None
) -> None:
    """Writes a maker's dataset into a folder that is new or empty.

    It is written beside the folder first and moved there when complete, so that an interruption
    leaves no half dataset under the name asked for.

    Args:
        images_per_shard: Writes tar shards of so many images; ``None`` writes the maker's own
            format.

    Raises:
        InputError: There is no such maker, the folder holds something or can't be written, or the
            images have annotations that shards can't hold.
    """
    module = plugins.find("world", maker)
    with _complete(root) as aside:
        written = aside / _WRITTEN
        if images_per_shard is None:
            module.write(written, config, seed)
            return
        files = aside / "files"
        module.write(files, config, seed)
        write_shards(made(files, reading(maker, config), ""), written, images_per_shard)
        for sidecar in (path for path in files.iterdir() if path.suffix in _SIDECARS):
            shutil.copyfile(sidecar, written / sidecar.name)


def convert(reference: str, root: Path, fields: Mapping[str, Any], images_per_shard: int) -> None:
    """Writes a dataset as tar shards into a folder that is new or empty: all or nothing.

    Args:
        reference: ``format:folder``, or a folder whose format is recognised.
        fields: Fields of the format that stand instead of the recognised ones.

    Raises:
        InputError: The dataset can't be read, its images have annotations that shards can't hold,
            or the folder holds something or can't be written.
    """
    spec = parse_reference(reference) | dict(fields)
    name = str(spec.pop("format"))
    config: ReadConfig = build(plugins.find("format", name).Config, spec, f"data make {reference}")
    with _complete(root) as aside:
        write_shards(Dataset(name, config, ""), aside / _WRITTEN, images_per_shard)


@contextlib.contextmanager
def _complete(root: Path) -> Iterator[Path]:
    """Gives a folder beside ``root`` and, if all went well, moves what was written there."""
    _refuse_to_overwrite(root)
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{root.name}.", dir=root.parent) as aside:
            yield Path(aside)
            if root.is_dir():
                root.rmdir()
            shutil.move(Path(aside, _WRITTEN), root)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(
            root, f"can't be written ({reason})", "a folder with room", "choose another folder"
        ) from error


def _refuse_to_overwrite(root: Path) -> None:
    if root.is_dir() and not any(root.iterdir()):
        return
    if root.exists():
        found = "holds files" if root.is_dir() else "is a file"
        raise InputError(root, found, "a new or empty folder", "choose another or remove it")
