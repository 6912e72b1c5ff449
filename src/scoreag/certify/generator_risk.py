"""How often a stated generator fools a classifier at most: exact, per class, where no ball exists.

Draws of one class are independent, and each is misclassified or not: the count is binomial.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from scoreag.core.types import Classifier
from scoreag.defenses.purified_classifier import PurifiedClassifier
from scoreag.io.records import Row
from scoreag.methods.run_task import quantize_8bit, run_batch
from scoreag.methods.task import TaskSpec
from scoreag.stats.proportion import Proportion, clopper_pearson_upper


@dataclass(frozen=True, eq=False)
class GeneratorSpec:
    """The samples, the classifier and the confidence of a bound.

    Args:
        job: a synthesis without restarts, whose labels are those to be seen; a generator that draws
            again where it failed would be another one.
            evaluated_classifier: whose errors are counted, such as one behind a purifier; None: the
                job's own.
        alpha: the probability with which any of all bounds may be wrong.
    """

    job: TaskSpec
    evaluated_classifier: PurifiedClassifier | None = None
    alpha: float = 0.001

    def __post_init__(self) -> None:
        if self.job.config.max_restarts:
            raise ValueError(
                f"max_restarts is {self.job.config.max_restarts}; draws again would be another "
                "generator: write max_restarts=0"
            )
        if not 0 < self.alpha < 1:
            raise ValueError(f"alpha is {self.alpha}; expected a probability, e.g. 0.001")


def classify_draws(spec: GeneratorSpec, indices: range, pad_to: int = 0) -> list[Row]:
    """Draw some of the images, to 8 bits, and what the classifier says of each."""
    result = run_batch(spec.job.select(indices), pad_to)
    ids = result.image_ids.tolist()
    predictions = result.predictions
    if spec.evaluated_classifier is not None:
        judge: Classifier = spec.evaluated_classifier.fix_randomness(0, ids)
        predictions = judge(quantize_8bit(result.images)).detach().argmax(1)
    assert predictions is not None and result.labels is not None
    answers = zip(ids, result.labels.tolist(), predictions.tolist(), strict=True)
    return [
        {"image_id": i, "label": label, "predicted": prediction} for i, label, prediction in answers
    ]


def bound_class_risks(rows: Sequence[Row], alpha: float) -> dict[int, dict[str, Any]]:
    """For each class the misclassified draws, and an upper bound on their probability.

    With C classes each bound may be wrong with probability ``alpha / C``, so that all of them hold
    with probability ``1 - alpha`` or more, and so does the mean of the bounds for a generator that
    draws every class as often.
    """
    labels = sorted({row["label"] for row in rows})
    found = {}
    for label in labels:
        own = [row for row in rows if row["label"] == label]
        wrong = sum(row["predicted"] != label for row in own)
        most = clopper_pearson_upper(wrong, len(own), alpha / len(labels))
        share = Proportion(wrong, len(own), "draws of the class").to_dict()
        found[label] = {**share, "upper": _round_up(most)}
    return found


def summarize(rows: Sequence[Row], alpha: float) -> dict[str, Any]:
    """The bounds by class, their mean and the largest of them."""
    each = bound_class_risks(rows, alpha)
    wrong = sum(row["predicted"] != row["label"] for row in rows)
    most = [entry["upper"] for entry in each.values()]
    return {
        "images": len(rows),
        "misclassified": Proportion(wrong, len(rows), "all draws").to_dict(),
        "classes": {str(label): entry for label, entry in each.items()},
        "upper_mean": _round_up(sum(most) / len(most)),
        "upper_largest": max(most),
        "alpha": alpha,
    }


def _round_up(value: float) -> float:
    """Four digits, never less than the value, never more than 1."""
    return min(1.0, -(-value * 1e4 // 1) / 1e4)
