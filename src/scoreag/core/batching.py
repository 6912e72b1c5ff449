"""Which images the rows of a batch are: a classifier for some rows of it, and their randomness.

A defense draws for each image, so it has to know which ones it sees.  It is told by
``select_rows``; one inside of another classifier (behind a normalization, a detector, or another
defense) asks ``current_batch``.
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
    """A classifier whose answer to its i-th image depends on i, as a defense draws for it."""

    def select_rows(self, rows: list[int]) -> Classifier:
        """The same for some of its images."""
        ...


@runtime_checkable
class SupportsImageIds(SupportsRowSelection, Protocol):
    """One that can be told which images its rows are."""

    def with_image_ids(self, image_ids: Sequence[int]) -> Classifier:
        """The same with rows of these images, unless it has some already."""
        ...


@runtime_checkable
class SupportsBatchedDraws(SupportsRowSelection, Protocol):
    """A classifier that draws, and knows how many draws fit into memory at once."""

    def draws_per_batch(self, images: Images, draws: int) -> int:
        """How many of ``draws`` draws of these images are taken as one batch."""
        ...


def draws_per_batch(classifier: Classifier, images: Images, draws: int) -> int:
    """How many draws are taken as one batch: 1, unless the classifier says otherwise."""
    return (
        classifier.draws_per_batch(images, draws)
        if isinstance(classifier, SupportsBatchedDraws)
        else 1
    )


def select_rows(classifier: Classifier, rows: Sequence[int]) -> Classifier:
    """``classifier`` for these rows of its batch alone."""
    if isinstance(classifier, SupportsRowSelection):
        return classifier.select_rows(list(rows))
    return BoundClassifier(classifier, tuple(rows)) if _contains_defense(classifier) else classifier


def select_noise(noise: Noise, rows: list[int]) -> Noise:
    """The randomness of these rows."""
    return replace(noise, image_ids=[noise.image_ids[i] for i in rows])


def bind_image_ids(classifier: Classifier, image_ids: Sequence[int]) -> Classifier:
    """``classifier`` with these images as rows, unless it has some already or draws nothing."""
    if isinstance(classifier, SupportsImageIds):
        return classifier.with_image_ids(image_ids)
    if isinstance(classifier, SupportsRowSelection):
        return classifier
    blank = isinstance(classifier, nn.Module) and not _contains_defense(classifier)
    return classifier if blank else BoundClassifier(classifier, tuple(image_ids))


def reset_draws(
    classifier: Classifier, image_ids: Sequence[int], *purpose: str | int
) -> Classifier:
    """``bind_image_ids``, with call counts from 0 and draws that are keyed by ``purpose``.

    Its answers are then a function of the images, and not of earlier calls.
    """
    named = bind_image_ids(classifier, image_ids)
    if isinstance(named, BoundClassifier):
        return replace(named, key_prefix=purpose, call_counts={})
    return (
        BoundClassifier(named, None, purpose, {}) if isinstance(named, SupportsImageIds) else named
    )


def _contains_defense(classifier: Any) -> bool:
    """Whether a module has a defense among its submodules."""
    parts = classifier.modules() if isinstance(classifier, nn.Module) else ()
    return any(hasattr(type(part), "select_rows") for part in parts)


@dataclass(frozen=True, eq=False)
class BatchContext:
    """What is known of the batch that a classifier sees.

    Args:
        image_ids: of its rows; None where a defense inside knows them.
        key_prefixes: what precedes the names of draws: one for all rows, or one each.
        call_counts: of each row; None: the defense counts its own.
        unclamped: they are a chain's x0-estimates, which may lie outside of [0, 1].
    """

    image_ids: tuple[int, ...] | None = None
    key_prefixes: tuple[KeyPrefix, ...] = ((),)
    call_counts: CallCounts | None = None
    unclamped: bool = False


_BATCH_CONTEXT: ContextVar[BatchContext | None] = ContextVar("batch", default=None)


def current_batch() -> BatchContext:
    """The context of the call that is running."""
    return _BATCH_CONTEXT.get() or BatchContext()


@contextmanager
def use_batch(context: BatchContext | None) -> Iterator[None]:
    """Within it defenses see ``context``; None: nothing is known of the batch."""
    token = _BATCH_CONTEXT.set(context)
    try:
        yield
    finally:
        _BATCH_CONTEXT.reset(token)


def tile_rows(rows: Sequence[Any], count: int) -> tuple[Any, ...]:
    """``rows``, repeated as a whole until there is one for each of ``count`` images.

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
    """A classifier that sees certain images, whatever defenses it has inside."""

    classifier: Classifier
    image_ids: tuple[int, ...] | None
    key_prefix: KeyPrefix = ()
    call_counts: CallCounts | None = field(default=None, repr=False)

    def __call__(self, images: Images) -> Logits:
        return self._call_in_context(self.classifier, images, False)

    def forward_unclamped(self, images: Images) -> Logits:
        """The logits of a chain's x0-estimates, which may lie outside of [0, 1]."""
        forward = getattr(self.classifier, "forward_unclamped", self.classifier)
        return self._call_in_context(forward, images, True)

    def select_rows(self, rows: Sequence[int]) -> "BoundClassifier":
        """The same for some of its images; rows beyond them only fill a batch."""
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
    """Some of ``image_ids``; rows beyond them only fill a batch, and are no image's."""
    return tuple(image_ids[i] if i < len(image_ids) else PADDING_ID - i for i in rows)
