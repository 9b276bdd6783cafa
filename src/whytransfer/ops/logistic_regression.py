"""Multinomial logistic regression with an L2 penalty, by SciPy's L-BFGS.

    mean over the images of the cross entropy  +  ‖W‖² / (2 · C · N)

The bias is not penalised. That is scikit-learn's ``LogisticRegression(C=C)``, divided by C·N, and
its solver; loss and gradient are worked out by torch wherever the features lie.

Letters: N images, D dimensions, K classes. C is scikit-learn's name for the inverse penalty.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

_ROWS = 1 << 14
"""Images at a time: their logits alone are held beside the features."""

_LINE_SEARCH = 50
"""Steps of one line search, as scikit-learn has it."""


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

    found = minimize(
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
        split = self.num_classes * self.features.shape[1]
        return flat[:split].view(self.num_classes, -1), flat[split:]

    def loss_and_gradient(self, flat: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the loss, float64 since the line search compares small differences of it."""
        weight, bias = self.parts(flat)
        gradient = torch.zeros_like(flat)
        to_weight, to_bias = self.parts(gradient)
        total = torch.zeros((), dtype=torch.float64, device=flat.device)
        for features, labels in zip(
            torch.split(self.features, _ROWS), torch.split(self.labels, _ROWS), strict=True
        ):
            log_p = torch.addmm(bias, features, weight.T).log_softmax(dim=1)
            total -= log_p.gather(1, labels[:, None]).sum(dtype=torch.float64)
            residual = log_p.exp_()
            residual[torch.arange(len(labels), device=labels.device), labels] -= 1
            to_weight.addmm_(residual.T, features)
            to_bias.add_(residual.sum(0))
        count = len(self.features)
        penalty = 1.0 / (self.inverse_penalty * count)
        loss = total / count + penalty / 2 * weight.double().square().sum()
        gradient /= count
        to_weight.add_(weight, alpha=penalty)
        return loss, gradient
