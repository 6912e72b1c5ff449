"""The classifier gives the x0-estimate any label but one."""

from typing import Any

import torch

from scoreag.core.types import Classifier, Labels, Logits, LogLikelihood, PerImage
from scoreag.core.verdict import ahead, verdict


def misclassified(
    classifier: Classifier, labels: Labels, strength: float, **options: Any
) -> LogLikelihood:
    """``strength * log(1 - softmax(f(x0))[label])``.

    Computed as ``logsumexp(other logits) - logsumexp(all logits)``: where the label's probability
    rounds to 1, ``log(1 - p)`` would be minus infinity and its gradient lost.

    Args:
        options: ``stop`` and ``rest`` of ``verdict``.
    """

    def log_prob(logits: Logits) -> PerImage:
        others = logits.scatter(1, labels[:, None], -torch.inf)
        return others.logsumexp(1) - logits.logsumexp(1)

    return verdict(classifier, log_prob, lambda z: -ahead(z, labels), strength, **options)
