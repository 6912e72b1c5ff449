"""The bound for everyone who steers a generator: its numbers, its doubt, and its command."""

import json
import math

import numpy as np
import pytest
from scipy import stats

from cli.test_certify import DRAWS, files, here, made  # noqa: F401
from scoreag.certify.steered_generator import (
    best_of,
    bound_steered,
    bound_unsteered,
    summarize,
)
from scoreag.cli.app import main

pytestmark = pytest.mark.usefixtures("one_thread")


def rows(label, wrong, total, shown=True, budget=None):
    said = [label + 1] * wrong + [label] * (total - wrong)
    return [
        {"image_id": i, "label": label, "predicted": word, "shown": shown, "budget": budget}
        for i, word in enumerate(said)
    ]


@pytest.mark.parametrize(
    "p0, budget, bound",
    [
        (0.05, 0.5, 0.126),
        (0.05, 1.0, 0.260),
        (0.05, 2.0, 0.639),
        (0.001, 1.0, 0.018),
        (0.001, 2.0, 0.138),
    ],
)
def test_the_bound_in_numbers(p0, budget, bound):
    """By simulation of one shifted Gaussian, too: the share above the quantile of p0."""
    assert bound_steered(p0, budget) == pytest.approx(bound, abs=5e-4)
    drawn = np.random.default_rng(0).normal(budget, 1, 200_000)
    assert (drawn > stats.norm.isf(p0)).mean() == pytest.approx(bound_steered(p0, budget), abs=4e-3)


def test_the_best_of_several_is_no_sum():
    assert best_of(0.2, 3) == pytest.approx(1 - 0.8**3)
    assert best_of(1.0, 3) == 1 and best_of(0.0, 3) == 0


def test_alpha_is_shared_by_the_classes_their_mean_and_the_events():
    """None of 100 in each of two classes, two events: alpha / 6 for each bound."""
    own = [*rows(0, 0, 100), *rows(1, 0, 100)]
    found = summarize(own, [1.0], 0.06, {})
    for event in ("misread", "misread_and_shown"):
        for key, total in (("", 200), ("0", 100), ("1", 100)):
            exact = 1 - 0.01 ** (1 / total)
            entry = found[event][key]
            assert entry["unsteered"]["upper"] == pytest.approx(exact, abs=1e-4)
            steered = stats.norm.cdf(stats.norm.ppf(exact) + 1)
            assert entry["budgets"]["1"]["bound"] == pytest.approx(steered, abs=1e-4)
            assert entry["budgets"]["1"]["bound"] >= steered - 1e-12
    unseen = [{**row, "shown": None} for row in own]
    assert [*summarize(unseen, [1.0], 0.06, {})] == ["misread"]


def test_an_image_counts_in_the_second_event_only_if_every_judge_sees_it():
    own = [*rows(0, 30, 50), *rows(0, 20, 50, shown=False)]
    found = bound_unsteered(own, 0.1, "misread"), bound_unsteered(own, 0.1, "misread_and_shown")
    assert [entry["0"]["count"] for entry in found] == [50, 30]


def test_what_our_attack_reached_stands_under_the_bound():
    found = summarize(rows(0, 1, 100), [2.0], 0.01, {2.0: rows(0, 3, 20, budget=2.0)})
    entry = found["misread"][""]["budgets"]["2"]
    assert (entry["attack"]["count"], entry["attack"]["total"]) == (3, 20)
    assert entry["room"] == pytest.approx(entry["bound"] - 0.15, abs=1e-4)
    assert entry["bound_best_of"] == pytest.approx(1 - (1 - entry["bound"]) ** 10, abs=1e-4)


def test_all_bounds_together_fail_as_seldom_as_promised():
    """Classes of known rates, 2,000 repeats at alpha 0.2: their bounds and that of their mean."""
    truth = np.array([0.02, 0.1, 0.3, 0.7])
    counts = np.random.default_rng(2).binomial(60, truth, (2000, 4))
    failures = 0
    for drawn in counts:
        own = [row for y in range(4) for row in rows(y, int(drawn[y]), 60)]
        found = bound_unsteered(own, 0.2, "misread")
        mean_fails = found[""]["upper"] < truth.mean()
        failures += mean_fails or any(found[str(y)]["upper"] < truth[y] for y in range(4))
    assert 50 < failures <= stats.binom.ppf(0.999, 2000, 0.2)


def test_unequal_classes_have_no_mean():
    with pytest.raises(ValueError, match="the classes have unequal numbers of draws"):
        bound_unsteered([*rows(0, 0, 10), *rows(1, 0, 11)], 0.1, "misread")


STEERED = [
    *DRAWS,
    "--sampler",
    "ancestral",
    "--energy",
    "0.5,2",
    "--attack-per-class",
    "3",
    "--attack-interval",
    "0.01,100",
]


def test_the_command_bounds_and_attacks_at_each_length(here, capsys):  # noqa: F811
    assert main([*DRAWS, "--sampler", "ancestral"]) == 0
    plain = files(here / "out")["rows"]
    assert main([*STEERED, "--overwrite"]) == 0
    out = capsys.readouterr().out
    assert "misread, R = 0.5" in out and "our attack" in out
    found = files(here / "out")["rows"]
    assert [row for row in found if row["budget"] is None] == plain
    for budget in (0.5, 2.0):
        steered = [row for row in found if row["budget"] == budget]
        assert len(steered) == 3 * len({row["label"] for row in plain})
        assert all(0 < row["energy"] <= budget**2 for row in steered)
    summary = json.loads((here / "out" / "summary.json").read_text())
    parts = summary["steered"]["misread"]
    upper = parts[""]["unsteered"]["upper"]
    assert summary["upper_mean"] == upper
    for budget in ("0.5", "2"):
        exact = stats.norm.cdf(stats.norm.ppf(upper) + float(budget))
        assert parts[""]["budgets"][budget]["bound"] == pytest.approx(exact, abs=2e-4)
    page = (here / "out" / "report.html").read_text()
    assert "Steered generator" in page and "R = 0.5" in page
    assert main(["report", "out"]) == 0
    assert (here / "out" / "report.html").read_text() == page


def test_it_goes_on_where_it_was_stopped(here):  # noqa: F811
    assert main(STEERED) == 0
    whole = files(here / "out")
    lines = (here / "out" / "rows.jsonl").read_text().splitlines(keepends=True)
    (here / "out" / "rows.jsonl").write_text("".join(lines[:7]))
    assert main(STEERED) == 0
    assert files(here / "out") == whole


@pytest.mark.parametrize(
    "words, said",
    [
        ([*DRAWS, "--energy", "1"], "--energy is how far the attack shifts the noise that a sam"),
        ([*STEERED, "--energy", "0,1"], "--energy is '0,1'; expected lengths above 0"),
        ([*STEERED, "--energy", "big"], "--energy is 'big'; expected lengths above 0"),
        ([*STEERED, "--energy", "1,1.0"], "names a length twice, to six digits; write each"),
        ([*DRAWS, "--attack-per-class", "3"], "--attack-per-class is of steered generators"),
        ([*DRAWS, "--energy-pace", "greedy"], "--energy-pace is of steered generators"),
        (
            [*STEERED, "--attack-per-class", "20000"],
            "--attack-per-class is 20000; expected at most",
        ),
        ([*STEERED, "--energy-pace", "late"], "no energy_pace 'late'"),
    ],
)
def test_what_cannot_be_bounded_is_refused_in_a_line(here, capsys, words, said):  # noqa: F811
    assert main(words) in (1, 2)
    err = capsys.readouterr().err
    assert said in err and err.count("\n") <= 2
    assert not (here / "out").exists()


def test_infinite_odds_stay_certain():
    assert bound_steered(1.0, 3.0) == 1.0 and bound_steered(0.0, 3.0) == 0.0
    with pytest.raises(ValueError, match="expected 0 to 1, and 0 or more"):
        bound_steered(0.1, -1.0)
    assert not math.isnan(bound_steered(1.0, 0.0))
