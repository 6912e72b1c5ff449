"""A bound on the errors on a generator's images, whoever steers the noise that it draws.

    P_steered(A) <= Phi(Phi^-1(P(A)) + R)

for every set A of outcomes and every attacker whose shifts of the draws have a total squared length
of at most R^2 on every path, in deviations of the noise.  The attacker may know everything, adapt,
and see all past draws.  docs/certificates.md has the proof and its assumptions.

P(A) is bounded from above by draws of the unsteered generator.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from scipy.special import ndtr, ndtri

from scoreag.io.records import Row
from scoreag.stats.proportion import Proportion, clopper_pearson_upper

N_BEST = 10  # of the bound on the best of several images
EVENTS = {  # A, and what it is called
    "misread": "misclassified",
    "misread_and_shown": "misclassified while every judge sees the class",
}


def bound_steered(probability: float, budget: float) -> float:
    """``Phi(Phi^-1(p) + R)``: 1 where p is 1, 0 where p is 0.

    >>> round(bound_steered(0.05, 1.0), 3), bound_steered(0.0, 2.0), bound_steered(1.0, 0.5)
    (0.26, 0.0, 1.0)
    """
    if not (0 <= probability <= 1 and budget >= 0):
        raise ValueError(
            f"probability {probability} and budget {budget}; expected 0 to 1, and 0 or more"
        )
    return float(ndtr(ndtri(probability) + budget))


def best_of(probability: float, tries: int) -> float:
    """``1 - (1 - p)^k``: the probability that one of k independent images is in A.

    >>> round(best_of(0.26, 10), 3)
    0.951
    """
    return -math.expm1(tries * math.log1p(-probability)) if probability < 1 else 1.0


def happens(row: Row, event: str) -> bool:
    """Whether a row of a draw is in the set of outcomes of that name."""
    misread = bool(row["predicted"] != row["label"])
    return misread and (event == "misread" or bool(row["shown"]))


def bound_unsteered(rows: Sequence[Row], alpha: float, event: str) -> dict[str, dict[str, Any]]:
    """Upper bounds on the probability of an event: in all (key ""), and of each class.

    With C classes, each bound is wrong with probability ``alpha / (C + 1)`` or less.  The count of
    all draws is a sum of binomials, whose lower tail is no heavier than that of one binomial with
    their mean; Hoeffding (1956).
    """
    labels = sorted({row["label"] for row in rows})
    parts = {"": list(rows)} | {str(y): [r for r in rows if r["label"] == y] for y in labels}
    if len({len(part) for part in list(parts.values())[1:]}) > 1:
        raise ValueError("the classes have unequal numbers of draws; give each as many")
    bounds = {}
    for key, part in parts.items():
        count = sum(happens(row, event) for row in part)
        upper = clopper_pearson_upper(count, len(part), alpha / (len(labels) + 1))
        share = Proportion(count, len(part), "draws of the class" if key else "all draws")
        bounds[key] = {**share.to_dict(), "upper": upper}
    return bounds


def summarize(
    rows: Sequence[Row],
    budgets: Sequence[float],
    alpha: float,
    attacked: Mapping[float, Sequence[Row]],
    tries: int = N_BEST,
) -> dict[str, Any]:
    """For each event, class and budget: the bound, what the attack reached, and the room between.

    Args:
        rows: draws of the unsteered generator, of each class as many.
        attacked: rows of our attack by its budget.
        tries: k of the bound on the best of k.
    """
    judged = all(row["shown"] is not None for row in rows)
    events = [event for event in EVENTS if judged or event == "misread"]
    return {
        event: {
            key: {
                "unsteered": _rounded(entry),
                "budgets": {
                    f"{budget:g}": _at_budget(
                        entry["upper"], budget, attacked.get(budget, ()), key, event, tries
                    )
                    for budget in budgets
                },
            }
            for key, entry in bound_unsteered(rows, alpha / len(events), event).items()
        }
        for event in events
    }


def _at_budget(
    upper: float, budget: float, rows: Sequence[Row], key: str, event: str, tries: int
) -> dict[str, Any]:
    bound = round_up(bound_steered(upper, budget))
    found: dict[str, Any] = {"bound": bound, "bound_best_of": round_up(best_of(bound, tries))}
    chosen = [row for row in rows if not key or str(row["label"]) == key]
    if chosen:
        hits = sum(happens(row, event) for row in chosen)
        share = Proportion(hits, len(chosen), "images of the attack").to_dict()
        found |= {"attack": share, "room": round(bound - hits / len(chosen), 4)}
    return found


def _rounded(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {**entry, "upper": round_up(entry["upper"])}


def round_up(value: float) -> float:
    """Four decimals, rounded up, at most 1: a bound must not shrink by rounding."""
    return min(1.0, math.ceil(value * 1e4) / 1e4)
