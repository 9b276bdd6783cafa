"""Ridge regression by its normal equations, and generalised cross-validation by the hat matrix."""

import numpy as np


def scaled(scatter, penalty):
    """λ: the penalty times the mean of the eigenvalues that are not 0."""
    rank = np.linalg.matrix_rank(scatter, hermitian=True)
    return penalty * np.trace(scatter) / rank if rank else 0.0


def fitted(features, targets, penalty):
    """Weights, for centred features, and intercept."""
    x = features - features.mean(axis=0)
    scatter = x.T @ x
    mean = targets.mean(axis=0)
    penalised = scatter + scaled(scatter, penalty) * np.eye(x.shape[1])
    return np.linalg.solve(penalised, x.T @ (targets - mean)), mean


def gcv(features, targets, penalty):
    """Golub, Heath and Wahba 1979, eq. 1.4: ‖(I - A)y‖² / n over (tr(I - A) / n)²."""
    x, n = features - features.mean(axis=0), len(features)
    scatter = x.T @ x
    penalised = scatter + scaled(scatter, penalty) * np.eye(x.shape[1])
    hat = x @ np.linalg.solve(penalised, x.T) + np.full((n, n), 1 / n)
    left = np.eye(n) - hat
    return (((left @ targets) ** 2).sum() / n) / (np.trace(left) / n) ** 2


def r_squared(weights, predicted, targets):
    mean = sum(w * row for w, row in zip(weights, targets, strict=True)) / sum(weights)
    missed = sum(
        w * ((y - p) ** 2).sum() for w, y, p in zip(weights, targets, predicted, strict=True)
    )
    varied = sum(w * ((y - mean) ** 2).sum() for w, y in zip(weights, targets, strict=True))
    return 1 - missed / varied
