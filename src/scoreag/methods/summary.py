"""The summary of a run, from its rows alone: each rate with its denominator and an interval."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from scoreag.classifiers.checks import CLEAN_IMAGES, describe_weak_judge
from scoreag.io.records import Row
from scoreag.methods.scale_search import AUTO, searched_option
from scoreag.methods.tally import (
    ALL_IMAGES,
    ATTACK_SUCCESS,
    COSTS,
    PRESERVED_SUCCESS,
    SearchTally,
    Tally,
    list_ids,
    tally_rows,
)
from scoreag.stats.estimates import quantile_interval
from scoreag.stats.proportion import Proportion

NO_JUDGE_NOTE = (
    "fooled; not checked whether the class is still shown: give --reference-classifier "
    "(in Python, judge=)"
)
CHANCE_LEVEL_NOTE = (
    "not established: the reference classifier does not recognize the classes clearly more often "
    "than by chance"
)


def summarize_rows(
    task: str, rows: Iterable[Row], manifest: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Rates with Wilson intervals, medians with intervals, and the cost of a run.

    Args:
        rows: taken once, one after the other.
        manifest: of the run, for the name of the reference classifier and the options.
    """
    manifest = manifest or {}
    tally = tally_rows(task, rows, searched_option(manifest.get("config", {})))
    return summarize_tally(tally, manifest)


def summarize_tally(tally: Tally, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """As ``summarize_rows``, of rows that were counted."""
    rates, option = tally.rates, tally.option
    if option or tally.task == "attack":
        rates = {n: rate for n, rate in rates.items() if not n.endswith("_without_restarts")}
    if tally.task == "attack":
        del rates["targeted_success"]
    headline = {
        "headline": build_headline(tally, rates, manifest),
        "warnings": list_warnings(tally, rates, manifest),
        "hints": suggest_fixes(rates, manifest.get("config", {})),
    } if ATTACK_SUCCESS in rates else {}  # fmt: skip
    values = tally.values
    return {
        "task": tally.task,
        "images": tally.images,
        **headline,
        "rates": {name: rate.to_dict() for name, rate in rates.items()},
        "medians": {n: median_with_interval(values[n], ALL_IMAGES) for n in tally.norms},
        **({option: median_with_interval(values[option], ALL_IMAGES)} if option else {}),
        **_summarize_energy(tally),
        **{name: _cost(tally, name) for name in COSTS},
    }


def list_search_problems(rows: Iterable[Row], option: str) -> list[str]:
    """Images that no attack fooled, and images that the weakest one fools.

    Args:
        option: that was searched for; "" is none.
    """
    found = SearchTally(option)
    for row in rows if option else ():
        found.add(row)
    return describe_search(found)


def describe_search(found: SearchTally) -> list[str]:
    """As ``list_search_problems``, of rows that were counted."""
    problems, option = [], found.option
    if missed := found.missed:
        problems.append(
            f"no {option} fools the classifier on {missed.count} of {found.images} images "
            f"(ids {list_ids(missed.first)})"
        )
    if weakest := found.weakest:
        end = "smallest" if option == "attack_scale" else "largest"
        reason = (
            "the score model alone may change them; write a lower sigma_start"
            if found.has_originals
            else "the classifier may err on samples without an attack; compare attack_scale 0"
        )
        problems.append(
            f"{weakest.count} of {found.images} images (ids {list_ids(weakest.first)}) fool the "
            f"classifier at the {end} {option} of the search already: {reason}"
        )
    return problems


def build_headline(
    tally: Tally, rates: Mapping[str, Proportion], manifest: Mapping[str, Any]
) -> dict[str, Any]:
    """The headline of a run: fooled and shown, or fooled if there is no reference classifier."""
    if PRESERVED_SUCCESS not in rates:
        return {"name": ATTACK_SUCCESS, "says": NO_JUDGE_NOTE, **rates[ATTACK_SUCCESS].to_dict()}
    says = f"fooled, while the reference classifier {judge_name(manifest)} still sees the class"
    if _chance_level_warning(tally, rates["judge_agreement"]):
        says += f"; {CHANCE_LEVEL_NOTE}"
    return {"name": PRESERVED_SUCCESS, "says": says, **rates[PRESERVED_SUCCESS].to_dict()}


def judge_name(manifest: Mapping[str, Any]) -> str:
    """The name of the reference classifier in a manifest."""
    return str(manifest.get("models", {}).get("judge", {}).get("name", "")) or "that was given"


def judge_accuracy(
    rates: Mapping[str, Proportion], manifest: Mapping[str, Any]
) -> Proportion | None:
    """The reference classifier's accuracy on clean images: of this run, or from its card."""
    if "judge_agreement_before" in rates:
        return rates["judge_agreement_before"]
    metric = manifest.get("models", {}).get("judge", {}).get("accuracy")
    return Proportion(metric["count"], metric["total"], metric["of"]) if metric else None


def list_warnings(
    tally: Tally, rates: Mapping[str, Proportion], manifest: Mapping[str, Any]
) -> list[str]:
    """Reasons not to trust the headline, and images that a search did not find."""
    searching = describe_search(tally.search)
    if PRESERVED_SUCCESS not in rates:
        return searching
    accuracy = judge_accuracy(rates, manifest) or Proportion(0, 0, CLEAN_IMAGES)
    warnings = [
        describe_weak_judge(judge_name(manifest), accuracy, len(manifest.get("classes", ()))),
        _chance_level_warning(tally, rates["judge_agreement"]),
        *searching,
    ]
    return [text for text in warnings if text]


def _chance_level_warning(tally: Tally, agreement: Proportion) -> str:
    """A warning if the reference classifier agrees with the labels no more often than by chance.

    Predictions that are independent of the labels agree with ``sum_k p_k q_k`` of them, where p and
    q are the class frequencies of the labels and of the predictions.
    """
    labels, seen = tally.labels, tally.seen
    by_chance = sum(labels[k] * seen[k] for k in labels) / tally.images**2
    if len(labels) < 2 or agreement.interval[0] > by_chance:
        return ""
    return (
        f"the reference classifier sees the class in {agreement.count} of {agreement.total} "
        f"images; predictions independent of the classes would agree in {100 * by_chance:.0f} %: "
        "these images may not show their classes"
    )


def suggest_fixes(rates: Mapping[str, Proportion], config: Mapping[str, Any]) -> list[str]:
    """What to try if nothing succeeded."""
    fooled = rates[ATTACK_SUCCESS]
    if not fooled.total:
        return [
            "the classifier is wrong on all images before the attack, so none of them counts; "
            "check it with scoreag doctor on these images"
        ]
    if not fooled.count:
        return [_suggest_stronger(config)]
    if PRESERVED_SUCCESS in rates and not rates[PRESERVED_SUCCESS].count:
        return [
            "the reference classifier sees the class in no image that fools the classifier: write "
            "a smaller --attack-scale or a larger --similarity, or check whether the score model "
            "generates its classes"
        ]
    return []


def _suggest_stronger(config: Mapping[str, Any]) -> str:
    if "attack" in config:
        return (
            f"{config['attack']} fools the classifier on no image: write a larger eps, more steps, "
            "or a stronger attack, such as auto_ensemble; it may be robust, or have no useful "
            "gradient: check it with scoreag doctor"
        )
    scale, similarity = (config.get(name) for name in ("attack_scale", "similarity"))
    if scale == 0:
        return "attack_scale is 0, so nothing guides the images; write --attack-scale 10"
    if scale == AUTO:
        weaker = (
            "write a wider --attack-interval"
            if similarity is None
            else "write a smaller --similarity"
        )
        return f"no scale fools the classifier on any image: {weaker}"
    if similarity == AUTO:
        return f"no similarity fools the classifier: write a larger --attack-scale (now {scale:g})"
    current = "" if scale is None else f" (now {scale:g})"
    smaller = "" if similarity is None else f", a smaller --similarity (now {similarity:g})"
    return (
        f"no image fools the classifier: write a larger --attack-scale{current}{smaller}, "
        "or more --max-restarts; it may be robust, or have no useful gradient: "
        "check it with scoreag doctor"
    )


def median_with_interval(values: Sequence[float], population: str) -> dict[str, Any]:
    """The median with its interval from order statistics; fewer than 6 values have no interval."""
    ordered, n = sorted(values), len(values)
    median = (ordered[(n - 1) // 2] + ordered[n // 2]) / 2
    return {"value": round(median, 6), "of": population, "total": n, **quantile_interval(ordered)}


def _summarize_energy(tally: Tally) -> dict[str, Any]:
    """How many images have a finite energy, and the median of these; nothing if not counted."""
    if not tally.n_energies:
        return {}
    finite = tally.values["energy"]
    share = Proportion(len(finite), tally.n_energies, "images whose energy was counted").to_dict()
    median = median_with_interval(finite, "images of finite energy") if finite else None
    return {"energy": {"finite": share, "median": median}}


def _cost(tally: Tally, name: str) -> dict[str, Any]:
    per_image = round(tally.costs[name] / max(1, tally.images), 4)
    return {
        "sum": tally.costs[name], "per_image": per_image, "of": ALL_IMAGES, "total": tally.images
    }  # fmt: skip
