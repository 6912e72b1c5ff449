"""The classifier gives the x0-estimate any label but one."""

from typing import Any

import torch
from torch.nn.functional import logsigmoid

from scoreag.core.types import Classifier, Labels, Logits, LogLikelihood, PerImage
from scoreag.core.verdict import ahead, verdict


def misclassified(
    classifier: Classifier, labels: Labels, strength: float, **options: Any
) -> LogLikelihood:
    """``strength * log(1 - softmax(f(x0))[label])``.

    Computed as ``log sigmoid(logsumexp(other logits) - label's logit)``, which loses neither its
    value where the label's probability rounds to 1 nor its gradient where that rounds to 0.

    Args:
        options: ``stop`` and ``rest`` of ``verdict``.
    """

    def log_prob(logits: Logits) -> PerImage:
        own = logits.gather(1, labels[:, None]).squeeze(1)
        others = logits.scatter(1, labels[:, None], -torch.inf)
        return logsigmoid(others.logsumexp(1) - own)

    return verdict(classifier, log_prob, lambda z: -ahead(z, labels), strength, **options)
