"""How fast is a MoCo v2 step? Ours against the reference's way and lightly, by interleaved rounds.

    python benchmarks/pretrain_step.py --json
    python benchmarks/pretrain_step.py --device cuda --json
    python benchmarks/pretrain_step.py --profile --json

Views are made beforehand and none is read from a disk; see ``pretrain_end_to_end.py`` for all of
it. Everybody's step begins with the same views of 8 bits and normalises them itself: ours in the
network, the peers by what ToTensor and Normalize do, once for the whole batch. Ours is the
library's own training loop (logging and checks of the loss are part of the step), in the precision
and memory format that ``auto`` settles on, and again in float32. The peers compute in float32, as
they come, with BatchNorm over the whole batch; so does ours, except under ``_groups``, with the 4
(R18) or 2 (R50) groups that a run of ours would have. ``images_per_second`` has the rates of
each such variant and of the peers in its own rounds; on a CPU each peer has a process of its own.
``--profile`` times nobody against us: it tells which share of our step is what (``shares``).

r18  ResNet-18, views of 64 pixels, batch 128, 4,096 keys
r50  ResNet-50, views of 224 pixels, batch 8, 65,536 keys; on a GPU batch 256
"""

import argparse
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import _profile
import torch
from _interleaved import Apart, Rounds, Times, merge, parser, rates, ratios, report
from _moco import (
    LIGHTLY_ABSENT,
    R18,
    R50,
    Case,
    Lightly,
    Reference,
    config,
    lightly_installed,
    normalised,
    train,
    views,
)

from whytransfer.pretrain.method import ViewBatch

WARM_UP = 2
PEAKS = {"A100": 312e12, "H100": 989e12, "H200": 989e12}
"""bfloat16 operations per second of a GPU, dense, by its maker's data sheet."""

FORWARD_FLOP = {"resnet18": 3.63e9, "resnet50": 8.18e9}
"""Of one image of 224 pixels; the query encoder goes forward and back, the key encoder forward."""


def main() -> None:
    options = _options()
    if options.device == "cpu":
        torch.set_num_threads(options.threads)
    cases = [R18, R50]
    if options.device == "cuda":
        cases = [dataclasses.replace(R50, batch_size=256, group_size=32)]
    if options.profile:
        report({"shares": {case.name: _profile.shares(case) for case in cases}})
        return
    results = [_compare(case, options) for case in cases]
    joined = merge(*results)
    if not lightly_installed():
        reasons = dict.fromkeys(("r18_vs_lightly", "r18_vs_lightly_fp32"), LIGHTLY_ABSENT)
        joined = merge(joined, {"ratios": dict.fromkeys(reasons), "reasons": reasons})
    report(
        {
            **joined,
            "device": _device_name(options.device),
            "rounds": options.rounds,
        }
    )


def _options() -> argparse.Namespace:
    options = parser(__doc__, rounds=8)
    options.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    options.add_argument("--profile", action="store_true", help="what our step spends, on a CPU")
    found = options.parse_args()
    if found.profile and found.device != "cpu":
        options.error("--profile is for a CPU; with --device cuda the report has the shares")
    return found


def _compare(case: Case, options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    device, name = options.device, case.name
    makers: dict[str, Any] = {"reference": Reference}
    if lightly_installed() and (case is R18 or device == "cuda"):
        makers["lightly"] = Lightly
    peers: dict[str, Callable[[], object]]
    if device == "cpu":
        peers = {peer: Apart(_stepping, make, case) for peer, make in makers.items()}
    else:
        peers = {peer: _stepping(make, case, device) for peer, make in makers.items()}
        for peer, make in makers.items():
            peers[f"{peer}_bf16"] = _stepping(make, case, device, amp=True)
    found, paces = [], {}
    ours = {"": ("auto", False), "_fp32": ("32-true", False), "_groups": ("auto", True)}
    for suffix, (precision, groups) in ours.items():
        times = _times(case, options, peers, precision, groups)
        wanted = {f"{name}_vs_{peer}{suffix}": (peer, "ours") for peer in peers}
        found.append(ratios(times, wanted))
        paces[f"{name}{suffix}"] = rates(times, case.batch_size)
    settled = config(case, 1).training.precision
    more = {"images_per_second": paces, "precision": {name: settled}}
    if device == "cuda":
        more |= {"gpu": _on_gpu(case, paces[name]["ours"])}
    return merge(*found, more)


def _times(
    case: Case,
    options: argparse.Namespace,
    peers: dict[str, Callable[[], object]],
    precision: str,
    groups: bool,
) -> Times:
    wait = torch.cuda.synchronize if options.device == "cuda" else lambda: None
    rounds = Rounds("ours", peers, WARM_UP, wait)
    total = WARM_UP + options.rounds + 1  # the last one is not ended by another request
    recipe = config(case, total, precision, groups)

    def batches(first_step: int) -> Iterator[ViewBatch]:
        return rounds.around(_same(case, total - first_step))

    train(recipe, batches, options.device)
    return rounds.times


def _same(case: Case, count: int) -> Iterator[ViewBatch]:
    batch = ViewBatch(views(case), None, torch.arange(case.batch_size))
    for _ in range(count):
        yield batch


def _stepping(
    make: type[Reference | Lightly], case: Case, device: str = "cpu", amp: bool = False
) -> Callable[[], object]:
    """Returns one step of a peer on views of 8 bits, waited for."""
    peer = make(case, device, amp)
    first, second = views(case)

    def step() -> None:
        peer.step((normalised(first, peer.device), normalised(second, peer.device)))
        if peer.device == "cuda":
            torch.cuda.synchronize()

    return step


def _device_name(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else "cpu"


def _on_gpu(case: Case, images_per_second: float) -> dict[str, Any]:
    """Returns the share of the GPU's operations in use, and where its time goes."""
    name = torch.cuda.get_device_name()
    peak = next((flops for gpu, flops in PEAKS.items() if gpu in name), None)
    flop = 4 * FORWARD_FLOP[case.network] * (case.size_px / 224) ** 2
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        train(config(case, 10), lambda first_step: _same(case, 10), "cuda")
    kernels = {event.key: event.self_device_time_total for event in profile.key_averages()}
    total = sum(kernels.values()) or 1.0
    return {
        "mfu": None if peak is None else round(images_per_second * flop / peak, 3),
        "mfu_reason": None if peak else f"the peak of {name} is not listed",
        "batch_norm_share": round(_share(kernels, ("batch_norm", "bn_")) / total, 3),
        "other_memory_bound_share": round(
            _share(kernels, ("elementwise", "reduce", "copy", "Memcpy", "Memset")) / total, 3
        ),
        "slowest_kernels": sorted(kernels, key=lambda key: -kernels[key])[:10],
    }


def _share(kernels: dict[str, float], words: tuple[str, ...]) -> float:
    return sum(time for name, time in kernels.items() if any(word in name for word in words))


if __name__ == "__main__":
    main()
