"""How alike are two sets of features, and how are the images spread in one of them?

Everything is a function of inner products (a Gram matrix) or of distances, so nothing here depends
on a rotation of the features. Statistics over pairs of images take each pair of different images
once, weighted by how often its images were drawn: an image that a bootstrap draws twice is no pair
with itself, so draws scatter around the plain value and not below it.

Letters in shapes: N images, D features, B draws.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


def gram(values_ND: Floats) -> Floats:
    """Returns the inner products (N, N) of all pairs of images, features centred."""
    centred = values_ND - values_ND.mean(axis=0)
    products: Floats = centred @ centred.T
    return products


def linear_cka(first_NN: Floats, second_NN: Floats) -> float:
    """Returns the linear CKA of two Gram matrices of the same images, in [0, 1].

    1 where one set of features is a rotation and a rescaling of the other; NaN where one of them is
    the same for all images. With fewer images than features it is near 1 for features that have
    nothing to do with each other: see :func:`debiased_cka`.

    Source: Kornblith et al. 2019, "Similarity of neural network representations revisited"
        (CKA, normalised HSIC of linear kernels).
    """
    first, second = _centred(first_NN), _centred(second_NN)
    return _ratio(float((first * second).sum()), _square(first), _square(second))


def debiased_cka(first_NN: Floats, second_NN: Floats) -> float:
    """Returns linear CKA from unbiased estimates of HSIC: about 0 for unrelated features.

    At least 4 images; at most 1, and slightly below 0 by chance. NaN where the features of one set
    vary too little for an estimate above 0.

    Source: Nguyen, Raghu and Kornblith 2021, "Do wide and deep networks learn the same things?"
        (minibatch CKA, for a single batch).
    """
    return _ratio(
        unbiased_hsic(first_NN, second_NN),
        unbiased_hsic(first_NN, first_NN),
        unbiased_hsic(second_NN, second_NN),
    )


def unbiased_hsic(first_NN: Floats, second_NN: Floats) -> float:
    """Returns the unbiased estimate of HSIC of two Gram matrices of at least 4 images.

    Source: Song et al. 2012, "Feature selection via dependence maximization" (HSIC₁), which Nguyen
        et al. 2021 use.
    """
    n = len(first_NN)
    if n < 4:
        raise ValueError(f"an unbiased estimate of HSIC needs at least 4 images, found {n}")
    first, second = (matrix - np.diag(np.diag(matrix)) for matrix in (first_NN, second_NN))
    rows = float(first.sum(axis=0) @ second.sum(axis=0))
    both = float(first.sum() * second.sum())
    total = float((first * second).sum()) + both / ((n - 1) * (n - 2)) - 2 * rows / (n - 2)
    return total / (n * (n - 3))


def spectrum(gram_NN: Floats) -> Floats:
    """Returns the singular values of the centred features, (N,), the largest first.

    Those that are rounding alone are 0.
    """
    squares = np.linalg.eigvalsh(_centred(gram_NN))[::-1]
    largest = max(float(squares[0]), 0.0)
    negligible = largest * len(gram_NN) * np.finfo(np.float64).eps
    return np.sqrt(np.where(squares > negligible, squares, 0.0))


def effective_rank(singular_values: Floats) -> float:
    """Returns the exponential of the entropy of the normalised singular values; NaN for none.

    Between 1 and the rank; the rank itself where all directions count the same.

    Source: Roy and Vetterli 2007, "The effective rank: a measure of effective dimensionality".
    """
    positive = singular_values[singular_values > 0]
    if len(positive) == 0:
        return float("nan")
    shares = positive / positive.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def num_directions(singular_values: Floats, share: float = 0.99) -> int:
    """Counts the principal directions that hold a share of the variance; 0 without any variance."""
    variance = np.cumsum(singular_values**2)
    if variance[-1] <= 0:
        return 0
    # Rounding must not ask for one direction more than hold the share.
    return int(np.searchsorted(variance, variance[-1] * share * (1 - 1e-12))) + 1


def relative_distance(before: Floats, after: Floats) -> float:
    """Returns the distance of two tensors by the first one's length; NaN where that is 0."""
    length = float(np.linalg.norm(before))
    return float(np.linalg.norm(after - before)) / length if length > 0 else float("nan")


def squared_distances(gram_NN: Floats) -> Floats:
    """Returns the squared distance (N, N) of every pair of images from their inner products."""
    own = np.diag(gram_NN)
    distances: Floats = np.maximum(own[:, None] + own[None, :] - 2 * gram_NN, 0.0)
    np.fill_diagonal(distances, 0.0)
    return distances


def pair_means(weights_BN: Floats, values_NN: Floats, chosen_NN: NDArray[np.bool_]) -> Floats:
    """Returns (B,) means over the chosen pairs of different images, weighted; NaN without any.

    Args:
        weights_BN: How often each image counts in each draw.
        values_NN: A number for every pair; the diagonal plays no part.
        chosen_NN: Which pairs count.
    """
    counted = (chosen_NN & ~np.eye(len(values_NN), dtype=bool)).astype(np.float64)
    totals = ((weights_BN @ (values_NN * counted)) * weights_BN).sum(axis=1)
    pairs = ((weights_BN @ counted) * weights_BN).sum(axis=1)
    return _divided(totals, pairs)


def class_variances(
    weights_BN: Floats, distances_NN: Floats, labels_N: Labels
) -> tuple[Floats, Floats]:
    """Returns the variance (B,) of features within a class and between the classes' means.

    Half the mean squared distance of two images of one class is the variance within a class; of two
    images of different classes, the sum of both. So both are unbiased, however few images a class
    has; that between the classes can fall below 0 by chance.

    Args:
        weights_BN: How often each image counts in each draw.
        distances_NN: Squared distances.
        labels_N: The images' classes.
    """
    same = labels_N[:, None] == labels_N[None, :]
    within = pair_means(weights_BN, distances_NN, same) / 2
    total = pair_means(weights_BN, distances_NN, ~same) / 2
    return within, total - within


def category_share(within: Floats, between: Floats) -> Floats:
    """Returns the share of the variance that lies between the classes: 0 for none, 1 for all.

    The intraclass correlation, b / (w + b); a small sample can put it slightly below 0.

    Source: Fisher 1925, "Statistical methods for research workers", chapter VII.
    """
    return _divided(between, within + between)


def sensitivity(weights_BN: Floats, moved_N: Floats, distances_NN: Floats) -> Floats:
    """Returns (B,) how far a change moves an image, by how far apart two images are.

    The mean squared distance of an image to its changed self, divided by that of two different
    images: 0 for an invariant network, 1 where a changed image is as far off as any other one.

    Args:
        weights_BN: How often each image counts in each draw.
        moved_N: Squared distance of each image to its changed self.
        distances_NN: Squared distances of all pairs.
    """
    every = np.ones(distances_NN.shape, dtype=bool)
    return _divided(
        weighted_means(weights_BN, moved_N), pair_means(weights_BN, distances_NN, every)
    )


def weighted_means(weights_BN: Floats, values_N: Floats) -> Floats:
    """Returns the (B,) weighted means of a number per image."""
    return _divided(weights_BN @ values_N, weights_BN.sum(axis=1))


def uniformity(weights_BN: Floats, unit_ND: Floats, t: float = 2.0) -> Floats:
    """Returns (B,) the log of the mean Gaussian potential of two images: the lower, the more even.

    0 where all images are the same; at least -4t.

    Args:
        weights_BN: How often each image counts in each draw.
        unit_ND: Features of length 1.
        t: As in the paper, where it is 2.

    Source: Wang and Isola 2020, "Understanding contrastive representation learning through
        alignment and uniformity on the hypersphere" (L_uniform).
    """
    distances = squared_distances(unit_ND @ unit_ND.T)
    every = np.ones(distances.shape, dtype=bool)
    return np.asarray(np.log(pair_means(weights_BN, np.exp(-t * distances), every)))


def alignment(first_ND: Floats, second_ND: Floats, alpha: float = 2.0) -> Floats:
    """Returns (N,) the distance of two views of each image to the power of ``alpha``.

    Their mean is L_align.

    Args:
        first_ND: Features of length 1 of one view of each image.
        second_ND: The same of another view.
        alpha: As in the paper, where it is 2.

    Source: Wang and Isola 2020 (L_align).
    """
    return np.asarray(np.linalg.norm(first_ND - second_ND, axis=1) ** alpha)


def unit(values_ND: Floats) -> Floats:
    """Returns features scaled to length 1; a row of zeros stays as it is."""
    lengths = np.linalg.norm(values_ND, axis=1, keepdims=True)
    return np.asarray(values_ND / np.where(lengths > 0, lengths, 1.0))


def _centred(gram_NN: Floats) -> Floats:
    rows = gram_NN.mean(axis=0)
    return np.asarray(gram_NN - rows[None, :] - rows[:, None] + rows.mean())


def _square(matrix: Floats) -> float:
    return float((matrix * matrix).sum())


def _ratio(both: float, first: float, second: float) -> float:
    return both / float(np.sqrt(first * second)) if min(first, second) > 0 else float("nan")


def _divided(numerator: Floats, denominator: Floats) -> Floats:
    undefined = np.full(numerator.shape, np.nan)
    quotients: Floats = np.divide(numerator, denominator, out=undefined, where=denominator > 0)
    return quotients
