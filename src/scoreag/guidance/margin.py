"""The classifier prefers one label to another by a margin; Carlini and Wagner (2017), f_6."""

from typing import Any

from scoreag.core.types import Classifier, Labels, Logits, LogLikelihood, PerImage
from scoreag.core.verdict import ahead, verdict


def margin(
    classifier: Classifier,
    labels: Labels,
    strength: float,
    wanted: Labels | None = None,
    most: float = 5.0,
    **options: Any,
) -> LogLikelihood:
    """``strength * min(most, lead)``: the gradient does not fade as the label's probability does.

    Args:
        labels: the true classes; the lead is that of the best other class over them.
        wanted: if given, the lead is that of these classes over all others.
        most: the lead, in logits, beyond which nothing is gained.
        options: ``stop`` and ``rest`` of ``verdict``.
    """

    def lead(logits: Logits) -> PerImage:
        return -ahead(logits, labels) if wanted is None else ahead(logits, wanted)

    return verdict(classifier, lambda z: lead(z).clamp(max=most), lead, strength, **options)
