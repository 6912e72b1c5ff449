"""Intervals of shares: closed forms, statsmodels, and simulated studies of people and images."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from scoreag.study.intervals import Linearized, Ratings, linearize, ratio_entry, share_entry
from scoreag.study.shares import (
    all_of_k,
    estimate_d_prime,
    estimate_difference,
    estimate_share,
    estimate_validity,
    mean_score,
    usable_rules,
)
from study.answered_studies import make_ratings


def every(ratings: Ratings) -> torch.Tensor:
    return torch.ones(ratings.n_items, dtype=torch.bool)


def test_share_of_one_answer_an_image_has_the_binomial_variance():
    """n images, each seen by another person: p (1 - p) / (n - 1)."""
    n, seen = 40, 30
    table = [[(0 if i < seen else 1) if i == j else None for j in range(n)] for i in range(n)]
    ratings = make_ratings(table, 2)
    found = linearize(ratings, mean_score(ratings, every(ratings)))
    assert found.value == seen / n
    assert found.variance == pytest.approx(0.75 * 0.25 / (n - 1), rel=1e-12)


def test_share_of_images_that_all_agree_on_counts_images_not_answers():
    """Five people give one answer to each of 40 images: the variance is that of 40, not of 200."""
    table = [[0 if j < 30 else 1 for j in range(40)]] * 5
    ratings = make_ratings(table, 2)
    found = linearize(ratings, mean_score(ratings, every(ratings)))
    assert found.variance == pytest.approx(0.75 * 0.25 / 39, rel=1e-12)


def test_people_who_differ_add_the_variance_of_their_means():
    """Each person gives one answer to all images; what images add is nothing, as all are alike.

    People's means are 1 (30 of them) and 0 (10): the variance of the mean is 0.75 0.25 / 39, up to
    the part of single answers, 1 / 200 of it.
    """
    table = [[0 if i < 30 else 1] * 200 for i in range(40)]
    ratings = make_ratings(table, 2)
    found = linearize(ratings, mean_score(ratings, every(ratings)))
    assert found.variance == pytest.approx(0.75 * 0.25 / 39, rel=0.006)
    assert found.df == pytest.approx(39, rel=0.02)


def test_variance_over_images_is_statsmodels_clustered_one():
    """A regression on a constant whose clusters are the images, with the same correction."""
    sm = pytest.importorskip("statsmodels.api")
    rng = np.random.default_rng(1)
    level = rng.random(25)
    table = [[int(rng.random() > level[j]) for j in range(25)] for _ in range(6)]
    ratings = make_ratings(table, 2)
    y, x = ratings.score.numpy(), np.ones(len(ratings.score))
    fit = sm.OLS(y, x).fit(
        cov_type="cluster",
        cov_kwds={"groups": ratings.item.numpy(), "use_correction": False},
    )
    alone = torch.arange(len(ratings.person))
    single = Ratings(
        alone, ratings.item, ratings.category, ratings.score, ratings.source, len(alone), 2
    )
    found = linearize(single, mean_score(single, every(single)))
    assert found.variance == pytest.approx(float(fit.bse[0]) ** 2 * 25 / 24, rel=1e-9)


def test_interval_of_a_share_is_wilsons_at_the_effective_number():
    """By hand: p 0.8, V 0.0016 is 100 answers; t of 1e9 degrees of freedom is z."""
    ratings = make_ratings([[0] * 20] * 20, 2)
    entry = share_entry(ratings, Linearized(0.8, 0.0016, 1e9))
    z = 1.959963984540054
    center = (0.8 + z * z / 200) / (1 + z * z / 100)
    half = z * math.sqrt(0.8 * 0.2 / 100 + z * z / 40000) / (1 + z * z / 100)
    assert (entry["low"], entry["high"]) == pytest.approx((center - half, center + half), abs=1e-6)


def test_few_people_widen_the_interval():
    ratings = make_ratings([[0] * 20] * 20, 2)
    wide, narrow = (share_entry(ratings, Linearized(0.8, 0.0016, df)) for df in (4.0, 400.0))
    assert wide["low"] < narrow["low"] and wide["high"] > narrow["high"]


def test_share_of_one_has_an_interval_as_of_the_people():
    """Twenty people, 30 images, no other answer: Wilson's interval of 20 of 20."""
    entry = estimate_share(ratings := make_ratings([[0] * 30] * 20, 2), every(ratings))
    z2 = 1.959963984540054**2
    assert entry["value"] == 1 and entry["high"] == 1
    assert entry["low"] == pytest.approx(20 / (20 + z2), abs=1e-6)


def test_one_person_has_no_interval():
    entry = estimate_share(ratings := make_ratings([[0, 1, 0]], 2), every(ratings))
    assert "low" not in entry and "two people" in entry["interval"]


def test_ratio_has_the_interval_of_its_logarithm():
    ratings = make_ratings([[0] * 20] * 20, 2)
    entry = ratio_entry(ratings, Linearized(0.5, 0.0025, 1e9))
    factor = math.exp(1.959963984540054 * 0.05 / 0.5)
    assert (entry["low"], entry["high"]) == pytest.approx((0.5 / factor, 0.5 * factor), abs=1e-6)


def test_difference_of_versions_of_an_image_is_paired():
    """Images that are hard in both conditions cancel: each version has its image's answer."""
    hard = [j % 4 == 0 for j in range(40)]
    row = [int(h) for h in hard] + [int(h) for h in hard]
    row[1] = 1  # one image of the first condition is harder
    table = [row] * 6
    ratings = make_ratings(table, 2, source=[*range(40), *range(40)])
    mask = torch.arange(80) < 40
    entry = estimate_difference(ratings, mask, ~mask)
    assert entry["value"] == pytest.approx(-1 / 40, abs=1e-6)
    reach = (entry["high"] - entry["low"]) / 2
    paired = math.sqrt((1 / 40) * (39 / 40) / 39)  # of 40 differences, one of them 1
    assert reach == pytest.approx(stats.t.ppf(0.975, 39) * paired, rel=1e-3)


def test_k_of_k_counts_sets_of_different_people():
    """Items with 5, 4 and 3 of 5: C(y, 3) / C(5, 3) is 1, 0.4 and 0.1."""
    table = [[0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 1], [0, 1, 1]]
    ratings = make_ratings(table, 2)
    ones = torch.ones(3, dtype=torch.float64)
    found = linearize(ratings, all_of_k(ratings, every(ratings), 3, ones))
    assert found.value == pytest.approx((1 + 0.4 + 0.1) / 3, rel=1e-12)
    assert usable_rules(ratings, [every(ratings)]) == [1, 3, 5]


def test_validity_corrected_success_by_hand():
    """Three attacked images with 5, 4, 3 of 5, the last did not fool; clean ones with 5, 5, 4."""
    attacked = [[0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 1], [0, 1, 1]]
    clean = [[0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 1]]
    table = [a + b for a, b in zip(attacked, clean, strict=True)]
    ratings, mask = make_ratings(table, 2), torch.arange(6) < 3
    fooled = torch.tensor([1, 1, 0, 0, 0, 0]).double()
    one, three = (estimate_validity(ratings, mask, ~mask, fooled, k) for k in (1, 3))
    assert one["seen_success"]["value"] == pytest.approx((1 + 0.8) / 3, abs=1e-6)
    assert one["ceiling"]["value"] == pytest.approx(14 / 15, abs=1e-6)
    assert one["validity_corrected_success"]["value"] == pytest.approx(9 / 14, abs=1e-6)
    assert three["seen_success"]["value"] == pytest.approx(1.4 / 3, abs=1e-6)
    assert three["ceiling"]["value"] == pytest.approx(2.4 / 3, abs=1e-6)
    assert three["validity_corrected_success"]["value"] == pytest.approx(1.4 / 2.4, abs=1e-6)


def test_success_of_nothing_is_zero_with_an_upper_end():
    ratings, mask = make_ratings([[1, 1, 0, 0]] * 6, 2), torch.arange(4) < 2
    found = estimate_validity(ratings, mask, ~mask, mask.double(), 1)
    entry = found["validity_corrected_success"]
    assert entry["value"] == entry["low"] == 0 and 0 < entry["high"] < 1


def test_d_prime_is_the_difference_of_probits():
    """Real images: 28 of 40 "real"; others: 12 of 40; half an answer is added to both."""
    real = [[0] * 7 + [1] * 3] * 4
    fake = [[0] * 3 + [1] * 7] * 4
    ratings = make_ratings([a + b for a, b in zip(real, fake, strict=True)], 2)
    mask = torch.arange(20) >= 10
    entry = estimate_d_prime(ratings, mask, ~mask)
    by_hand = stats.norm.ppf(28.5 / 41) - stats.norm.ppf(12.5 / 41)
    assert entry["value"] == pytest.approx(by_hand, abs=1e-6)


@pytest.mark.parametrize("sd_person", [0.0, 1.0], ids=["equal people", "people differ"])
def test_interval_of_a_share_holds_the_truth_as_often_as_it_says(sd_person):
    """250 studies of 16 people and 40 images; within the binomial 99.9 % around 95 %."""
    rng = np.random.default_rng(7)
    repeats, inside = 250, 0
    nodes, weights = np.polynomial.hermite_e.hermegauss(61)
    spread = math.hypot(1.0, sd_person)
    truth = float((weights / weights.sum() / (1 + np.exp(-(1.5 + spread * nodes)))).sum())
    for _ in range(repeats):
        logit = 1.5 + rng.standard_normal(40) + sd_person * rng.standard_normal((16, 1))
        given = (rng.random((16, 40)) > 1 / (1 + np.exp(-logit))).astype(int)
        seen = np.arange(40) % 4 == np.arange(16)[:, None] % 4  # four lists of ten images
        item, person = np.tile(np.arange(40), 16)[seen.ravel()], np.repeat(np.arange(16), 40)
        category = torch.from_numpy(given.ravel()[seen.ravel()])
        ratings = Ratings(
            torch.from_numpy(person[seen.ravel()]), torch.from_numpy(item), category,
            (category == 0).double(), torch.arange(40), 16, 2,
        )  # fmt: skip
        entry = estimate_share(ratings, every(ratings))
        inside += entry["low"] <= truth <= entry["high"]
    low, high = stats.binom.ppf([0.0005, 0.9995], repeats, 0.95)
    assert low <= inside <= high
