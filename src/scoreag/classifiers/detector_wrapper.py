"""A victim behind a detector: images that it takes for generated ones are rejected.

The detector is any classifier of two classes, (real, generated).  The two are one classifier of
the classes and "rejected"; cf. Carlini and Wagner (2017), "Adversarial examples are not easily
detected", section 3, who combine the logits instead.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

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
    """The words for the classifier and the detector of ``with-detector:CLASSIFIER,DETECTOR``."""
    classifier, comma, detector = name.removeprefix(PREFIX).partition(",")
    if not (classifier and comma and detector) or "," in detector:
        raise ValueError(
            f"{name}: expected a classifier and a detector, with a comma between them, e.g. "
            f"{PREFIX}cifar10-resnet20,runs/detector"
        )
    return classifier.strip(), detector.strip()


def validate_detector(n_classes: int, name: str) -> None:
    """Refuse what is no detector: it tells real images, class 0, from generated ones, class 1."""
    if n_classes != 2:
        raise ValueError(
            f"{name} tells {n_classes} classes apart; a detector has two: real, then generated"
        )
