"""Ridge regression with the penalty chosen by generalised cross-validation.

Letters in shapes: N training images, M test images, D features, T target columns, P penalties.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Ridge:
    """A linear function of features.

    Attributes:
        mean: (D,) of the training features.
        weights: (D, T).
        intercept: (T,) the mean of the training targets.
        penalty: The chosen one, in units of the mean eigenvalue.
        at_edge: It is the smallest or largest that was tried.
    """

    mean: Floats
    weights: Floats
    intercept: Floats
    penalty: float
    at_edge: bool

    def predict(self, features_MD: Floats) -> Floats:
        """Returns the predictions (M, T)."""
        return np.asarray((features_MD - self.mean) @ self.weights + self.intercept)


@dataclass(frozen=True)
class Decomposed:
    """Training features, centred and decomposed once for all targets.

    Attributes:
        left: (N, R) left singular vectors.
        values: (R,) singular values above rounding.
        right: (R, D) right singular vectors.
    """

    mean: Floats
    left: Floats
    values: Floats
    right: Floats


def decompose(features_ND: Floats) -> Decomposed:
    """Centres and decomposes the features of at least two training images."""
    mean = features_ND.mean(axis=0)
    centred = features_ND - mean
    # The small side's eigenvectors are several times cheaper than a decomposition of the whole.
    wide = centred.shape[1] > centred.shape[0]
    square = centred @ centred.T if wide else centred.T @ centred
    squares, vectors = np.linalg.eigh(square)
    # Against the features themselves, too: what is the same for all images but for rounding is not
    # there.
    scale = max(float(squares[-1]), float((features_ND**2).sum()) * np.finfo(np.float64).eps)
    kept = squares > scale * max(centred.shape) * np.finfo(np.float64).eps
    kept[: max(0, len(kept) - (len(centred) - 1))] = False  # centred, one direction is nothing
    values, vectors = np.sqrt(squares[kept]), vectors[:, kept]
    if wide:
        left, right = vectors, (vectors.T @ centred) / values[:, None]
    else:
        left, right = centred @ vectors / values, vectors.T
    return Decomposed(mean, left, values, right)


def fit(features: Decomposed, targets_NT: Floats, penalties: Sequence[float]) -> Ridge:
    """Fits a ridge regression whose penalty minimises the generalised cross-validation error.

    Minimises ‖y − Xw − b‖² + λ‖w‖² for centred X, with λ a penalty times the mean of those
    eigenvalues of XᵀX that are not 0, so that a penalty means the same for features of any scale;
    the intercept has none. One penalty serves all target columns. Of equal ones the largest is
    taken.

    Features are not divided by their deviations: one that is active in a single training image
    would weigh as much as any other, and test images in which it is active would be read wildly.

    Source: Hoerl and Kennard 1970; Golub, Heath and Wahba 1979, "Generalized cross-validation as a
        method for choosing a good ridge parameter" (the criterion V(λ); the intercept counts as one
        of the fitted directions).
    """
    num_images = len(targets_NT)
    intercept = targets_NT.mean(axis=0)
    centred = targets_NT - intercept
    squares = features.values**2
    along = features.left.T @ centred
    # What no weights reach, as differences would not have it: the penalised rest can be tiny.
    unreached = num_images - 1 - len(squares)
    outside = float(((centred - features.left @ along) ** 2).sum()) if unreached else 0.0
    scale = float(squares.mean()) if len(squares) else 0.0
    tried = sorted(penalties, reverse=True)
    errors = []
    for penalty in tried:
        shrunk = penalty * scale / (squares + penalty * scale)
        residual = outside + float(((shrunk[:, None] * along) ** 2).sum())
        freedom = unreached + float(shrunk.sum())
        errors.append(residual / freedom**2 if freedom > 0 else np.inf)
    best = int(np.argmin(errors))
    gain = features.values / (squares + tried[best] * scale)
    return Ridge(
        features.mean,
        features.right.T @ (gain[:, None] * along),
        intercept,
        tried[best],
        best in (0, len(tried) - 1),
    )


def r_squared(weights_BM: Floats, predicted_MT: Floats, targets_MT: Floats) -> Floats:
    """Returns (B,) the share of the targets' variance that predictions explain, all columns as one.

    1 where they are right, 0 for the mean of the test images, below 0 for anything worse; NaN where
    the targets do not vary.

    Args:
        weights_BM: How often each test image counts in each draw.
    """
    missed = weights_BM @ ((targets_MT - predicted_MT) ** 2).sum(axis=1)
    count = weights_BM.sum(axis=1, keepdims=True)
    # Around a fixed point near the mean, or large targets would leave no digits.
    centred = targets_MT - targets_MT.mean(axis=0)
    means = (weights_BM @ centred) / count
    varied = weights_BM @ (centred**2).sum(axis=1) - (count * means**2).sum(axis=1)
    undefined = np.full(missed.shape, np.nan)
    scale = float((targets_MT**2).sum())
    left: Floats = np.divide(missed, varied, out=undefined, where=varied > 1e-12 * scale)
    return 1.0 - left
