"""Agreement: the worked examples of those who defined it, another package, and hand-made tables."""

import numpy as np
import pytest
import torch

from scoreag.study.agreement import gwet_ratio, krippendorff_ratio, measure_agreement
from scoreag.study.intervals import Ratings, linearize
from study.answered_studies import make_ratings

# Krippendorff (2011), "Computing Krippendorff's alpha-reliability", examples A, B and C
TWO_BINARY = [[0, 1, 0, 0, 0, 0, 0, 0, 1, 0], [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]]
TWO_NOMINAL = [[0, 0, 1, 1, 3, 2, 2, 2, 4, 3, 3, 0], [1, 0, 1, 1, 1, 2, 2, 2, 4, 3, 3, 3]]
_ = None
FOUR = [
    [0, 1, 2, 2, 1, 0, 3, 0, 1, _, _, _],
    [0, 1, 2, 2, 1, 1, 3, 0, 1, 4, _, 2],
    [_, 2, 2, 2, 1, 2, 3, 1, 1, 4, 0, _],
    [0, 1, 2, 2, 1, 3, 3, 0, 1, 4, 0, _],
]  # also cac.raw4raters of Gwet's package irrCAC
# Fleiss (1971), thirty patients; the fifteen of distrib.6raters in irrCAC
SIX_RATERS = [
    [0, 0, 0, 6, 0], [0, 3, 0, 0, 3], [0, 1, 4, 0, 1], [0, 0, 0, 0, 6], [0, 3, 0, 3, 0],
    [2, 0, 4, 0, 0], [0, 0, 4, 0, 2], [2, 0, 3, 1, 0], [2, 0, 0, 4, 0], [0, 0, 0, 0, 6],
    [1, 0, 0, 5, 0], [1, 1, 0, 4, 0], [0, 3, 3, 0, 0], [1, 0, 0, 5, 0], [0, 2, 0, 3, 1],
]  # fmt: skip
# cont3x3abstractors in irrCAC: two abstractors, a hundred records
ABSTRACTORS = [[13, 0, 0], [0, 20, 7], [0, 4, 56]]


def from_counts(counts: list[list[int]]) -> Ratings:
    """Each item's answers, given by people in the order of the categories."""
    columns = [[c for c, n in enumerate(row) for _ in range(n)] for row in counts]
    return make_ratings([list(row) for row in zip(*columns, strict=True)], len(counts[0]))


def from_square(counts: list[list[int]]) -> Ratings:
    """Two people; the number of items that one called i and the other j."""
    pairs = [(i, j) for i, row in enumerate(counts) for j, n in enumerate(row) for _ in range(n)]
    return make_ratings([list(row) for row in zip(*pairs, strict=True)], len(counts))


def alpha(ratings: Ratings) -> float:
    return 1 - linearize(ratings, krippendorff_ratio(ratings)).value


def ac1(ratings: Ratings) -> float:
    return 1 - linearize(ratings, gwet_ratio(ratings)).value


@pytest.mark.parametrize(
    "table, categories, published",
    [(TWO_BINARY, 2, 0.095), (TWO_NOMINAL, 5, 0.692), (FOUR, 5, 0.743)],
    ids=["A", "B", "C"],
)
def test_alpha_is_that_of_krippendorffs_examples(table, categories, published):
    assert round(alpha(make_ratings(table, categories)), 3) == published


@pytest.mark.parametrize(
    "ratings, published",
    [
        (make_ratings(FOUR, 5), 0.74342),
        (from_counts(SIX_RATERS), 0.4204384),
        (from_square(ABSTRACTORS), 0.7972585),
    ],
    ids=["raw", "counts", "square"],
)
def test_alpha_is_that_of_gwets_package(ratings, published):
    assert alpha(ratings) == pytest.approx(published, abs=6e-6)


@pytest.mark.parametrize(
    "ratings, published",
    [
        (make_ratings(FOUR, 5), 0.77544),
        (from_counts(SIX_RATERS), 0.4448007),
        (from_square(ABSTRACTORS), 0.8493305),
    ],
    ids=["raw", "counts", "square"],
)
def test_ac1_is_that_of_gwets_package(ratings, published):
    assert ac1(ratings) == pytest.approx(published, abs=6e-6)


def random_table(seed: int) -> list[list[int | None]]:
    """Twelve people, half of whom saw each of thirty items, and agree more often than by chance."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(4, size=30)
    given = np.where(rng.random((12, 30)) < 0.6, truth, rng.integers(4, size=(12, 30)))
    seen = rng.random((12, 30)) < 0.5
    return [
        [int(a) if s else None for a, s in zip(*row, strict=True)]
        for row in zip(given, seen, strict=True)
    ]


@pytest.mark.parametrize("seed", range(5))
def test_alpha_is_that_of_the_package_krippendorff(seed):
    package = pytest.importorskip("krippendorff")
    table = random_table(seed)
    data = np.array([[np.nan if a is None else a for a in row] for row in table])
    other = package.alpha(reliability_data=data, level_of_measurement="nominal")
    assert alpha(make_ratings(table, 4)) == pytest.approx(other, abs=1e-12)


def test_all_alike_has_no_alpha_and_an_ac1_of_one():
    found = measure_agreement(make_ratings([[0, 0, 0], [0, 0, 0]], 3))
    assert found["krippendorff_alpha"]["value"] is None
    assert "alike" in found["krippendorff_alpha"]["interval"]
    assert found["gwet_ac1"]["value"] == 1


def test_one_answer_an_image_has_no_agreement():
    found = measure_agreement(make_ratings([[0, None], [None, 1]], 2))
    assert {entry["value"] for entry in found.values()} == {None}


def test_intervals_hold_the_estimate_and_narrow_with_more_images():
    small = make_ratings(random_table(0), 4)
    many = [row * 4 for row in random_table(0)]
    large = measure_agreement(make_ratings(many, 4))["krippendorff_alpha"]
    one = measure_agreement(small)["krippendorff_alpha"]
    assert one["low"] < one["value"] < one["high"]
    assert large["high"] - large["low"] < one["high"] - one["low"]


def test_variance_over_images_is_that_of_the_jackknife():
    """Leaving out one image at a time, which is another first-order variance."""
    table = random_table(3)
    ratings = make_ratings(table, 4)
    values = []
    for gone in range(30):
        kept = [[a for j, a in enumerate(row) if j != gone] for row in table]
        values.append(alpha(make_ratings(kept, 4)))
    jackknife = 29 / 30 * ((np.array(values) - np.mean(values)) ** 2).sum()
    alone = torch.arange(len(ratings.person))  # each answer of another person: images alone
    single = Ratings(
        alone, ratings.item, ratings.category, ratings.score, ratings.source, len(alone), 4
    )
    found = linearize(single, krippendorff_ratio(single), krippendorff_ratio(single, True), 2)
    assert found.variance == pytest.approx(jackknife, rel=0.1)
