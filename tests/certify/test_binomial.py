"""Clopper-Pearson beside its definition, closed forms, another library, and its coverage."""

import numpy as np
import pytest
from scipy import stats

from scoreag.stats.proportion import clopper_pearson_lower, clopper_pearson_upper

CASES = [(0, 10), (1, 10), (8, 10), (10, 10), (37, 100), (99, 100), (9_990, 10_000)]


@pytest.mark.parametrize("count, total", CASES)
@pytest.mark.parametrize("alpha", [0.05, 0.001])
def test_a_bound_is_the_probability_at_which_the_outcome_would_be_that_rare(count, total, alpha):
    low, high = (
        clopper_pearson_lower(count, total, alpha),
        clopper_pearson_upper(count, total, alpha),
    )
    assert low <= count / total <= high
    if count:
        assert stats.binom.sf(count - 1, total, low) == pytest.approx(alpha, rel=1e-6)
    if count < total:
        assert stats.binom.cdf(count, total, high) == pytest.approx(alpha, rel=1e-6)


def test_where_all_or_none_happened_it_has_a_closed_form():
    assert clopper_pearson_lower(100, 100, 0.001) == pytest.approx(0.001 ** (1 / 100), rel=1e-12)
    assert clopper_pearson_upper(0, 100, 0.001) == pytest.approx(1 - 0.001 ** (1 / 100), rel=1e-12)
    assert (
        clopper_pearson_lower(0, 100, 0.001) == 0.0
        and clopper_pearson_upper(100, 100, 0.001) == 1.0
    )


def test_8_of_10_gives_the_interval_of_the_tables():
    """statsmodels: proportion_confint(8, 10, method="beta") = (0.4439045, 0.9747893)."""
    assert clopper_pearson_lower(8, 10, 0.025) == pytest.approx(0.4439045, abs=1e-7)
    assert clopper_pearson_upper(8, 10, 0.025) == pytest.approx(0.9747893, abs=1e-7)


@pytest.mark.parametrize("count, total", CASES)
def test_two_of_half_the_doubt_are_the_exact_interval_of_scipy(count, total):
    theirs = stats.binomtest(count, total).proportion_ci(0.95, method="exact")
    assert (
        clopper_pearson_lower(count, total, 0.025),
        clopper_pearson_upper(count, total, 0.025),
    ) == pytest.approx(tuple(theirs))


def test_none_of_1000_is_bounded_by_the_rule_of_three():
    assert clopper_pearson_upper(0, 1000, 0.05) == pytest.approx(3 / 1000, rel=0.01)


@pytest.mark.parametrize("truth", [0.02, 0.3, 0.9])
def test_the_truth_lies_beyond_a_bound_as_seldom_as_promised(truth):
    """At alpha 0.05 in 4,000 repeats: more violations than chance allows once in 10^4 refute it.

    And hardly fewer: a bound that is too wide would have none.
    """
    counts = np.random.default_rng(0).binomial(200, truth, 4000)
    most = stats.binom.ppf(1 - 1e-4, 4000, 0.05)
    for misses in (
        sum(clopper_pearson_lower(int(k), 200, 0.05) > truth for k in counts),
        sum(clopper_pearson_upper(int(k), 200, 0.05) < truth for k in counts),
    ):
        assert 4000 * 0.005 < misses <= most


@pytest.mark.parametrize(
    "given, told",
    [((3, 2, 0.1), "3 of 2"), ((0, 0, 0.1), "0 of 0"), ((1, 2, 0.0), "alpha is 0"),
     ((1, 2, 1.0), "alpha is 1")],
)  # fmt: skip
def test_what_is_no_count_or_no_doubt_is_refused(given, told):
    for bound in (clopper_pearson_lower, clopper_pearson_upper):
        with pytest.raises(ValueError, match=told):
            bound(*given)
