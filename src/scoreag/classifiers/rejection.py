"""A classifier that may reject an image: its last output says "none of the classes".

Such a module has an attribute ``rejects`` that is true, and one output more than there are classes.
Of an image that nobody attacked a rejection is a false alarm, so it is no right answer; of an
attacked one it is a success of the defense, so it is no error.
"""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from scoreag.core.types import Classifier, Labels, Logits

REJECT = -1  # the answer of who rejects, where a class would stand


def can_reject(classifier: Any) -> bool:
    """Whether a classifier, or the module in its ``Frozen``, says so of itself."""
    return bool(getattr(getattr(classifier, "module", classifier), "rejects", False))


def predict_or_reject(
    logits: Float[Tensor, "batch outputs"], has_reject_output: bool = False
) -> Labels:
    """The likeliest class of each image, or ``REJECTED``."""
    said = logits.argmax(1)
    if not has_reject_output:
        return said
    return torch.where(said == logits.shape[1] - 1, torch.full_like(said, REJECT), said)


def is_misclassified(predictions: Labels, labels: Labels) -> Bool[Tensor, " batch"]:
    """Neither the label is said nor is the image rejected: what an attacker wants."""
    return (predictions != labels) & (predictions != REJECT)


def without_reject_output(classifier: Classifier) -> Classifier:
    """The classifier as one of the classes alone, whether it may reject or not."""
    if not can_reject(classifier):
        return classifier
    return lambda images: classifier(images)[:, :-1]


def rejection_adapted_logits(logits: Float[Tensor, "batch outputs"], labels: Labels) -> Logits:
    """Logits z of the classes alone, whose label has what is rejected: ``log(e^z_y + e^z_r)``.

    All other probabilities stay what they are, so that ``1 - p_y`` is the probability of a wrong
    answer that is not rejected: any attack on these logits is adapted to the rejection.
    """
    classes, rejected = logits[:, :-1], logits[:, -1:]
    own = torch.logaddexp(classes.gather(1, labels[:, None]), rejected)
    return classes.scatter(1, labels[:, None], own)
