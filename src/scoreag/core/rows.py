"""Some rows of a batch: a classifier that is to be shown only these, and their randomness."""

from dataclasses import replace
from typing import Protocol, runtime_checkable

from scoreag.core.noise import Noise
from scoreag.core.types import Classifier, Images


@runtime_checkable
class ByRow(Protocol):
    """A classifier that answers for its i-th image in a way of its own, as a defence draws."""

    def for_rows(self, rows: list[int]) -> Classifier:
        """The same for some of its images."""
        ...


@runtime_checkable
class Roomy(ByRow, Protocol):
    """A classifier that draws, and knows how many draws it has room for at once."""

    def at_once(self, images: Images, draws: int) -> int:
        """Of ``draws`` draws of these images, so many are taken as one batch."""
        ...


def at_once(classifier: Classifier, images: Images, draws: int) -> int:
    """How many draws are taken as one batch: one after the other, unless it says otherwise."""
    return classifier.at_once(images, draws) if isinstance(classifier, Roomy) else 1


def of_rows(classifier: Classifier, rows: list[int]) -> Classifier:
    """``classifier``, to be shown only these rows of its batch."""
    return classifier.for_rows(rows) if isinstance(classifier, ByRow) else classifier


def of_ids(noise: Noise, rows: list[int]) -> Noise:
    """The randomness of these rows."""
    return replace(noise, image_ids=[noise.image_ids[i] for i in rows])
