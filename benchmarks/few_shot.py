"""How fast are few-shot episodes scored? Ours against easyfsl's prototypical networks, in turns.

    python benchmarks/few_shot.py --json

Both score the same 2,000 episodes (5 ways, 5 shots, 15 queries of a class) of the same cached
features: 12,000 of 512 numbers, 20 classes, as the novel classes of mini-ImageNet have. easyfsl
takes one episode at a time, by its own ``evaluate_on_one_task``. Its prototypical networks rank by
Euclidean distance and ours by the cosine; its SimpleShot ranks by the cosine, too, and must guess
as ours does. One thread each: the tensors of one episode are too small to share.
"""

import importlib.util
import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from _interleaved import compare, parser, rates, ratios, report
from torch import Tensor

from whytransfer.core.streams import Stream
from whytransfer.transfer.parts import episodes as drawing
from whytransfer.transfer.parts.episodes import Episodes
from whytransfer.transfer.tasks import few_shot

NUM_EPISODES, SHOTS, NUM_CLASSES, PER_CLASS, NUM_VALUES = 2000, 5, 20, 600, 512
ABSENT = "easyfsl is not installed: `uv pip install --constraint constraints.txt easyfsl` (or pip)"
PEERS = {"easyfsl": "PrototypicalNetworks", "easyfsl_cosine": "SimpleShot"}
CONFIG = few_shot.Config(episodes=drawing.Config(shots=(SHOTS,)), num_episodes=NUM_EPISODES)


def features() -> tuple[Tensor, np.ndarray[Any, np.dtype[np.int64]]]:
    """Draws classes that overlap, values not below 0, as after a ReLU and a mean."""
    stream = Stream(0, "benchmark/few_shot")
    labels = np.repeat(np.arange(NUM_CLASSES), PER_CLASS)
    centres = stream.uniform(NUM_CLASSES * NUM_VALUES).reshape(NUM_CLASSES, NUM_VALUES)
    noise = stream.uniform(len(labels) * NUM_VALUES, -4, 4).reshape(len(labels), NUM_VALUES)
    return torch.from_numpy(np.maximum(centres[labels] + noise, 0).astype(np.float32)), labels


def ours(found: Tensor, drawn: Episodes) -> float:
    """Scores all episodes, as the task does; returns the mean accuracy."""
    guesses = few_shot.guesses(found, drawn, SHOTS, CONFIG, seed=0)
    return float((guesses == np.arange(guesses.shape[1])[:, None]).mean())


def peer(name: str, found: Tensor, drawn: Episodes) -> float:
    """Scores all episodes, one at a time, as easyfsl does; returns the mean accuracy."""
    from easyfsl import methods
    from easyfsl.utils import evaluate_on_one_task

    model = getattr(methods, name)().eval()
    ways, num_queries = drawn.queries.shape[1:]
    learned = torch.arange(ways).repeat_interleave(SHOTS)
    asked = torch.arange(ways).repeat_interleave(num_queries)
    supports, queries = (
        torch.from_numpy(part.reshape(len(drawn), -1)) for part in (drawn.support, drawn.queries)
    )
    right = total = 0
    with torch.no_grad():
        for support, query in zip(supports, queries, strict=True):
            correct, count = evaluate_on_one_task(
                model, found[support], learned, found[query], asked
            )
            right, total = right + correct, total + count
    return right / total


def main() -> None:
    options = parser(__doc__, rounds=9, threads=1).parse_args()
    torch.set_num_threads(options.threads)
    found, labels = features()
    names = tuple(map(str, range(NUM_CLASSES)))
    drawn = drawing.draw(labels, names, CONFIG.episodes, NUM_EPISODES)
    works: dict[str, Callable[[], object]] = {"ours": partial(ours, found, drawn)}
    if importlib.util.find_spec("easyfsl") is None:
        report({"ratios": {}, "not_measured": {"vs_easyfsl": ABSENT}})
        return
    works |= {name: partial(peer, kind, found, drawn) for name, kind in PEERS.items()}
    accuracies = {name: work() for name, work in works.items()}
    assert abs(accuracies["ours"] - accuracies["easyfsl_cosine"]) < 1e-4  # type: ignore[operator]
    times = compare(works, options.rounds)
    wanted = {f"vs_{name}": (name, "ours") for name in PEERS}
    report(
        {
            **ratios(times, wanted),
            "episodes_per_second": rates(times, NUM_EPISODES),
            "milliseconds": {
                name: round(1e3 * statistics.median(seconds), 1) for name, seconds in times.items()
            },
            "accuracies": accuracies,
            "rounds": options.rounds,
        }
    )


if __name__ == "__main__":
    main()
