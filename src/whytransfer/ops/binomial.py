"""How sure is a share that was counted?"""


def clopper_pearson(count: int, total: int, level: float = 0.95) -> tuple[float, float]:
    """Returns the exact interval of a binomial share, both ends in [0, 1].

    >>> [round(end, 4) for end in clopper_pearson(0, 100)]
    [0.0, 0.0362]

    Args:
        count: How often it was so, at most ``total``.
        total: How often it could have been, at least 1.
        level: At least so often the interval holds the true share.

    Source: Clopper & Pearson 1934, "The use of confidence or fiducial limits illustrated in the
        case of the binomial"; its ends as quantiles of the beta distribution.
    """
    from scipy.special import betaincinv  # here, since it takes a moment to import

    if not 0 <= count <= total or total < 1:
        raise ValueError(f"{count} of {total} is no share")
    tail = (1.0 - level) / 2.0
    low = 0.0 if count == 0 else float(betaincinv(count, total - count + 1, tail))
    high = 1.0 if count == total else float(betaincinv(count + 1, total - count, 1.0 - tail))
    return low, high
