"""One file a metric: ``(clean, adversarial, labels) -> (batch,)``, or counts that add up."""

from typing import Protocol

from scoreag.core.types import BatchScalar, Images, Labels


class Metric(Protocol):
    """One number an image, from the image before, the image after, and its label."""

    def __call__(
        self, clean: Images, adversarial: Images, labels: Labels | None = None
    ) -> BatchScalar: ...
