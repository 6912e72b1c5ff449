"""The one figure of a run, what it is worth, and what to try where it is 0."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from scoreag.classifiers.judges import CLEAN_IMAGES, describe_weak_judge
from scoreag.runs.records import Row
from scoreag.stats.proportion import Proportion

PRESERVED_SUCCESS, ATTACK_SUCCESS = "fooled_and_shown", "success"  # names of rates
NO_JUDGE_NOTE = (
    "fooled; not checked whether the class is still shown: give --reference-classifier (in Python, judge=)"
)

CHANCE_LEVEL_NOTE = (
    "not established: the judge does not clearly see the classes more often than by chance"
)


def has_judge(rows: Sequence[Row]) -> bool:
    """Whether a judge was asked about every image."""
    return bool(rows) and all("judge" in row for row in rows)


def judge_rates(
    rows: Sequence[Row], eligible: Sequence[Row], population: str
) -> dict[str, Proportion]:
    """Fooled and shown, of ``right``, and how often the judge says the label at all.

    Args:
        right: the images that count, which are ``of``.
    """
    if not has_judge(rows):
        return {}
    shown = [row for row in eligible if row["success"] and row["judge"]["saved"] == row["label"]]
    found = {PRESERVED_SUCCESS: Proportion(len(shown), len(eligible), population)}
    for name, form, among in (
        ("judge_agreement", "saved", "all images"),
        ("judge_agreement_before", "before", CLEAN_IMAGES),
    ):
        if all(row["judge"][form] is not None for row in rows):
            hits = sum(row["judge"][form] == row["label"] for row in rows)
            found[name] = Proportion(hits, len(rows), among)
    return found


def build_headline(
    rows: Sequence[Row], rates: Mapping[str, Proportion], manifest: Mapping[str, Any]
) -> dict[str, Any]:
    """The figure that a run is told by: fooled and shown, or fooled where nobody was asked."""
    name = PRESERVED_SUCCESS if PRESERVED_SUCCESS in rates else ATTACK_SUCCESS
    says = NO_JUDGE_NOTE
    if name == PRESERVED_SUCCESS:
        says = f"fooled, while the judge {judge_name(manifest)} still sees the class"
        if _chance_level_warning(rows, rates["judge_agreement"]):
            says += f"; {CHANCE_LEVEL_NOTE}"
    return {"name": name, "says": says, **rates[name].to_dict()}


def judge_name(manifest: Mapping[str, Any]) -> str:
    """The name of the judge in a manifest."""
    return str(manifest.get("models", {}).get("judge", {}).get("name", "")) or "that was given"


def judge_accuracy(
    rates: Mapping[str, Proportion], manifest: Mapping[str, Any]
) -> Proportion | None:
    """How often the judge is right on images that nobody changed: these, or those of its card."""
    if "judge_agreement_before" in rates:
        return rates["judge_agreement_before"]
    told = manifest.get("models", {}).get("judge", {}).get("accuracy")
    return Proportion(told["count"], told["total"], told["of"]) if told else None


def list_warnings(
    rows: Sequence[Row], rates: Mapping[str, Proportion], manifest: Mapping[str, Any]
) -> list[str]:
    """What would make the headline mean something else than it seems to."""
    if PRESERVED_SUCCESS not in rates:
        return []
    right, classes = judge_accuracy(rates, manifest), len(manifest.get("classes", ()))
    right = right or Proportion(0, 0, CLEAN_IMAGES)
    found = [
        describe_weak_judge(judge_name(manifest), right, classes),
        _chance_level_warning(rows, rates["judge_agreement"]),
    ]
    return [text for text in found if text]


def _chance_level_warning(rows: Sequence[Row], agreement: Proportion) -> str:
    """Whether the judge's answers have anything to do with the labels, where these differ.

    Answers that do not look at the image agree with ``sum_k p_k q_k`` of the labels, p the shares
    of the labels and q those of the answers.
    """
    labels = Counter(row["label"] for row in rows)
    said = Counter(row["judge"]["saved"] for row in rows)
    by_chance = sum(labels[k] * said[k] for k in labels) / len(rows) ** 2
    if len(labels) < 2 or agreement.interval[0] > by_chance:
        return ""
    return (
        f"the judge sees the class in {agreement.count} of {agreement.total} images, and "
        f"{100 * by_chance:.0f} % is what answers would give that have nothing to do with the "
        "classes: these images may show none"
    )


def suggest_fixes(rates: Mapping[str, Proportion], config: Mapping[str, Any]) -> list[str]:
    """What to try where nothing succeeded."""
    fooled = rates[ATTACK_SUCCESS]
    if not fooled.total:
        return [
            "the classifier is right on none of the images as they are, so nothing counts; see "
            "what scoreag doctor says of it on these images"
        ]
    if not fooled.count:
        return [_suggest_stronger(config)]
    if PRESERVED_SUCCESS in rates and not rates[PRESERVED_SUCCESS].count:
        return [
            "in no image that fools the classifier the judge still sees the class: write a smaller "
            "--attack-scale, a larger --similarity, or see whether the score model draws its classes"
        ]
    return []


def _suggest_stronger(config: Mapping[str, Any]) -> str:
    scale, similarity = (config.get(name) for name in ("attack_scale", "similarity"))
    if scale == 0:
        return "attack_scale is 0, so nothing guides the images; write --attack-scale 10"
    now = "" if scale is None else f" (now {scale:g})"
    near = "" if similarity is None else f", a smaller --similarity (now {similarity:g})"
    return (
        f"no image fools the classifier: write a larger --attack-scale{now}{near}, "
        "or more --max-restarts; "
        "it may be robust, or pass on no useful gradient: see scoreag doctor"
    )
