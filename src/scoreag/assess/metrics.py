"""The metrics of a cell, from its rows alone: each with its denominator by name and an interval."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from scoreag.assess.experiments import CLEAN, Cell
from scoreag.classifiers.checks import CLEAN_IMAGES
from scoreag.classifiers.rejection import REJECT, is_misclassified
from scoreag.io.records import Row
from scoreag.stats.estimates import (
    MetricEntry,
    bootstrap_ci,
    estimate_quantile,
    from_fractions,
    from_proportion,
    paired_difference,
)
from scoreag.stats.proportion import Proportion, accuracy, compute_proportion

Flags: TypeAlias = Bool[Tensor, " rows"]
Numbers: TypeAlias = Int[Tensor, " rows"]
DrawPredictions: TypeAlias = Int[Tensor, "rows draws"]
AggregationRule: TypeAlias = Callable[[DrawPredictions, Numbers, bool], Flags]

ALL_IMAGES = "all images"
CLEAN_CORRECT = "images right before"
N_RESUBMISSIONS = 10  # times that an image is sent, beside as often as it was judged
MEDIAN_METRICS = ("l0", "l1", "l2", "linf", "psnr")
MEAN_METRICS = ("ssim", "lpips")
COST_FIELDS = ("nfe", "forwards", "backwards", "restarts")


@dataclass(frozen=True, eq=False)
class Columns:
    """The rows of a cell as tensors, one entry an image, in the order of the positions.

    Args:
        clean_correct: right before, at the first draw; None where nothing was before.
        adv_misclassified: the label is not predicted for the saved image, at the first draw.
        label_preserved: every judge predicts the label for the saved image, and before.
        draw_predictions: at each of several draws; None where there was but one.
        rejected: the classifier rejects; None where it never does.
        rows: themselves, for what is no column; may be left out afterwards.
    """

    image_ids: Numbers
    labels: Numbers
    predictions: Numbers
    targets: Numbers
    clean_correct: Flags | None
    adv_misclassified: Flags
    misclassified_float: Flags
    targeted_success: Flags
    label_preserved: Flags | None
    label_preserved_before: Flags | None
    draw_predictions: DrawPredictions | None
    draw_predictions_before: DrawPredictions | None
    uses_gradients: bool
    rejected: Flags | None = None
    rejected_before: Flags | None = None
    rows: Sequence[Row] = ()

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def eligible(self) -> Flags:
        """The denominator: images right before, or all where nothing was before."""
        everything = torch.ones_like(self.adv_misclassified)
        return everything if self.clean_correct is None else self.clean_correct

    def per_image_metric(self, name: str) -> Float[Tensor, " rows"] | None:
        """A number of every image by its name, such as "ssim" or "l2"; None where one lacks it."""
        values = [row.get(name, row.get("distances", {}).get(name)) for row in self.rows]
        if not values or any(value is None for value in values):
            return None
        return torch.tensor(values, dtype=torch.float64)


def to_columns(rows: Sequence[Row]) -> Columns:
    """The columns of some rows."""
    labels = _ints([row["label"] for row in rows])
    has_before = bool(rows) and rows[0]["predictions"]["before"] is not None
    predictions = {
        kind: _ints([row["predictions"][kind] for row in rows])
        for kind in ("before", "saved")
        if kind == "saved" or has_before
    }
    preserved, draws, rejected = (
        {kind: of(rows, kind) for kind in predictions}
        for of in (_label_preserved, _draw_predictions, _rejected)
    )
    return Columns(
        image_ids=_ints([row["image_id"] for row in rows]),
        labels=labels,
        predictions=predictions["saved"],
        targets=_ints([-1 if row["target"] is None else row["target"] for row in rows]),
        clean_correct=predictions["before"] == labels if has_before else None,
        adv_misclassified=_flags([row["success"] for row in rows]),
        misclassified_float=_flags([row["success_float"] for row in rows]),
        targeted_success=_flags([row["targeted_success"] for row in rows]),
        label_preserved=preserved["saved"],
        label_preserved_before=preserved.get("before"),
        draw_predictions=draws["saved"],
        draw_predictions_before=draws.get("before"),
        uses_gradients=any(row["backwards"] for row in rows),
        rejected=rejected["saved"],
        rejected_before=rejected.get("before"),
        rows=rows,
    )


def _ints(values: list[Any]) -> Tensor:
    return torch.tensor(values, dtype=torch.int64)


def _flags(values: list[bool]) -> Tensor:
    return torch.tensor(values, dtype=torch.bool)


def _label_preserved(rows: Sequence[Row], kind: str) -> Tensor | None:
    if not rows or not rows[0]["judges"]:
        return None
    return _flags([all(j[kind] == row["label"] for j in row["judges"].values()) for row in rows])


def _draw_predictions(rows: Sequence[Row], kind: str) -> Tensor | None:
    if not rows or "draw_predictions" not in rows[0]:
        return None
    return torch.tensor([row["draw_predictions"][kind] for row in rows])


def _rejected(rows: Sequence[Row], kind: str) -> Tensor | None:
    if not rows or not rows[0].get("can_reject"):
        return None
    return _ints([row["predictions"][kind] for row in rows]) == REJECT


def compute_metrics(cell: Cell, columns: Columns) -> dict[str, MetricEntry]:
    """All metrics of a cell by name; none where it has no rows."""
    if not len(columns):
        return {}
    if cell.task == CLEAN:
        rates = {"clean_accuracy": clean_accuracy(columns, cell.classifier, cell)}
        if columns.label_preserved is not None:
            rates["judge_agreement"] = compute_proportion(columns.label_preserved, ALL_IMAGES)
        return {name: from_proportion(rate) for name, rate in rates.items()}
    rates = {**_success_rates(columns), **_preservation_rates(columns)}
    return {
        **{name: from_proportion(rate) for name, rate in rates.items()},
        **_randomized_accuracy(columns),
        **_perturbation_sizes(columns),
        **(_confidence(columns) if cell.is_ood else {}),
    }


def _confidence(columns: Columns) -> dict[str, MetricEntry]:
    """The mean probability of the predictions."""
    entries = {}
    for name, kind in (("confidence_before", "before"), ("confidence", "saved")):
        values = [row["confidence"][kind] for row in columns.rows]
        if None not in values:
            mean = bootstrap_ci(torch.tensor(values, dtype=torch.float64), ALL_IMAGES)
            entries[name] = _as_share(mean)
    return entries


def _as_share(entry: MetricEntry) -> MetricEntry:
    """Marked as a share, which is written in per cent."""
    return {**entry, "unit": "share"}


def _success_rates(columns: Columns) -> dict[str, Proportion]:
    """Accuracy before and after, and success over all images and over those right before."""
    wrong = columns.adv_misclassified
    rates = {
        "accuracy": compute_proportion(~wrong, ALL_IMAGES),
        "success": compute_proportion(wrong, ALL_IMAGES),
        "success_float": compute_proportion(columns.misclassified_float, ALL_IMAGES),
    }
    if columns.clean_correct is not None:
        rates["clean_accuracy"] = compute_proportion(columns.clean_correct, ALL_IMAGES)
        rates["success_of_right"] = compute_proportion(wrong, CLEAN_CORRECT, columns.clean_correct)
    for name in ("rejected", "rejected_before"):
        if (flags := getattr(columns, name)) is not None:
            rates[name] = compute_proportion(flags, ALL_IMAGES)
    if bool((columns.targets >= 0).any()):
        rates["targeted_success"] = compute_proportion(columns.targeted_success, ALL_IMAGES)
    return rates


def _preservation_rates(columns: Columns) -> dict[str, Proportion]:
    """What the judges, who were not attacked, see in the images."""
    agree, wrong = columns.label_preserved, columns.adv_misclassified
    if agree is None:
        return {}
    population = ALL_IMAGES if columns.clean_correct is None else CLEAN_CORRECT
    rates = {
        "judge_agreement": compute_proportion(agree, ALL_IMAGES),
        "judge_agreement_of_successes": compute_proportion(agree, "successes", wrong),
        "fooled_and_shown": compute_proportion(wrong & agree, population, columns.eligible),
    }
    if (before := columns.label_preserved_before) is not None:
        rates["judge_agreement_before"] = compute_proportion(before, CLEAN_IMAGES)
    return rates


def _perturbation_sizes(columns: Columns) -> dict[str, MetricEntry]:
    """How far the saved images are from those before: medians, or means of SSIM and LPIPS."""
    entries: dict[str, MetricEntry] = {}
    for name in (*MEDIAN_METRICS, *MEAN_METRICS):
        if (values := columns.per_image_metric(name)) is not None:
            is_median = name in MEDIAN_METRICS
            entries[name] = (
                estimate_quantile(values, 0.5, ALL_IMAGES)
                if is_median
                else bootstrap_ci(values, ALL_IMAGES)
            )
    return entries


def _randomized_accuracy(columns: Columns) -> dict[str, MetricEntry]:
    """Accuracy of a randomized classifier, clean and attacked: of a single draw on average, by the
    worst of several draws, and by their vote; nothing where there was one draw only."""
    entries: dict[str, MetricEntry] = {}
    for name, predictions in (
        ("clean", columns.draw_predictions_before),
        ("attacked", columns.draw_predictions),
    ):
        if predictions is None:
            continue
        attacked, n_draws = name == "attacked", predictions.shape[1]
        shares = correct_per_draw(predictions, columns.labels, attacked).double().mean(1)
        entries[f"{name}_accuracy_single"] = _as_share(from_fractions(shares, ALL_IMAGES))
        for draws in sorted({min(N_RESUBMISSIONS, n_draws), n_draws}):
            for rule_name, rule in AGGREGATION_RULES.items():
                correct = rule(predictions[:, :draws], columns.labels, attacked)
                entries[f"{name}_accuracy_{rule_name}_of_{draws}"] = from_proportion(
                    compute_proportion(correct, ALL_IMAGES)
                )
    return entries


def correct_per_draw(
    predictions: DrawPredictions, labels: Numbers, attacked: bool
) -> Bool[Tensor, "rows draws"]:
    """Whether the label is predicted; of an attacked image a rejection is right, too."""
    correct = predictions == labels[:, None]
    return correct | (predictions == REJECT) if attacked else correct


def worst_of_k(predictions: DrawPredictions, labels: Numbers, attacked: bool) -> Flags:
    """Right at every draw."""
    return correct_per_draw(predictions, labels, attacked).all(1)


def majority_vote(predictions: DrawPredictions, labels: Numbers, attacked: bool) -> Flags:
    """Right in what most draws predict, which need not be half of them: as a defense votes."""
    return correct_per_draw(plurality_class(predictions)[:, None], labels, attacked)[:, 0]


def plurality_class(predictions: DrawPredictions) -> Numbers:
    """What most draws predict; of a tie the first class, and a rejection after all classes."""
    last = int(predictions.max()) + 1
    classes = torch.where(predictions == REJECT, last, predictions)
    winner = torch.nn.functional.one_hot(classes, last + 1).sum(1).argmax(1)
    return torch.where(winner == last, REJECT, winner)


AGGREGATION_RULES: dict[str, AggregationRule] = {"worst": worst_of_k, "vote": majority_vote}


def summarize_cost(columns: Columns, seconds: float, memory_bytes: int) -> dict[str, float]:
    """What an image cost on average, and the most memory that a process had."""
    count = max(1, len(columns))
    means = {n: round(sum(row[n] for row in columns.rows) / count, 4) for n in COST_FIELDS}
    return {**means, "seconds": round(seconds / count, 4), "memory_mb": memory_bytes >> 20}


def transfer_success(cell: Cell, columns: Columns) -> dict[str, MetricEntry]:
    """For the classifier attacked and each other: it errs on the image, of those right before.

    Of images from nothing, nobody was right before: of all.
    """

    def rate(correct: Tensor | None, saved: Tensor) -> MetricEntry:
        wrong = is_misclassified(saved, columns.labels)
        population = ALL_IMAGES if correct is None else CLEAN_CORRECT
        return from_proportion(compute_proportion(wrong, population, correct))

    entries = {cell.classifier: rate(columns.clean_correct, columns.predictions)}
    for word in cell.transfer_targets:
        correct = None
        if columns.clean_correct is not None:
            correct = _transfer_predictions(columns, word, "before") == columns.labels
        entries[word] = rate(correct, _transfer_predictions(columns, word, "saved"))
    return entries


def _transfer_predictions(columns: Columns, word: str, kind: str) -> Tensor:
    return torch.tensor([row["transfer"][word][kind] for row in columns.rows])


def per_class_metrics(columns: Columns, n_classes: int) -> list[dict[str, Any]]:
    """For each class: success, the judges' agreement, and how often it becomes which class."""
    population = ALL_IMAGES if columns.clean_correct is None else CLEAN_CORRECT
    entries = []
    for label in range(n_classes):
        mine = columns.labels == label
        accepted = columns.predictions[mine & (columns.predictions >= 0)]
        rates = {
            "success": (columns.adv_misclassified, population, mine & columns.eligible),
            "judge_agreement": (columns.label_preserved, "images", mine),
            "judge_agreement_before": (columns.label_preserved_before, CLEAN_IMAGES, mine),
        }
        entry: dict[str, Any] = {
            "label": label, "becomes": torch.bincount(accepted, minlength=n_classes).tolist()
        }  # fmt: skip
        for name, (flags, of, mask) in rates.items():
            if flags is not None:
                entry[name] = from_proportion(compute_proportion(flags, f"{of} of the class", mask))
        if columns.rejected is not None:
            entry["rejected"] = int((mine & columns.rejected).sum())
        entries.append(entry)
    return entries


def success_difference(a: Columns, b: Columns) -> MetricEntry | None:
    """Success of one attack minus that of another, on the images that both were given.

    Only images that the classifier got right before count; None where there are fewer than two.
    """
    place = {int(i): row for row, i in enumerate(b.image_ids)}
    mine = [row for row, i in enumerate(a.image_ids) if int(i) in place and bool(a.eligible[row])]
    if len(mine) < 2:
        return None
    theirs = [place[int(a.image_ids[row])] for row in mine]
    successes = (a.adv_misclassified[mine], b.adv_misclassified[theirs])
    return _as_share(paired_difference(*successes, f"{CLEAN_CORRECT}, in both"))


def worst_case_accuracy(
    parts: Sequence[Columns],
    is_robust: Callable[[Columns], Flags] = lambda columns: ~columns.adv_misclassified,
) -> Proportion:
    """The images that stay right whatever attack of several is used, of all that each was given.

    Args:
        is_robust: whether an image stays right under one attack; by default at its first draw.
    """
    robust: dict[int, bool] | None = None
    for part in parts:
        mine = dict(zip(part.image_ids.tolist(), is_robust(part).tolist(), strict=True))
        robust = mine if robust is None else {i: robust[i] and mine[i] for i in robust if i in mine}
    robust = robust or {}
    return Proportion(sum(robust.values()), len(robust), "images given to every attack")


def worst_case_randomized(parts: Sequence[Columns]) -> dict[str, Proportion]:
    """The same by several draws: by the worst of each image, and by vote; of one draw nothing."""
    counts = [1 if p.draw_predictions is None else p.draw_predictions.shape[1] for p in parts]
    draws = min(N_RESUBMISSIONS, *counts)
    if draws == 1:
        return {}

    def is_robust(rule: AggregationRule) -> Callable[[Columns], Flags]:
        return lambda part: rule(_first_draws(part, draws), part.labels, True)

    return {
        f"{name}_of_{draws}": worst_case_accuracy(parts, is_robust(rule))
        for name, rule in AGGREGATION_RULES.items()
    }


def _first_draws(columns: Columns, draws: int) -> DrawPredictions:
    assert columns.draw_predictions is not None
    return columns.draw_predictions[:, :draws]


def clean_accuracy(columns: Columns, classifier: str, cell: Cell) -> Proportion:
    """How often a classifier is right on the dataset's images, from the rows of the clean cell."""
    if classifier == cell.classifier:
        assert columns.clean_correct is not None
        return compute_proportion(columns.clean_correct, ALL_IMAGES)
    predictions = _transfer_predictions(columns, classifier, "before")
    return accuracy(predictions, columns.labels, ALL_IMAGES)


def judge_baseline(columns: Columns) -> Mapping[str, Proportion]:
    """How often each judge is right on the images as they are; of images from nothing nothing."""
    judges = columns.rows[0]["judges"] if columns.rows else {}

    def rate(word: str) -> Proportion:
        predictions = torch.tensor([row["judges"][word]["before"] for row in columns.rows])
        return accuracy(predictions, columns.labels, CLEAN_IMAGES)

    return {word: rate(word) for word, kinds in judges.items() if "before" in kinds}
