"""Intervals hold the truth as often as they say, also of few values; where none can, there is none.

A simulation that repeats ``N`` times counts a binomial number of hits: it may lie five standard
errors from what is claimed, no further.
"""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from scoreag.methods.summary import median_with_interval
from scoreag.report.table_export import format_value as in_table
from scoreag.stats.estimates import (
    TOO_SMALL,
    bootstrap_ci,
    estimate_mean,
    estimate_quantile,
    find_quantile_ranks,
    format_entry,
    missing_interval_reason,
    paired_difference,
)
from scoreag.stats.proportion import wilson_interval

REPEATS = 3000


def source(seed):
    return torch.Generator().manual_seed(seed)


def slack(share, repeats=REPEATS):
    """Five standard errors."""
    return 5 * math.sqrt(share * (1 - share) / repeats)


def held(truth, entries):
    hits = [entry["low"] <= truth <= entry["high"] for entry in entries]
    return sum(hits) / len(hits)


@pytest.mark.parametrize("n, share", [(6, 0.5), (7, 0.5), (12, 0.5), (51, 0.5), (80, 0.05)])
def test_the_interval_of_a_quantile_holds_it_as_often_as_it_says(n, share):
    """Exponential values, whose quantile is -ln(1 - share)."""
    rows = torch.empty(REPEATS, n, dtype=torch.float64).exponential_(generator=source(n))
    entries = [estimate_quantile(row, share, "images") for row in rows]
    claimed = entries[0]["coverage"]
    assert claimed >= 0.95
    assert abs(held(-math.log(1 - share), entries) - claimed) <= slack(claimed)


def test_the_ranks_of_small_samples_are_those_of_the_sign_test():
    """Of n values all lie on one side of the median in 2 of 2^n cases, all but one in 2 n more."""
    assert [find_quantile_ranks(n) for n in range(1, 6)] == [None] * 5
    assert find_quantile_ranks(6) == (1, 6, pytest.approx(1 - 2 / 2**6))
    assert find_quantile_ranks(8) == (1, 8, pytest.approx(1 - 2 / 2**8))
    assert find_quantile_ranks(9) == (2, 8, pytest.approx(1 - 2 * (1 + 9) / 2**9))
    assert find_quantile_ranks(100)[:2] == (40, 61)


@pytest.mark.parametrize("n", [6, 13, 40, 257])
@pytest.mark.parametrize("share", [0.05, 0.5])
def test_no_narrower_ranks_would_do(n, share):
    """Both tails, added up by hand."""
    chances = [math.comb(n, k) * share**k * (1 - share) ** (n - k) for k in range(n + 1)]
    found = find_quantile_ranks(n, share)
    if found is None:
        assert chances[0] > 0.025 or chances[n] > 0.025
        return
    assert sum(chances[: found.low]) <= 0.025 < sum(chances[: found.low + 1])
    assert sum(chances[found.high :]) <= 0.025 < sum(chances[found.high - 1 :])
    assert found.coverage == pytest.approx(sum(chances[found.low : found.high]))


@pytest.mark.parametrize("values", [[1.0], [1.0, 2.0], [3.0, 1.0, 2.0, 5.0, 4.0]])
def test_a_median_of_too_few_has_no_interval_and_says_so(values):
    for found in (
        median_with_interval(values, "images"),
        estimate_quantile(torch.tensor(values), 0.5, "images"),
    ):
        assert "low" not in found and "high" not in found
        assert found["interval"] == TOO_SMALL


def test_a_median_of_six_is_bounded_by_all_of_them_and_says_how_surely():
    found = median_with_interval([3.0, 1.0, 2.0, 6.0, 5.0, 4.0], "images")
    assert (found["low"], found["high"], found["coverage"]) == (1.0, 6.0, 0.9688)
    assert found["interval"] == "96.9 %, order statistics"


def test_the_bootstrap_holds_the_mean_of_ten_normal_values():
    rows = torch.randn(1000, 10, generator=source(10), dtype=torch.float64)
    share = held(0.0, [bootstrap_ci(row, "images") for row in rows])
    assert abs(share - 0.95) <= slack(0.95, 1000)


def test_students_interval_holds_the_mean_of_four_normal_values():
    rows = torch.randn(REPEATS, 4, generator=source(4), dtype=torch.float64)
    share = held(0.0, [estimate_mean(row, "images") for row in rows])
    assert abs(share - 0.95) <= slack(0.95)


@pytest.mark.parametrize("n", [12, 40, 200])
@pytest.mark.parametrize("more, less", [(0.3, 0.1), (0.05, 0.05), (0.02, 0.0)])
def test_the_interval_of_a_paired_difference_holds_it(n, more, less):
    """One attack fools alone at ``more`` of the images, the other at ``less``."""
    drawn = torch.rand(REPEATS, n, generator=source(n))
    a, b = drawn < more, (drawn >= more) & (drawn < more + less)
    entries = [paired_difference(x, y, "images") for x, y in zip(a, b, strict=True)]
    assert held(more - less, entries) >= 0.95 - slack(0.95)


def test_a_paired_difference_by_hand_and_one_of_nothing():
    """Of 10, 4 and 1 differ: p = 5/12, q = 2/12, (7/12 - 9/144) / 12 = 0.0434, root 0.2083."""
    a = torch.tensor([True] * 4 + [False] * 6)
    b = torch.tensor([False] * 9 + [True])
    found = paired_difference(a, b, "images")
    assert found["value"] == pytest.approx(0.3)
    assert found["low"] == pytest.approx(0.25 - 1.96 * 0.2083, abs=1e-3)
    assert found["high"] == pytest.approx(0.25 + 1.96 * 0.2083, abs=1e-3)
    same = paired_difference(a, a, "images")
    assert same["value"] == 0 and same["low"] < -0.2 and same["high"] > 0.2


def test_what_two_attacks_share_cancels_in_their_difference():
    """They differ on one image of 100: far narrower than the share of 50 of 100, 0.40 to 0.60."""
    a = torch.arange(100) % 2 == 1
    b = a.clone()
    b[0] = True
    entry = paired_difference(b, a, "images")
    assert entry["value"] == pytest.approx(0.01)
    assert entry["low"] < 0 < entry["high"] and entry["high"] - entry["low"] < 0.07


def test_other_images_are_no_pairs():
    with pytest.raises(ValueError, match="3 and 4 values cannot be paired"):
        paired_difference(torch.ones(3).bool(), torch.ones(4).bool(), "images")


@pytest.mark.parametrize("count", [1, 2, 9])
def test_of_fewer_than_ten_values_nothing_is_resampled(count):
    entry = bootstrap_ci(torch.arange(float(count)), "images")
    assert "low" not in entry and entry["interval"] == TOO_SMALL
    assert in_table({**entry, "unit": "share"})[1] == TOO_SMALL and in_table(entry)[1] == TOO_SMALL
    assert format_entry(entry).endswith(f"({TOO_SMALL}), {count} images")


def test_values_that_are_all_alike_get_no_interval_of_no_width():
    entry = bootstrap_ci(torch.ones(40), "images")
    assert "low" not in entry and entry["value"] == 1.0
    assert missing_interval_reason(entry) == "no interval: all values are alike"


@pytest.mark.parametrize("n", [10, 50])
def test_wilsons_interval_holds_a_share_on_average_over_all_shares(n):
    """Exactly, over a grid of shares: Wilson's is near its level on average, not at each share."""
    grid = np.linspace(0.005, 0.995, 199)
    found = []
    for p in grid:
        chances = [math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]
        inside = [
            low <= p <= high for low, high in (wilson_interval(k / n, n) for k in range(n + 1))
        ]
        found.append(sum(c for c, yes in zip(chances, inside, strict=True) if yes))
    assert np.mean(found) == pytest.approx(0.95, abs=0.01)
    assert all(a < b for a, b in pairwise(wilson_interval(k / n, n)[0] for k in range(n + 1)))
