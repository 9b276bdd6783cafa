"""Where the time of our step goes on a CPU, from torch's profiler."""

import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch
from _moco import Case, config, train, views
from torch import profiler

from whytransfer.ops.contrast import contrastive_loss
from whytransfer.pretrain.method import ViewBatch
from whytransfer.pretrain.parts import contrasts

WARM_UP, STEPS, LOSS = 2, 6, "benchmark::loss"
KINDS = {
    "loss": (LOSS,),
    "optimiser_and_momentum": ("optimizer.step", "_foreach_lerp"),
    "convolution": ("conv",),
    "batch_norm": ("batch_norm", "batchnorm"),
    "products": ("_product", "aten::linear", "addmm", "aten::mm"),
}
"""Kind → what the name of an operation, or of one that it is part of, has; the first that fits."""


def shares(case: Case) -> dict[str, float]:
    """Returns each kind's share of our step's time, in what ``auto`` settles on.

    ``products`` of matrices are the heads', and those that a convolution is computed as.
    ``elementwise_and_memory`` are all other operations of torch (activations, additions, pooling,
    normalising of views, changes of precision and layout); ``outside`` is Python between them.
    """
    recipe = config(case, WARM_UP + STEPS + 1)
    batch = ViewBatch(views(case), None, torch.arange(case.batch_size))
    recorder = profiler.profile(activities=[profiler.ProfilerActivity.CPU])
    taken = [0.0]

    def batches(_first_step: int) -> Iterator[ViewBatch]:
        for number in range(WARM_UP + STEPS + 1):
            if number == WARM_UP:
                recorder.start()
                taken[0] = -time.perf_counter()
            if number == WARM_UP + STEPS:  # as many whole steps are over
                taken[0] += time.perf_counter()
                recorder.stop()
            yield batch

    with mock.patch.object(contrasts, "contrastive_loss", _named_loss):
        train(recipe, batches, "cpu")
    found: dict[str, float] = defaultdict(float)
    for event in recorder.events() or []:
        found[_kind(event)] += event.self_cpu_time_total / 1e6 / taken[0]
    rounded = {kind: round(found[kind], 3) for kind in (*KINDS, "elementwise_and_memory")}
    return {**rounded, "outside": round(1 - sum(rounded.values()), 3)}


def _named_loss(*args: Any) -> Any:
    with profiler.record_function(LOSS):
        return contrastive_loss(*args)


def _kind(event: Any) -> str:
    names = []
    while event is not None:
        names.append(event.name.lower())
        event = event.cpu_parent
    for kind, words in KINDS.items():
        if any(word in name for name in names for word in words):
            return kind
    return "elementwise_and_memory"
