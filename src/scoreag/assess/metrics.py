"""The metrics of a cell, from its rows alone: each with its denominator and an interval."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from scoreag.assess.experiments import CLEAN, Cell
from scoreag.assess.semantic_columns import semantic_metrics
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
N_RESUBMISSIONS = 10  # draws that count beside all draws: an image submitted ten times
MEDIAN_METRICS = ("l0", "l1", "l2", "linf", "psnr")
MEAN_METRICS = ("ssim", "lpips")
COST_FIELDS = ("nfe", "forwards", "backwards", "restarts")


@dataclass(frozen=True, eq=False)
class Columns:
    """The rows of a cell as tensors, in the order of the positions.

    ``before`` refers to the image before the attack; these columns are None for generated images.

    Args:
        clean_correct: the classifier is right before, at its first draw.
        adv_misclassified: it does not predict the label of the saved image, at its first draw.
        label_preserved: every reference classifier predicts the label of the saved image.
        draw_predictions: at each of several draws; None where there was only one.
        rejected: the classifier rejects; None where it never does.
        rows: the rows themselves; may be dropped once the metrics are computed.
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
    rejected: Flags | None
    rejected_before: Flags | None
    uses_gradients: bool
    rows: Sequence[Row] = ()

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def eligible(self) -> Flags:
        """The denominator: images that were right before, or all generated images."""
        everything = torch.ones_like(self.adv_misclassified)
        return everything if self.clean_correct is None else self.clean_correct

    @property
    def eligible_name(self) -> str:
        return ALL_IMAGES if self.clean_correct is None else CLEAN_CORRECT

    def predictions_of(self, role: str, name: str, kind: str) -> Numbers:
        """What a reference classifier or transfer target predicts for an image, saved or before."""
        return torch.tensor([row[role][name][kind] for row in self.rows])


@dataclass(frozen=True, eq=False)
class CellResult:
    """The results of a cell.

    Args:
        transfer: by classifier, how often the cell's images fool it.
        state: "done", "N of M images", "not begun", or "failed: why".
        n_features: the number of features in which distances are measured.
        sample_rows: some rows of every outcome.
    """

    cell: Cell
    columns: Columns
    metrics: Mapping[str, MetricEntry] = field(default_factory=dict)
    transfer: Mapping[str, MetricEntry] = field(default_factory=dict)
    per_class: Sequence[Mapping[str, Any]] = ()
    cost: Mapping[str, float] = field(default_factory=dict)
    state: str = ""
    n_features: int = 0
    sample_rows: Sequence[Row] = ()

    @property
    def gradient_mode(self) -> str:
        """The gradient of the attacker: exact, bpda or none; "" where it takes none."""
        mode = self.cell.attacker_options.get("backward", "exact")
        return str(mode) if self.columns.uses_gradients else ""

    def to_dict(self) -> dict[str, Any]:
        """For summary.json."""
        of_cell = ("key", "name", "group", "classifier", "purifier_name", "shared_draw", "attack",
                   "component", "sweep", "seed", "images")  # fmt: skip
        own = ("gradient_mode", "state", "metrics", "transfer", "per_class", "cost")
        return {
            **{name: getattr(self.cell, name) for name in of_cell},
            **{name: getattr(self, name) for name in own},
            "rows": len(self.columns),
        }


def to_columns(rows: Sequence[Row]) -> Columns:
    """The columns of some rows."""
    first = rows[0] if rows else {"predictions": {"before": None}}
    has_before = first["predictions"]["before"] is not None

    def column(get: Callable[[Row], Any], dtype: torch.dtype = torch.int64) -> Tensor:
        return torch.tensor([get(row) for row in rows], dtype=dtype)

    def pair(
        present: bool, get: Callable[[Row, str], Any], dtype: torch.dtype = torch.bool
    ) -> tuple[Tensor | None, Tensor | None]:
        saved, before = (lambda row, kind=kind: get(row, kind) for kind in ("saved", "before"))
        return (
            column(saved, dtype) if present else None,
            column(before, dtype) if present and has_before else None,
        )

    preserved, preserved_before = pair(
        bool(first.get("judges")),
        lambda row, kind: all(j[kind] == row["label"] for j in row["judges"].values()),
    )
    draws, draws_before = pair(
        "draw_predictions" in first, lambda row, kind: row["draw_predictions"][kind], torch.int64
    )
    rejected, rejected_before = pair(
        bool(first.get("can_reject")), lambda row, kind: row["predictions"][kind] == REJECT
    )
    clean_correct = column(lambda row: row["predictions"]["before"] == row["label"], torch.bool)
    return Columns(
        image_ids=column(lambda row: row["image_id"]),
        labels=column(lambda row: row["label"]),
        predictions=column(lambda row: row["predictions"]["saved"]),
        targets=column(lambda row: -1 if row["target"] is None else row["target"]),
        clean_correct=clean_correct if has_before else None,
        adv_misclassified=column(lambda row: row["success"], torch.bool),
        misclassified_float=column(lambda row: row["success_float"], torch.bool),
        targeted_success=column(lambda row: row["targeted_success"], torch.bool),
        label_preserved=preserved,
        label_preserved_before=preserved_before,
        draw_predictions=draws,
        draw_predictions_before=draws_before,
        rejected=rejected,
        rejected_before=rejected_before,
        uses_gradients=any(row["backwards"] for row in rows),
        rows=rows,
    )


def compute_metrics(cell: Cell, columns: Columns) -> dict[str, MetricEntry]:
    """All metrics of a cell that has rows, by name."""
    rates, semantic = _rates(columns), semantic_metrics(columns.rows, ALL_IMAGES)
    if cell.task == CLEAN:
        known = {n: rates[n] for n in ("clean_accuracy", "judge_agreement") if n in rates}
        return known | semantic
    metrics = {**rates, **semantic, **_randomized_accuracy(columns)}
    for name in (*MEDIAN_METRICS, *MEAN_METRICS):
        values = _numbers(row.get(name, row.get("distances", {}).get(name)) for row in columns.rows)
        if values is not None and name in MEDIAN_METRICS:
            metrics[name] = estimate_quantile(values, 0.5, ALL_IMAGES)
        elif values is not None:
            metrics[name] = bootstrap_ci(values, ALL_IMAGES)
    if cell.is_ood:
        for name, kind in (("confidence_before", "before"), ("confidence", "saved")):
            values = _numbers(row["confidence"][kind] for row in columns.rows)
            if values is not None:
                metrics[name] = _as_share(bootstrap_ci(values, ALL_IMAGES))
    return metrics


def _numbers(values: Iterable[float | None]) -> Float[Tensor, " rows"] | None:
    """The values of all rows; None where one has none."""
    known = list(values)
    return None if None in known else torch.tensor(known, dtype=torch.float64)


def rate(flags: Flags, population: str, mask: Flags | None = None) -> MetricEntry:
    """The proportion of true flags, of those in the mask, with Wilson's interval."""
    return from_proportion(compute_proportion(flags, population, mask))


def _as_share(entry: MetricEntry) -> MetricEntry:
    """An entry that is shown in per cent."""
    return {**entry, "unit": "share"}


def _rates(columns: Columns) -> dict[str, MetricEntry]:
    """Accuracy, success, rejection, and the agreement of the reference classifiers."""
    wrong, preserved = columns.adv_misclassified, columns.label_preserved
    correct = columns.clean_correct
    table: dict[str, tuple[Flags | None, str, Flags | None]] = {
        "accuracy": (~wrong, ALL_IMAGES, None),
        "success": (wrong, ALL_IMAGES, None),
        "success_float": (columns.misclassified_float, ALL_IMAGES, None),
        "clean_accuracy": (correct, ALL_IMAGES, None),
        "success_of_right": (None if correct is None else wrong, CLEAN_CORRECT, correct),
        "rejected": (columns.rejected, ALL_IMAGES, None),
        "rejected_before": (columns.rejected_before, ALL_IMAGES, None),
        "targeted_success": (
            columns.targeted_success if bool((columns.targets >= 0).any()) else None,
            ALL_IMAGES, None,
        ),
        "judge_agreement": (preserved, ALL_IMAGES, None),
        "judge_agreement_of_successes": (preserved, "successes", wrong),
        "fooled_and_shown": (
            None if preserved is None else wrong & preserved,
            columns.eligible_name, columns.eligible,
        ),
        "judge_agreement_before": (columns.label_preserved_before, CLEAN_IMAGES, None),
    }  # fmt: skip
    return {
        name: rate(flags, population, mask)
        for name, (flags, population, mask) in table.items()
        if flags is not None
    }


def _randomized_accuracy(columns: Columns) -> dict[str, MetricEntry]:
    """Clean and attacked accuracy over several draws: mean, worst and vote; empty for one draw."""
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
                entries[f"{name}_accuracy_{rule_name}_of_{draws}"] = rate(correct, ALL_IMAGES)
    return entries


def correct_per_draw(
    predictions: DrawPredictions, labels: Numbers, attacked: bool
) -> Bool[Tensor, "rows draws"]:
    """Whether the label is predicted; to reject an attacked image is correct, too."""
    correct = predictions == labels[:, None]
    return correct | (predictions == REJECT) if attacked else correct


def worst_of_k(predictions: DrawPredictions, labels: Numbers, attacked: bool) -> Flags:
    """Correct at every draw."""
    return correct_per_draw(predictions, labels, attacked).all(1)


def majority_vote(predictions: DrawPredictions, labels: Numbers, attacked: bool) -> Flags:
    """Correct by the most frequent prediction, as a defense votes."""
    return correct_per_draw(plurality_class(predictions)[:, None], labels, attacked)[:, 0]


def plurality_class(predictions: DrawPredictions) -> Numbers:
    """The most frequent prediction; the first class of a tie, and a rejection after all classes."""
    last = int(predictions.max()) + 1
    classes = torch.where(predictions == REJECT, last, predictions)
    winner = torch.nn.functional.one_hot(classes, last + 1).sum(1).argmax(1)
    return torch.where(winner == last, REJECT, winner)


AGGREGATION_RULES: dict[str, AggregationRule] = {"worst": worst_of_k, "vote": majority_vote}


def summarize_cost(columns: Columns, seconds: float, memory_bytes: int) -> dict[str, float]:
    """The mean cost of an image, and the largest memory of a process."""
    count = max(1, len(columns))
    means = {n: round(sum(row[n] for row in columns.rows) / count, 4) for n in COST_FIELDS}
    return {**means, "seconds": round(seconds / count, 4), "memory_mb": memory_bytes >> 20}


def transfer_success(cell: Cell, columns: Columns) -> dict[str, MetricEntry]:
    """How often each classifier errs on the saved images, of those that it got right before."""

    def errors(saved: Numbers, correct: Flags | None) -> MetricEntry:
        return rate(is_misclassified(saved, columns.labels), columns.eligible_name, correct)

    entries = {cell.classifier: errors(columns.predictions, columns.clean_correct)}
    for name in cell.transfer_targets:
        correct = None
        if columns.clean_correct is not None:
            correct = columns.predictions_of("transfer", name, "before") == columns.labels
        entries[name] = errors(columns.predictions_of("transfer", name, "saved"), correct)
    return entries


def per_class_metrics(columns: Columns, n_classes: int) -> list[dict[str, Any]]:
    """For each class: success, label preservation, and the counts of the predicted classes."""
    entries = []
    for label in range(n_classes):
        mine = columns.labels == label
        accepted = columns.predictions[mine & (columns.predictions >= 0)]
        entry: dict[str, Any] = {
            "label": label, "becomes": torch.bincount(accepted, minlength=n_classes).tolist()
        }  # fmt: skip
        for name, flags, population, mask in (
            ("success", columns.adv_misclassified, columns.eligible_name, mine & columns.eligible),
            ("judge_agreement", columns.label_preserved, "images", mine),
            ("judge_agreement_before", columns.label_preserved_before, CLEAN_IMAGES, mine),
        ):
            if flags is not None:
                entry[name] = rate(flags, f"{population} of the class", mask)
        if columns.rejected is not None:
            entry["rejected"] = int((mine & columns.rejected).sum())
        entries.append(entry)
    return entries


def success_difference(a: Columns, b: Columns, shown: bool = False) -> MetricEntry | None:
    """The success of one attack minus that of another, on the images of both.

    Only images that the classifier got right before count; None where there are fewer than two.

    Args:
        shown: only images that every reference classifier still recognizes are successes.
    """
    place = {int(i): row for row, i in enumerate(b.image_ids)}
    mine = [row for row, i in enumerate(a.image_ids) if int(i) in place and bool(a.eligible[row])]
    if len(mine) < 2:
        return None
    theirs = [place[int(a.image_ids[row])] for row in mine]
    mine_hit, theirs_hit = (
        columns.adv_misclassified[rows] & columns.label_preserved[rows]
        if shown and columns.label_preserved is not None
        else columns.adv_misclassified[rows]
        for columns, rows in ((a, mine), (b, theirs))
    )
    return _as_share(paired_difference(mine_hit, theirs_hit, f"{CLEAN_CORRECT}, in both"))


def worst_case_accuracy(
    parts: Sequence[Columns],
    is_robust: Callable[[Columns], Flags] = lambda columns: ~columns.adv_misclassified,
) -> Proportion:
    """The images that stay correct under every one of several attacks.

    Args:
        is_robust: whether an image stays correct under one attack; by default at its first draw.
    """
    robust: dict[int, bool] | None = None
    for part in parts:
        mine = dict(zip(part.image_ids.tolist(), is_robust(part).tolist(), strict=True))
        robust = mine if robust is None else {i: robust[i] and mine[i] for i in robust if i in mine}
    robust = robust or {}
    return Proportion(sum(robust.values()), len(robust), "images given to every attack")


def worst_case_randomized(parts: Sequence[Columns]) -> dict[str, Proportion]:
    """The same over several draws, by worst draw and by vote; empty for a single draw."""
    predictions = [part.draw_predictions for part in parts]
    draws = min(N_RESUBMISSIONS, *(1 if p is None else p.shape[1] for p in predictions))
    if draws == 1:
        return {}

    def is_robust(part: Columns, rule: AggregationRule) -> Flags:
        assert part.draw_predictions is not None
        return rule(part.draw_predictions[:, :draws], part.labels, True)

    return {
        f"{name}_of_{draws}": worst_case_accuracy(parts, partial(is_robust, rule=rule))
        for name, rule in AGGREGATION_RULES.items()
    }


def clean_accuracies(cell: Cell, columns: Columns) -> dict[str, MetricEntry]:
    """The accuracy of all classifiers on a dataset's images, from the rows of its clean cell."""
    assert columns.clean_correct is not None
    entries = {cell.classifier: rate(columns.clean_correct, ALL_IMAGES)}
    for name in cell.transfer_targets:
        predictions = columns.predictions_of("transfer", name, "before")
        entries[name] = rate(predictions == columns.labels, ALL_IMAGES)
    judges = judge_baseline(columns)
    return entries | {name: from_proportion(proportion) for name, proportion in judges.items()}


def judge_baseline(columns: Columns) -> Mapping[str, Proportion]:
    """The accuracy of each reference classifier before the attack; empty for generated images."""
    judges = columns.rows[0]["judges"] if columns.rows else {}
    return {
        name: accuracy(
            columns.predictions_of("judges", name, "before"), columns.labels, CLEAN_IMAGES
        )
        for name, kinds in judges.items()
        if "before" in kinds
    }
