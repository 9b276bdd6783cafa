"""How fast are readouts of kept features? Ours against scikit-learn's on the same features.

python benchmarks/readout.py --json

Neighbours: as many as scikit-learn finds by brute force, cosine, every neighbour one vote.
Logistic regression: one penalty, both until no entry of the mean loss's gradient is above the same
bound. That both name the same classes and reach the same loss is checked before anything is timed.
"""

import numpy as np
import torch
from _interleaved import compare, merge, parser, ratios, report
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from threadpoolctl import threadpool_limits

from whytransfer.ops.logistic_regression import Logistic, fit_logistic
from whytransfer.ops.neighbours import nearest_neighbours, votes

NUM_CLASSES, NUM_VALUES, NUM_NEIGHBOURS = 100, 512, 20
INVERSE_PENALTY, TOLERANCE = 1e-3, 1e-4

Labelled = tuple[NDArray[np.float32], NDArray[np.int64]]


def clusters(count: int, generator: np.random.Generator, centres: NDArray[np.float64]) -> Labelled:
    """Draws features around the centres of their classes, so near that some are confused."""
    labels = generator.integers(0, NUM_CLASSES, count)
    values = 0.25 * centres[labels] + generator.normal(size=(count, NUM_VALUES))
    return values.astype(np.float32), labels


def neighbours(train: Labelled, test: Labelled, rounds: int, threads: int) -> dict[str, object]:
    """Times the votes of the nearest training images."""
    stored, of, queries = (torch.from_numpy(part) for part in (*train, test[0]))
    scaled = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in (train[0], test[0])]
    # Of vectors of length 1 the nearest by distance are those by cosine, and that is its fast way.
    model = KNeighborsClassifier(NUM_NEIGHBOURS, algorithm="brute", n_jobs=threads)
    model.fit(scaled[0], train[1])

    def peer() -> NDArray[np.int64]:
        return np.asarray(model.predict(scaled[1]))

    def ours() -> NDArray[np.int64]:
        similarities, numbers = nearest_neighbours(queries, stored, NUM_NEIGHBOURS)
        return votes(similarities, of[numbers], NUM_CLASSES, None).argmax(1).numpy()

    # In float32 two neighbours may change places where they are equally near.
    assert np.mean(peer() == ours()) > 0.999
    times = compare({"sklearn_knn": peer, "knn": ours}, rounds)
    return ratios(times, {"knn_vs_sklearn": ("sklearn_knn", "knn")})


def logistic(train: Labelled, test: Labelled, rounds: int) -> dict[str, object]:
    """Times one fit."""
    values, labels = train
    given = torch.from_numpy(values), torch.from_numpy(labels)

    def peer() -> LogisticRegression:
        return LogisticRegression(C=INVERSE_PENALTY, tol=TOLERANCE, max_iter=1000).fit(
            values, labels
        )

    def ours() -> Logistic:
        return fit_logistic(*given, NUM_CLASSES, INVERSE_PENALTY, tolerance=TOLERANCE)

    theirs, found = peer(), ours()
    weight, bias = torch.from_numpy(theirs.coef_), torch.from_numpy(theirs.intercept_)
    losses = torch.nn.functional.cross_entropy(given[0] @ weight.float().T + bias, given[1])
    penalty = weight.square().sum() / (2 * INVERSE_PENALTY * len(values))
    assert abs(float(losses + penalty) - found.loss) < 1e-4
    same = found.logits(torch.from_numpy(test[0])).argmax(1).numpy() == theirs.predict(test[0])
    assert same.mean() > 0.995
    times = compare({"sklearn_logistic": peer, "lbfgs": ours}, rounds)
    return ratios(times, {"lbfgs_vs_sklearn": ("sklearn_logistic", "lbfgs")})


def main() -> None:
    options = parser(__doc__, rounds=3)
    options.add_argument("--num-train", type=int, default=50_000)
    options.add_argument("--num-test", type=int, default=1_000)
    asked = options.parse_args()
    torch.set_num_threads(asked.threads)
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(NUM_CLASSES, NUM_VALUES))
    train = clusters(asked.num_train, generator, centres)
    test = clusters(asked.num_test, generator, centres)
    with threadpool_limits(asked.threads):
        found = merge(
            neighbours(train, test, asked.rounds, asked.threads),
            logistic(train, test, asked.rounds),
        )
    report({"train": asked.num_train, "test": asked.num_test, "values": NUM_VALUES, **found})


if __name__ == "__main__":
    main()
