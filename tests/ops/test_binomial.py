import pytest
from scipy.stats import binom, binomtest

from whytransfer.ops.binomial import clopper_pearson


@pytest.mark.parametrize("total", [1, 7, 40, 4952])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_it_is_scipys_exact_interval(total, level):
    for count in sorted({0, 1, total // 3, total - 1, total}):
        interval = binomtest(count, total).proportion_ci(level, method="exact")
        assert clopper_pearson(count, total, level) == pytest.approx(tuple(interval), abs=1e-12)


def test_its_ends_are_where_the_tails_have_what_the_level_leaves():
    low, high = clopper_pearson(3, 20)
    assert binom.sf(2, 20, low) == pytest.approx(0.025)
    assert binom.cdf(3, 20, high) == pytest.approx(0.025)


@pytest.mark.parametrize(("count", "total"), [(-1, 3), (4, 3), (0, 0)])
def test_what_is_no_share_is_refused(count, total):
    with pytest.raises(ValueError, match="is no share"):
        clopper_pearson(count, total)
