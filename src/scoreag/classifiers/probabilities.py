"""The likeliest classes of images with their probabilities, for the rows of a run."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from scoreag.classifiers.rejection import REJECT
from scoreag.core.types import Labels, Logits

N_LIKELIEST = 3  # classes of an image that a row names, beside its label and its target
DIGITS = 4  # of a probability


def softmax_probabilities(logits: Logits) -> Float[Tensor, "batch classes"]:
    """``softmax(logits)``, in single precision or better."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).softmax(1)


def list_probabilities(
    probabilities: Float[Tensor, "batch classes"],
    classes: Sequence[Labels | None] = (),
    has_reject_output: bool = False,
) -> list[dict[str, float] | None]:
    """The likeliest classes of each image, by their number as text; the largest comes first.

    Args:
        classes: one of each image, which is listed in any case; a negative one is none.
        has_reject_output: the last output is no class, and listed as ``"-1"``.

    Returns:
        Rounded probabilities; None for an image where one is not a number.
    """
    wanted = [labels.tolist() for labels in classes if labels is not None]
    order = probabilities.argsort(dim=1, descending=True, stable=True)[:, :N_LIKELIEST].tolist()
    listed: list[dict[str, float] | None] = []
    for i, row in enumerate(probabilities.tolist()):
        chosen = {*order[i], *(labels[i] for labels in wanted if 0 <= labels[i] < len(row))}
        ranked = sorted(chosen, key=lambda k: (-row[k], k))
        names = {k: REJECT if has_reject_output and k == len(row) - 1 else k for k in ranked}
        finite = all(map(math.isfinite, row))
        listed.append({str(names[k]): round(row[k], DIGITS) for k in ranked} if finite else None)
    return listed
