"""Logistic regression with several classes: many small problems at once, solved to the optimum.

The loss of scikit-learn's ``LogisticRegression``: C times the sum of the cross entropies plus half
the squared weights; the intercepts are not held back. It is strictly convex but for a constant
added to all intercepts, which no prediction feels, so whoever reaches the optimum predicts the
same. Problems are solved side by side with L-BFGS, each with a history and a step length of its
own, so that none feels which others it is solved with.

Letters: E problems, N examples, D values, W classes.

Source: Nocedal & Wright 2006, algorithms 7.4 (L-BFGS, two-loop recursion) and 3.1 (backtracking).
"""

from collections import deque
from collections.abc import Callable

import torch
from torch import Tensor

from whytransfer.core.errors import InputError

_HISTORY = 10
_HALVINGS = 40
_DECREASE = 1e-4

Objective = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Parameters (E, P) → losses (E,) and gradients (E, P)."""


def fit(
    inputs: Tensor, labels: Tensor, num_classes: int, c: float, tolerance: float, max_steps: int
) -> tuple[Tensor, Tensor]:
    """Returns the optimal weights (E, W, D) and intercepts (E, W), float64.

    Args:
        inputs: (E, N, D) float64.
        labels: (E, N) int64, the class of each example.
        num_classes: W.
        c: The smaller, the more the weights are held back.
        tolerance: What no entry of the gradient of loss / (C · N) exceeds at the end.
        max_steps: L-BFGS steps at most.

    Raises:
        InputError: A problem is not solved after that many.
    """
    problems, num_examples, num_values = inputs.shape
    target = torch.nn.functional.one_hot(labels, num_classes).to(inputs.dtype)
    held_back = 1.0 / (c * num_examples)

    def objective(parameters: Tensor) -> tuple[Tensor, Tensor]:
        weights, intercepts = _parts(parameters, num_classes, num_values)
        logits = inputs @ weights.mT + intercepts[:, None]
        log_chance = logits.log_softmax(dim=2)
        loss = -(log_chance * target).sum(dim=(1, 2)) / num_examples
        loss = loss + 0.5 * held_back * weights.square().sum(dim=(1, 2))
        residual = (log_chance.exp() - target) / num_examples
        by_weight = residual.mT @ inputs + held_back * weights
        return loss, torch.cat([by_weight.flatten(1), residual.sum(dim=1)], dim=1)

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
    return weights.reshape(-1, num_classes, num_values), intercepts


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
