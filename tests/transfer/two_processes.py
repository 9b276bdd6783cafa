"""Small transfers, and what torchrun runs of them for test_processes.py in each of its processes.

Arguments: a folder that holds the data, and stores of one process's unfinished runs. Writes what
each process saw to ``seen-RANK.json``.
"""

import json
import math
import signal
import sys
from pathlib import Path
from unittest import mock

import torch
from tests.train.signals import signal_at
from tests.transfer import painted
from torch import nn

from whytransfer.backbone import artifact as backbones
from whytransfer.backbone import features
from whytransfer.backbone.build import Architecture, build
from whytransfer.core.config import Config, merge
from whytransfer.core.processes import here
from whytransfer.core.stage import Execution, Step, find_together, materialise
from whytransfer.core.store import Store
from whytransfer.core.streams import Stream
from whytransfer.data.dataset import from_spec
from whytransfer.data.world import crowds, faces, novelties, things
from whytransfer.train import loop
from whytransfer.train.synchronised import SynchronisedBatchNorm2d
from whytransfer.transfer import stage

STEPS = 12
TRAINING = {
    "steps": STEPS, "batch_size": 4, "precision": "64-true", "log_every_steps": 1,
    "checkpoint_every_steps": 5,
}  # fmt: skip
DETECTION = {
    "training": {
        **TRAINING, "sgd": {"lr": 0.01}, "schedule": {"milestones": [8], "warmup_steps": 2},
        "ema_decay": 0.8, "lr_factors": {"backbone": 0.5},
    },
    "detector": {
        "proposals": {
            "sizes_px": [16, 32], "sampled": 32, "candidates_train": 100, "candidates_test": 100,
            "proposals_train": 30, "proposals_test": 30,
        },
        "regions": {"sampled": 40, "pooled": 4},
    },
    "views": {"short_sides_px": [48, 64], "test_short_side_px": 64},
    "precise_bn_steps": 2,
    "test_batch_size": 2,
    "num_draws": 20,
}  # fmt: skip
SEGMENTATION = {
    "training": {**TRAINING, "sgd": {"lr": 0.05}},
    "segmenter": {"channels": 8, "auxiliary_channels": 8, "rates": [1, 2]},
    "views": {"crop_px": [32, 48]},
    "test_batch_size": 2,
    "num_draws": 20,
}
READOUT = {
    "training": {
        **TRAINING, "epochs": None, "sgd": {"lr": 1.0},
        "schedule": {"kind": "cosine", "milestones": []},
    },
    "augmentation": {"crop_px": 32}, "resize_px": 36, "crop_px": 32, "num_draws": 20,
}  # fmt: skip
STAGES = {**READOUT, "num_values": 64, "lr_grid": [0.1, 1.0], "held_out": 0.25}
LANDMARKS = {
    "training": {**TRAINING, "epochs": None, "schedule": {"milestones": [1]}},
    "mode": "fine_tuned",
    # Not the last level, whose weights then get no gradient.
    "regressor": {
        "levels": ["layer1", "layer3"], "map_px": 16, "virtual_points": 4, "init_std": 0.01,
    },
    "views": {"crop_top_px": 4, "crop_px": 40, "resize_px": 36, "margin_px": 2},
    "num_draws": 20,
}  # fmt: skip
LOOKED_AT = {"resize_px": 36, "crop_px": 32, "num_draws": 20}
EPISODES = {
    "features": {"view": {"kind": "centre", "resize_px": 48, "crop_px": 48}, "batch_size": 5},
    "episodes": {"queries": 4}, "num_episodes": 20, "num_draws": 20,
}  # fmt: skip
CASES = {
    "detection": ("voc07_detection", DETECTION),
    "masks": ("coco_detection", DETECTION),
    "grouped": ("voc07_detection", merge(DETECTION, {"detector": {"bn_group_size": 2}})),
    "segmentation": ("semantic_segmentation", SEGMENTATION),
    "readout": ("linear_readout", READOUT),
    "held_out": ("linear_readout", {**READOUT, "validation": 0.25}),
    "stages": ("stage_readout", STAGES),
    "landmarks": ("mafl_landmarks", LANDMARKS),
    "frozen": ("mafl_landmarks", {**LANDMARKS, "mode": "frozen", "cached_views": 1}),
    # In single precision, and without statistics that are computed anew: to be equal to the bit.
    "sharded": (
        "voc07_detection",
        merge(DETECTION, {"training": {"precision": "32-true"}, "precise_bn_steps": 0}),
    ),
    "sharded_pixels": (
        "semantic_segmentation",
        merge(SEGMENTATION, {"training": {"precision": "32-true"}}),
    ),
    # Nothing is trained, so these are equal to the bit as well.
    "neighbours": ("knn_readout", {**LOOKED_AT, "neighbours": [3]}),
    "logistic": ("lbfgs_readout", {**LOOKED_AT, "inverse_penalties": [1.0], "held_out": 0.25}),
    "episodes": ("few_shot", EPISODES),
}  # fmt: skip


def write_data(root: Path) -> None:
    """Writes a small set of each kind: boxes, masks, label maps, labels."""
    few = {"num_shared_shapes": 2, "num_new_shapes": 1, "size_px": 64}
    counts = {"num_train": 10, "num_test": 7}
    crowds.write(root / "crowds", crowds.Config(**counts, **few), 0)
    crowds.write(root / "coco", crowds.Config(**counts, **few, layout="coco"), 0)
    painted.write(root / "painted", {"train": 9, "test": 7})
    classes = things.Config(num_train=24, num_test=10, size_px=48, num_shapes=3)
    things.write(root / "things", classes, 0)
    people = {"num_train": 8, "num_val": 2, "num_test": 9, "num_identities": 4}
    size = {"width_px": 40, "height_px": 48, "num_mafl_train": 8, "num_mafl_test": 7}
    faces.write(root / "faces", faces.Config(**people, **size), 0)
    kinds = {"num_base": 5, "num_validation": 1, "num_novel": 5, "per_kind": 12, "apart": 2}
    novelties.write(root / "novelties", novelties.Config(**kinds, size_px=48), 0)


def dataset(task: str, root: Path):
    """Opens the set that a task is trained on."""
    specs = {
        "voc07_detection": {**crowds.DATASET, "root": str(root / "crowds")},
        "coco_detection": {"format": "coco", "root": str(root / "coco")},
        "semantic_segmentation": {
            "format": "tests.transfer.painted", "root": str(root / "painted"),
        },
        "mafl_landmarks": {"format": "mafl", "root": str(root / "faces")},
        "few_shot": {**novelties.DATASET, "root": str(root / "novelties")},
    }  # fmt: skip
    labelled = {**things.DATASET, "root": str(root / "things")}
    return from_spec(specs.get(task, labelled), None, "test")


def backbone_in(store: Store):
    """Returns a small backbone's artifact, the same on all processes."""
    architecture = Architecture(name="resnet10", width=8, stem_pool=False)
    step = Step("pretrain", "random_init", Config(), seed=0)

    def compute(folder: Path, _work: Path):
        if here().leads:
            backbones.save(folder, build(architecture, Stream(0, "b")), {})
        return ()

    processes = here()
    with processes.together():
        found = find_together(store, step, processes)
        return found or materialise(store, step, compute, processes=processes)


def transfer(case: str, root: Path, data: Path, workers: int = 0):
    """Runs, or goes on with, one of the cases; keeps its checkpoints."""
    task, settings = CASES[case]
    config = stage.resolve(task, settings, "test")
    execution = Execution(progress=False, device="cpu", workers=workers)
    store = Store(root / case)
    with mock.patch.object(Store, "drop_work"):
        return stage.run(
            task, backbone_in(store), dataset(task, data), config, seed=0, store=store,
            execution=execution,
        )  # fmt: skip


def stopped(step: int, rank: int, *which) -> str:
    """Trains until a signal comes to one of the processes; returns how that ended here."""
    try:
        with signal_at(step, rank, signal.SIGINT):
            transfer(*which)
    except loop.Interrupted as end:
        return str(end)
    return "not stopped"


ROWS = {"alike": (3, 3), "unlike": (1, 4), "one_has_none": (5, 0)}
"""Rows of an input that each of the two processes holds."""


def whole_batch(name: str, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the input of a layer, and the gradient of its output, for both processes together."""
    shape = sum(ROWS[name]), 3, 4, 5
    draws = [Stream(1, f"{name}/{what}").uniform(math.prod(shape)) for what in ("in", "out")]
    values, grad = (torch.from_numpy(draw).reshape(shape) for draw in draws)
    return (100.0 + 3.0 * values).to(dtype), grad.to(dtype)


def layer(kind: type[nn.BatchNorm2d], dtype: torch.dtype) -> nn.BatchNorm2d:
    """Returns a layer with a scale and a shift of its own."""
    norm = kind(3, eps=1e-3, momentum=0.3).to(torch.promote_types(dtype, torch.float32))
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([0.5, 1.0, 2.0]))
        norm.bias.copy_(torch.tensor([-1.0, 0.0, 1.0]))
    return norm


def passed(norm: nn.BatchNorm2d, values: torch.Tensor, grad: torch.Tensor) -> list[torch.Tensor]:
    """Returns a layer's output, its gradients and its running statistics."""
    values = values.clone().requires_grad_()
    output = norm(values)
    output.backward(grad)
    gradients = [values.grad, norm.weight.grad, norm.bias.grad]
    return [output.detach(), *gradients, norm.running_mean, norm.running_var]


def synchronised(folder: Path) -> None:
    """Writes what this process's part of each batch becomes."""
    rank, found = here().rank, {}
    for name, counts in ROWS.items():
        for dtype in (torch.float64, torch.float32, torch.bfloat16):
            rows = slice(sum(counts[:rank]), sum(counts[: rank + 1]))
            parts = (tensor[rows] for tensor in whole_batch(name, dtype))
            found[f"{name} {dtype}"] = passed(layer(SynchronisedBatchNorm2d, dtype), *parts)
    torch.save(found, folder / f"layer-{rank}.pt")


def main(folder: Path) -> None:
    data, seen, batches = folder / "data", {}, {}
    for case in CASES:
        with mock.patch.object(features, "pooled", wraps=features.pooled) as pooled:
            seen[case] = str(transfer(case, folder / "two", data).path)
        batches[case] = pooled.call_count
    (folder / f"batches-{here().rank}.json").write_text(json.dumps(batches))
    again = "detection", folder / "again", data
    seen["stops"] = [stopped(3, 1, *again), stopped(2, 0, *again), stopped(4, 1, *again)]
    seen["again"] = str(transfer(*again, workers=1).path)
    seen["found"] = str(transfer("detection", folder / "two", data).path)
    synchronised(folder)
    (folder / f"seen-{here().rank}.json").write_text(json.dumps(seen))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
