import numpy as np
import pytest

from whytransfer.core.streams import Stream
from whytransfer.ops.resampling import image_weights
from whytransfer.study.statistics import Scores, compare, compare_all


def scores_of(per_image: dict[tuple[str, int], np.ndarray], num_draws: int = 400) -> Scores:
    """Scores whose metric is a mean over images, so that every interval can be checked by hand."""
    num_images = len(next(iter(per_image.values())))
    weights = image_weights(Stream(0, "test"), num_images, num_draws) / num_images
    return Scores(
        task="t",
        metric="top1",
        unit="%",
        num_images=num_images,
        values={key: float(values.mean()) for key, values in per_image.items()},
        draws={key: weights @ values for key, values in per_image.items()},
    )


def normal(generator, *shape):
    return generator.normal(size=shape)


def test_identical_arms_differ_by_exactly_nothing():
    values = np.arange(50.0)
    found = compare(scores_of({("a", 0): values, ("b", 0): values}), "a", "b")
    assert (found.difference, found.low, found.high, found.shown) == (0.0, 0.0, 0.0, False)


def test_a_clear_difference_is_shown_and_the_pairing_is_used():
    generator = np.random.default_rng(0)
    shared = 100 * normal(generator, 80)
    found = compare(
        scores_of({("a", 0): shared + 1 + 0.1 * normal(generator, 80), ("b", 0): shared}), "a", "b"
    )
    # The images differ by hundreds; only the paired difference has an interval this narrow.
    assert found.shown and 0.9 < found.low < found.difference < found.high < 1.1
    assert found.interval == "images (these fixed models)"
    assert found.smallest_detectable == pytest.approx(2.8 * 0.1 / 80**0.5, rel=0.2)


@pytest.mark.parametrize("num_seeds", [1, 2])
def test_below_three_seeds_there_is_no_seed_interval(num_seeds):
    generator = np.random.default_rng(1)
    data = {(arm, s): normal(generator, 60) for arm in "ab" for s in range(num_seeds)}
    found = compare(scores_of(data), "a", "b")
    assert found.seed_spread is None and len(found.points) == num_seeds
    assert found.interval.startswith("images")
    assert found.difference == pytest.approx(np.mean(found.points))


def test_from_three_seeds_on_both_sources_count():
    generator = np.random.default_rng(2)
    data = {}
    for seed, shift in enumerate((0.0, 3.0, 6.0)):
        base = normal(generator, 50)
        data["a", seed], data["b", seed] = base + shift, base
    found = compare(scores_of(data), "a", "b")
    assert found.interval == "seeds then images"
    assert found.seed_spread == pytest.approx(3.0)
    # No image noise at all in the difference: Student's interval of (0, 3, 6), t(.975, 2) = 4.303.
    assert found.high - found.difference == pytest.approx(4.303 * 3.0 / 3**0.5, rel=1e-3)
    assert not found.shown


@pytest.mark.parametrize(("num_seeds", "seed_noise"), [(1, 0.0), (3, 0.5), (5, 0.2)])
def test_intervals_cover_on_simulated_nulls(num_seeds, seed_noise):
    """Two arms without a difference: the 95 % interval holds 0 in at least 183 of 200 studies."""
    generator = np.random.default_rng(3)
    covered = 0
    for _ in range(200):
        images = normal(generator, 60)
        data = {
            (arm, s): images + normal(generator, 60) + seed_noise * normal(generator)
            for arm in "ab"
            for s in range(num_seeds)
        }
        found = compare(scores_of(data, num_draws=200), "a", "b")
        covered += found.low <= 0.0 <= found.high
        assert found.shown == (not found.low <= 0.0 <= found.high)
    assert covered >= 183


def test_every_pair_is_compared_and_the_reference_stands_on_the_right():
    generator = np.random.default_rng(4)
    data = {(arm, 0): normal(generator, 30) for arm in ("r", "x", "y")}
    pairs = [(c.arm, c.reference) for c in compare_all(scores_of(data), ["r", "x", "y"], "r")]
    assert pairs == [("x", "y"), ("x", "r"), ("y", "r")]


def test_only_seeds_that_both_have_are_compared():
    generator = np.random.default_rng(5)
    data = {("a", 0): normal(generator, 30), ("a", 1): normal(generator, 30)}
    data["b", 1] = normal(generator, 30)
    assert compare(scores_of(data), "a", "b").seeds == (1,)
