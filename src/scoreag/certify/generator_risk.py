"""An upper bound on a classifier's error rate on the images of a generator, per class and exact.

Samples of one class are independent, so that the number of misclassified ones is binomial.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from scoreag.certify import steered_generator
from scoreag.certify.steered_generator import round_up
from scoreag.core.types import Classifier, Images, Labels
from scoreag.defenses.purified_classifier import PurifiedClassifier
from scoreag.io.images import quantize_8bit
from scoreag.io.records import Row
from scoreag.methods.run_batch import run_batch
from scoreag.methods.task import TaskSpec
from scoreag.stats.proportion import Proportion, clopper_pearson_upper


@dataclass(frozen=True, eq=False)
class GeneratorSpec:
    """The samples, the classifier and the confidence of a bound.

    Args:
        task: a synthesis without restarts: restarting failures would change the generator.
        evaluated_classifier: whose errors are counted, such as one behind a purifier; None: that of
            the task.
        alpha: the probability that any of the bounds is wrong.
        judges: reference classifiers, who say whether an image shows its class.
    """

    task: TaskSpec
    evaluated_classifier: PurifiedClassifier | None = None
    alpha: float = 0.001
    judges: tuple[Classifier, ...] = ()

    def __post_init__(self) -> None:
        if self.task.config.max_restarts:
            raise ValueError(
                f"max_restarts is {self.task.config.max_restarts}; restarts would change the "
                "generator: write max_restarts=0"
            )
        if option := self.task.config.searched:
            raise ValueError(
                f"{option} is 'auto'; the search samples until the classifier errs, which would "
                f"change the generator: write a number, e.g. attack_scale=0"
            )
        steered = self.task.config.energy_budget is not None
        if steered and isinstance(self.task.classifier, PurifiedClassifier):
            raise ValueError(
                "the classifier that steers the generator is behind a purifier, whose draws have "
                "no energy here; give the bare classifier, and the purified one as "
                "evaluated_classifier (--purifier)"
            )
        if not 0 < self.alpha < 1:
            raise ValueError(f"alpha is {self.alpha}; expected a probability, e.g. 0.001")


def classify_draws(spec: GeneratorSpec, indices: range, pad_to: int = 0) -> list[Row]:
    """The predicted class of some of the samples, rounded to 8 bits.

    ``shown`` says whether every judge sees the class, None without judges; ``budget`` and
    ``energy`` are those of a steered sample.
    """
    result = run_batch(spec.task.select(indices), pad_to)
    ids = result.image_ids.tolist()
    predictions, pictures = result.predictions, quantize_8bit(result.images)
    if spec.evaluated_classifier is not None:
        classifier: Classifier = spec.evaluated_classifier.fix_randomness(0, ids)
        predictions = classifier(pictures).detach().argmax(1)
    assert predictions is not None and result.labels is not None
    shown = _all_see(spec.judges, pictures, result.labels)
    energy, budget = result.energy, spec.task.config.energy_budget
    return [
        {
            "image_id": image_id,
            "label": int(result.labels[i]),
            "predicted": int(predictions[i]),
            "shown": None if shown is None else bool(shown[i]),
            "budget": budget,
            "energy": None if energy is None or budget is None else round(float(energy[i]), 6),
        }
        for i, image_id in enumerate(ids)
    ]


@torch.no_grad()
def _all_see(
    judges: Sequence[Classifier], images: Images, labels: Labels
) -> Bool[Tensor, " batch"] | None:
    """Whether every judge sees the class of each image."""
    if not judges:
        return None
    return torch.stack([judge(images).argmax(1) == labels for judge in judges]).all(0)


def bound_class_risks(rows: Sequence[Row], alpha: float) -> dict[int, dict[str, Any]]:
    """For each class the misclassified samples, and an upper bound on their probability.

    With C classes each bound is wrong with probability ``alpha / C`` or less.  So all of them hold
    with probability ``1 - alpha`` or more, and so does their mean for a generator with equally
    frequent classes.
    """
    labels = sorted({row["label"] for row in rows})
    bounds = {}
    for label in labels:
        of_class = [row for row in rows if row["label"] == label]
        wrong = sum(row["predicted"] != label for row in of_class)
        upper = clopper_pearson_upper(wrong, len(of_class), alpha / len(labels))
        share = Proportion(wrong, len(of_class), "draws of the class").to_dict()
        bounds[label] = {**share, "upper": round_up(upper)}
    return bounds


def summarize(rows: Sequence[Row], alpha: float, budgets: Sequence[float] = ()) -> dict[str, Any]:
    """The bounds by class, their mean and the largest of them.

    Args:
        rows: of the generator, and of our attack at each budget.
        budgets: for which whoever steers the generator is bounded; ``alpha`` is shared with these.
    """
    own = [row for row in rows if row.get("budget") is None]
    steered: dict[str, Any] = {}
    if budgets:
        attacked = {b: [row for row in rows if row.get("budget") == b] for b in budgets}
        steered = steered_generator.summarize(own, budgets, alpha, attacked)
        parts = {key: part["unsteered"] for key, part in steered["misread"].items()}
        bounds, mean = {int(key): part for key, part in parts.items() if key}, parts[""]["upper"]
    else:
        bounds = bound_class_risks(own, alpha)
        mean = round_up(sum(entry["upper"] for entry in bounds.values()) / len(bounds))
    wrong = sum(row["predicted"] != row["label"] for row in own)
    return {
        "images": len(own),
        "misclassified": Proportion(wrong, len(own), "all draws").to_dict(),
        "classes": {str(label): entry for label, entry in bounds.items()},
        "upper_mean": mean,
        "upper_largest": max(entry["upper"] for entry in bounds.values()),
        "alpha": alpha,
        **({"steered": steered} if steered else {}),
    }
