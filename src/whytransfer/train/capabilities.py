"""What this machine can compute fast: the rule that settles every ``auto`` of a recipe.

The rule looks at capabilities, never at a clock, so the same machine always settles the same way.
What it settles on stands in the recipe, its fingerprint and its record in the place of ``auto``: a
machine that settles differently trains another backbone, and says so by another fingerprint. To go
on elsewhere with a run that was begun here, name the values that its record shows.

    precision      bf16-mixed    on a GPU of compute capability 8.0 or more, and on a CPU with
                                 native bfloat16 (AVX-512 BF16 or AMX; elsewhere it is emulated,
                                 many times slower than float32)
                   32-true       elsewhere
    memory_format  channels_last on CPU and GPU alike
    convolution    product       on a CPU
                   product_4     there for bfloat16 without AMX, whose kernels for convolutions are
                                 the faster ones to maps of 16 pixels, not to maps of 4
                   direct        on a GPU
    compile        never         (on a CPU it gains nothing beyond the above)
"""

from collections.abc import Mapping

import torch

from whytransfer.core.devices import cpu_has_amx, native_bfloat16
from whytransfer.core.devices import on_gpu as on_gpu
from whytransfer.train.config import Training

SETTLED: Mapping[str, tuple[str, ...]] = {
    "precision": ("bf16-mixed", "32-true"),
    "memory_format": ("channels_last",),
    "convolution": ("product", "product_4", "direct"),
    "compile": ("never",),
}
"""All that each ``auto`` may be settled on, here or on another machine."""


def settled(training: Training, device: str) -> Training:
    """Returns the training with every ``auto`` replaced by what the rule says here.

    Args:
        training: As it was asked for.
        device: ``auto``, ``cpu`` or ``cuda``, as the execution asks for it.
    """
    found: dict[str, str] = {}
    if training.precision == "auto":
        found["precision"] = "bf16-mixed" if native_bfloat16(device) else "32-true"
    if training.memory_format == "auto":
        found["memory_format"] = "channels_last"
    if training.convolution == "auto":
        found["convolution"] = _convolution(found.get("precision", training.precision), device)
    if training.compile == "auto":
        found["compile"] = "never"
    return training.model_copy(update=found)


def _convolution(precision: str, device: str) -> str:
    if on_gpu(device):
        return "direct"
    return "product_4" if precision == "bf16-mixed" and not cpu_has_amx() else "product"


def device_used(device: str) -> str:
    """Names what a run that asks for this device computes on, for its record."""
    return f"cuda ({torch.cuda.get_device_name()})" if on_gpu(device) else "cpu"
