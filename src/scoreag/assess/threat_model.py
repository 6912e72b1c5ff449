"""What one cell works with: its images and labels, and what an attacker sees of the classifier."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor

from scoreag.assess import attack_factory
from scoreag.assess.experiments import CLEAN, Cell
from scoreag.assess.model_cache import ModelCache, classifier_digests, prior_digests
from scoreag.classifiers.rejection import (
    can_reject,
    rejection_adapted_logits,
    without_reject_output,
)
from scoreag.core.algorithm import ALGORITHM, LEGACY_ALGORITHM
from scoreag.core.batching import BatchContext, use_batch
from scoreag.core.rng import next_call_indices
from scoreag.core.types import Classifier, Images, Labels, Logits
from scoreag.defenses.purified_classifier import PurifiedClassifier
from scoreag.diffusion.prior import Prior
from scoreag.io.images import to_float
from scoreag.io.manifest import to_jsonable as plain_values
from scoreag.methods.purification import build_purification
from scoreag.methods.synthesis import build_synthesis
from scoreag.methods.task import TaskSpec
from scoreag.methods.transformation import build_transformation
from scoreag.methods.validation import IDS_PER_CLASS

DRAW_OFFSET_EVAL = (
    10**9
)  # the draws by which a defence is judged are counted from here: no attack saw them
DrawIndex: TypeAlias = int | tuple[int, ...]  # of all rows, or one for each
DRAW_OFFSET_SHARED = 0  # the draw of a cell that has but one
DRAW_OFFSET_GRADIENT = 2 * 10**9  # the draw through which the attacker's gradient is looked at


@dataclass(frozen=True, eq=False)
class ClassifierView:
    """A classifier's logits at a numbered draw, and how many draws it has room for at once."""

    logits_at: Callable[
        [DrawIndex, Images, tuple[int, ...]], Logits
    ]  # of the images with these ids
    draws_per_batch: Callable[[Images, int], int] = lambda images, draws: 1

    def __call__(self, draw: DrawIndex, images: Images, ids: tuple[int, ...]) -> Logits:
        return self.logits_at(draw, images, ids)


@dataclass(frozen=True, eq=False)
class CellContext:
    """The images of a cell, position by position; ``job`` where jobs computes the attack."""

    cell: Cell
    classifier: Classifier
    prior: Prior | None
    images: Images | None
    labels: Labels
    image_ids: tuple[int, ...]
    task_spec: TaskSpec | None
    eval_defense: PurifiedClassifier | None = None  # the purifier's copies
    attacker_defense: PurifiedClassifier | None = None

    def padded_positions(self, batch: range) -> list[int]:
        """The positions of a piece, the last of them repeated up to the micro-batch."""
        return [*batch, *[batch[-1]] * (self.cell.batch_size - len(batch))]

    def ids(self, positions: Sequence[int]) -> tuple[int, ...]:
        return tuple(self.image_ids[i] for i in positions)


def build_context(cell: Cell, cache: ModelCache) -> CellContext:
    """Load what a cell needs; its job is checked as that of a command would be.

    Raises:
        ValueError: what a word means here is not what it meant where the cell was made.
    """
    victim = cache.classifier(cell.classifier)
    _check_digests(cell, cache)
    prior = cache.prior(cell.prior) if cell.prior else None
    if cell.component == "gas":
        assert prior is not None
        shown = torch.arange(cell.images) % len(prior.classes)
        ids = [label * IDS_PER_CLASS + i // len(prior.classes) for i, label in enumerate(shown)]
        plain = CellContext(
            cell, victim, prior, None, shown.to(cache.torch_device), _to_ints(ids), None
        )
    else:
        data = cache.data(cell.data, () if cell.is_ood else cell.classes)[: cell.images]
        if cell.content.get("data", {}).get("sha256", data.sha256) != data.sha256:
            raise ValueError(f"the images of {cell.data} are other ones here; copy them anew")
        images = to_float(data.images).to(cache.torch_device)
        labels = data.labels if not cell.is_ood else None
        known = torch.zeros(len(data), dtype=torch.int64) if labels is None else labels
        plain = CellContext(
            cell, victim, prior, images, known.to(cache.torch_device), data.image_ids, None
        )
    if cell.is_ood:  # no label of theirs is a class here: the first answer stands in
        plain = replace(plain, labels=_pseudo_labels(plain))
    if cell.purifier:
        assert prior is not None
        copies = (cell.purifier_options, cell.attacker_options)
        judged, attacked = (attack_factory.build_defense(cell, cache, of, prior) for of in copies)
        plain = replace(plain, eval_defense=judged, attacker_defense=attacked)
    return replace(plain, task_spec=_build_task(plain))


def _check_digests(cell: Cell, cache: ModelCache) -> None:
    """Refuse another algorithm, or weights under the same name, as on another machine of a
    cluster."""
    if (wanted := cell.content.get("algorithm", LEGACY_ALGORITHM)) != ALGORITHM:
        raise ValueError(
            f"the cell is of algorithm {wanted}, and the package here computes {ALGORITHM}; "
            "install the same version"
        )
    for role, words in (("others", cell.transfer_targets), ("judges", cell.reference_classifiers)):
        for word in words:
            _check_digest(word, cache, cell.content.get(role, {}).get(word))
    _check_digest(cell.classifier, cache, cell.content.get("victim"))
    drawn = cell.content.get("prior")
    if drawn and plain_values(prior_digests(cache.prior(cell.prior))) != drawn:
        raise ValueError(f"the score model {cell.prior} is another one here; copy its files anew")


def _check_digest(name: str, cache: ModelCache, wanted: object) -> None:
    if wanted and plain_values(classifier_digests(cache.classifier(name))) != wanted:
        raise ValueError(f"the classifier {name} is another one here; copy its files anew")


def _to_ints(ids: Sequence[Tensor | int]) -> tuple[int, ...]:
    return tuple(int(i) for i in ids)


@torch.no_grad()
def _pseudo_labels(context: CellContext) -> Labels:
    assert context.images is not None
    parts = []
    for piece in context.cell.batches:
        positions = context.padded_positions(piece)
        shown, ids = context.images[positions], context.ids(positions)
        logits = logits_at_draw(
            without_reject_output(context.classifier), DRAW_OFFSET_EVAL, shown, ids
        )
        parts.append(logits.argmax(1)[: len(piece)])
    return torch.cat(parts)


def _build_task(context: CellContext) -> TaskSpec | None:
    cell, prior = context.cell, context.prior
    if cell.task in ("attack", CLEAN):
        return None
    assert prior is not None
    settings = {name: value for name, value in cell.options.items() if name != "target"}
    wrong = cell.options.get("target")
    given = {"seed": cell.seed, "image_ids": context.image_ids, **settings}
    aim, victim = None if wrong == "none" else wrong, without_reject_output(context.classifier)
    if cell.task == "synthesize":
        return build_synthesis(prior, victim, context.labels, aim, **given)
    assert context.images is not None
    if cell.task == "transform":
        return build_transformation(prior, victim, context.images, context.labels, aim, **given)
    return build_purification(prior, context.images, victim, context.labels, **given)


@dataclass
class QueryCounter:
    """What an attack asked for: images that it showed the classifier, and gradients it took."""

    calls_by_row: dict[int, int] = field(default_factory=dict)  # calls by row
    forwards: int = 0
    backwards: int = 0
    nfe: int = 0

    def wrap_prior(self, prior: Prior) -> Prior:
        """The same prior, whose every evaluated image is counted."""

        def model(x: Tensor, sigma: Tensor, labels: Tensor | None = None) -> Tensor:
            self.nfe += len(x)
            return prior.model(x, sigma, labels)

        return replace(prior, model=model)


@dataclass(frozen=True, eq=False)
class CountingClassifier:
    """The classifier as an attacker sees it: fresh draws at each call, and every call counted.

    Which draw a row gets is counted for it alone, so that no other row's end moves it.

    Args:
        ask: as ``asked`` makes it.
        ids: whose noise the rows of a batch get.
        rows: where they stand in the micro-batch; by default in its order.
    """

    view: ClassifierView
    ids: tuple[int, ...]
    counter: QueryCounter
    rows: tuple[int, ...] | None = None

    def __call__(self, images: Images) -> Logits:
        rows = self.rows if self.rows is not None else tuple(range(len(self.ids)))
        calls = next_call_indices(self.counter.calls_by_row, rows)
        draw = calls if len(images) == len(rows) else max(calls)
        logits = self.view(draw, images, self.ids)
        self.counter.forwards += len(images)
        if logits.requires_grad:
            logits.register_hook(partial(self._counted, len(images)))
        return logits

    def draws_per_batch(self, images: Images, draws: int) -> int:
        return self.view.draws_per_batch(images, draws)

    def select_rows(self, rows: Sequence[int]) -> "CountingClassifier":
        """The same, to be shown only these rows of its batch."""
        places = tuple(self.rows[i] if self.rows is not None else i for i in rows)
        return replace(self, ids=tuple(self.ids[i] for i in rows), rows=places)

    def _counted(self, images: int, gradient: Tensor | None) -> None:
        self.counter.backwards += images if gradient is not None else 0


def make_view(
    context: CellContext, cache: ModelCache, for_attacker: bool, prior: Prior | None
) -> ClassifierView:
    """The classifier behind the cell's purifier, if it has one: its logits at a numbered draw.

    A batch of another length than there are ids gets the noise of its positions instead.

    Args:
        attacked: the attacker's copy, not the one that is judged.
    """
    ask = _make_raw_view(context, cache, for_attacker, prior)
    return (
        _adapt_rejection(context, ask) if for_attacker and can_reject(context.classifier) else ask
    )


def _adapt_rejection(context: CellContext, view: ClassifierView) -> ClassifierView:
    """To an attacker, being rejected is no better than being read right; see ``as_attacked``.

    Of a batch of another length the labels are not known: there it sees the classes alone.
    """
    places = {image_id: row for row, image_id in enumerate(context.image_ids)}

    def told(draw: DrawIndex, images: Images, ids: tuple[int, ...]) -> Logits:
        logits = view(draw, images, ids)
        if len(ids) != len(images):
            return logits[:, :-1]
        return rejection_adapted_logits(logits, context.labels[[places[i] for i in ids]])

    return replace(view, logits_at=told)


def logits_at_draw(
    classifier: Classifier, draw: DrawIndex, images: Images, ids: tuple[int, ...]
) -> Logits:
    """A classifier's logits; what draws inside of it draws for the images ``ids``, at a draw.

    Of a batch of another length than there are ids, for those of its positions.
    """
    known = ids if len(ids) == len(images) else tuple(range(len(images)))
    each = (draw,) if isinstance(draw, int) else draw
    with use_batch(BatchContext(known, tuple(("answer", one) for one in each), {}, True)):
        return classifier(images)


def _make_raw_view(
    context: CellContext, cache: ModelCache, for_attacker: bool, prior: Prior | None
) -> ClassifierView:
    cell, victim = context.cell, context.classifier
    bare = ClassifierView(partial(logits_at_draw, victim))
    if not cell.purifier:
        return bare
    if (
        for_attacker and cell.attacker_options.get("backward") == "none"
    ):  # who knows of none asks the victim
        return bare
    made = context.attacker_defense if for_attacker else context.eval_defense
    assert made is not None and prior is not None
    defended = PurifiedClassifier(replace(made.config, prior=prior))  # one that may count its calls

    def ask(draw: DrawIndex, images: Images, ids: tuple[int, ...]) -> Logits:
        known = ids if len(ids) == len(images) else None
        logits: Logits = defended.fix_randomness(
            DRAW_OFFSET_SHARED if cell.shared_draw else draw, known
        ).forward_unclamped(images)
        return logits

    return ClassifierView(ask, defended.draws_per_batch)
