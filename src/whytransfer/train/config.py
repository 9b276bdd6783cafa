"""How a model is trained: optimiser, schedule, duration. All durations are steps inside."""

import math
from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from whytransfer.core.config import Config

Beta = Annotated[float, Field(ge=0, lt=1)]


class Sgd(Config):
    """Stochastic gradient descent with momentum.

    Attributes:
        lr: The learning rate at factor 1 of the schedule.
        momentum: Of the velocity, undampened.
        weight_decay: Added to the gradient as ``weight_decay * weight``, biases included.
        norm_weight_decay: The same for scales and shifts of normalisation layers; ``None`` means
            the same value. MoCo decays every parameter, detectron2 sets 0 here.
        nesterov: Whether the momentum is Nesterov's.
    """

    lr: PositiveFloat
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=1e-4, ge=0)
    norm_weight_decay: float | None = Field(default=None, ge=0)
    nesterov: bool = False


class Adam(Config):
    """Adam with its two running means per weight.

    Attributes:
        lr: The learning rate at factor 1 of the schedule.
        betas: How much of the running means of the gradient and of its square is kept in a step.
        eps: Added to the square root that is divided by.
        weight_decay: Added to the gradient as ``weight_decay * weight``, as :class:`Sgd` does.
        norm_weight_decay: As there.
        amsgrad: Whether the largest mean of squares so far stands for the current one.

    Source: Kingma & Ba 2015, algorithm 1; Reddi et al. 2018, algorithm 2.
    """

    lr: PositiveFloat = 1e-3
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    eps: PositiveFloat = 1e-8
    weight_decay: float = Field(default=0.0, ge=0)
    norm_weight_decay: float | None = Field(default=None, ge=0)
    amsgrad: bool = False


class Schedule(Config):
    """What the learning rate is multiplied with as training goes on.

    Attributes:
        kind: ``cosine`` falls from 1 to 0 as ½(1 + cos πt); ``poly`` from 1 to ``floor`` as
            (1 - t) to the power of ``power``; ``multistep`` multiplies by ``gamma`` at every
            milestone.
        per: Where t moves: at every step, or only where an epoch begins.
        milestones: Where a multistep schedule falls, in units of ``per``.
        gamma: What it is multiplied with there.
        power: Exponent of a poly schedule; 1 is a straight line.
        floor: Where a poly schedule ends.
        warmup_steps: Steps over which a further factor grows linearly to 1.
        warmup_factor: What that factor starts at.

    Source: moco, main_moco.py ``adjust_learning_rate`` @132aea9 (per epoch, no warm-up);
        detectron2, solver/lr_scheduler.py ``_get_warmup_factor_at_iter`` (linear); mmcv,
        runner/hooks/lr_updater.py ``PolyLrUpdaterHook``.
    """

    kind: Literal["constant", "cosine", "multistep", "poly"] = "constant"
    per: Literal["step", "epoch"] = "step"
    milestones: tuple[float, ...] = ()
    gamma: PositiveFloat = 0.1
    power: PositiveFloat = 0.9
    floor: float = Field(default=0.0, ge=0, lt=1)
    warmup_steps: int = Field(default=0, ge=0)
    warmup_factor: float = Field(default=1e-3, ge=0, le=1)

    @model_validator(mode="after")
    def _milestones_belong_to_multistep(self) -> Self:
        if bool(self.milestones) != (self.kind == "multistep"):
            raise ValueError("milestones go with kind: multistep, and with no other")
        if list(self.milestones) != sorted(self.milestones):
            raise ValueError("milestones must rise")
        return self

    def factor(self, step: int, total_steps: int, steps_per_epoch: int) -> float:
        """Returns the multiplier of the learning rate of one step, in [0, 1] where gamma is.

        >>> Schedule(kind="cosine").factor(5, total_steps=10, steps_per_epoch=1)
        0.5
        """
        unit = steps_per_epoch if self.per == "epoch" else 1
        return self._decay(step // unit, total_steps / unit) * self._warmup(step)

    def _decay(self, position: int, total: float) -> float:
        if self.kind == "cosine":
            return 0.5 * (1.0 + math.cos(math.pi * position / total))
        if self.kind == "poly":
            left = float(max(0.0, 1.0 - position / total) ** self.power)
            return self.floor + (1.0 - self.floor) * left
        passed = sum(milestone <= position for milestone in self.milestones)
        return float(self.gamma**passed)

    def _warmup(self, step: int) -> float:
        if step >= self.warmup_steps:
            return 1.0
        done = step / self.warmup_steps
        return self.warmup_factor * (1.0 - done) + done


class Training(Config):
    """A whole training run.

    Attributes:
        epochs: How long, in passes over the data; fractions are rounded to whole steps.
        steps: How long, in optimiser steps. Exactly one of the two is given.
        batch_size: Images per step, over all devices.
        sgd: The optimiser.
        adam: The optimiser that takes its place, where one is given.
        schedule: Of the learning rate.
        lr_factors: Name of a module or parameter → what the learning rate of all within it is
            multiplied with, such as ``{backbone: 0.1}``. The longest name that fits holds, and 1
            where none does.
        ema_decay: Evaluate the moving average of the weights, in which the past weighs this much
            after each step; ``None`` evaluates the last weights.
        precision: ``bf16-mixed`` computes in bfloat16 where that is safe, weights stay float32;
            ``64-true`` is for proofs. ``auto``: see :mod:`whytransfer.train.capabilities`.
        memory_format: How convolution weights and 4-d inputs lie in memory: the same numbers up to
            rounding, channels-last faster. ``auto``: as above.
        convolution: ``product`` computes convolutions of kernel 1 or to a map of at most 16 pixels
            as products of matrices, ``product_4`` those of kernel 1 or to at most 4, ``direct`` all
            by the kernels for convolutions: up to rounding the same; see
            :mod:`whytransfer.train.convolution`. ``auto``: as above.
        compile: Whether ``torch.compile`` fuses the step; up to rounding the same. ``auto``: as
            above.
        log_every_steps: A row of the log holds the means over that many steps.
        checkpoint_every_steps: How much work a kill can lose; moves no number.
    """

    epochs: PositiveFloat | None = None
    steps: PositiveInt | None = None
    batch_size: PositiveInt
    sgd: Sgd
    adam: Adam | None = None
    schedule: Schedule = Schedule()
    lr_factors: dict[str, PositiveFloat] = Field(default_factory=dict)
    ema_decay: float | None = Field(default=None, gt=0, lt=1)
    precision: Literal["auto", "32-true", "64-true", "bf16-mixed"] = "32-true"
    memory_format: Literal["auto", "contiguous", "channels_last"] = "channels_last"
    convolution: Literal["auto", "direct", "product", "product_4"] = "direct"
    compile: Literal["auto", "never", "always"] = "never"
    log_every_steps: PositiveInt = 10
    checkpoint_every_steps: PositiveInt = 200

    @model_validator(mode="after")
    def _one_duration(self) -> Self:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give either epochs or steps, and set the other to null")
        return self

    @property
    def lr(self) -> float:
        """The optimiser's learning rate at factor 1 of the schedule."""
        return (self.adam or self.sgd).lr

    @property
    def lr_field(self) -> str:
        """What messages call the setting of that rate."""
        return f"training.{'adam' if self.adam else 'sgd'}.lr"

    @property
    def channels_last(self) -> bool:
        """Whether images lie channels-last in memory; ``auto`` must have been resolved."""
        assert self.memory_format != "auto"
        return self.memory_format == "channels_last"

    def total_steps(self, steps_per_epoch: int) -> int:
        """Returns the duration in optimiser steps, at least one."""
        if self.steps is not None:
            return self.steps
        assert self.epochs is not None
        return max(1, round(self.epochs * steps_per_epoch))
