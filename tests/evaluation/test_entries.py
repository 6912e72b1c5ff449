"""Entries, errors and comparisons: numbers worked out by hand or by another implementation."""

import math

import numpy as np
import pytest
import torch

from scoreag.evaluation.score_model import (
    distance_quantiles,
    find_nearest_in_pixels,
    measure_sample_quality,
    select_closest,
)
from scoreag.evaluation.storage import compare_with_card, require_reproduced
from scoreag.metrics.feature_distances import fid_with_jackknife
from scoreag.stats.estimates import estimate_mean, estimate_quantile, format_entry


def rows(count, dims, seed=0):
    source = torch.Generator().manual_seed(seed)
    return torch.randn(count, dims, generator=source, dtype=torch.float64)


def frechet(a, b):
    """By scipy's root of the product."""
    linalg = pytest.importorskip("scipy.linalg")
    a, b = a.numpy(), b.numpy()
    ca, cb = np.cov(a.T), np.cov(b.T)
    root = linalg.sqrtm(ca @ cb).real
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(ca + cb - 2 * root))


def test_the_frechet_distance_and_its_jackknife_are_those_of_scipy():
    a, b = rows(30, 3), 2 * rows(24, 3, seed=1) + 1
    found = fid_with_jackknife(a, b, "f", n_blocks=6)
    assert found.value == pytest.approx(frechet(a, b))
    left = [
        frechet(*(s[[i for i in range(len(s)) if i % 6 != block]] for s in (a, b)))
        for block in range(6)
    ]
    squares = sum((one - sum(left) / 6) ** 2 for one in left)
    assert found.std_error == pytest.approx(math.sqrt(5 / 6 * squares))


def test_the_error_is_that_which_repeating_shows():
    drawn = [
        fid_with_jackknife(rows(100, 2, i), 1 + rows(100, 2, 700 + i), "f", 10) for i in range(120)
    ]
    spread = torch.tensor([one.value for one in drawn]).std()
    told = torch.tensor([one.std_error for one in drawn]).square().mean().sqrt()
    assert float(told / spread) == pytest.approx(1, abs=0.3)


def test_the_mean_comes_with_its_standard_error():
    entry = estimate_mean(torch.tensor([1.0, 2.0, 3.0, 6.0]), "images")
    error = math.sqrt((4 + 1 + 0 + 9) / 3) / 2
    assert entry["value"] == 3 and entry["error"] == pytest.approx(error, rel=1e-5)
    assert entry["high"] == pytest.approx(3 + 3.1824 * error, rel=1e-4)  # Student's t, 3 degrees


def test_the_interval_of_a_quantile_is_of_order_statistics():
    """Binomial (400, 0.05): P(B <= 11) = 0.0190, P(B <= 12) = 0.0355; P(B >= 30) = 0.0190."""
    entry = estimate_quantile(torch.arange(1.0, 401.0).flip(0), 0.05, "images")
    assert (entry["value"], entry["low"], entry["high"]) == (pytest.approx(20.95), 12, 30)


def test_a_copy_among_the_draws_shows():
    source = torch.Generator().manual_seed(0)
    training = torch.randint(0, 256, (20, 1, 4, 4), generator=source, dtype=torch.uint8)
    images = torch.randint(0, 256, (6, 1, 4, 4), generator=source, dtype=torch.uint8)
    images[4] = training[11]
    near = find_nearest_in_pixels(images, training, "cpu")
    pairs = select_closest(images, training, near, 2)
    assert torch.equal(pairs.generated[0], pairs.training[0]) and pairs.distance[0] == 0
    told = distance_quantiles(near, "draws", 20)
    assert told["median"]["low"] == 0 and "low" not in told["lowest_5_percent"]  # of six draws


def test_two_halves_of_one_source_are_alike():
    found = measure_sample_quality(
        rows(200, 4).float(), rows(200, 4, seed=1).float(), "judge", "draws"
    )
    assert found["kernel_judge"]["low"] < 0 < found["kernel_judge"]["high"]
    assert found["recall_judge"]["value"] > 0.8 and found["precision_judge"]["value"] > 0.8
    shifted = measure_sample_quality(
        2 + rows(200, 4).float(), rows(200, 4, seed=1).float(), "judge", "draws"
    )
    assert shifted["kernel_judge"]["low"] > 0
    assert shifted["frechet_judge"]["value"] == pytest.approx(16, abs=3)


def test_blocks_are_no_classes():
    """20 classes that take turns, 20 blocks that do: to leave out a whole class would be an error
    of above 100 here, where the classes lie 10 apart."""
    drawn = rows(200, 2) + (torch.arange(200) % 20 * 10.0)[:, None]
    real = rows(200, 2, seed=1) + (torch.arange(200) // 10 * 10.0)[:, None]
    assert measure_sample_quality(drawn, real, "judge", "draws")["frechet_judge"]["error"] < 50


NOW = {"value": 0.5, "low": 0.4, "high": 0.6, "total": 100}


@pytest.mark.parametrize(
    "was, total, reproduced",
    [(0.41, 50, True), (0.39, 100, False), (0.5, 7, True), (0.61, 100, False)],
)
def test_a_share_is_reproduced_within_the_interval(was, total, reproduced):
    card = {"accuracy": {"value": was, "total": total}, "gone": {"value": 1.0}, "settings": {}}
    found = compare_with_card(card, {"accuracy": NOW}, "test")
    assert [one.reproduced for one in found] == [reproduced]


def test_a_figure_that_depends_on_the_count_is_compared_at_equal_counts():
    card = {"frechet_judge": {"value": 9.0, "total": 50}}
    (other,) = compare_with_card(card, {"frechet_judge": NOW}, "evaluation")
    assert other.reproduced is None and other.reason == "it was computed on 50 images, now on 100"
    (same,) = compare_with_card(
        {"frechet_judge": {"value": 9.0, "total": 100}}, {"frechet_judge": NOW}, "e"
    )
    assert same.reproduced is False


def test_the_figure_that_differs_is_named_with_both_values_and_the_interval():
    found = compare_with_card({"accuracy": {"value": 0.9, "total": 100}}, {"accuracy": NOW}, "test")
    expected = (
        r"net: not reproduced: test.accuracy is 0.9 on the card, 0.5 now, .* 0.4 to 0.6; give"
    )
    with pytest.raises(ValueError, match=expected):
        require_reproduced(found, "net")


def test_a_figure_is_told_with_its_denominator():
    entry = {"value": 1.25, "low": 1.0, "high": 1.5, "of": "draws", "total": 8}
    assert format_entry(entry) == "1.25 (1 to 1.5), 8 draws"
