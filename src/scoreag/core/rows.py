"""Some rows of a batch: a classifier that is to be shown only these, and their randomness.

What draws for each image, as a defense does, has to know which images the rows of a batch are.  A
defense itself is told by ``for_rows``.  One that is somewhere inside of a classifier (behind a
normalization, a detector, layers of one's own, or another defense) asks ``batch()``.
"""

from collections.abc import Callable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeAlias, runtime_checkable

from torch import nn

from scoreag.core.noise import Noise
from scoreag.core.types import Classifier, Images, Logits

Path: TypeAlias = tuple[str | int, ...]
Counts: TypeAlias = MutableMapping[Any, int]
PADDING = -(10**15)  # ids of rows that only fill a batch up: below those of any image


@runtime_checkable
class ByRow(Protocol):
    """A classifier that answers for its i-th image in a way of its own, as a defence draws."""

    def for_rows(self, rows: list[int]) -> Classifier:
        """The same for some of its images."""
        ...


@runtime_checkable
class ByImage(ByRow, Protocol):
    """One whose rows can be told which images they are."""

    def for_ids(self, image_ids: Sequence[int]) -> Classifier:
        """The same with rows of these images, unless it was told before."""
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


def of_rows(classifier: Classifier, rows: Sequence[int]) -> Classifier:
    """``classifier``, to be shown only these rows of its batch."""
    if isinstance(classifier, ByRow):
        return classifier.for_rows(list(rows))
    return Shown(classifier, tuple(rows)) if _draws_inside(classifier) else classifier


def of_ids(noise: Noise, rows: list[int]) -> Noise:
    """The randomness of these rows."""
    return replace(noise, image_ids=[noise.image_ids[i] for i in rows])


def of_images(classifier: Classifier, image_ids: Sequence[int]) -> Classifier:
    """``classifier``, whose rows are these images, unless it knows better or draws for nobody."""
    if isinstance(classifier, ByImage):
        return classifier.for_ids(image_ids)
    if isinstance(classifier, ByRow):
        return classifier
    blank = isinstance(classifier, nn.Module) and not _draws_inside(classifier)
    return classifier if blank else Shown(classifier, tuple(image_ids))


def begun(classifier: Classifier, image_ids: Sequence[int], *purpose: str | int) -> Classifier:
    """``of_images``, whose draws are counted anew, and are those of ``purpose`` alone.

    What it answers is then a function of the images, and not of what it was asked before.
    """
    named = of_images(classifier, image_ids)
    if isinstance(named, Shown):
        return replace(named, path=purpose, counts={})
    return Shown(named, None, purpose, {}) if isinstance(named, ByImage) else named


def _draws_inside(classifier: Any) -> bool:
    """Whether a module has a defence among its parts."""
    parts = classifier.modules() if isinstance(classifier, nn.Module) else ()
    return any(hasattr(type(part), "for_rows") for part in parts)


@dataclass(frozen=True, eq=False)
class Batch:
    """What is known of the batch that a classifier is shown.

    Args:
        ids: the images of its rows; None where a defense inside knows them.
        paths: what precedes the names of draws: one for all rows, or one for each.
        counts: where the calls of a row are counted; None: where the defense counts its own.
        estimates: they are a chain's estimates, which may lie outside of [0, 1].
    """

    ids: tuple[int, ...] | None = None
    paths: tuple[Path, ...] = ((),)
    counts: Counts | None = None
    estimates: bool = False


_BATCH: ContextVar[Batch | None] = ContextVar("batch", default=None)


def batch() -> Batch:
    """What whoever called this classifier says of its batch."""
    return _BATCH.get() or Batch()


@contextmanager
def showing(shown: Batch | None) -> Iterator[None]:
    """Defenses inside are told ``shown``; None: nothing is known of what they are shown."""
    token = _BATCH.set(shown)
    try:
        yield
    finally:
        _BATCH.reset(token)


def tiled(rows: Sequence[Any], count: int) -> tuple[Any, ...]:
    """What belongs to each of ``count`` images: some rows, or several copies one after the other.

    >>> tiled([7, 8], 4)
    (7, 8, 7, 8)
    """
    copies, left = divmod(count, max(1, len(rows)))
    if left or (count and not copies):
        raise ValueError(
            f"a defense was shown {count} images, and is to draw for {len(rows)} rows; give it "
            "these rows, or whole copies of them one after the other"
        )
    return tuple(rows) * copies


@dataclass(frozen=True, eq=False)
class Shown:
    """A classifier that is shown certain images, whatever defenses it has inside."""

    classifier: Classifier
    ids: tuple[int, ...] | None
    path: Path = ()
    counts: Counts | None = field(default=None, repr=False)

    def __call__(self, images: Images) -> Logits:
        return self._answered(self.classifier, images, False)

    def of_estimates(self, images: Images) -> Logits:
        """The same of a chain's estimates of x0, which may lie outside of [0, 1]."""
        ask = getattr(self.classifier, "of_estimates", self.classifier)
        return self._answered(ask, images, True)

    def for_rows(self, rows: Sequence[int]) -> "Shown":
        """The same for some of its images; rows beyond them only fill a batch up."""
        inside = self.classifier
        if isinstance(inside, ByRow):
            inside = inside.for_rows(list(rows))
        return replace(self, classifier=inside, ids=self.ids and picked(self.ids, rows))

    def _answered(self, ask: Callable[[Images], Logits], images: Images, outside: bool) -> Logits:
        with showing(Batch(self.ids, (self.path,), self.counts, outside)):
            return ask(images)


def picked(ids: Sequence[int], rows: Sequence[int]) -> tuple[int, ...]:
    """Some of ``ids``; rows beyond them only fill a batch up, and are no image's."""
    return tuple(ids[i] if i < len(ids) else PADDING - i for i in rows)
