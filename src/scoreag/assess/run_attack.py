"""The attack of a cell on some of its images: the only place where cells differ in kind."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from scoreag.assess import attack_factory
from scoreag.assess.experiments import CLEAN, Cell
from scoreag.assess.model_cache import ModelCache
from scoreag.assess.scoring import ScoredBatch, score_batch
from scoreag.assess.threat_model import (
    DRAW_OFFSET_GRADIENT,
    CellContext,
    CountingClassifier,
    QueryCounter,
    build_context,
    make_view,
)
from scoreag.core.rng import Noise
from scoreag.core.types import BatchScalar, Images, Labels
from scoreag.methods.task import run_batch as compute_job

RANGE_TOLERANCE = 1e-6  # by which rounding may carry an image out of [0, 1]


@dataclass(frozen=True, eq=False)
class AttackOutput:
    """What an attack returned for a padded micro-batch, and what it asked for.

    Args:
        wrong: the class aimed at, -1 where it is any.
        calls: score-model evaluations an image; ``forwards`` and ``backwards`` of the classifier.
        gradient: length of the loss's gradient at each image, as the attacker sees it.
    """

    images: Images
    targets: Labels
    nfe: Tensor
    restarts: Tensor
    guidance_skipped: Tensor
    forwards: float
    backwards: float
    gradient_norm: BatchScalar | None


def compute_rows(cell: Cell, batches: list[range], cache: ModelCache) -> ScoredBatch:
    """The rows of some pieces of a cell, with their pictures and what they cost."""
    with single_thread():
        plain = cache.memoize(cell.key, lambda: build_context(cell, cache))
        done = []
        for piece in batches:
            began = time.perf_counter()
            made = _run_attack(plain, piece, cache)
            took = time.perf_counter() - began
            one = score_batch(plain, piece, made, cache, took)
            done.append(replace(one, scoring_seconds=time.perf_counter() - began - took))
        return ScoredBatch.cat(done)


@contextmanager
def single_thread() -> Iterator[None]:
    """Another number of threads rounds otherwise; work is spread over processes instead."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@torch.inference_mode(False)
def _run_attack(context: CellContext, batch: range, cache: ModelCache) -> AttackOutput:
    positions = context.padded_positions(batch)
    ids, labels = context.ids(positions), context.labels[positions]
    tally = QueryCounter()
    prior = tally.wrap_prior(context.prior) if context.prior is not None else None
    victim = CountingClassifier(make_view(context, cache, True, prior), ids, tally)
    if context.task_spec is not None:
        made = _run_task_attack(context, batch, victim)
    else:
        made = _run_direct_attack(context, positions, victim, cache, labels)
    count = len(positions)
    if context.task_spec is None or context.cell.purifier:
        made = replace(made, nfe=torch.full((count,), tally.nfe / count))
    return replace(
        made,
        images=_validate_images(context, made.images),
        forwards=tally.forwards / count,
        backwards=tally.backwards / count,
        gradient_norm=_gradient_norms(context, positions, cache),
    )


def _run_direct_attack(
    context: CellContext,
    positions: list[int],
    classifier: CountingClassifier,
    cache: ModelCache,
    labels: Labels,
) -> AttackOutput:
    assert context.images is not None
    images, cell = context.images[positions], context.cell
    if cell.task != CLEAN:
        attack = attack_factory.build_attack(
            cell, cache, context.prior and classifier.counter.wrap_prior(context.prior)
        )
        noise = Noise(cell.seed, context.ids(positions)).fold_in("attack")
        # without the checks of a call: the plan has been checked, and every query is counted
        images = attack.run(classifier, images, labels, noise).detach()
    nothing = torch.zeros(len(positions), dtype=torch.int64)
    return AttackOutput(images, nothing - 1, nothing, nothing, nothing, 0.0, 0.0, None)


def _run_task_attack(
    context: CellContext, batch: range, classifier: CountingClassifier
) -> AttackOutput:
    """GAS, GAT and GAP, as their commands compute them."""
    assert context.task_spec is not None
    job = replace(context.task_spec.select(list(batch)), classifier=classifier)
    result = compute_job(job, pad_to=context.cell.batch_size)
    again = [*range(len(result)), *[-1] * (context.cell.batch_size - len(result))]
    wrong = result.targets if result.targets is not None else torch.full((len(result),), -1)
    return AttackOutput(
        result.images[again], wrong[again], result.nfe[again], result.restarts[again],
        result.guidance_skipped[again], 0.0, 0.0, None,
    )  # fmt: skip


def _gradient_norms(
    context: CellContext, positions: list[int], cache: ModelCache
) -> BatchScalar | None:
    """Of the cross-entropy at the images before the attack, through a draw of its own."""
    if context.images is None or context.cell.task in (CLEAN, "purify"):
        return None
    ask, ids = make_view(context, cache, True, context.prior), context.ids(positions)
    leaf = context.images[positions].detach().requires_grad_()
    with torch.enable_grad():
        loss = F.cross_entropy(
            ask(DRAW_OFFSET_GRADIENT, leaf, ids), context.labels[positions], reduction="sum"
        )
    if not loss.requires_grad:
        return torch.zeros(len(positions))
    return torch.autograd.grad(loss, leaf)[0].flatten(1).norm(dim=1).cpu()


def _validate_images(context: CellContext, images: Tensor) -> Images:
    """Refuse what is no image: a failure of the attack is not counted as its success."""
    name = context.cell.component
    shape = (context.cell.batch_size, *_image_shape(context))
    if not isinstance(images, Tensor) or tuple(images.shape) != shape:
        came = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
        raise ValueError(f"{name} returned {came}; expected images of the shape {shape}")
    if not images.isfinite().all():
        raise ValueError(f"{name} returned NaN or infinity; try smaller steps, or report it")
    low, high = float(images.min()), float(images.max())
    if low < -RANGE_TOLERANCE or high > 1 + RANGE_TOLERANCE:
        raise ValueError(f"{name} returned images in [{low:.4g}, {high:.4g}]; expected [0, 1]")
    return images.clamp(0, 1)


def _image_shape(context: CellContext) -> tuple[int, ...]:
    if context.images is not None:
        return tuple(context.images.shape[1:])
    assert context.prior is not None
    return context.prior.image_shape
