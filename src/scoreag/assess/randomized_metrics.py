"""A randomised classifier by several draws: on average, by the worst of them, and by their vote."""

from collections.abc import Callable
from typing import TypeAlias

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from scoreag.assess.table import Columns, Flags, Numbers
from scoreag.classifiers.rejection import REJECT
from scoreag.stats.estimates import MetricEntry, from_fractions, from_proportion
from scoreag.stats.proportion import compute_proportion

DrawPredictions: TypeAlias = Int[Tensor, "rows draws"]
AggregationRule: TypeAlias = Callable[[DrawPredictions, Numbers, bool], Flags]

ALL_IMAGES = "all images"
N_RESUBMISSIONS = 10  # times that an image is sent, beside as often as it was judged


def randomized_accuracy(columns: Columns) -> dict[str, MetricEntry]:
    """Accuracy by draws, clean and attacked; nothing where there was one only."""
    result: dict[str, MetricEntry] = {}
    for name, said in (
        ("clean", columns.draw_predictions_before),
        ("attacked", columns.draw_predictions),
    ):
        if said is None:
            continue
        attacked = name == "attacked"
        shares = correct_per_draw(said, columns.labels, attacked).double().mean(1)
        result[f"{name}_accuracy_single"] = {**from_fractions(shares, ALL_IMAGES), "unit": "share"}
        for draws in sorted({min(N_RESUBMISSIONS, said.shape[1]), said.shape[1]}):
            for word, rule in AGGREGATION_RULES.items():
                stays = rule(said[:, :draws], columns.labels, attacked)
                result[f"{name}_accuracy_{word}_of_{draws}"] = from_proportion(
                    compute_proportion(stays, ALL_IMAGES)
                )
    return result


def correct_per_draw(
    predictions: DrawPredictions, labels: Numbers, attacked: bool
) -> Bool[Tensor, "rows draws"]:
    """Whether the label is said; of an attacked image a rejection is right, too."""
    right = predictions == labels[:, None]
    return right | (predictions == REJECT) if attacked else right


def worst_of_k(predictions: DrawPredictions, labels: Numbers, attacked: bool) -> Flags:
    """Right at every draw."""
    return correct_per_draw(predictions, labels, attacked).all(1)


def majority_vote(predictions: DrawPredictions, labels: Numbers, attacked: bool) -> Flags:
    """Right in what most draws say, which need not be half of them: as a defence votes."""
    return correct_per_draw(plurality_class(predictions)[:, None], labels, attacked)[:, 0]


def plurality_class(predictions: DrawPredictions) -> Numbers:
    """What most draws say; of as many the first class, and a rejection after all classes."""
    last = int(predictions.max()) + 1
    votes = torch.nn.functional.one_hot(
        torch.where(predictions == REJECT, last, predictions), last + 1
    )
    first = votes.sum(1).argmax(1)
    return torch.where(first == last, REJECT, first)


AGGREGATION_RULES: dict[str, AggregationRule] = {"worst": worst_of_k, "vote": majority_vote}
