"""Which parameters are trained together, at which part of the learning rate, and by what rule?"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from whytransfer.core.errors import InputError, nearest
from whytransfer.train.config import Adam, Sgd, Training

_NORMS = (
    nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm,
    nn.GroupNorm, nn.LayerNorm,
)  # fmt: skip

_ROWS, _CHANNELS = (0, 2, 3, 1), (0, 3, 1, 2)
"""Of a channels-last weight: the order in which it lies, and from there the usual one."""


def optimiser(model: nn.Module, training: Training) -> torch.optim.Optimizer:
    """Returns the optimiser that a training asks for.

    Raises:
        ValueError: The model has no trainable parameter.
        InputError: As :func:`parameter_groups`.
    """
    if training.adam:
        return adam(model, training.adam, training.lr_factors)
    return sgd(model, training.sgd, training.lr_factors)


def sgd(
    model: nn.Module, config: Sgd, lr_factors: Mapping[str, float] | None = None
) -> torch.optim.SGD:
    """Returns the optimiser; a parameter that needs no gradient is left out.

    Args:
        model: Whose trainable parameters it moves.
        config: Learning rate, momentum, weight decay.
        lr_factors: See :func:`parameter_groups`.

    Raises:
        ValueError: The model has no trainable parameter.
        InputError: As :func:`parameter_groups`.
    """
    # Fused: every parameter is read once and written once, in one call; a CPU and a GPU both have
    # such a kernel. It needs a gradient to lie in memory as its parameter, which autograd sees to.
    found = torch.optim.SGD(
        parameter_groups(model, config, lr_factors or {}),
        lr=config.lr,
        momentum=config.momentum,
        nesterov=config.nesterov,
        fused=True,
    )
    _show_as_it_lies(found)
    return found


def adam(
    model: nn.Module, config: Adam, lr_factors: Mapping[str, float] | None = None
) -> torch.optim.Adam:
    """Returns Adam over the same groups of parameters as :func:`sgd`; raises as that does."""
    found = torch.optim.Adam(
        parameter_groups(model, config, lr_factors or {}),
        lr=config.lr,
        betas=config.betas,
        eps=config.eps,
        amsgrad=config.amsgrad,
        fused=True,
    )
    _show_as_it_lies(found)
    return found


def _show_as_it_lies(optimiser: torch.optim.Optimizer) -> None:
    """Has an optimiser see channels-last weights of a CPU in the order in which they lie.

    The fused kernels of a CPU copy every gradient that is not contiguous in its order of
    dimensions, and leave the copy unused: more than half of the time of their step.

    Source: aten/src/ATen/native/cpu/FusedSGDKernel.cpp, ``grad_contiguous`` @03bf11f; the copy is
        there in torch 2.15.
    """
    shown: list[nn.Parameter] = []

    def before(*_: Any) -> None:
        parameters = (each for group in optimiser.param_groups for each in group["params"])
        shown[:] = [each for each in parameters if _lies_otherwise(each)]
        for parameter in shown:
            _permute(parameter, optimiser.state[parameter], _ROWS)

    def after(*_: Any) -> None:
        for parameter in shown:
            _permute(parameter, optimiser.state[parameter], _CHANNELS)

    optimiser.register_step_pre_hook(before)
    optimiser.register_step_post_hook(after)


def _lies_otherwise(parameter: nn.Parameter) -> bool:
    """Says whether a weight and its gradient lie channels-last, and in no other order, on a CPU."""
    gradient = parameter.grad
    return (
        gradient is not None
        and parameter.device.type == "cpu"
        and not parameter.is_contiguous()
        and parameter.is_contiguous(memory_format=torch.channels_last)
        and gradient.stride() == parameter.stride()
    )


def _permute(parameter: nn.Parameter, state: dict[str, Any], order: tuple[int, ...]) -> None:
    gradient = parameter.grad
    assert gradient is not None
    parameter.grad = None  # between, it would not have the parameter's shape
    parameter.data = parameter.data.permute(order)
    parameter.grad = gradient.permute(order)
    for name, value in state.items():
        if isinstance(value, Tensor) and value.dim() == len(order):
            state[name] = value.permute(order)


def parameter_groups(
    model: nn.Module, config: Sgd | Adam, lr_factors: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Returns the trainable parameters in groups, as any optimiser of torch takes them.

    Each group has its ``weight_decay``, and the ``lr_factor`` that :func:`set_lr` reads.

    Args:
        model: Whose parameters they are.
        config: With its weight decay, which scales and shifts of normalisation layers may have
            otherwise.
        lr_factors: Name of a module or parameter → what the learning rate of all within it is
            multiplied with. Of several names that fit, the longest holds; without any, it is 1.

    Raises:
        InputError: A name fits nothing that is trained.
    """
    norm_decay = config.norm_weight_decay
    if norm_decay is None:
        norm_decay = config.weight_decay
    in_norms = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, _NORMS)
        for parameter in module.parameters(recurse=False)
    }
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    _require_known(lr_factors, trained)
    groups: dict[tuple[bool, float], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in trained.items():
        fitting = [prefix for prefix in lr_factors if _within(name, prefix)]
        factor = lr_factors[max(fitting, key=len)] if fitting else 1.0
        groups[id(parameter) in in_norms, factor].append(parameter)
    return [
        {
            "params": parameters,
            "weight_decay": norm_decay if is_norm else config.weight_decay,
            "lr_factor": factor,
        }
        for (is_norm, factor), parameters in sorted(groups.items(), key=lambda group: group[0])
    ]


def _within(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(f"{prefix}.")


def _require_known(lr_factors: Mapping[str, float], trained: Mapping[str, nn.Parameter]) -> None:
    known = list(dict.fromkeys(module for name in trained for module in _modules_of(name)))
    for prefix in lr_factors:
        if prefix not in known:
            tops = [name for name in known if "." not in name]
            raise InputError(
                f"training.lr_factors, name {prefix!r}", "nothing of that name is trained",
                f"one of {', '.join(tops)}, or what lies within, such as {max(known, key=len)}",
                nearest(prefix, known),
            )  # fmt: skip


def _modules_of(name: str) -> Iterator[str]:
    """Yields a parameter's name and those of all modules that it lies in, the outermost first."""
    parts = name.split(".")
    yield from (".".join(parts[:end]) for end in range(1, len(parts) + 1))


def set_lr(optimiser: torch.optim.Optimizer, lr: float) -> None:
    """Sets the learning rate of every group: its part of this one."""
    for group in optimiser.param_groups:
        group["lr"] = lr * group.get("lr_factor", 1.0)
