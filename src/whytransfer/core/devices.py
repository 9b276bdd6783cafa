"""What the device of a run can do; imports torch when it is asked."""

from typing import Any


def on_gpu(device: str = "auto") -> bool:
    """Says whether a run that asks for this device (``auto``, ``cpu``, ``cuda``) gets a GPU."""
    import torch

    return device != "cpu" and torch.cuda.is_available()


def native_bfloat16(device: str = "auto") -> bool:
    """Says whether bfloat16 is fast there.

    It is on a GPU of compute capability 8.0 or more, and on a CPU with AVX-512 BF16 or AMX;
    elsewhere it is emulated, many times slower than float32. Looks at capabilities, never at a
    clock, so the same machine always answers the same.
    """
    import torch

    if on_gpu(device):
        return torch.cuda.get_device_capability() >= (8, 0)
    return cpu_has_bfloat16()


def cpu_has_bfloat16() -> bool:
    """Says whether this processor computes in bfloat16."""
    import torch

    # Not torch's question whether oneDNN takes bfloat16: it does on every AVX-512, by emulation.
    cpu: Any = torch.cpu
    return bool(cpu._is_avx512_bf16_supported()) or cpu_has_amx()


def cpu_has_amx() -> bool:
    """Says whether this processor has Intel's unit for products of matrices."""
    import torch

    cpu: Any = torch.cpu
    return bool(cpu._is_amx_tile_supported())
