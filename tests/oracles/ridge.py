"""Ridge regression by its normal equations, and generalised cross-validation by the hat matrix."""

import numpy as np


def standardised(features):
    deviation = features.std(axis=0)
    return (features - features.mean(axis=0)) / np.where(deviation > 0, deviation, 1)


def fitted(features, targets, penalty):
    """Weights and intercept at λ = penalty times the mean eigenvalue of XᵀX."""
    x = standardised(features)
    scatter = x.T @ x
    strength = penalty * np.trace(scatter) / x.shape[1]
    mean = targets.mean(axis=0)
    weights = np.linalg.solve(scatter + strength * np.eye(x.shape[1]), x.T @ (targets - mean))
    return weights, mean


def gcv(features, targets, penalty):
    """Golub, Heath and Wahba 1979, eq. 1.4: ‖(I - A)y‖² / n over (tr(I - A) / n)²."""
    x, n = standardised(features), len(features)
    scatter = x.T @ x
    strength = penalty * np.trace(scatter) / x.shape[1]
    hat = x @ np.linalg.solve(scatter + strength * np.eye(x.shape[1]), x.T) + np.full((n, n), 1 / n)
    left = np.eye(n) - hat
    return (((left @ targets) ** 2).sum() / n) / (np.trace(left) / n) ** 2


def r_squared(weights, predicted, targets):
    mean = sum(w * row for w, row in zip(weights, targets, strict=True)) / sum(weights)
    missed = sum(
        w * ((y - p) ** 2).sum() for w, y, p in zip(weights, targets, predicted, strict=True)
    )
    varied = sum(w * ((y - mean) ** 2).sum() for w, y in zip(weights, targets, strict=True))
    return 1 - missed / varied
