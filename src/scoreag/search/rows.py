"""Some rows of a batch: a classifier that is to be shown only these, and their randomness."""

from dataclasses import replace
from typing import Protocol, runtime_checkable

from scoreag.core.noise import Noise
from scoreag.core.types import Classifier


@runtime_checkable
class ByRow(Protocol):
    """A classifier that answers for its i-th image in a way of its own, as a defence draws."""

    def for_rows(self, rows: list[int]) -> Classifier:
        """The same for some of its images."""
        ...


def of_rows(classifier: Classifier, rows: list[int]) -> Classifier:
    """``classifier``, to be shown only these rows of its batch."""
    return classifier.for_rows(rows) if isinstance(classifier, ByRow) else classifier


def of_ids(noise: Noise, rows: list[int]) -> Noise:
    """The randomness of these rows."""
    return replace(noise, image_ids=[noise.image_ids[i] for i in rows])
