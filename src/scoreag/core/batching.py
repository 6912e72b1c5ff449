"""The image ids of the rows of a batch, for classifiers whose randomness depends on the image.

A random defense draws separately for each image, so it needs their ids.  It gets them by
``select_rows``; one inside another classifier (a normalization, a detector, or another defense)
calls ``current_batch``.
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
PADDING_ID = -(10**15)  # ids of padding rows: below those of any image


def batch_ranges(count: int, size: int) -> Iterator[range]:
    """0..count-1 in ranges of ``size``."""
    return (range(i, min(i + size, count)) for i in range(0, count, size))


@runtime_checkable
class SupportsRowSelection(Protocol):
    """A classifier whose prediction for its i-th image depends on i, such as a random defense."""

    def select_rows(self, rows: list[int]) -> Classifier:
        """The classifier for some of its images."""
        ...


@runtime_checkable
class SupportsImageIds(SupportsRowSelection, Protocol):
    """A classifier that can be given the image ids of its rows."""

    def with_image_ids(self, image_ids: Sequence[int]) -> Classifier:
        """The classifier with these image ids, unless it already has some."""
        ...


@runtime_checkable
class SupportsBatchedDraws(SupportsRowSelection, Protocol):
    """A random classifier that knows how many draws fit into memory at once."""

    def draws_per_batch(self, images: Images, draws: int) -> int:
        """How many of ``draws`` draws of these images make one batch."""
        ...


def draws_per_batch(classifier: Classifier, images: Images, draws: int) -> int:
    """How many draws make one batch: 1, unless the classifier has ``draws_per_batch``."""
    return (
        classifier.draws_per_batch(images, draws)
        if isinstance(classifier, SupportsBatchedDraws)
        else 1
    )


def select_rows(classifier: Classifier, rows: Sequence[int]) -> Classifier:
    """``classifier`` for these rows of its batch."""
    if isinstance(classifier, SupportsRowSelection):
        return classifier.select_rows(list(rows))
    return BoundClassifier(classifier, tuple(rows)) if _contains_defense(classifier) else classifier


def select_noise(noise: Noise, rows: list[int]) -> Noise:
    """The noise of these rows."""
    return replace(noise, image_ids=[noise.image_ids[i] for i in rows])


def bind_image_ids(classifier: Classifier, image_ids: Sequence[int]) -> Classifier:
    """``classifier`` with these image ids, unless it already has some or is not random."""
    if isinstance(classifier, SupportsImageIds):
        return classifier.with_image_ids(image_ids)
    if isinstance(classifier, SupportsRowSelection):
        return classifier
    is_plain = isinstance(classifier, nn.Module) and not _contains_defense(classifier)
    return classifier if is_plain else BoundClassifier(classifier, tuple(image_ids))


def reset_draws(
    classifier: Classifier, image_ids: Sequence[int], *purpose: str | int
) -> Classifier:
    """``bind_image_ids``, with call counts from 0 and draws keyed by ``purpose``.

    Its predictions then depend on the images, and not on earlier calls.
    """
    bound = bind_image_ids(classifier, image_ids)
    if isinstance(bound, BoundClassifier):
        return replace(bound, key_prefix=purpose, call_counts={})
    if isinstance(bound, SupportsImageIds):
        return BoundClassifier(bound, None, purpose, {})
    return bound


@runtime_checkable
class SupportsDrawRestart(Protocol):
    """A random classifier that can begin its draws again, under another name."""

    def restart_draws(self, *purpose: str | int) -> Classifier:
        """The classifier with draws keyed by ``purpose``, from the first on."""
        ...


def restart_draws(
    classifier: Classifier, image_ids: Sequence[int], *purpose: str | int
) -> Classifier:
    """As ``reset_draws``, also for a classifier that keeps the ids of its rows itself."""
    if isinstance(classifier, SupportsDrawRestart):
        return classifier.restart_draws(*purpose)
    return reset_draws(classifier, image_ids, *purpose)


def _contains_defense(classifier: Any) -> bool:
    parts = classifier.modules() if isinstance(classifier, nn.Module) else ()
    return any(hasattr(type(part), "select_rows") for part in parts)


@dataclass(frozen=True, eq=False)
class BatchContext:
    """The batch that a classifier is called with.

    Args:
        image_ids: of its rows; None if a defense inside has them.
        key_prefixes: before the names of draws: one for all rows, or one per row.
        call_counts: of each row; None: the defense has its own.
        unclamped: the images are x0-estimates of a chain, which may be outside [0, 1].
    """

    image_ids: tuple[int, ...] | None = None
    key_prefixes: tuple[KeyPrefix, ...] = ((),)
    call_counts: CallCounts | None = None
    unclamped: bool = False


_BATCH_CONTEXT: ContextVar[BatchContext | None] = ContextVar("batch", default=None)


def current_batch() -> BatchContext:
    """The context of the current call."""
    return _BATCH_CONTEXT.get() or BatchContext()


@contextmanager
def use_batch(context: BatchContext | None) -> Iterator[None]:
    """Make ``context`` the ``current_batch`` of defenses; None: an empty one."""
    token = _BATCH_CONTEXT.set(context)
    try:
        yield
    finally:
        _BATCH_CONTEXT.reset(token)


def tile_rows(rows: Sequence[Any], count: int) -> tuple[Any, ...]:
    """``rows``, repeated until there is one for each of ``count`` images.

    >>> tile_rows([7, 8], 4)
    (7, 8, 7, 8)
    """
    copies, left = divmod(count, max(1, len(rows)))
    if left or (count and not copies):
        raise ValueError(
            f"a defense was called with {count} images, but has {len(rows)} rows; give it "
            "these rows, or whole copies of them one after the other"
        )
    return tuple(rows) * copies


@dataclass(frozen=True, eq=False)
class BoundClassifier:
    """A classifier with image ids for its rows, which the defenses inside it use."""

    classifier: Classifier
    image_ids: tuple[int, ...] | None
    key_prefix: KeyPrefix = ()
    call_counts: CallCounts | None = field(default=None, repr=False)

    def __call__(self, images: Images) -> Logits:
        return self._call_in_context(self.classifier, images, False)

    def forward_unclamped(self, images: Images) -> Logits:
        """The logits of x0-estimates of a chain, which may be outside [0, 1]."""
        forward = getattr(self.classifier, "forward_unclamped", self.classifier)
        return self._call_in_context(forward, images, True)

    def select_rows(self, rows: Sequence[int]) -> "BoundClassifier":
        """The classifier for some of its images; rows beyond them are padding."""
        classifier = self.classifier
        if isinstance(classifier, SupportsRowSelection):
            classifier = classifier.select_rows(list(rows))
        ids = self.image_ids and pick_ids(self.image_ids, rows)
        return replace(self, classifier=classifier, image_ids=ids)

    def _call_in_context(
        self, forward: Callable[[Images], Logits], images: Images, unclamped: bool
    ) -> Logits:
        context = BatchContext(self.image_ids, (self.key_prefix,), self.call_counts, unclamped)
        with use_batch(context):
            return forward(images)


def pick_ids(image_ids: Sequence[int], rows: Sequence[int]) -> tuple[int, ...]:
    """Some of ``image_ids``; rows beyond them are padding."""
    return tuple(image_ids[i] if i < len(image_ids) else PADDING_ID - i for i in rows)
