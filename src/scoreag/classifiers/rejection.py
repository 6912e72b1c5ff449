"""A classifier that may reject an image: its last output means "none of the classes".

Such a module has an attribute ``rejects`` that is true, and one output more than there are classes.
The rejection of a clean image is an error; that of an attacked image is none.

``WithDetector`` makes one of any classifier and a detector of two classes, (real, generated); cf.
Carlini and Wagner (2017), "Adversarial examples are not easily detected", section 3, who combine
the logits instead.
"""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from scoreag.core.types import Classifier, Labels, Logits

REJECT = -1  # in place of a class


def can_reject(classifier: Any) -> bool:
    """Whether a classifier, or the module in its wrapper, has the attribute ``rejects``."""
    return bool(getattr(getattr(classifier, "module", classifier), "rejects", False))


def predict_or_reject(
    logits: Float[Tensor, "batch outputs"], has_reject_output: bool = False
) -> Labels:
    """The likeliest class of each image, or ``REJECT``."""
    classes = logits.argmax(1)
    if not has_reject_output:
        return classes
    return torch.where(classes == logits.shape[1] - 1, torch.full_like(classes, REJECT), classes)


def is_misclassified(predictions: Labels, labels: Labels) -> Bool[Tensor, " batch"]:
    """Whether an image is neither classified as its label nor rejected: an attacker's success."""
    return (predictions != labels) & (predictions != REJECT)


def without_reject_output(classifier: Classifier) -> Classifier:
    """The classifier without its rejection output, if it has one."""
    if not can_reject(classifier):
        return classifier
    return lambda images: classifier(images)[:, :-1]


def rejection_adapted_logits(logits: Float[Tensor, "batch outputs"], labels: Labels) -> Logits:
    """Logits z of the classes alone, with ``log(e^z_y + e^z_r)`` for the label.

    All other probabilities stay the same, so that ``1 - p_y`` is the probability of a wrong answer
    that is not rejected: any attack on these logits is adapted to the rejection.
    """
    classes, rejected = logits[:, :-1], logits[:, -1:]
    own = torch.logaddexp(classes.gather(1, labels[:, None]), rejected)
    return classes.scatter(1, labels[:, None], own)


PREFIX = "with-detector:"  # with-detector:CLASSIFIER,DETECTOR


class WithDetector(nn.Module):
    """``p(k | x) = (1 - d(x)) softmax(f(x))_k`` and ``p(rejected | x) = d(x)``, as logarithms.

    d is the probability that the detector gives to its second class.
    """

    rejects = True

    def __init__(self, classifier: nn.Module, detector: nn.Module) -> None:
        super().__init__()
        self.classifier, self.detector = classifier, detector

    def forward(self, images: Tensor) -> Tensor:
        real, generated = self.detector(images).unbind(1)
        lead = (generated - real)[:, None]
        classes = logsigmoid(-lead) + self.classifier(images).log_softmax(1)
        return torch.cat([classes, logsigmoid(lead)], 1)


def parse_prefix(name: str) -> tuple[str, str]:
    """The names of the classifier and the detector in ``with-detector:CLASSIFIER,DETECTOR``."""
    classifier, comma, detector = name.removeprefix(PREFIX).partition(",")
    if not (classifier and comma and detector) or "," in detector:
        raise ValueError(
            f"{name}: expected a classifier and a detector, with a comma between them, e.g. "
            f"{PREFIX}cifar10-resnet20,runs/detector"
        )
    return classifier.strip(), detector.strip()
