"""What one process of a training runs: the library's loop, in blocks of steps, each when called.

Started by ``scaling.py``: the recipe is the same whatever the number of processes, and each gets
its equal part of every batch. A training waits for its turn before each block, outside of what is
timed, so that trainings of one and of two processes can take turns; it waits in a read, which takes
no time from the one whose turn it is. A block's first step warms up what the other used, and is not
timed either. The leader prints the seconds of a step, by the clock and of its own computing.

    python benchmarks/_process_rate.py BATCH_SIZE ROUNDS

Each block begins with a line that comes in and ends with one that the leader prints.
"""

import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from _moco import R18, Case, config, views

from whytransfer.backbone.build import build as build_backbone
from whytransfer.core.processes import Processes, here
from whytransfer.core.stage import Execution
from whytransfer.pretrain.learner import Pretext
from whytransfer.pretrain.method import Setting, ViewBatch
from whytransfer.pretrain.methods import moco_v2
from whytransfer.train.loop import Run, fit
from whytransfer.train.norm import convert_groups

STEPS = 4


def main() -> None:
    torch.set_num_threads(1)
    processes = here()
    batch_size, rounds = int(sys.argv[1]), int(sys.argv[2])
    case = Case(**{**vars(R18), "batch_size": batch_size})
    recipe = config(case, (rounds + 1) * (1 + STEPS) + 1, "auto", groups=True)
    setting = Setting(num_images=case.num_keys)
    backbone = build_backbone(recipe.architecture, setting.stream("backbone"), recipe.preprocessing)
    convert_groups(backbone, recipe.bn_group_size)
    method = moco_v2.Method(recipe, backbone, setting)

    def batches(_first_step: int) -> Iterator[ViewBatch]:
        return _in_blocks(case, rounds, processes)

    with processes.together(), tempfile.TemporaryDirectory() as work:
        run = Run(
            work=Path(work),
            log=Path(work, "training.jsonl"),
            execution=Execution(progress=False, device="cpu"),
            seed=0,
            steps_per_epoch=10**6,
            title="benchmark",
            processes=processes,
        )
        fit(Pretext(method), batches, recipe.training, run)


def _in_blocks(case: Case, rounds: int, processes: Processes) -> Iterator[ViewBatch]:
    """Yields this process's part of the same batch, in blocks that wait for their turn."""
    part = case.batch_size // processes.size
    mine = slice(processes.rank * part, (processes.rank + 1) * part)
    first, second = (view[mine] for view in views(case))
    batch = ViewBatch((first, second), None, torch.arange(case.batch_size)[mine])
    for _ in range(rounds + 1):
        if not sys.stdin.readline():
            raise SystemExit("the benchmark that this belongs to is gone")
        yield batch
        started, computed = time.perf_counter(), time.process_time()
        for _ in range(STEPS):
            yield batch
        if processes.leads:  # asked for the next batch, so the last step is over
            taken = time.perf_counter() - started, time.process_time() - computed
            print(*(seconds / STEPS for seconds in taken), flush=True)
    yield batch  # the last step ends the run, and is not timed


if __name__ == "__main__":
    main()
