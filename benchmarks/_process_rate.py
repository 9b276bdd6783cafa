"""What one process of a training runs: a few steps of the library's loop; rank 0 writes the pace.

Started by ``scaling.py``, alone or under torchrun: the recipe is the same, and each process gets
its part of every batch.
"""

import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from _moco import Case, config, views

from whytransfer.backbone.build import build as build_backbone
from whytransfer.core.processes import here
from whytransfer.core.stage import Execution
from whytransfer.pretrain.learner import Pretext
from whytransfer.pretrain.method import Setting, ViewBatch
from whytransfer.pretrain.methods import moco_v2
from whytransfer.train.loop import Run, fit
from whytransfer.train.norm import convert_groups

CASE = Case("r18", "resnet18", 64, 64, 4096, 32)
WARM_UP, STEPS = 2, 8


def main() -> None:
    torch.set_num_threads(1)
    processes = here()
    recipe = config(CASE, WARM_UP + STEPS + 1, "auto", groups=True)
    setting = Setting(num_images=CASE.num_keys)
    backbone = build_backbone(recipe.architecture, setting.stream("backbone"), recipe.preprocessing)
    convert_groups(backbone, recipe.bn_group_size)
    method = moco_v2.Method(recipe, backbone, setting)
    part = CASE.batch_size // processes.size
    mine = slice(processes.rank * part, (processes.rank + 1) * part)
    first, second = (view[mine] for view in views(CASE))
    batch = ViewBatch((first, second), None, torch.arange(CASE.batch_size)[mine])
    asked: list[float] = []

    def batches(_first_step: int) -> Iterator[ViewBatch]:
        for _ in range(WARM_UP + STEPS + 1):
            asked.append(time.perf_counter())
            yield batch

    with processes.together(), tempfile.TemporaryDirectory() as folder:
        run = Run(
            work=Path(folder),
            log=Path(folder, "training.jsonl"),
            execution=Execution(progress=False, device="cpu"),
            seed=0,
            steps_per_epoch=10**6,
            title="benchmark",
            processes=processes,
        )
        fit(Pretext(method), batches, recipe.training, run)
    if processes.leads:
        taken = [end - start for start, end in itertools.pairwise(asked)][WARM_UP:]
        result = {"seconds_per_step": statistics.median(taken)}
        Path(sys.argv[1]).write_text(json.dumps(result))


if __name__ == "__main__":
    main()
