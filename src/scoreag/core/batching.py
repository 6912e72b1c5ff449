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

from scoreag.core.rng import Noise
from scoreag.core.types import Classifier, Images, Logits

KeyPrefix: TypeAlias = tuple[str | int, ...]
CallCounts: TypeAlias = MutableMapping[Any, int]
PADDING_ID = -(10**15)  # ids of rows that only fill a batch up: below those of any image


@runtime_checkable
class SupportsRowSelection(Protocol):
    """A classifier that answers for its i-th image in a way of its own, as a defense draws."""

    def select_rows(self, rows: list[int]) -> Classifier:
        """The same for some of its images."""
        ...


@runtime_checkable
class SupportsImageIds(SupportsRowSelection, Protocol):
    """One whose rows can be told which images they are."""

    def with_image_ids(self, image_ids: Sequence[int]) -> Classifier:
        """The same with rows of these images, unless it was told before."""
        ...


@runtime_checkable
class SupportsBatchedDraws(SupportsRowSelection, Protocol):
    """A classifier that draws, and knows how many draws it has room for at once."""

    def draws_per_batch(self, images: Images, draws: int) -> int:
        """Of ``draws`` draws of these images, so many are taken as one batch."""
        ...


def draws_per_batch(classifier: Classifier, images: Images, draws: int) -> int:
    """How many draws are taken as one batch: one after the other, unless it says otherwise."""
    return (
        classifier.draws_per_batch(images, draws)
        if isinstance(classifier, SupportsBatchedDraws)
        else 1
    )


def select_rows(classifier: Classifier, rows: Sequence[int]) -> Classifier:
    """``classifier``, to be shown only these rows of its batch."""
    if isinstance(classifier, SupportsRowSelection):
        return classifier.select_rows(list(rows))
    return BoundClassifier(classifier, tuple(rows)) if _contains_defense(classifier) else classifier


def select_noise(noise: Noise, rows: list[int]) -> Noise:
    """The randomness of these rows."""
    return replace(noise, image_ids=[noise.image_ids[i] for i in rows])


def bind_image_ids(classifier: Classifier, image_ids: Sequence[int]) -> Classifier:
    """``classifier``, whose rows are these images, unless it knows better or draws for nobody."""
    if isinstance(classifier, SupportsImageIds):
        return classifier.with_image_ids(image_ids)
    if isinstance(classifier, SupportsRowSelection):
        return classifier
    blank = isinstance(classifier, nn.Module) and not _contains_defense(classifier)
    return classifier if blank else BoundClassifier(classifier, tuple(image_ids))


def reset_draws(
    classifier: Classifier, image_ids: Sequence[int], *purpose: str | int
) -> Classifier:
    """``of_images``, whose draws are counted anew, and are those of ``purpose`` alone.

    What it answers is then a function of the images, and not of what it was asked before.
    """
    named = bind_image_ids(classifier, image_ids)
    if isinstance(named, BoundClassifier):
        return replace(named, key_prefix=purpose, call_counts={})
    return (
        BoundClassifier(named, None, purpose, {}) if isinstance(named, SupportsImageIds) else named
    )


def _contains_defense(classifier: Any) -> bool:
    """Whether a module has a defense among its parts."""
    parts = classifier.modules() if isinstance(classifier, nn.Module) else ()
    return any(hasattr(type(part), "select_rows") for part in parts)


@dataclass(frozen=True, eq=False)
class BatchContext:
    """What is known of the batch that a classifier is shown.

    Args:
        ids: the images of its rows; None where a defense inside knows them.
        paths: what precedes the names of draws: one for all rows, or one for each.
        counts: where the calls of a row are counted; None: where the defense counts its own.
        estimates: they are a chain's estimates, which may lie outside of [0, 1].
    """

    image_ids: tuple[int, ...] | None = None
    key_prefixes: tuple[KeyPrefix, ...] = ((),)
    call_counts: CallCounts | None = None
    unclamped: bool = False


_BATCH_CONTEXT: ContextVar[BatchContext | None] = ContextVar("batch", default=None)


def current_batch() -> BatchContext:
    """What whoever called this classifier says of its batch."""
    return _BATCH_CONTEXT.get() or BatchContext()


@contextmanager
def use_batch(context: BatchContext | None) -> Iterator[None]:
    """Defenses inside are told ``shown``; None: nothing is known of what they are shown."""
    token = _BATCH_CONTEXT.set(context)
    try:
        yield
    finally:
        _BATCH_CONTEXT.reset(token)


def tile_rows(rows: Sequence[Any], count: int) -> tuple[Any, ...]:
    """What belongs to each of ``count`` images: some rows, or several copies one after the other.

    >>> tile_rows([7, 8], 4)
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
class BoundClassifier:
    """A classifier that is shown certain images, whatever defenses it has inside."""

    classifier: Classifier
    image_ids: tuple[int, ...] | None
    key_prefix: KeyPrefix = ()
    call_counts: CallCounts | None = field(default=None, repr=False)

    def __call__(self, images: Images) -> Logits:
        return self._call_in_context(self.classifier, images, False)

    def forward_unclamped(self, images: Images) -> Logits:
        """The same of a chain's estimates of x0, which may lie outside of [0, 1]."""
        ask = getattr(self.classifier, "forward_unclamped", self.classifier)
        return self._call_in_context(ask, images, True)

    def select_rows(self, rows: Sequence[int]) -> "BoundClassifier":
        """The same for some of its images; rows beyond them only fill a batch up."""
        inside = self.classifier
        if isinstance(inside, SupportsRowSelection):
            inside = inside.select_rows(list(rows))
        return replace(
            self, classifier=inside, image_ids=self.image_ids and pick_ids(self.image_ids, rows)
        )

    def _call_in_context(
        self, forward: Callable[[Images], Logits], images: Images, unclamped: bool
    ) -> Logits:
        with use_batch(
            BatchContext(self.image_ids, (self.key_prefix,), self.call_counts, unclamped)
        ):
            return forward(images)


def pick_ids(image_ids: Sequence[int], rows: Sequence[int]) -> tuple[int, ...]:
    """Some of ``ids``; rows beyond them only fill a batch up, and are no image's."""
    return tuple(image_ids[i] if i < len(image_ids) else PADDING_ID - i for i in rows)
