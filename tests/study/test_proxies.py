"""What stands for people: ranks, detection and calibration as scipy and statsmodels have them."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from scoreag.study.intervals import Ratings, linearize
from scoreag.study.proxies import (
    area_under_curve,
    calibration_slope,
    human_shares,
    is_distance,
    measure_proxy,
    spearman,
)


def make_study(seed: int, items: int = 60, people: int = 5) -> tuple[Ratings, torch.Tensor]:
    """Every person sees every item; a proxy in [0, 1] that knows half of what people see."""
    rng = np.random.default_rng(seed)
    logit = 1.2 + rng.standard_normal(items)
    seen = (rng.random((people, items)) < 1 / (1 + np.exp(-logit))).astype(float)
    person, item = np.repeat(np.arange(people), items), np.tile(np.arange(items), people)
    score = torch.from_numpy(seen.ravel())
    ratings = Ratings(
        torch.from_numpy(person), torch.from_numpy(item), (1 - score).long(), score,
        torch.arange(items), people, 2,
    )  # fmt: skip
    proxy = 1 / (1 + np.exp(-(logit + rng.standard_normal(items))))
    return ratings, torch.from_numpy(proxy)


@pytest.mark.parametrize("seed", [0, 1])
def test_rank_correlation_is_scipys(seed):
    ratings, proxy = make_study(seed)
    shares, _ = human_shares(ratings)
    found = linearize(ratings, spearman(proxy, shares, torch.arange(60)))
    assert found.value == pytest.approx(stats.spearmanr(proxy, shares).statistic, abs=1e-12)


@pytest.mark.parametrize("seed", [0, 1])
def test_area_under_the_curve_is_that_of_mann_and_whitney(seed):
    ratings, proxy = make_study(seed)
    shares, _ = human_shares(ratings)
    below = shares < 0.79
    found = linearize(ratings, area_under_curve(-proxy, below, torch.arange(60)))
    u = stats.mannwhitneyu(-proxy[below], -proxy[~below]).statistic
    assert found.value == pytest.approx(u / int(below.sum()) / int((~below).sum()), abs=1e-12)


def test_variance_of_the_area_is_delongs():
    """DeLong et al. (1988) by loops over pairs, with n in place of n - 1."""
    ratings, proxy = make_study(2)
    shares, _ = human_shares(ratings)
    below = (shares < 0.79).numpy()
    x, y = -proxy.numpy()[below], -proxy.numpy()[~below]
    psi = np.array([[1.0 if a > b else 0.5 if a == b else 0.0 for b in y] for a in x])
    by_hand = psi.mean(1).var() / len(x) + psi.mean(0).var() / len(y)
    found = linearize(ratings, area_under_curve(-proxy, torch.from_numpy(below), torch.arange(60)))
    assert found.variance == pytest.approx(by_hand * 60 / 59, rel=1e-9)


def test_slope_and_its_error_are_statsmodels_of_a_logistic_regression():
    sm = pytest.importorskip("statsmodels.api")
    ratings, proxy = make_study(3)
    x = torch.logit(proxy.clamp(1e-3, 1 - 1e-3))[ratings.item].numpy()
    fit = sm.Logit(ratings.score.numpy(), sm.add_constant(x)).fit(
        disp=False, cov_type="cluster",
        cov_kwds={"groups": ratings.item.numpy(), "use_correction": False},
    )  # fmt: skip
    alone = torch.arange(len(ratings.person))
    single = Ratings(
        alone, ratings.item, ratings.category, ratings.score, ratings.source, len(alone), 2
    )
    statistic = calibration_slope(single, proxy)
    assert statistic is not None
    found = linearize(single, statistic)
    assert found.value == pytest.approx(fit.params[1], abs=1e-8)
    assert found.variance == pytest.approx(fit.bse[1] ** 2 * 60 / 59, rel=1e-6)


def test_a_calibrated_proxy_has_the_slope_one():
    """Of 40,000 images whose proxy is the probability itself."""
    rng = np.random.default_rng(5)
    p = rng.uniform(0.05, 0.95, 40_000)
    score = torch.from_numpy((rng.random(40_000) < p).astype(float))
    one = torch.arange(40_000)
    ratings = Ratings(one, one, (1 - score).long(), score, one, 40_000, 2)
    statistic = calibration_slope(ratings, torch.from_numpy(p))
    assert statistic is not None
    found = linearize(ratings, statistic)
    assert abs(found.value - 1) < 5 * math.sqrt(found.variance)


def test_a_distance_detects_by_its_large_values_and_has_no_slope():
    ratings, proxy = make_study(4)
    by_proxy = measure_proxy(ratings, "judge", proxy)
    by_distance = measure_proxy(ratings, "lpips", 1 - proxy)
    assert by_distance["auc_below_80"]["value"] == by_proxy["auc_below_80"]["value"] > 0.5
    assert by_distance["spearman"]["value"] == pytest.approx(-by_proxy["spearman"]["value"])
    assert "calibration_slope" in by_proxy and "calibration_slope" not in by_distance
    assert is_distance("lpips_alex") and not is_distance("semantic")


def test_images_without_the_proxy_or_with_two_answers_are_left_out():
    ratings, proxy = make_study(6)
    proxy = proxy.clone()
    proxy[:7] = torch.nan
    kept = (ratings.item != 59) | (ratings.person < 2)
    fewer = Ratings(
        *(one[kept] for one in (ratings.person, ratings.item, ratings.category, ratings.score)),
        ratings.source, 5, 2,
    )  # fmt: skip
    assert measure_proxy(fewer, "judge", proxy)["spearman"]["total"] == 60 - 7 - 1


def test_few_images_have_no_figure():
    ratings, proxy = make_study(0)
    proxy = torch.where(torch.arange(60) < 9, proxy, torch.nan)
    entry = measure_proxy(ratings, "judge", proxy)["spearman"]
    assert entry["value"] is None and "fewer than 10" in entry["interval"]


def test_a_perfect_separation_has_no_slope():
    ratings, _ = make_study(0)
    shares, _ = human_shares(ratings)
    sure = ratings.score * 0 + (ratings.item < 30).double()
    split = Ratings(ratings.person, ratings.item, (1 - sure).long(), sure, ratings.source, 5, 2)
    proxy = torch.where(torch.arange(60) < 30, 0.9, 0.1).double() + 0.001 * shares
    assert measure_proxy(split, "judge", proxy)["calibration_slope"]["value"] is None
