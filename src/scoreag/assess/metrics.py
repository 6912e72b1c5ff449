"""The figures of a cell, from its rows alone: each with its denominator by name and an interval."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from scoreag.assess.experiments import CLEAN, Cell
from scoreag.assess.randomized_metrics import (
    AGGREGATION_RULES,
    ALL_IMAGES,
    N_RESUBMISSIONS,
    AggregationRule,
    randomized_accuracy,
)
from scoreag.assess.table import Columns
from scoreag.classifiers.judges import CLEAN_IMAGES
from scoreag.classifiers.rejection import is_misclassified
from scoreag.stats.bootstrap import bootstrap_ci
from scoreag.stats.estimates import (
    MetricEntry,
    estimate_quantile,
    from_proportion,
    paired_difference,
)
from scoreag.stats.proportion import Proportion, accuracy, compute_proportion

CLEAN_CORRECT = "images right before"
MEDIAN_METRICS = ("l0", "l1", "l2", "linf", "psnr")
MEAN_METRICS = ("ssim", "lpips")
COST_FIELDS = ("nfe", "forwards", "backwards", "restarts")


def compute_metrics(cell: Cell, columns: Columns) -> dict[str, MetricEntry]:
    """All figures of a cell by name; of nothing where it has no rows."""
    if not len(columns):
        return {}
    if cell.task == CLEAN:
        alone = (
            {"judge_agreement": compute_proportion(columns.label_preserved, ALL_IMAGES)}
            if columns.label_preserved is not None
            else {}
        )
        right = {"clean_accuracy": clean_accuracy(columns, cell.classifier, cell), **alone}
        return {name: from_proportion(rate) for name, rate in right.items()}
    sure = _confidence(columns) if cell.is_ood else {}
    return {
        **_accuracy_and_success(columns),
        **_label_preservation(columns),
        **randomized_accuracy(columns),
        **_perturbation_sizes(columns),
        **sure,
    }


def _confidence(columns: Columns) -> dict[str, MetricEntry]:
    """How sure the classifier is of its answers: the mean of their probabilities."""
    result = {}
    for name, of in (("confidence_before", "before"), ("confidence", "saved")):
        values = [row["confidence"][of] for row in columns.rows]
        if None not in values:
            result[name] = _as_fraction(
                bootstrap_ci(torch.tensor(values, dtype=torch.float64), ALL_IMAGES)
            )
    return result


def _as_fraction(entry: MetricEntry) -> MetricEntry:
    """Marked as a share, which is written in per cent."""
    return {**entry, "unit": "share"}


def _accuracy_and_success(columns: Columns) -> dict[str, MetricEntry]:
    """Accuracy before and after, and success over all images and over those right before."""
    rates = {
        "accuracy": compute_proportion(~columns.adv_misclassified, ALL_IMAGES),
        "success": compute_proportion(columns.adv_misclassified, ALL_IMAGES),
    }
    if columns.clean_correct is not None:
        rates["clean_accuracy"] = compute_proportion(columns.clean_correct, ALL_IMAGES)
        rates["success_of_right"] = compute_proportion(
            columns.adv_misclassified, CLEAN_CORRECT, columns.clean_correct
        )
    rates["success_float"] = compute_proportion(columns.misclassified_float, ALL_IMAGES)
    for name in ("rejected", "rejected_before"):
        if (flags := getattr(columns, name)) is not None:
            rates[name] = compute_proportion(flags, ALL_IMAGES)
    if bool((columns.targets >= 0).any()):
        rates["targeted_success"] = compute_proportion(columns.targeted_success, ALL_IMAGES)
    return {name: from_proportion(rate) for name, rate in rates.items()}


def _label_preservation(columns: Columns) -> dict[str, MetricEntry]:
    """What the judges, who were not attacked, see in the images."""
    if columns.label_preserved is None:
        return {}
    of = ALL_IMAGES if columns.clean_correct is None else CLEAN_CORRECT
    rates = {
        "judge_agreement": compute_proportion(columns.label_preserved, ALL_IMAGES),
        "judge_agreement_of_successes": compute_proportion(
            columns.label_preserved, "successes", columns.adv_misclassified
        ),
        "fooled_and_shown": compute_proportion(
            columns.adv_misclassified & columns.label_preserved, of, columns.eligible
        ),
    }
    if columns.label_preserved_before is not None:
        rates["judge_agreement_before"] = compute_proportion(
            columns.label_preserved_before, CLEAN_IMAGES
        )
    return {name: from_proportion(rate) for name, rate in rates.items()}


def _perturbation_sizes(columns: Columns) -> dict[str, MetricEntry]:
    """How far the saved images are from those before: medians, and means of the likenesses."""
    result: dict[str, MetricEntry] = {}
    for name in MEDIAN_METRICS:
        if (values := columns.per_image_metric(name)) is not None:
            result[name] = estimate_quantile(values, 0.5, ALL_IMAGES)
    for name in MEAN_METRICS:
        if (values := columns.per_image_metric(name)) is not None:
            result[name] = bootstrap_ci(values, ALL_IMAGES)
    return result


def summarize_cost(columns: Columns, seconds: float, memory_bytes: int) -> dict[str, float]:
    """What an image cost on average, and the most memory that a process had."""
    count = max(1, len(columns))
    per_image = {
        name: round(sum(row[name] for row in columns.rows) / count, 4) for name in COST_FIELDS
    }
    return {**per_image, "seconds": round(seconds / count, 4), "memory_mb": memory_bytes >> 20}


def transfer_success(cell: Cell, columns: Columns) -> dict[str, MetricEntry]:
    """For the classifier attacked and each other: errs on the image, of those it got right before.

    Of images from nothing, nobody was right before: of all.
    """

    def rate(before: Tensor | None, saved: Tensor) -> MetricEntry:
        wrong = is_misclassified(saved, columns.labels)
        if before is None:
            return from_proportion(compute_proportion(wrong, ALL_IMAGES))
        return from_proportion(compute_proportion(wrong, CLEAN_CORRECT, before == columns.labels))

    def told(word: str, of: str) -> Tensor:
        return torch.tensor([row["transfer"][word][of] for row in columns.rows])

    first = (
        None
        if columns.clean_correct is None
        else torch.where(columns.clean_correct, columns.labels, -1)
    )
    result = {cell.classifier: rate(first, columns.predictions)}
    for word in cell.transfer_targets:
        before = None if columns.clean_correct is None else told(word, "before")
        result[word] = rate(before, told(word, "saved"))
    return result


def per_class_metrics(columns: Columns, n_classes: int) -> list[dict[str, Any]]:
    """For each class: success, the judges' agreement, and which class it becomes how often."""
    result = []
    for label in range(n_classes):
        mine = columns.labels == label
        into = torch.bincount(
            columns.predictions[mine & (columns.predictions >= 0)], minlength=n_classes
        )
        entry: dict[str, Any] = {
            "label": label,
            "success": from_proportion(compute_proportion(columns.adv_misclassified, f"{CLEAN_CORRECT} of the class"
                                     if columns.clean_correct is not None else f"{ALL_IMAGES} of the class",
                                     mine & columns.eligible)),
            "becomes": into.tolist(),
        }  # fmt: skip
        if columns.rejected is not None:
            entry["rejected"] = int((mine & columns.rejected).sum())
        if columns.label_preserved is not None:
            entry["judge_agreement"] = from_proportion(
                compute_proportion(columns.label_preserved, "images of the class", mine)
            )
        if columns.label_preserved_before is not None:
            before = compute_proportion(
                columns.label_preserved_before, f"{CLEAN_IMAGES} of the class", mine
            )
            entry["judge_agreement_before"] = from_proportion(before)
        result.append(entry)
    return result


def success_difference(a: Columns, b: Columns) -> MetricEntry | None:
    """Success of one attack minus that of another, on the images that both were given.

    Only images that the classifier got right before count; None where there are none.
    """
    place = {int(i): row for row, i in enumerate(b.image_ids)}
    mine = [row for row, i in enumerate(a.image_ids) if int(i) in place and bool(a.eligible[row])]
    if len(mine) < 2:
        return None
    theirs = [place[int(a.image_ids[row])] for row in mine]
    return _as_fraction(
        paired_difference(
            a.adv_misclassified[mine], b.adv_misclassified[theirs], f"{CLEAN_CORRECT}, in both"
        )
    )


def worst_case_accuracy(
    parts: Sequence[Columns],
    is_robust: Callable[[Columns], Tensor] = lambda found: ~found.adv_misclassified,
) -> Proportion:
    """The images that stay right whatever attack of several is used, of all that each was given.

    Args:
        stays: whether an image is right under one attack; by default at its first draw.
    """
    right: dict[int, bool] | None = None
    for found in parts:
        mine = dict(zip(found.image_ids.tolist(), is_robust(found).tolist(), strict=True))
        right = mine if right is None else {i: right[i] and mine[i] for i in right if i in mine}
    return Proportion(sum((right or {}).values()), len(right or {}), "images given to every attack")


def worst_case_randomized(parts: Sequence[Columns]) -> dict[str, Proportion]:
    """The same by several draws: by the worst of each image, and by vote; of one draw nothing."""
    draws = min(
        (
            N_RESUBMISSIONS,
            *(p.draw_predictions.shape[1] if p.draw_predictions is not None else 1 for p in parts),
        )
    )

    def stays(found: Columns, rule: AggregationRule) -> Tensor:
        assert found.draw_predictions is not None
        return rule(found.draw_predictions[:, :draws], found.labels, True)

    rules = AGGREGATION_RULES if draws > 1 else {}
    return {
        f"{name}_of_{draws}": worst_case_accuracy(parts, partial(stays, rule=rule))
        for name, rule in rules.items()
    }


def clean_accuracy(columns: Columns, classifier: str, cell: Cell) -> Proportion:
    """How often a victim of the set is right on its images, from the rows of the clean cell."""
    if classifier == cell.classifier:
        assert columns.clean_correct is not None
        return compute_proportion(columns.clean_correct, ALL_IMAGES)
    said = torch.tensor([row["transfer"][classifier]["before"] for row in columns.rows])
    return accuracy(said, columns.labels, ALL_IMAGES)


def judge_baseline(columns: Columns) -> Mapping[str, Proportion]:
    """How often each judge is right on the images as they are; of images from nothing nothing."""
    judges = columns.rows[0]["judges"] if columns.rows else {}
    words: Sequence[str] = [word for word, said in judges.items() if "before" in said]
    return {
        word: accuracy(
            torch.tensor([row["judges"][word]["before"] for row in columns.rows]),
            columns.labels,
            CLEAN_IMAGES,
        )
        for word in words
    }
