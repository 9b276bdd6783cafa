"""The studies that come with whytransfer: YAML files in ``whytransfer.recipes``."""

from collections.abc import Iterator
from importlib import resources
from pathlib import Path

from whytransfer.core.config import read_yaml


def path(name: str) -> Path:
    """Returns the file of a shipped study."""
    return Path(str(resources.files("whytransfer.recipes") / f"{name}.yaml"))


def names() -> list[str]:
    """Lists the shipped studies."""
    folder = Path(str(resources.files("whytransfer.recipes")))
    return sorted(file.stem for file in folder.glob("[!_]*.yaml"))


def descriptions() -> Iterator[tuple[str, str]]:
    """Yields each shipped study with its description."""
    for name in names():
        yield name, " ".join(str(read_yaml(path(name)).get("description", "")).split())
