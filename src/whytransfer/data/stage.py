"""The data stage: a maker of the world writes a dataset in a real format, as an artifact."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from whytransfer.core import plugins
from whytransfer.core.fingerprint import fingerprint
from whytransfer.core.records import Metric
from whytransfer.core.stage import Step, materialise
from whytransfer.core.store import Artifact, Store
from whytransfer.data.dataset import Dataset, from_spec, made, parse_reference
from whytransfer.data.make import configure, reading

FILES = "files"
"""The folder of the artifact that holds the dataset; its record and manifest lie beside it."""

HASHES = "hashes.json"
"""The file of a store that keeps the content hashes of users' files, by path, size and time."""


def step_for(maker: str, config: BaseModel, seed: int) -> Step:
    """Says what is to be made; its fingerprint names the dataset before it exists."""
    return Step(stage="data", plugin=maker, config=config, seed=seed)


def run(maker: str, config: BaseModel, *, seed: int, store: Store) -> Artifact:
    """Writes the dataset, where the store does not have it yet."""
    module = plugins.find("world", maker)

    def compute(folder: Path, _work: Path) -> tuple[Metric, ...]:
        root = folder / FILES
        module.write(root, config, seed)
        written = made(root, reading(maker, config), "")
        num_images = sum(len(written.open(split)) for split in written.config.splits)
        return (Metric(name="images", value=num_images, n=num_images, higher_is_better=None),)

    return materialise(store, step_for(maker, config, seed), compute)


def dataset(artifact: Artifact, reads: Mapping[str, Any] | None = None) -> Dataset:
    """Opens what the stage made, as any other dataset.

    Args:
        artifact: Of a maker.
        reads: Fields of the format by which it is read otherwise than as made, such as a list of
            images.
    """
    maker = artifact.record.plugin
    config = configure(maker, artifact.record.config, str(artifact.path))
    fields = reading(maker, config) | dict(reads or {})
    known = fingerprint_as_read(artifact.fingerprint, reads or {})
    return made(artifact.path / FILES, fields, known)


def fingerprint_as_read(made_fingerprint: str, reads: Mapping[str, Any]) -> str:
    """Names a made dataset as it is read: its own name, where it is read as made."""
    return (
        fingerprint({"made": made_fingerprint, "reads": dict(reads)})
        if reads
        else (made_fingerprint)
    )


def open_reference(reference: str | Path | Dataset, store: Store) -> Dataset:
    """Opens the dataset that a person named.

    Args:
        reference: ``world:MAKER`` (made in the store, with the maker's defaults), ``FORMAT:PATH``,
            or a path whose format is recognised.
        store: Keeps what is made, and the hashes of the user's files.

    Raises:
        InputError: There is no such maker, format or folder, or its files can't be read.
    """
    if isinstance(reference, Dataset):
        return reference
    kind, _, maker = str(reference).partition(":")
    if kind == "world":
        return dataset(run(maker, configure(maker, {}, str(reference)), seed=0, store=store))
    return from_spec(parse_reference(str(reference)), store.root / HASHES, str(reference))
