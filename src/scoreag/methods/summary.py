"""The summary of a run, from its rows alone: each rate with its denominator and an interval."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from scoreag.classifiers.checks import CLEAN_IMAGES, describe_weak_judge
from scoreag.io.records import Row
from scoreag.methods.scale_search import AUTO, at_end, searched_option
from scoreag.stats.estimates import quantile_interval
from scoreag.stats.proportion import Proportion

ALL_IMAGES = "all images"
CLEAN_CORRECT = "images classified correctly before"
PRESERVED_SUCCESS, ATTACK_SUCCESS = "fooled_and_shown", "success"  # names of rates
NO_JUDGE_NOTE = (
    "fooled; not checked whether the class is still shown: give --reference-classifier "
    "(in Python, judge=)"
)
CHANCE_LEVEL_NOTE = (
    "not established: the reference classifier does not recognize the classes clearly more often "
    "than by chance"
)


def summarize_rows(
    task: str, rows: Sequence[Row], manifest: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Rates with Wilson intervals, medians with intervals, and the cost of a run.

    Args:
        manifest: of the run, for the name of the reference classifier and the options.
    """
    rates, manifest = _RATES[task](rows), manifest or {}
    option = searched_option(manifest.get("config", {}))
    if option or task == "attack":
        rates = {n: rate for n, rate in rates.items() if not n.endswith("_without_restarts")}
    if task == "attack":
        del rates["targeted_success"]
    headline = {
        "headline": build_headline(rows, rates, manifest),
        "warnings": list_warnings(rows, rates, manifest),
        "hints": suggest_fixes(rates, manifest.get("config", {})),
    } if task != "purify" else {}  # fmt: skip
    return {
        "task": task,
        "images": len(rows),
        **headline,
        "rates": {name: rate.to_dict() for name, rate in rates.items()},
        "medians": _perturbation_sizes(rows),
        **({option: median_with_interval([r[option] for r in rows], ALL_IMAGES)} if option else {}),
        **_summarize_energy(rows),
        **{name: _cost(rows, name) for name in ("nfe", "restarts", "guidance_skipped")},
    }


def list_search_problems(rows: Sequence[Row], option: str) -> list[str]:
    """Images that no attack fooled, and images that the weakest one fools.

    Args:
        option: that was searched for; "" is none.
    """
    problems = []
    if ids := [row["image_id"] for row in rows if option and not row["found"]]:
        problems.append(
            f"no {option} fools the classifier on {len(ids)} of {len(rows)} images "
            f"(ids {list_ids(ids)})"
        )
    weakest = [row for row in rows if option and at_end(option, row[option]) < 0]
    if ids := [
        row["image_id"]
        for row in weakest
        if row["found"] and row["predictions"].get("before") in (None, row["label"])
    ]:
        end = "smallest" if option == "attack_scale" else "largest"
        given = any("before" in row["predictions"] for row in weakest)
        reason = (
            "the score model alone may change them; write a lower sigma_start"
            if given
            else "the classifier may err on samples without an attack; compare attack_scale 0"
        )
        problems.append(
            f"{len(ids)} of {len(rows)} images (ids {list_ids(ids)}) fool the classifier at the "
            f"{end} {option} of the search already: {reason}"
        )
    return problems


def list_ids(ids: Sequence[int], count: int = 5) -> str:
    """The first of some image ids."""
    return ", ".join(map(str, ids[:count])) + (", ..." if len(ids) > count else "")


def _synthesis_rates(rows: Sequence[Row]) -> dict[str, Proportion]:
    return {**_judge_rates(rows, rows, ALL_IMAGES), **_success_rates(rows, ALL_IMAGES)}


def _transform_rates(rows: Sequence[Row]) -> dict[str, Proportion]:
    correct = [row for row in rows if row["predictions"]["before"] == row["label"]]
    return {
        "clean_accuracy": Proportion(len(correct), len(rows), ALL_IMAGES),
        **_judge_rates(rows, correct, CLEAN_CORRECT),
        **_success_rates(correct, CLEAN_CORRECT),
    }


def _purify_rates(rows: Sequence[Row]) -> dict[str, Proportion]:
    """Accuracy before and after, if labels and predictions are known."""
    if any(row["label"] is None or row["predictions"]["saved"] is None for row in rows):
        return {}
    return {
        f"accuracy_{name}": _rate(
            rows, ALL_IMAGES, lambda row, form=form: row["predictions"][form] == row["label"]
        )
        for name, form in (("before", "before"), ("after", "saved"))
    }


_RATES = {
    "synthesize": _synthesis_rates,
    "transform": _transform_rates,
    "attack": _transform_rates,
    "purify": _purify_rates,
}


def _success_rates(rows: Sequence[Row], population: str) -> dict[str, Proportion]:
    """The three kinds of success, without and with restarts."""
    rates = {}
    for name in ("success_float", "success", "targeted_success"):
        rates[f"{name}_without_restarts"] = _rate(
            rows, population, lambda row, name=name: row[name] and not row["restarts"]
        )
        rates[name] = _rate(rows, population, lambda row, name=name: row[name])
    return rates


def _rate(rows: Sequence[Row], population: str, hit: Callable[..., bool]) -> Proportion:
    return Proportion(sum(bool(hit(row)) for row in rows), len(rows), population)


def _judge_rates(
    rows: Sequence[Row], eligible: Sequence[Row], population: str
) -> dict[str, Proportion]:
    """Success with the label preserved, among eligible rows; agreement of the judge with labels."""
    if not rows or not all("judge" in row for row in rows):
        return {}
    rates = {
        PRESERVED_SUCCESS: _rate(
            eligible, population, lambda r: r["success"] and r["judge"]["saved"] == r["label"]
        )
    }
    for name, form, images in (
        ("judge_agreement", "saved", ALL_IMAGES),
        ("judge_agreement_before", "before", CLEAN_IMAGES),
    ):
        if all(row["judge"][form] is not None for row in rows):
            rates[name] = _rate(
                rows, images, lambda row, form=form: row["judge"][form] == row["label"]
            )
    return rates


def build_headline(
    rows: Sequence[Row], rates: Mapping[str, Proportion], manifest: Mapping[str, Any]
) -> dict[str, Any]:
    """The headline of a run: fooled and shown, or fooled if there is no reference classifier."""
    if PRESERVED_SUCCESS not in rates:
        return {"name": ATTACK_SUCCESS, "says": NO_JUDGE_NOTE, **rates[ATTACK_SUCCESS].to_dict()}
    says = f"fooled, while the reference classifier {judge_name(manifest)} still sees the class"
    if _chance_level_warning(rows, rates["judge_agreement"]):
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
    rows: Sequence[Row], rates: Mapping[str, Proportion], manifest: Mapping[str, Any]
) -> list[str]:
    """Reasons not to trust the headline, and images that a search did not find."""
    searching = list_search_problems(rows, searched_option(manifest.get("config", {})))
    if PRESERVED_SUCCESS not in rates:
        return searching
    accuracy = judge_accuracy(rates, manifest) or Proportion(0, 0, CLEAN_IMAGES)
    warnings = [
        describe_weak_judge(judge_name(manifest), accuracy, len(manifest.get("classes", ()))),
        _chance_level_warning(rows, rates["judge_agreement"]),
        *searching,
    ]
    return [text for text in warnings if text]


def _chance_level_warning(rows: Sequence[Row], agreement: Proportion) -> str:
    """A warning if the reference classifier agrees with the labels no more often than by chance.

    Predictions that are independent of the labels agree with ``sum_k p_k q_k`` of them, where p and
    q are the class frequencies of the labels and of the predictions.
    """
    labels = Counter(row["label"] for row in rows)
    predictions = Counter(row["judge"]["saved"] for row in rows)
    by_chance = sum(labels[k] * predictions[k] for k in labels) / len(rows) ** 2
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


def _perturbation_sizes(rows: Sequence[Row]) -> dict[str, Any]:
    """Median distances of the saved pictures from their originals, in pixel units."""
    distances = [row["distances"] for row in rows if "distances" in row]
    return {
        norm: median_with_interval([d[norm] for d in distances], ALL_IMAGES)
        for norm in (distances[0] if distances else ())
    }


def median_with_interval(values: Sequence[float], population: str) -> dict[str, Any]:
    """The median with its interval from order statistics; fewer than 6 values have no interval."""
    ordered, n = sorted(values), len(values)
    median = (ordered[(n - 1) // 2] + ordered[n // 2]) / 2
    return {"value": round(median, 6), "of": population, "total": n, **quantile_interval(ordered)}


def _summarize_energy(rows: Sequence[Row]) -> dict[str, Any]:
    """How many images have a finite energy, and the median of these; nothing if not counted."""
    counted = [row for row in rows if "energy" in row]
    finite = [row["energy"] for row in counted if row["energy"] is not None]
    if not counted:
        return {}
    share = Proportion(len(finite), len(counted), "images whose energy was counted").to_dict()
    median = median_with_interval(finite, "images of finite energy") if finite else None
    return {"energy": {"finite": share, "median": median}}


def _cost(rows: Sequence[Row], name: str) -> dict[str, Any]:
    total = sum(row[name] for row in rows)
    per_image = round(total / max(1, len(rows)), 4)
    return {"sum": total, "per_image": per_image, "of": ALL_IMAGES, "total": len(rows)}
