"""Layer 3: pretraining methods and the stage that runs them; never imports ``transfer``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from whytransfer.core.store import Artifact
    from whytransfer.data.dataset import Dataset


def run(
    method: str,
    data: str | Path | Dataset | None = None,
    *,
    seed: int = 0,
    store: str | Path = "runs",
    execution: dict[str, Any] | None = None,
    **settings: Any,
) -> Artifact:
    """Pretrains a backbone, or takes it from the store where it was pretrained before.

    >>> moco = run("moco_v2", "world:things", training={"epochs": 20})  # doctest: +SKIP

    Args:
        method: A name of ``whytransfer ls``, or a dotted path.
        data: ``world:things``, ``FORMAT:PATH``, or a path whose format is recognised; a method
            that does not train needs none.
        seed: Of every stream.
        store: The folder that holds all artifacts.
        execution: Workers and device; moves no number.
        settings: Fields of the method's ``Config``; nested ones as dictionaries.

    Raises:
        InputError: Something given can't be used.
    """
    from whytransfer.core.config import build
    from whytransfer.core.stage import Execution
    from whytransfer.core.store import Store
    from whytransfer.data.stage import open_reference
    from whytransfer.pretrain import stage

    opened = Store(store)
    how = build(Execution, execution or {}, "execution")
    config = stage.resolve(method, settings, f"pretrain {method}", how.device)
    dataset = None if data is None else open_reference(data, opened)
    return stage.run(method, dataset, config, seed=seed, store=opened, execution=how)


def open_backbone(path: str | Path, *, store: str | Path = "runs", **settings: Any) -> Artifact:
    """Opens what :func:`run` made, or takes a backbone from elsewhere into the store.

    Args:
        path: The folder of a pretrain artifact; that of a transfer that fine-tuned, whose backbone
            is taken; or anybody's checkpoint in a known layout.
        store: The folder that holds all artifacts.
        settings: ``architecture`` and ``preprocessing`` of a checkpoint, where its names and
            shapes don't say.

    Raises:
        InputError: There is nothing, it was altered, it holds no backbone, or one of another
            architecture.
    """
    from pathlib import Path

    from whytransfer.core.store import Store, open_artifact
    from whytransfer.pretrain import stage

    if Path(path).is_file():
        config = stage.resolve(stage.CHECKPOINT, settings, f"checkpoint {path}")
        return stage.run_checkpoint(Path(path), config, store=Store(store))
    found = open_artifact(Path(path))
    if found.record.stage == "pretrain":
        return found
    config = stage.resolve(stage.FROM_TRANSFER, settings, f"backbone of {path}")
    return stage.run_transfer(found, config, store=Store(store))
