"""Writes a world into a folder of the user's: all of it or nothing."""

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from whytransfer.core import plugins
from whytransfer.core.config import build
from whytransfer.core.errors import InputError


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


def make(maker: str, root: Path, config: BaseModel, seed: int) -> None:
    """Writes a maker's dataset into a folder that is new or empty.

    It is written beside the folder first and moved there when complete, so that an interruption
    leaves no half dataset under the name asked for.

    Raises:
        InputError: There is no such maker, the folder holds something, or it can't be written.
    """
    module = plugins.find("world", maker)
    _refuse_to_overwrite(root)
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{root.name}.", dir=root.parent) as aside:
            written = Path(aside, "dataset")
            module.write(written, config, seed)
            if root.is_dir():
                root.rmdir()
            shutil.move(written, root)
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
