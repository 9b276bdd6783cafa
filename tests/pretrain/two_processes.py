"""What torchrun runs for test_processes.py, in each of its processes.

Arguments: a folder that holds the data and a store of one process's unfinished run. Writes what
each process saw to ``seen-RANK.json``.
"""

import json
import signal
import sys
from pathlib import Path
from unittest import mock

from tests.train.signals import signal_at

from whytransfer.core import plugins
from whytransfer.core.processes import here
from whytransfer.core.stage import Execution
from whytransfer.core.store import Store
from whytransfer.data.dataset import from_spec
from whytransfer.pretrain import stage
from whytransfer.train import loop

STEPS = 50
SETTINGS = {
    "architecture": {"name": "resnet10", "width": 8, "stem_pool": False},
    "augmentation": {"crop_px": 24},
    "bn_group_size": 4,
    "num_keys": 64,
    "num_dims": 16,
    "momentum": 0.9,
    "training": {
        "epochs": None,
        "steps": STEPS,
        "batch_size": 16,
        "precision": "64-true",
        "sgd": {"lr": 0.05},
        "log_every_steps": 1,
        "checkpoint_every_steps": 15,
    },
}


OTHERS = ("supervised", "exemplar_v1")
"""Trained without interruption: one that has no queue, and one with labels in its queue."""


def train(store: Path, data: Path, workers: int = 0, method: str = "moco_v2"):
    """Runs, or goes on with, the training whose result is compared; keeps its checkpoints."""
    dataset = from_spec({"format": "imagefolder", "root": str(data)}, None, "test")
    known = plugins.find("method", method).Config.model_fields
    settings = {name: value for name, value in SETTINGS.items() if name in known}
    config = stage.resolve(method, settings, "test")
    execution = Execution(progress=False, device="cpu", workers=workers)
    with mock.patch.object(Store, "drop_work"):
        return stage.run(method, dataset, config, seed=0, store=Store(store), execution=execution)


def stopped(step: int, rank: int, **where) -> str:
    """Trains until a signal comes to one of the processes; returns how that ended here."""
    try:
        with signal_at(step, rank, signal.SIGTERM):
            train(**where)
    except loop.Interrupted as end:
        return str(end)
    return "not stopped"


def main(folder: Path) -> None:
    data, seen = folder / "data", {}
    seen["whole"] = str(train(folder / "two", data).path)
    # Stopped at a checkpoint's step and between two, by a signal to either process.
    again = {"store": folder / "again", "data": data}
    seen["stops"] = [stopped(7, 1, **again), stopped(8, 0, **again), stopped(1, 1, **again)]
    seen["again"] = str(train(**again, workers=1).path)
    seen["one_to_two"] = str(train(folder / "one_to_two", data).path)
    seen["unfinished"] = stopped(20, 0, store=folder / "two_to_one", data=data)
    for method in OTHERS:
        seen[method] = str(train(folder / f"two_{method}", data, method=method).path)
    seen["found"] = str(train(folder / "two", data).path)
    (folder / f"seen-{here().rank}.json").write_text(json.dumps(seen))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
