"""The rows of a cell as columns: what was said of each image, as tensors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from scoreag.core.rejection import REJECTED
from scoreag.runs.rows import Row

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
    saved: Numbers
    wrong: Numbers
    right: Flags | None
    fooled: Flags
    fooled_float: Flags
    wanted: Flags
    shown: Flags | None
    shown_before: Flags | None
    judged: Numbers | None
    said: Int[Tensor, "rows draws"] | None
    said_before: Int[Tensor, "rows draws"] | None
    gradients: bool
    rejected: Flags | None = None
    rejected_before: Flags | None = None
    rows: Sequence[Row] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def number(self, name: str) -> Float[Tensor, " rows"] | None:
        """A figure of every image by its name, such as "ssim" or "l2"; None where one lacks it."""
        found = [row.get(name, row.get("distances", {}).get(name)) for row in self.rows]
        if not found or any(value is None for value in found):
            return None
        return torch.tensor(found, dtype=torch.float64)

    @property
    def counted(self) -> Flags:
        """The denominator: images right before, or all where nothing was before."""
        return torch.ones_like(self.fooled) if self.right is None else self.right


def columns(rows: Sequence[Row]) -> Columns:
    """The columns of some rows."""
    labels = _numbers([row["label"] for row in rows])
    before, saved = ([row["predictions"][of] for row in rows] for of in ("before", "saved"))
    there = bool(rows) and before[0] is not None
    judges = [row["judges"] for row in rows]
    return Columns(
        image_ids=_numbers([row["image_id"] for row in rows]),
        labels=labels,
        saved=_numbers(saved),
        wrong=_numbers([-1 if row["wrong"] is None else row["wrong"] for row in rows]),
        right=_numbers(before) == labels if there else None,
        fooled=_flags([row["success_8bit"] for row in rows]),
        fooled_float=_flags([row["success"] for row in rows]),
        wanted=_flags([row["as_wanted"] for row in rows]),
        shown=_shown(rows, judges, "saved"),
        shown_before=_shown(rows, judges, "before") if there else None,
        judged=_first_judge(judges),
        said=_said(rows, "saved"),
        said_before=_said(rows, "before") if there else None,
        gradients=any(row["backwards"] for row in rows),
        rejected=_rejected(rows, saved),
        rejected_before=_rejected(rows, before) if there else None,
        rows=rows,
    )


def _numbers(values: list[Any]) -> Tensor:
    return torch.tensor(values, dtype=torch.int64)


def _flags(values: list[bool]) -> Tensor:
    return torch.tensor(values, dtype=torch.bool)


def _shown(rows: Sequence[Row], judges: list[dict[str, Any]], of: str) -> Tensor | None:
    if not rows or not judges[0]:
        return None
    return _flags(
        [
            all(one[of] == row["label"] for one in judge.values())
            for row, judge in zip(rows, judges, strict=True)
        ]
    )


def _first_judge(judges: list[dict[str, Any]]) -> Tensor | None:
    if not judges or not judges[0]:
        return None
    return _numbers([next(iter(judge.values()))["saved"] for judge in judges])


def _said(rows: Sequence[Row], of: str) -> Tensor | None:
    if not rows or "answers" not in rows[0]:
        return None
    return torch.tensor([row["answers"][of] for row in rows])


def _rejected(rows: Sequence[Row], said: list[int]) -> Tensor | None:
    if not rows or not rows[0].get("rejects"):
        return None
    return _numbers(said) == REJECTED
