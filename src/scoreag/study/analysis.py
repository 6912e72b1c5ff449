"""The analysis of a study: who is kept, what they saw, how far they agree, what stands for them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, TypeAlias

import torch
from torch import Tensor

from scoreag.stats.estimates import MetricEntry, quantile_interval
from scoreag.study.agreement import measure_agreement
from scoreag.study.answers import Manifest, Participant, Trial, list_answers
from scoreag.study.exclusions import (
    RULES,
    exclusion_reasons,
    repeated_pairs,
    scored_answer,
)
from scoreag.study.intervals import Ratings
from scoreag.study.manifest import CLEAN
from scoreag.study.mixed import HINT, fit_mixed_model, has_statsmodels
from scoreag.study.proxies import measure_proxy
from scoreag.study.shares import (
    Mask,
    estimate_d_prime,
    estimate_difference,
    estimate_share,
    estimate_validity,
    usable_rules,
)

Record: TypeAlias = dict[str, Any]

TASK = "study analysis"  # of a summary
SCORES = {"name": "sees_label", "choose": "chosen", "real": "says_real"}  # by design


@dataclass(frozen=True)
class Analysis:
    """What a study says.

    Args:
        items: a row an image.
        people: a row a person, with names: not to be published.
    """

    summary: Record
    items: list[Record]
    people: list[Record]


@dataclass(frozen=True)
class Items:
    """The images of the main trials, in the order of the manifest."""

    rows: list[Record]
    place: Mapping[int, int]  # of an item's number among the rows
    source: Tensor

    def mask(self, condition: str) -> Mask:
        return torch.tensor([row["condition"] == condition for row in self.rows])

    def proxy(self, name: str) -> Tensor:
        """The values of a proxy, NaN where an image has none."""
        values = [(row.get("proxies") or {}).get(name) for row in self.rows]
        numbers = [float("nan") if v is None else float(v) for v in values]
        return torch.tensor(numbers, dtype=torch.float64)

    def fooled(self, mask: Mask) -> Tensor | None:
        """1 where the classifier was fooled; None where that is unknown of an image of the mask."""
        values = [row.get("fooled") for row in self.rows]
        if any(value is None for value, inside in zip(values, mask, strict=True) if inside):
            return None
        return torch.tensor([float(bool(value)) for value in values]).double()


def analyze(manifest: Manifest, people: Sequence[Participant], mixed: bool = True) -> Analysis:
    """All results; people are left out by the rules of the manifest alone.

    Raises:
        ValueError: fewer than two people are left.
    """
    reasons = {person.name: exclusion_reasons(manifest, person) for person in people}
    kept = [person for person in people if not reasons[person.name]]
    counts = {rule: sum(rule in found for found in reasons.values()) for rule in RULES}
    if len(kept) < 2:
        why = ", ".join(f"{name} {count}" for name, count in counts.items() if count)
        raise ValueError(
            f"{len(kept)} of {len(people)} people are left ({why or 'none is left out'}); an "
            "analysis needs two: collect more answers"
        )
    items = list_items(manifest)
    ratings = rate(manifest, items, [(i, p.of_kind("main")) for i, p in enumerate(kept)])
    summary = {
        "task": TASK,
        "study": describe_study(manifest),
        "people": {"read": len(people), "analyzed": len(kept), "excluded": counts},
        "answers": len(ratings.person),
        "conditions": {
            name: measure_condition(manifest, items, ratings, kept, name)
            for name in manifest["conditions"]
            if bool(items.mask(name).any())
        },
        "agreement": measure_agreement(ratings),
        "repeats_equal": measure_repeats(manifest, items, kept),
        "median_ms": measure_time(kept, set(items.place)),
        "proxies": measure_proxies(manifest, items, ratings),
        "mixed_model": describe_mixed(manifest, items, ratings, mixed),
    }
    people_rows = [describe_person(manifest, person, reasons[person.name]) for person in people]
    return Analysis(summary, tabulate_items(manifest, items, ratings), people_rows)


def describe_study(manifest: Manifest) -> Record:
    """What of the manifest says how the study came about."""
    names = ("title", "design", "seed", "raters", "created", "conditions", "classes")
    found = {name: manifest[name] for name in names if name in manifest}
    return {"id": manifest["study"], **found, "exclusions": dict(manifest["exclusions"])}


def list_items(manifest: Manifest) -> Items:
    """The images that the lists show; those beside which another is chosen are not among them."""
    shown = {item for numbers in manifest["lists"] for item in numbers}
    rows = [one for one in manifest["items"] if one["item"] in shown]
    sources = {source: i for i, source in enumerate(dict.fromkeys(one["source"] for one in rows))}
    place = {one["item"]: i for i, one in enumerate(rows)}
    return Items(rows, place, torch.tensor([sources[one["source"]] for one in rows]))


def rate(manifest: Manifest, items: Items, trials: Sequence[tuple[int, list[Trial]]]) -> Ratings:
    """The answers of people, each with the number of its person, as a table."""
    every = [(person, trial) for person, some in trials for trial in some]
    categories = categorize(manifest)
    return Ratings(
        torch.tensor([person for person, _ in every]).long(),
        torch.tensor([items.place[trial.item] for _, trial in every]).long(),
        torch.tensor([categories[trial.answer] for _, trial in every]).long(),
        torch.tensor([scored_answer(manifest, trial) for _, trial in every]).double(),
        items.source,
        1 + max((person for person, _ in every), default=0),
        len(categories),
    )


def categorize(manifest: Manifest) -> dict[int | str, int]:
    """The number of each answer; "cannot tell" is the last one."""
    return {answer: i for i, answer in enumerate(list_answers(manifest))}


def measure_condition(
    manifest: Manifest, items: Items, ratings: Ratings, people: Sequence[Participant], name: str
) -> Record:
    """All results of one condition; differences and ceilings are those to untouched images."""
    mask, base = items.mask(name), items.mask(CLEAN)
    unsure = (ratings.category == ratings.n_categories - 1).double()
    found: Record = {
        "images": int(mask.sum()),
        SCORES[manifest["design"]]: estimate_share(ratings, mask),
        "unsure": estimate_share(replace(ratings, score=unsure), mask),
        "median_ms": measure_time(people, {n for n, i in items.place.items() if mask[i]}),
    }
    if manifest["design"] != "choose":
        found |= measure_agreement(ratings.select_items(mask))
    if name == CLEAN or not bool(base.any()):
        return found
    found["difference"] = estimate_difference(ratings, mask, base)
    if manifest["design"] == "real":
        found["d_prime"] = estimate_d_prime(ratings, mask, base)
    fooled = items.fooled(mask)
    if manifest["design"] == "name" and fooled is not None:
        found["validity"] = {
            str(k): estimate_validity(ratings, mask, base, fooled, k)
            for k in usable_rules(ratings, [mask, base])
        }
    return found


def measure_repeats(manifest: Manifest, items: Items, people: Sequence[Participant]) -> MetricEntry:
    """The share of repeated images that a person answered as before."""
    pairs = [(i, repeated_pairs(person)) for i, person in enumerate(people)]
    again = rate(manifest, items, [(i, [second for _, second in some]) for i, some in pairs])
    equal = [first.answer == second.answer for _, some in pairs for first, second in some]
    scored = replace(again, score=torch.tensor(equal).double())
    return estimate_share(scored, torch.ones(len(items.rows), dtype=torch.bool))


def measure_time(people: Sequence[Participant], items: set[int]) -> MetricEntry:
    """The median over people of a person's median time on the main trials of the items."""
    times = [[t.ms for t in person.of_kind("main") if t.item in items] for person in people]
    medians = sorted(float(median(one)) for one in times if one)
    if not medians:
        return {"value": None, "of": "people", "total": 0, "interval": "no answers"}
    middle = median(medians)
    return {"value": middle, "of": "people", "total": len(medians), **quantile_interval(medians)}


def measure_proxies(manifest: Manifest, items: Items, ratings: Ratings) -> Record:
    """By proxy, how it stands for people on all images, and on those of each condition."""
    if manifest["design"] != "name":
        return {}
    names = dict.fromkeys(name for row in items.rows for name in (row.get("proxies") or {}))
    found: Record = {}
    for name in names:
        values = items.proxy(name)
        if bool(values.isnan().all()):
            continue
        found[name] = {"all": measure_proxy(ratings, name, values)}
        for condition in manifest["conditions"]:
            mask = items.mask(condition)
            if int(mask.sum()) and not bool(values[mask].isnan().all()):
                part = torch.where(mask, values, torch.nan)
                found[name][condition] = measure_proxy(ratings, name, part)
    return found


def describe_mixed(manifest: Manifest, items: Items, ratings: Ratings, mixed: bool) -> Record:
    """The mixed model, or why there is none."""
    names = [name for name in manifest["conditions"] if bool(items.mask(name).any())]
    names.sort(key=lambda name: name != CLEAN)
    if manifest["design"] != "name" or not mixed:
        return {"missing": "the mixed logistic model is of studies that name the class"}
    if not has_statsmodels():
        return {"missing": HINT}
    return fit_mixed_model(ratings, [names.index(row["condition"]) for row in items.rows], names)


def tabulate_items(manifest: Manifest, items: Items, ratings: Ratings) -> list[Record]:
    """A row an image: how often each answer was given, and what stands for people."""
    answers = {place: answer for answer, place in categorize(manifest).items()}
    size = (len(items.rows), ratings.n_categories)
    table = torch.zeros(size, dtype=torch.long)
    table.index_put_((ratings.item, ratings.category), torch.tensor(1), accumulate=True)
    scores = torch.zeros(size[0]).double().index_add(0, ratings.item, ratings.score)
    rows = []
    for i, (row, counts) in enumerate(zip(items.rows, table, strict=True)):
        total, most = int(counts.sum()), answers[int(counts.argmax())]
        label = manifest["classes"][most] if isinstance(most, int) else most
        fixed = {name: row.get(name) for name in ("item", "condition", "source", "label", "fooled")}
        rows.append(
            fixed | {"answers": total, SCORES[manifest["design"]]: float(scores[i])}
            | {"share": round(float(scores[i]) / total, 6) if total else None}
            | {"unsure": int(counts[-1]), "most_frequent": label if total else None}
            | dict(row.get("proxies") or {})
        )  # fmt: skip
    return rows


def describe_person(manifest: Manifest, person: Participant, reasons: Sequence[str]) -> Record:
    """A row of the list of people."""
    pairs = repeated_pairs(person)
    return {
        "participant": person.name,
        "file": person.file,
        "list": person.list_number,
        "trials": len(person.trials),
        "repeats_equal": sum(first.answer == again.answer for first, again in pairs),
        "repeats": len(pairs),
        "analyzed": not reasons,
        "reasons": "; ".join(RULES[reason] for reason in reasons),
    }
