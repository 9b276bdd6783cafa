"""How fast is the exemplar loss? Against a mask on the matrix of all logits, forward and backward.

    python benchmarks/exemplar_loss.py --json

Extra memory is what the process grows by at its peak: the high-water mark of its resident memory,
which Linux can set back, less what it held before. So it counts what matrix products need inside
as well, which a profiler of tensors does not see. Each loss is measured in a process of its own.
"""

import multiprocessing
import statistics
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
import torch.nn.functional as F
from _interleaved import compare, merge, parser, ratios, report
from torch import Tensor

from whytransfer.ops.contrast import contrastive_loss

NUM_QUERIES, NUM_KEYS, NUM_DIMS, NUM_CLASSES, TEMPERATURE = 256, 65_536, 128, 1000, 0.2


def ours(query: Tensor, *given: Tensor) -> Tensor:
    """The loss of this package."""
    key, queue, labels, queue_labels = given
    return contrastive_loss(query, key, queue, TEMPERATURE, labels, queue_labels).loss


def naive(query: Tensor, *given: Tensor) -> Tensor:
    """What one writes down first: compare, fill, concatenate, cross-entropy."""
    key, queue, labels, queue_labels = given
    negatives = query @ queue.T / TEMPERATURE
    negatives = negatives.masked_fill(labels[:, None] == queue_labels[None, :], -torch.inf)
    own = (query * key).sum(dim=1, keepdim=True) / TEMPERATURE
    logits = torch.cat([own, negatives], dim=1)
    return F.cross_entropy(logits, torch.zeros(len(query), dtype=torch.long))


LOSSES = {"naive": naive, "ours": ours}


def inputs(num_queries: int, num_keys: int) -> list[Tensor]:
    """Draws queries, keys, a queue and their labels, some of them -1."""
    generator = torch.Generator().manual_seed(0)
    counts = (num_queries, num_queries, num_keys)
    vectors = [
        F.normalize(torch.randn(count, NUM_DIMS, generator=generator), dim=1) for count in counts
    ]
    labels = torch.randint(0, NUM_CLASSES, (num_queries,), generator=generator)
    return [*vectors, labels, torch.randint(-1, NUM_CLASSES, (num_keys,), generator=generator)]


def work(loss: Callable[..., Tensor], given: list[Tensor]) -> Callable[[], tuple[Tensor, Tensor]]:
    """Returns what is timed: one forward and backward; it gives loss and gradient."""

    def once() -> tuple[Tensor, Tensor]:
        query = given[0].detach().requires_grad_()
        value = loss(query, *given[1:])
        value.backward()
        assert query.grad is not None
        return value.detach(), query.grad

    return once


def extra_mb(name: str, threads: int) -> float:
    """Measures the growth of this process at its peak, in MB; on Linux."""
    torch.set_num_threads(threads)
    small, full = inputs(8, 64), inputs(NUM_QUERIES, NUM_KEYS)
    work(LOSSES[name], small)()  # loads what torch loads at first use
    Path("/proc/self/clear_refs").write_text("5")
    before = _resident_mb("VmRSS")
    work(LOSSES[name], full)()
    return _resident_mb("VmHWM") - before


def _resident_mb(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    kilobytes = next(line.split()[1] for line in lines if line.startswith(field))
    return int(kilobytes) * 1024 / 1e6


def extra_mb_apart(name: str, threads: int) -> float:
    """Measures it in a new process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(extra_mb, name, threads).result()


def main() -> None:
    options = parser(__doc__, rounds=15).parse_args()
    torch.set_num_threads(options.threads)
    given = inputs(NUM_QUERIES, NUM_KEYS)
    works = {name: work(loss, given) for name, loss in LOSSES.items()}
    (loss, gradient), (expected, expected_gradient) = works["ours"](), works["naive"]()
    extra = {name: extra_mb_apart(name, options.threads) for name in LOSSES}
    times = compare(works, options.rounds)
    found = merge(
        ratios(times, {"vs_naive": ("naive", "ours")}),
        {"ratios": {"extra_mb": round(extra["ours"], 1)}},
    )
    report(
        {
            **found,
            "naive_extra_mb": round(extra["naive"], 1),
            "milliseconds": {
                name: round(1e3 * statistics.median(found), 1) for name, found in times.items()
            },
            "loss_difference": abs((loss - expected).item()),
            "largest_gradient_difference": (gradient - expected_gradient).abs().max().item(),
            "rounds": options.rounds,
        }
    )


if __name__ == "__main__":
    main()
