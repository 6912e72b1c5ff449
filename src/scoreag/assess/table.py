"""The rows of a cell as columns: what was said of each image, as tensors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from scoreag.classifiers.rejection import REJECT
from scoreag.io.records import Row

Flags = Bool[Tensor, " rows"]
Numbers = Int[Tensor, " rows"]


@dataclass(frozen=True, eq=False)
class Columns:
    """One entry an image, in the order of the positions.

    Args:
        right: the classifier is right before, at its first draw; None where nothing was before.
        fooled: it does not say the label to the saved image, at its first draw.
        shown, shown_before: every judge says the label, of the saved image and of the one before.
        gradients: the attack took any of the classifier.
        rejected, rejected_before: the classifier rejects; None where it never does.
        rows: themselves, for what is not kept here; may be left out afterwards.
        said, said_before: what is said at each of several draws; None where there was but one.
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
    judge_predictions: Numbers | None
    draw_predictions: Int[Tensor, "rows draws"] | None
    draw_predictions_before: Int[Tensor, "rows draws"] | None
    uses_gradients: bool
    rejected: Flags | None = None
    rejected_before: Flags | None = None
    rows: Sequence[Row] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def per_image_metric(self, name: str) -> Float[Tensor, " rows"] | None:
        """A figure of every image by its name, such as "ssim" or "l2"; None where one lacks it."""
        found = [row.get(name, row.get("distances", {}).get(name)) for row in self.rows]
        if not found or any(value is None for value in found):
            return None
        return torch.tensor(found, dtype=torch.float64)

    @property
    def eligible(self) -> Flags:
        """The denominator: images right before, or all where nothing was before."""
        return (
            torch.ones_like(self.adv_misclassified)
            if self.clean_correct is None
            else self.clean_correct
        )


def to_columns(rows: Sequence[Row]) -> Columns:
    """The columns of some rows."""
    labels = _int_tensor([row["label"] for row in rows])
    before, saved = ([row["predictions"][of] for row in rows] for of in ("before", "saved"))
    there = bool(rows) and before[0] is not None
    judges = [row["judges"] for row in rows]
    return Columns(
        image_ids=_int_tensor([row["image_id"] for row in rows]),
        labels=labels,
        predictions=_int_tensor(saved),
        targets=_int_tensor([-1 if row["target"] is None else row["target"] for row in rows]),
        clean_correct=_int_tensor(before) == labels if there else None,
        adv_misclassified=_bool_tensor([row["success"] for row in rows]),
        misclassified_float=_bool_tensor([row["success_float"] for row in rows]),
        targeted_success=_bool_tensor([row["targeted_success"] for row in rows]),
        label_preserved=_label_preserved(rows, judges, "saved"),
        label_preserved_before=_label_preserved(rows, judges, "before") if there else None,
        judge_predictions=_judge_predictions(judges),
        draw_predictions=_draw_predictions(rows, "saved"),
        draw_predictions_before=_draw_predictions(rows, "before") if there else None,
        uses_gradients=any(row["backwards"] for row in rows),
        rejected=_rejected(rows, saved),
        rejected_before=_rejected(rows, before) if there else None,
        rows=rows,
    )


def _int_tensor(values: list[Any]) -> Tensor:
    return torch.tensor(values, dtype=torch.int64)


def _bool_tensor(values: list[bool]) -> Tensor:
    return torch.tensor(values, dtype=torch.bool)


def _label_preserved(
    rows: Sequence[Row], judges: list[dict[str, Any]], image_kind: str
) -> Tensor | None:
    if not rows or not judges[0]:
        return None
    return _bool_tensor(
        [
            all(one[image_kind] == row["label"] for one in judge.values())
            for row, judge in zip(rows, judges, strict=True)
        ]
    )


def _judge_predictions(judges: list[dict[str, Any]]) -> Tensor | None:
    if not judges or not judges[0]:
        return None
    return _int_tensor([next(iter(judge.values()))["saved"] for judge in judges])


def _draw_predictions(rows: Sequence[Row], image_kind: str) -> Tensor | None:
    if not rows or "draw_predictions" not in rows[0]:
        return None
    return torch.tensor([row["draw_predictions"][image_kind] for row in rows])


def _rejected(rows: Sequence[Row], predictions: list[int]) -> Tensor | None:
    if not rows or not rows[0].get("can_reject"):
        return None
    return _int_tensor(predictions) == REJECT
