"""Multinomial logistic regression with an L2 penalty: one large problem, or many small ones.

    mean over the examples of the cross entropy  +  ‖W‖² / (2 · C · N)

The intercepts are not held back. That is scikit-learn's ``LogisticRegression(C=C)``, divided by
C·N. It is strictly convex but for a constant added to all intercepts, which no prediction feels, so
whoever reaches the optimum predicts the same. :func:`cross_entropy` is the loss of both ways to it:

    fit_logistic    one problem of any size, by SciPy's L-BFGS, which is scikit-learn's solver
    fit_each        many small problems side by side, in float64; each has a history and a step
                    length of its own, so that none feels which others it is solved with

Letters: E problems, N examples, D values, K classes. C is scikit-learn's name for the inverse
penalty.

Source: Nocedal & Wright 2006, algorithms 7.4 (L-BFGS, two-loop recursion) and 3.1 (backtracking),
    for ``fit_each``.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.optimize
import torch
from numpy.typing import NDArray
from torch import Tensor

from whytransfer.core.errors import InputError

_ROWS = 1 << 14
"""Images at a time: their logits alone are held beside the features."""

_LINE_SEARCH = 50
"""Steps of one line search, as scikit-learn has it."""

_HISTORY = 10
_HALVINGS = 40
_DECREASE = 1e-4

Objective = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Parameters (E, P) → losses (E,) and gradients (E, P)."""


def cross_entropy(
    inputs: Tensor, labels: Tensor, weights: Tensor, intercepts: Tensor, count: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the summed cross entropy by ``count``, (E,), and its gradient by both parameters.

    The sum is float64, since a line search compares small differences of it.

    Args:
        inputs: (E, N, D).
        labels: (E, N) int64, the class of each example.
        weights: (E, K, D).
        intercepts: (E, K).
        count: What the sum over these examples is divided by: N, or more where they are a part.
    """
    log_chance = torch.baddbmm(intercepts[:, None], inputs, weights.mT).log_softmax(dim=2)
    own = labels[:, :, None]
    loss = -log_chance.gather(2, own).sum(dim=(1, 2), dtype=torch.float64) / count
    residual = log_chance.exp_()
    residual.scatter_add_(2, own, residual.new_full(own.shape, -1.0))
    return loss, residual.mT @ inputs / count, residual.sum(dim=1) / count


@dataclass(frozen=True)
class Logistic:
    """A fitted model.

    Attributes:
        weight: (K, D).
        bias: (K,).
        loss: What was minimised, at its minimum.
        largest_gradient: Of the loss there, by size.
        evaluations: How often loss and gradient were computed.
        converged: Whether it ended by itself, not because it was cut short.
    """

    weight: Tensor
    bias: Tensor
    loss: float
    largest_gradient: float
    evaluations: int
    converged: bool

    def logits(self, features_ND: Tensor) -> Tensor:
        """Returns the logits (N, K)."""
        return torch.addmm(self.bias, features_ND, self.weight.T)


def fit_logistic(
    features_ND: Tensor,
    labels_N: Tensor,
    num_classes: int,
    inverse_penalty: float,
    *,
    start: Logistic | None = None,
    max_iterations: int = 1000,
    tolerance: float = 1e-5,
) -> Logistic:
    """Which linear classifier has the smallest penalised cross entropy?

    Args:
        features_ND: float32 or float64, on any device.
        labels_N: int64 on the same.
        num_classes: K.
        inverse_penalty: C; a large one penalises little.
        start: Where to begin; zeros where not given.
        max_iterations: Of L-BFGS.
        tolerance: Ends where no entry of the gradient is larger, or the loss falls no more.
    """
    problem = _Problem(features_ND, labels_N, num_classes, inverse_penalty)
    if start is None:
        first = np.zeros(num_classes * (features_ND.shape[1] + 1))
    else:
        first = torch.cat([start.weight.flatten(), start.bias]).double().cpu().numpy()

    def objective(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        loss, gradient = problem.loss_and_gradient(torch.from_numpy(values).to(features_ND))
        return float(loss), gradient.double().cpu().numpy()

    found = scipy.optimize.minimize(
        objective, first, jac=True, method="L-BFGS-B",
        options={
            "maxiter": max_iterations, "maxfun": 2 * max_iterations, "gtol": tolerance,
            "ftol": _smallest_fall(features_ND.dtype), "maxls": _LINE_SEARCH,
        },
    )  # fmt: skip
    weight, bias = problem.parts(torch.from_numpy(found.x).to(features_ND))
    gradient = float(np.abs(found.jac).max())
    cut_short = found.status == 1
    return Logistic(weight, bias, float(found.fun), gradient, int(found.nfev), not cut_short)


def _smallest_fall(kind: torch.dtype) -> float:
    """Returns the relative fall of the loss in one iteration below which a fit ends.

    In float64 scikit-learn's; a loss of float32 logits is not known to more than their last bit.
    """
    return 64 * torch.finfo(kind).eps if kind == torch.float64 else torch.finfo(kind).eps


@dataclass(frozen=True)
class _Problem:
    features: Tensor
    labels: Tensor
    num_classes: int
    inverse_penalty: float

    def parts(self, flat: Tensor) -> tuple[Tensor, Tensor]:
        """Returns weight (K, D) and bias (K,) of all parameters in one."""
        weight, bias = _parts(flat[None], self.num_classes, self.features.shape[1])
        return weight[0], bias[0]

    def loss_and_gradient(self, flat: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the loss, float64 since the line search compares small differences of it."""
        weight, bias = self.parts(flat)
        gradient = torch.zeros_like(flat)
        to_weight, to_bias = self.parts(gradient)
        count = len(self.features)
        penalty = 1.0 / (self.inverse_penalty * count)
        loss = penalty / 2 * weight.double().square().sum()
        for features, labels in zip(
            torch.split(self.features, _ROWS), torch.split(self.labels, _ROWS), strict=True
        ):
            part = cross_entropy(features[None], labels[None], weight[None], bias[None], count)
            loss += part[0][0]
            to_weight.add_(part[1][0])
            to_bias.add_(part[2][0])
        to_weight.add_(weight, alpha=penalty)
        return loss, gradient


def fit_each(
    inputs: Tensor, labels: Tensor, num_classes: int, c: float, tolerance: float, max_steps: int
) -> tuple[Tensor, Tensor]:
    """Returns the optimal weights (E, K, D) and intercepts (E, K), float64.

    Args:
        inputs: (E, N, D) float64.
        labels: (E, N) int64, the class of each example.
        num_classes: K.
        c: The smaller, the more the weights are held back.
        tolerance: What no entry of the gradient of loss / (C · N) exceeds at the end.
        max_steps: L-BFGS steps at most.

    Raises:
        InputError: A problem is not solved after that many.
    """
    problems, num_examples, num_values = inputs.shape
    held_back = 1.0 / (c * num_examples)

    def objective(parameters: Tensor) -> tuple[Tensor, Tensor]:
        weights, intercepts = _parts(parameters, num_classes, num_values)
        loss, by_weight, by_bias = cross_entropy(inputs, labels, weights, intercepts, num_examples)
        loss = loss + 0.5 * held_back * weights.square().sum(dim=(1, 2))
        by_weight = by_weight + held_back * weights
        return loss, torch.cat([by_weight.flatten(1), by_bias], dim=1)

    start = inputs.new_zeros(problems, num_classes * (num_values + 1))
    found = minimise(objective, start, tolerance, max_steps)
    return _parts(found, num_classes, num_values)


def spanned(support: Tensor, queries: Tensor) -> tuple[Tensor, Tensor]:
    """Returns both in coordinates of the space that the support spans, where that is smaller.

    Optimal weights lie in it, so what is orthogonal to it changes no prediction.

    Args:
        support: (E, N, D).
        queries: (E, M, D).

    Source: Schölkopf, Herbrich & Smola 2001 (the representer theorem).
    """
    if support.shape[1] >= support.shape[2]:
        return support, queries
    basis = torch.linalg.qr(support.mT).Q
    return support @ basis, queries @ basis


def minimise(objective: Objective, start: Tensor, tolerance: float, max_steps: int) -> Tensor:
    """Returns where smooth convex functions are smallest: (E, P), one row for each.

    Raises:
        InputError: A gradient still has an entry above the tolerance after ``max_steps``.
    """
    here = start
    loss, gradient = objective(here)
    history: deque[tuple[Tensor, Tensor, Tensor]] = deque(maxlen=_HISTORY)
    for _ in range(max_steps):
        waiting = gradient.abs().amax(dim=1) > tolerance
        if not waiting.any():
            return here
        direction = torch.where(waiting[:, None], -_times_inverse(gradient, history), 0.0)
        there, new_loss, new_gradient = _descend(objective, here, loss, gradient, direction)
        step, change = there - here, new_gradient - gradient
        curvature = (step * change).sum(dim=1)
        # Where a problem has ended, or rounding hides the curvature, the pair says nothing.
        known = curvature > 1e-14 * step.square().sum(dim=1)
        inverse = torch.where(known, 1.0 / torch.where(known, curvature, 1.0), 0.0)
        history.append((step, change, inverse))
        here, loss, gradient = there, new_loss, new_gradient
    if (gradient.abs().amax(dim=1) > tolerance).any():
        raise InputError(
            "logistic.max_steps", f"{max_steps} steps do not reach the optimum",
            f"every gradient below {tolerance:g}", "raise it, or lower logistic.c",
        )  # fmt: skip
    return here


def _parts(parameters: Tensor, num_classes: int, num_values: int) -> tuple[Tensor, Tensor]:
    weights = parameters[:, : num_classes * num_values]
    intercepts = parameters[:, num_classes * num_values :]
    return weights.view(-1, num_classes, num_values), intercepts


def _times_inverse(gradient: Tensor, history: "deque[tuple[Tensor, Tensor, Tensor]]") -> Tensor:
    """Multiplies the gradient with L-BFGS's approximate inverse Hessian.

    A pair whose ``inverse`` is 0 leaves it as it is.
    """
    found = gradient
    shares = []
    for step, change, inverse in reversed(history):
        share = inverse * (step * found).sum(dim=1)
        found = found - share[:, None] * change
        shares.append(share)
    if history:
        step, change, inverse = history[-1]
        size = change.square().sum(dim=1)
        scale = torch.where(inverse > 0, 1.0 / (inverse * size).clamp_min(1e-300), 1.0)
        found = scale[:, None] * found
    for (step, change, inverse), share in zip(history, reversed(shares), strict=True):
        back = inverse * (change * found).sum(dim=1)
        found = found + (share - back)[:, None] * step
    return found


def _descend(
    objective: Objective, here: Tensor, loss: Tensor, gradient: Tensor, direction: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Goes along a direction as far as the loss falls enough, halving each problem's own step."""
    slope = (gradient * direction).sum(dim=1)
    length = torch.ones_like(loss)
    # Losses near the optimum differ by rounding alone; a rise of that size is none.
    slack = 1e-15 * loss.abs()
    for _ in range(_HALVINGS):
        there = here + length[:, None] * direction
        new_loss, new_gradient = objective(there)
        good = new_loss <= loss + _DECREASE * length * slope + slack
        if good.all():
            break
        length = torch.where(good, length, 0.5 * length)
    return there, new_loss, new_gradient
