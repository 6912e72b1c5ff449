"""The result of some images: sampled, sampled again or at searched scales, and evaluated.

Every forward pass has as many images as a batch is padded to.  The kernels then round alike, so
that an image is bit-identical whatever else is computed with it.  So images that are sampled again
share batches, whichever they were in before: an image that is finished costs nothing.
"""

import itertools
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from scoreag.classifiers.class_groups import known_names
from scoreag.core.batching import batch_ranges, select_rows
from scoreag.core.rng import Noise
from scoreag.core.types import BatchScalar, Images, Logits
from scoreag.diffusion.likelihoods import logit_margin
from scoreag.io.images import quantize_8bit
from scoreag.methods.config import SamplingConfig
from scoreag.methods.guided_sampling import SampleBatch
from scoreag.methods.result import Result
from scoreag.methods.scale_search import SEARCHES, Brackets, ScaleSearch
from scoreag.methods.tally import list_ids
from scoreag.methods.task import TaskSpec

MAX_DOUBLINGS = 1000  # doubles end at 2^1024


def samples_again(config: SamplingConfig) -> bool:
    """Whether some images are sampled more often than others, so that more at once cost less."""
    return bool(config.searched or config.max_restarts)


@torch.inference_mode(False)  # guidance needs gradients
def run_batch(
    task: TaskSpec, pad_to: int = 0, advance: Callable[[int], Any] = lambda count: None
) -> Result:
    """The result of all images of a task, in batches padded to ``pad_to``; 0: in one, unpadded.

    Args:
        advance: called with the number of images that were finished.
    """
    padded = replace(task, classifier=_pad_classifier(task, pad_to))
    if task.config.searched:
        return _search_strengths(padded, pad_to, advance)
    parts, restarts = [], task.is_attack and task.config.max_restarts > 0
    for part, _, count in _padded_batches(padded, None, pad_to):
        samples = _sample(part, part.config)
        _check_finite(part, samples.images)
        parts.append(_evaluate(part, part.config, samples)[:count])
        advance(0 if restarts else count)
    result = Result.cat(parts)
    return _restart_failures(padded, result, pad_to, advance) if restarts else result


def _pad_classifier(task: TaskSpec, pad_to: int) -> Any:
    """The classifier with draws from the first on, and with rows for whole batches."""
    whole = -(-len(task) // pad_to) * pad_to if pad_to else len(task)
    return task.pad(whole, "task").classifier


def _restart_failures(
    task: TaskSpec, result: Result, pad_to: int, advance: Callable[[int], Any]
) -> Result:
    """Sample the images that failed again, each time at twice the attack scale.

    A random classifier continues its draws for each image.  The images are padded, to the same size
    as before, with copies of the last failed one; for these the classifier takes the draws of other
    rows, so that the draws of a failed image advance once.  An image whose chain diverges keeps its
    last sample and is not restarted: a larger scale would not help.
    """
    diverged: set[int] = set()
    rest = len(task)
    for attempt in range(1, task.config.max_restarts + 1):
        assert result.success is not None and task.classifier is not None
        failures = (~result.success).nonzero().flatten().tolist()
        failed = [i for i in failures if i not in diverged]
        advance(rest - len(failed))
        rest = len(failed)
        if not failed:
            break
        assert not isinstance(task.config.attack_scale, str)
        scale = escalate_attack_scale(task.config.attack_scale, attempt)
        parts, finites = [], []
        for part, rows, count in _padded_batches(task, failed, pad_to):
            resampled, is_finite = _resample(part, scale, result[rows])
            parts.append(resampled[:count])
            finites.append(is_finite[:count])
        again, finite = Result.cat(parts), torch.cat(finites)
        again = replace(again, restarts=torch.full_like(again.restarts, attempt))
        result = _merge_rows(result, failed, again, finite)
        diverged |= {row for row, ok in zip(failed, finite.tolist(), strict=True) if not ok}
    advance(rest)
    return result


def _search_strengths(task: TaskSpec, pad_to: int, advance: Callable[[int], Any]) -> Result:
    """Each image by the weakest attack at which the classifier errs.

    An image that nothing fools keeps its last sample that is finite. In each chain a random
    classifier has the same draws, and others decide whether the image fools it.
    """
    option = task.config.searched
    search = SEARCHES[option]
    brackets = Brackets.start(_first_strengths(task, pad_to, search))
    kept: SampleBatch | None = None
    strengths, tries = torch.zeros((2, len(task)), dtype=torch.float64).unbind()
    rest = len(task)
    for number in itertools.count():
        trial = brackets.next_strengths(search)
        rows = (~trial.isnan()).nonzero().flatten().tolist()
        advance(rest - len(rows))
        rest = len(rows)
        if not rows:
            break
        samples, fooled, finite = _try_strengths(task, trial, rows, number, pad_to)
        better = fooled | brackets.high[rows].isinf() & finite
        brackets = brackets.update(rows, trial[rows], fooled, finite)
        kept = samples if kept is None else kept.merge(rows, samples, better)
        strengths[rows] = torch.where(better, trial[rows], strengths[rows])
        tries[rows] += 1
    assert kept is not None  # each image has a first strength
    parts = []
    for part, copies, count in _padded_batches(task.with_found(option, strengths), None, pad_to):
        final = part.with_draws("result")
        _check_finite(final, kept[copies].images)
        parts.append(_evaluate(final, task.config, kept[copies])[:count])
    found = brackets.high.isfinite()
    return replace(Result.cat(parts), restarts=tries.long() - 1, found=found)


def _try_strengths(
    task: TaskSpec, strengths: BatchScalar, rows: list[int], number: int, pad_to: int
) -> tuple[SampleBatch, Tensor, Tensor]:
    """Samples of some images by attacks of these strengths, which fool, and which are finite."""
    option = task.config.searched
    parts, fooled, finite = [], [], []
    for part, copies, count in _padded_batches(task, rows, pad_to):
        chain = part.with_found(option, strengths[copies]).with_draws("chain")
        samples = _sample(chain, task.config)
        fools, is_finite = _fools(part, samples.images, SEARCHES[option], number, count)
        parts.append(samples[:count])
        fooled.append(fools)
        finite.append(is_finite)
    return SampleBatch.cat(parts), torch.cat(fooled), torch.cat(finite)


def _first_strengths(task: TaskSpec, pad_to: int, search: ScaleSearch) -> BatchScalar:
    """The least strength for images that the classifier gets wrong already."""
    first = torch.full((len(task),), search.first, dtype=torch.float64)
    if task.images is None:
        return first
    wrong = []
    for part, _, count in _padded_batches(task, None, pad_to):
        assert part.images is not None
        wrong.append(_fools(part, part.images, search, -1, count)[0])
    return torch.where(torch.cat(wrong), search.least, first)


@torch.no_grad()
def _fools(
    task: TaskSpec, images: Images, search: ScaleSearch, number: int, count: int
) -> tuple[Bool[Tensor, " count"], Bool[Tensor, " count"]]:
    """Which of the first ``count`` images fool the classifier as asked, and which are finite.

    Args:
        number: of the try; a random classifier has other draws in each.
    """
    assert task.labels is not None
    finite = images.flatten(1).isfinite().all(1)
    pictures = quantize_8bit(torch.where(finite.view(-1, 1, 1, 1), images, 0.5))
    target = task.target if isinstance(task.target, Tensor) else None
    n_errors = torch.zeros(len(task), dtype=torch.int64, device=images.device)
    first: Logits | None = None
    for draw in range(search.draws):
        classifier = task.with_draws("fresh", number + 1, draw).classifier
        assert classifier is not None
        logits = classifier(pictures)
        finite &= logits.isfinite().all(1)
        lead = (
            -logit_margin(logits, task.labels) if target is None else logit_margin(logits, target)
        )
        n_errors += lead >= search.margin
        if first is not None and draw == 1 and torch.equal(first, logits):
            n_errors *= search.draws // 2  # no draw will differ
            break
        first = logits
    fooled = finite & (n_errors >= search.share * search.draws)
    return fooled[:count].cpu(), finite[:count].cpu()


def _padded_batches(
    task: TaskSpec, chosen: list[int] | None, pad_to: int
) -> Iterator[tuple[TaskSpec, list[int], int]]:
    """Some images of a task in batches, the last padded with copies of its last; None: all images.

    With each batch its rows, and how many of them are no copies.  For the copies the classifier
    takes the draws of rows that are not chosen, so that those of a chosen image advance once.
    """
    chosen = [*range(len(task))] if chosen is None else chosen
    size = pad_to or len(chosen)
    whole = -(-len(task) // size) * size
    others = [i for i in range(whole) if i not in set(chosen)]
    for positions in batch_ranges(len(chosen), size):
        rows = [chosen[i] for i in positions]
        copies = [*rows, *[rows[-1]] * (size - len(rows))]
        part = task.select(copies)
        if task.classifier is not None:
            draws = [*rows, *others[: size - len(rows)]]
            part = replace(part, classifier=select_rows(task.classifier, draws))
        with task.meter(rows, size) if task.meter else nullcontext():
            yield part, copies, len(rows)


def escalate_attack_scale(attack_scale: float, restarts: int) -> float:
    """The attack scale of a restart: doubled each time, up to the largest double."""
    return min(attack_scale * 2.0 ** min(restarts, MAX_DOUBLINGS), sys.float_info.max)


def _resample(task: TaskSpec, attack_scale: float, previous: Result) -> tuple[Result, Tensor]:
    """The result at another attack scale, and which of the chains stayed finite."""
    config = replace(task.config, attack_scale=attack_scale)
    samples = _sample(task, config)
    finite = samples.images.flatten(1).isfinite().all(1)
    images = torch.where(finite.view(-1, 1, 1, 1), samples.images, previous.images)

    def compute_logits(images: Images) -> Logits:
        assert task.classifier is not None
        logits: Logits = task.classifier(images)
        finite.logical_and_(logits.isfinite().all(1))
        return logits

    return _evaluate(task, config, replace(samples, images=images), compute_logits), finite


def _merge_rows(result: Result, rows: list[int], resampled: Result, finite: Tensor) -> Result:
    """``result`` with ``rows`` replaced where ``finite``; the costs of both add up."""
    nfe, skipped = result.nfe.clone(), result.guidance_skipped.clone()
    nfe[rows] += resampled.nfe
    skipped[rows] += resampled.guidance_skipped
    order, index = torch.arange(len(result)), torch.tensor(rows)
    order[rows] = torch.where(finite.cpu(), len(result) + torch.arange(len(rows)), index)
    return replace(Result.cat([result, resampled])[order], nfe=nfe, guidance_skipped=skipped)


def _sample(task: TaskSpec, config: SamplingConfig) -> SampleBatch:
    return task.sample(task, config, Noise(task.seed, task.image_ids))


def _format(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def _check_finite(task: TaskSpec, images: Images) -> None:
    """Refuse a chain that diverged: in 8 bits it would be black, and fool any classifier."""
    problem = _describe_nonfinite(task, images.flatten(1).isfinite().all(1), " are not finite")
    if not problem:
        return
    names = ("similarity",) if task.task == "purify" else ("attack_scale", "similarity")
    values = ", ".join(f"{name} {_format(getattr(task.config, name))}" for name in names)
    fixed = [name for name in names if name != task.config.searched]
    flags = " or ".join(f"--{name.replace('_', '-')}" for name in fixed)
    raise ValueError(
        f"the chain exploded: {problem} at {values}, {task.config.steps} steps; "
        f"write {f'a smaller {flags}, or ' if flags else ''}more --steps"
    )


@torch.no_grad()
def _evaluate(
    task: TaskSpec,
    config: SamplingConfig,
    samples: SampleBatch,
    float_logits: Callable[[Images], Logits] | None = None,
) -> Result:
    """The samples with the predictions of both classifiers, on 8-bit and on float images.

    Args:
        float_logits: the classifier's logits of float images; by default refuses NaN.
    """
    count, zeros = len(task), torch.zeros(len(task), dtype=torch.int64)
    values: dict[str, Any] = {
        name: task.found.get(name, torch.full((count,), value, dtype=torch.float64))
        for name, value in config.strengths(task.task).items()
    }
    result = Result(
        task=task.task,
        images=samples.images,
        originals=task.images,
        labels=task.labels,
        targets=samples.targets,
        **values,
        nfe=zeros + samples.nfe,
        restarts=zeros,
        guidance_skipped=samples.guidance_skipped.long(),
        energy=samples.energy,
        image_ids=torch.tensor(task.image_ids),
        seed=task.seed,
        config=task.config.to_dict(task.task),
        classes=tuple(task.prior.classes) or known_names(task.classifier),
    )
    if task.classifier is None:
        return _with_judge(task, result)
    compute_logits = partial(_compute_logits, task, task.classifier)
    result = result.with_predictions(
        compute_logits(quantize_8bit(samples.images)),
        None if task.images is None else compute_logits(task.images),
    )
    if task.labels is None:
        return result
    result = result.with_success((float_logits or compute_logits)(samples.images).argmax(1))
    return _with_judge(task, result)


def _with_judge(task: TaskSpec, result: Result) -> Result:
    """The result with the predictions of the reference classifier, if there is one."""
    if task.judge is None:
        return result
    judge = partial(_compute_logits, task, task.judge, role="judge")
    clean = None if task.images is None else judge(task.images).argmax(1)
    return result.with_judge(task.judge, clean, judge(quantize_8bit(result.images)).argmax(1))


def _compute_logits(
    task: TaskSpec, classifier: Any, images: Images, role: str = "classifier"
) -> Logits:
    """The logits; refuses those that are NaN, whose argmax means nothing."""
    logits: Tensor = classifier(images)
    if images_affected := _describe_nonfinite(task, logits.isfinite().all(1)):
        name = "reference classifier" if role == "judge" else role
        raise ValueError(
            f"the {name} returned NaN or infinity for {images_affected}; give one whose logits are "
            "numbers on all images"
        )
    return logits


def _describe_nonfinite(task: TaskSpec, finite: Tensor, verb: str = "") -> str:
    """How many images are not finite, and their first ids; empty if all of them are."""
    bad = {i for i, ok in zip(task.image_ids, finite.tolist(), strict=True) if not ok}
    ids = list_ids(sorted(bad))
    return f"{len(bad)} of {len(set(task.image_ids))} images{verb} (ids {ids})" if bad else ""
