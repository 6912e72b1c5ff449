"""The classifier gives the x0-estimate a chosen label."""

from functools import partial
from typing import Any

from scoreag.core.types import Classifier, Labels, Logits, LogLikelihood, PerImage
from scoreag.core.verdict import ahead, verdict


def classified_as(
    classifier: Classifier, labels: Labels, strength: float, **options: Any
) -> LogLikelihood:
    """``strength * log softmax(f(x0))[label]``; ``strength`` is s_y of the paper.

    Args:
        options: ``stop`` and ``rest`` of ``verdict``.
    """

    def log_prob(logits: Logits) -> PerImage:
        return logits.log_softmax(1).gather(1, labels[:, None]).squeeze(1)

    return verdict(classifier, log_prob, partial(ahead, labels=labels), strength, **options)
