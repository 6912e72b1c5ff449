"""Plans: the numbers of the design, and simulated studies that show the difference as often."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from scoreag.study.power import Design, compute_power, count_images, count_people, plan_study


def test_five_points_need_about_250_images_and_25_people():
    plan = plan_study(Design())
    assert plan["images"] == pytest.approx(250, rel=0.02)
    assert plan["answers"] == pytest.approx(5000, rel=0.02)
    assert plan["people"] == 25


def test_three_points_need_about_690_images():
    assert count_images(Design(difference=0.03)) == pytest.approx(690, rel=0.005)


@pytest.mark.parametrize("points, rest", [(5, "247 | 4,940 | 25"), (3, "689 | 13,780 | 70")])
def test_the_page_of_studies_has_these_numbers(points, rest):
    page = Path(__file__).parents[2] / "docs" / "human-study.md"
    assert f"| {points} points | 5 | {rest} |" in page.read_text()
    plan = plan_study(Design(difference=points / 100))
    assert rest == f"{plan['images']} | {plan['answers']:,} | {plan['people']}"


def test_images_by_hand():
    """p 0.925 and 0.875: (0.069375 + 0.109375) 2.2 / 5 = 0.07865; (1.959964 + 0.841621)^2."""
    assert count_images(Design()) == int(np.ceil(7.848880 * 0.07865 / 0.0025)) == 247


def test_independent_answers_are_statsmodels_two_proportions():
    """One person an image: the normal test of two proportions, by their own variances."""
    power = pytest.importorskip("statsmodels.stats.proportion")
    design = Design(raters=1, icc=0.0, baseline=0.7, difference=0.1)
    other = power.power_proportions_2indep(
        0.1, 0.65, 300, ratio=1, alpha=0.05, return_results=False
    )  # its test pools the variance under the null hypothesis
    assert compute_power(design, 300) == pytest.approx(other, abs=0.005)


@pytest.mark.parametrize(
    "design",
    [
        Design(), Design(raters=3, icc=0.1), Design(difference=0.15, baseline=0.6),
        Design(power=0.9, icc=0.5),
    ],
    ids=str,
)  # fmt: skip
def test_simulated_studies_show_the_difference_as_often(design):
    """Images' shares are beta with the ICC; Welch's test of their means; five standard errors."""
    rng = np.random.default_rng(3)
    images, repeats = count_images(design), 3000

    def image_means(p: float) -> np.ndarray:
        scale = 1 / design.icc - 1
        share = rng.beta(p * scale, (1 - p) * scale, (repeats, images))
        return rng.binomial(design.raters, share) / design.raters

    means = [image_means(design.baseline + sign * design.difference / 2) for sign in (-1, 1)]
    error = np.sqrt(sum(one.var(1, ddof=1) / images for one in means))
    z = (means[1].mean(1) - means[0].mean(1)) / error
    shown = (np.abs(z) > stats.norm.ppf(1 - design.alpha / 2)).mean()
    expected = compute_power(design, images)
    assert shown == pytest.approx(expected, abs=5 * np.sqrt(0.25 / repeats))
    assert expected >= design.power > compute_power(design, images - 1)


def test_more_people_an_image_help_little_where_images_differ():
    """With an ICC of 1, every further answer to an image is the same answer."""
    design = Design(icc=1.0)
    assert count_images(design) == count_images(replace(design, raters=50))


@pytest.mark.parametrize(
    "images, trials, people", [(60, 200, 20), (250, 200, 25), (250, 100, 50), (10, 5, 40)]
)
def test_people_fill_the_lists_that_nobody_sees_two_versions_in(images, trials, people):
    """Four conditions, five people an image: 4, 5, 10 and 8 lists."""
    assert count_people(Design(trials=trials), images) == people


@pytest.mark.parametrize(
    "given, said",
    [
        ({"difference": 0.3}, "leaves 0 to 1"), ({"difference": 0.0}, "difference is 0"),
        ({"baseline": 1.0}, "baseline is 1"), ({"icc": 1.5}, "icc is 1.5"),
        ({"power": 0.04}, "not above alpha"), ({"raters": 0}, "raters is 0"),
        ({"conditions": 1}, "conditions is 1"), ({"alpha": float("nan")}, "alpha is nan"),
    ],
    ids=str,
)  # fmt: skip
def test_what_cannot_be_planned_is_refused(given, said):
    with pytest.raises(ValueError, match=said):
        Design(**given)
