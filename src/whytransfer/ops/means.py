"""Means over what has a value: classes without an object have none, and are left out."""

import numpy as np
from numpy.typing import NDArray


def mean_of_known(values: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
    """Returns the mean over an axis of what is not NaN; NaN where nothing is.

    >>> mean_of_known(np.array([[0.5, np.nan, 1.0], [np.nan] * 3])).tolist()
    [0.75, nan]
    """
    known = ~np.isnan(values)
    count = known.sum(axis=axis)
    total = np.where(known, values, 0.0).sum(axis=axis)
    mean: NDArray[np.float64] = np.divide(
        total, count, out=np.full(total.shape, np.nan), where=count > 0
    )
    return mean
