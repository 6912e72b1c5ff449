"""The images and labels of a cell, and the classifier as an attacker sees it, with its defense."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor

from scoreag.assess.experiments import (
    CLEAN,
    Cell,
    ModelCache,
    classifier_digests,
    prior_digests,
)
from scoreag.classifiers.rejection import (
    can_reject,
    rejection_adapted_logits,
    without_reject_output,
)
from scoreag.core import ALGORITHM, LEGACY_ALGORITHM
from scoreag.core.batching import BatchContext, use_batch
from scoreag.core.rng import derive_key, next_call_indices
from scoreag.core.types import Classifier, Images, Labels, Logits
from scoreag.defenses.defend import defend
from scoreag.defenses.purified_classifier import PurifiedClassifier
from scoreag.diffusion.class_labels import known_classes
from scoreag.diffusion.parameterizations import ScoreModel, null_label
from scoreag.diffusion.prior import Prior
from scoreag.diffusion.prior_guidance import has_head
from scoreag.io.images import to_float
from scoreag.io.manifest import to_jsonable
from scoreag.methods.purification import build_purification
from scoreag.methods.synthesis import build_synthesis
from scoreag.methods.task import IDS_PER_CLASS, TaskSpec
from scoreag.methods.transformation import build_transformation

DRAW_OFFSET_SHARED = 0  # the only draw of a cell with a shared draw
DRAW_OFFSET_EVAL = 10**9  # the draws of the evaluation start here: no attack saw them
DRAW_OFFSET_PURPOSE = 10**10  # the draws of an attack's named purposes start here
MAX_DRAWS_OF_PURPOSE = 10**6
DRAW_OFFSET_GRADIENT = 2 * 10**9  # the draw for the gradient's length
DrawIndex: TypeAlias = int | tuple[int, ...]  # of all rows, or one per row
LogitsAt: TypeAlias = Callable[[DrawIndex, Images, tuple[int, ...]], Logits]


@dataclass(frozen=True, eq=False)
class ClassifierView:
    """A classifier's logits at a numbered draw for images with ids, and its draws per batch."""

    logits_at: LogitsAt
    draws_per_batch: Callable[[Images, int], int] = lambda images, draws: 1

    def __call__(self, draw: DrawIndex, images: Images, ids: tuple[int, ...]) -> Logits:
        return self.logits_at(draw, images, ids)


@dataclass(frozen=True, eq=False)
class CellContext:
    """The images of a cell by position, its models, and its task where it runs one."""

    cell: Cell
    classifier: Classifier
    prior: Prior | None
    images: Images | None
    labels: Labels
    image_ids: tuple[int, ...]
    task_spec: TaskSpec | None = None
    eval_defense: PurifiedClassifier | None = None
    attacker_defense: PurifiedClassifier | None = None

    def padded_positions(self, *batches: range) -> list[int]:
        """The positions of batches, padded to whole ones by the last position."""
        positions = [i for batch in batches for i in batch]
        return [*positions, *[positions[-1]] * (-len(positions) % self.cell.batch_size)]

    def ids(self, positions: Sequence[int]) -> tuple[int, ...]:
        return tuple(self.image_ids[i] for i in positions)


def build_context(cell: Cell, cache: ModelCache) -> CellContext:
    """Load the images and models of a cell.

    Raises:
        ValueError: a word names other data or weights here than where the cell was made.
    """
    _check_digests(cell, cache)
    classifier = cache.classifier(cell.classifier)
    prior = cache.fitted_prior(cell) if cell.prior else None
    images, labels, ids = _load_images(cell, cache, prior)
    context = CellContext(cell, classifier, prior, images, labels.to(cache.torch_device), ids)
    if cell.is_ood:  # labels of other data are no classes here: the first prediction replaces them
        context = replace(context, labels=_pseudo_labels(context))
    if cell.purifier:
        assert prior is not None
        context = replace(
            context,
            eval_defense=build_defense(cell, cache, cell.purifier_options, prior),
            attacker_defense=build_defense(cell, cache, cell.attacker_options, prior),
        )
    return replace(context, task_spec=_build_task(context))


def _load_images(
    cell: Cell, cache: ModelCache, prior: Prior | None
) -> tuple[Images | None, Labels, tuple[int, ...]]:
    """The images, labels and image ids of a cell; gas has classes in turn and no images."""
    if cell.component == "gas":
        assert prior is not None
        asked = known_classes(prior)
        turns = [asked[i % len(asked)] for i in range(cell.images)]
        ids = (y * IDS_PER_CLASS + i // len(asked) for i, y in enumerate(turns))
        return None, torch.tensor(turns), tuple(ids)
    data = cache.data(cell.data, () if cell.is_ood else cell.classes)[: cell.images]
    if cell.content.get("data", {}).get("sha256", data.sha256) != data.sha256:
        raise ValueError(f"the images of {cell.data} are other ones here; copy them again")
    known = None if cell.is_ood else data.labels
    labels = torch.zeros(len(data), dtype=torch.int64) if known is None else known
    return to_float(data.images).to(cache.torch_device), labels, data.image_ids


def build_defense(
    cell: Cell, cache: ModelCache, options: Mapping[str, Any], prior: Prior
) -> PurifiedClassifier:
    """The classifier behind the cell's purifier with these options."""
    classifier = cache.classifier(cell.classifier)
    return defend(classifier, prior, cell.purifier, seed=cell.seed, **options)


def _check_digests(cell: Cell, cache: ModelCache) -> None:
    """Refuse another algorithm, or other weights under the same name."""
    if (algorithm := cell.content.get("algorithm", LEGACY_ALGORITHM)) != ALGORITHM:
        raise ValueError(
            f"the cell is of algorithm {algorithm}, and the package here computes {ALGORITHM}; "
            "install the same version"
        )
    content = cell.content
    expected = {
        **content.get("transfer_targets", {}), **content.get("reference_classifiers", {}),
        cell.classifier: content.get("classifier"),
    }  # fmt: skip
    for word, digests in expected.items():
        if digests and to_jsonable(classifier_digests(cache.classifier(word))) != digests:
            raise ValueError(f"the classifier {word} is another one here; copy its files again")
    for name, digests in {cell.prior: content.get("prior"), **content.get("guides", {})}.items():
        if digests and to_jsonable(prior_digests(cache.prior(name))) != digests:
            raise ValueError(f"the score model {name} is another one here; copy its files again")


@torch.no_grad()
def _pseudo_labels(context: CellContext) -> Labels:
    assert context.images is not None
    classifier, labels = without_reject_output(context.classifier), []
    for batch in context.cell.batches:
        positions = context.padded_positions(batch)
        images, ids = context.images[positions], context.ids(positions)
        logits = logits_at_draw(classifier, DRAW_OFFSET_EVAL, images, ids)
        labels.append(logits.argmax(1)[: len(batch)])
    return torch.cat(labels)


def _build_task(context: CellContext) -> TaskSpec | None:
    cell, prior, images = context.cell, context.prior, context.images
    if cell.task in ("attack", CLEAN):
        return None
    assert prior is not None
    options = {name: value for name, value in cell.options.items() if name != "target"}
    options |= {"seed": cell.seed, "image_ids": context.image_ids}
    target = cell.options.get("target")
    target = None if target == "none" else target
    classifier, labels = without_reject_output(context.classifier), context.labels
    if cell.task == "synthesize":
        return build_synthesis(prior, classifier, labels, target, **options)
    assert images is not None
    if cell.task == "transform":
        return build_transformation(prior, classifier, images, labels, target, **options)
    return build_purification(prior, images, classifier, labels, **options)


@dataclass
class QueryCounter:
    """The number of images classified and differentiated for an attack, and of denoiser calls."""

    calls_by_row: dict[int, int] = field(default_factory=dict)
    forwards: int = 0
    backwards: int = 0
    nfe: int = 0

    def wrap_prior(self, prior: Prior) -> Prior:
        """A copy of the prior that counts every evaluated image, those of its guide too."""

        guide = None if prior.guide is None else CountedModel(prior.guide, self)
        return replace(prior, model=CountedModel(prior.model, self), guide=guide)


@dataclass(eq=False)
class CostByRow:
    """What a counter counted, by the row of the image that it was counted for.

    A batch counts for its images alike; the copies that fill it cost them their share.
    """

    counter: QueryCounter
    totals: dict[str, Tensor]

    @classmethod
    def start(cls, counter: QueryCounter, rows: int) -> "CostByRow":
        """Nothing yet for ``rows`` images."""
        names = ("forwards", "backwards", "nfe")
        return cls(counter, {name: torch.zeros(rows, dtype=torch.float64) for name in names})

    @contextmanager
    def meter(self, rows: Sequence[int], size: int) -> Iterator[None]:
        """Count what is computed inside for these rows, in a batch of ``size``."""
        before = {name: getattr(self.counter, name) for name in self.totals}
        yield
        for name, totals in self.totals.items():
            totals[list(rows)] += (getattr(self.counter, name) - before[name]) / size


class CountedModel:
    """A score model that tells ``counter`` every image that it evaluates."""

    def __init__(self, model: ScoreModel, counter: QueryCounter) -> None:
        self.model, self.counter = model, counter
        self.null_label, self.has_head = null_label(model), has_head(model)

    def __call__(
        self, x: Tensor, sigma: Tensor, labels: Tensor | None = None, **options: bool
    ) -> Tensor:
        self.counter.nfe += len(x)
        return self.model(x, sigma, labels, **options)


@dataclass(frozen=True, eq=False)
class CountingClassifier:
    """The classifier as an attacker sees it: fresh draws at each call, and every call is counted.

    Each row counts its own draws, so that they do not depend on when other rows stop.

    Args:
        ids: the image ids of the rows, which key their noise.
        rows: the numbers of the rows in the batch; by default its order.
        first_draw: the number of the first draw.
        calls_by_row: counts of a purpose of its own, in place of the counter's.
    """

    view: ClassifierView
    ids: tuple[int, ...]
    counter: QueryCounter
    rows: tuple[int, ...] | None = None
    first_draw: int = 0
    calls_by_row: dict[int, int] | None = None

    def __call__(self, images: Images) -> Logits:
        rows = self.rows if self.rows is not None else tuple(range(len(self.ids)))
        counts = self.counter.calls_by_row if self.calls_by_row is None else self.calls_by_row
        calls = tuple(self.first_draw + call for call in next_call_indices(counts, rows))
        draw = calls if len(images) == len(rows) else max(calls)
        logits = self.view(draw, images, self.ids)
        self.counter.forwards += len(images)
        if logits.requires_grad:
            logits.register_hook(partial(self._count_gradient, len(images)))
        return logits

    def draws_per_batch(self, images: Images, draws: int) -> int:
        return self.view.draws_per_batch(images, draws)

    def select_rows(self, rows: Sequence[int]) -> "CountingClassifier":
        """The classifier of only these rows of its batch."""
        places = tuple(self.rows[i] if self.rows is not None else i for i in rows)
        return replace(self, ids=tuple(self.ids[i] for i in rows), rows=places)

    def restart_draws(self, *purpose: str | int) -> "CountingClassifier":
        """With draws of their own for ``purpose``, from the first on."""
        number = int.from_bytes(derive_key(*purpose)[:4], "little")
        first = DRAW_OFFSET_PURPOSE + MAX_DRAWS_OF_PURPOSE * number
        return replace(self, first_draw=first, calls_by_row={})

    def _count_gradient(self, images: int, gradient: Tensor | None) -> None:
        self.counter.backwards += images if gradient is not None else 0


def make_view(context: CellContext, for_attacker: bool, prior: Prior | None) -> ClassifierView:
    """The classifier behind the cell's purifier, if it has one: its logits at a numbered draw.

    Where ids and images differ in number, the noise is that of the positions.

    Args:
        for_attacker: the attacker's copy, not the one that is evaluated.
        prior: the score model, which may count its calls.
    """
    view = _make_raw_view(context, for_attacker, prior)
    rejects = for_attacker and can_reject(context.classifier)
    return _adapt_rejection(context, view) if rejects else view


def _adapt_rejection(context: CellContext, view: ClassifierView) -> ClassifierView:
    """To an attacker, a rejection is no better than the correct class.

    Where ids and images differ in number, labels are unknown: the attacker sees the classes only.
    """
    places = {image_id: row for row, image_id in enumerate(context.image_ids)}

    def adapted(draw: DrawIndex, images: Images, ids: tuple[int, ...]) -> Logits:
        logits = view(draw, images, ids)
        if len(ids) != len(images):
            return logits[:, :-1]
        return rejection_adapted_logits(logits, context.labels[[places[i] for i in ids]])

    return replace(view, logits_at=adapted)


def logits_at_draw(
    classifier: Classifier, draw: DrawIndex, images: Images, ids: tuple[int, ...]
) -> Logits:
    """A classifier's logits, with its internal noise keyed by the draw and the image ids.

    Where ids and images differ in number, positions take the place of ids.
    """
    known = ids if len(ids) == len(images) else tuple(range(len(images)))
    each = (draw,) if isinstance(draw, int) else draw
    with use_batch(BatchContext(known, tuple(("answer", one) for one in each), {}, True)):
        return classifier(images)


def _make_raw_view(context: CellContext, for_attacker: bool, prior: Prior | None) -> ClassifierView:
    cell = context.cell
    unaware = for_attacker and cell.attacker_options.get("backward") == "none"
    if not cell.purifier or unaware:
        return ClassifierView(partial(logits_at_draw, context.classifier))
    defense = context.attacker_defense if for_attacker else context.eval_defense
    assert defense is not None and prior is not None
    guided = replace(prior, guide=prior.guide or defense.config.prior.guide)
    counted = PurifiedClassifier(replace(defense.config, prior=guided))

    def logits_at(draw: DrawIndex, images: Images, ids: tuple[int, ...]) -> Logits:
        known = ids if len(ids) == len(images) else None
        fixed = counted.fix_randomness(DRAW_OFFSET_SHARED if cell.shared_draw else draw, known)
        logits: Logits = fixed.forward_unclamped(images)
        return logits

    return ClassifierView(logits_at, counted.draws_per_batch)
