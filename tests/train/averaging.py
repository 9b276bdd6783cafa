"""What torchrun runs for test_data_parallel.py, in each of its processes.

Argument: a folder. Averages numbers of many lengths and kinds; writes what came out, and what each
process had, to ``RANK.pt``.
"""

import gc
import sys
from pathlib import Path

import torch

from whytransfer.core.processes import here
from whytransfer.core.streams import Stream
from whytransfer.train.data_parallel import SharedMean
from whytransfer.train.launch import connect

LENGTHS = (1, 2, 5, 1000, 1000, 99_999)
TYPES = (torch.float32, torch.float64)


def mapped() -> int:
    """Counts this process's mappings of memory that it shares for gradients."""
    return Path("/proc/self/maps").read_text().count("memfd:gradients")


def main(folder: Path) -> None:
    processes = here()
    connect("cpu", processes)
    mean = SharedMean(processes)
    had, averaged, by_gloo = [], [], []
    for turn, length in enumerate(LENGTHS):
        for dtype in TYPES:
            drawn = Stream(processes.rank, "numbers", turn).uniform(length) - 0.5
            values = torch.from_numpy(drawn).to(dtype)
            had.append(values.clone())
            sums = values / processes.size
            torch.distributed.all_reduce(sums)
            by_gloo.append(sums)
            mean.average(values, number=turn % 2)
            averaged.append(values)
    mappings = [mapped()]
    del mean
    gc.collect()
    mappings.append(mapped())
    found = {"had": had, "averaged": averaged, "by_gloo": by_gloo, "mappings": mappings}
    torch.save(found, folder / f"{processes.rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
