"""Run a task in batches, in memory or in a run folder that can be resumed.

Every forward pass has ``batch_size`` images, and the last batch is padded.  The kernels then round
alike, so that an image is bit-identical whatever else is computed with it.
"""

import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from scoreag.classifiers.checks import ZERO_GRADIENT, has_zero_gradient
from scoreag.core.batching import batch_ranges, select_rows
from scoreag.core.rng import Noise
from scoreag.core.types import Images, Labels
from scoreag.io.filesystem import write_json
from scoreag.io.images import quantize_8bit, to_float
from scoreag.io.manifest import format_spans, to_jsonable
from scoreag.io.records import Row, SaveBatch, files_intact, picture_path, resume_rows
from scoreag.io.run_dir import open_run_dir
from scoreag.methods.config import SamplingConfig
from scoreag.methods.guided_sampling import RUNNER_UP, SampleBatch
from scoreag.methods.result import ROW_FIELDS, TASK_FILES, Result, save_pictures
from scoreag.methods.scale_search import AUTO, Brackets, ScaleSearch
from scoreag.methods.summary import summarize_rows
from scoreag.methods.task import TaskSpec, validate_flag
from scoreag.models.identity import describe_models, tensors_sha256
from scoreag.registry import describe_value

DEFAULT_BATCH_SIZE = 16  # images per forward pass
MAX_BATCH_SIZE = 4096  # short batches are padded to it, in memory
MAX_DOUBLINGS = 1000  # doubles end at 2^1024


def run_in_memory(
    task: TaskSpec, batch_size: int = DEFAULT_BATCH_SIZE, progress: bool = True
) -> Result:
    """The result of all images of a task; batch size 0 takes them all at once, unpadded."""
    _check_batch_size("batch_size", batch_size, "all at once")
    parts = []
    with _progress_bar(task, validate_flag("progress", progress), 0) as bar:
        for rows in batch_ranges(len(task), batch_size or len(task)):
            parts.append(run_batch(task.select(rows), pad_to=batch_size))
            bar.update(len(rows))
    return Result.cat(parts)


def run_task(
    task: TaskSpec,
    folder: Path,
    provenance: Mapping[str, Any] | None = None,
    write_every: int = 64,
    batch_size: int = DEFAULT_BATCH_SIZE,
    progress: bool = True,
    overwrite: bool = False,
    on_start: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Compute the images of ``task`` that ``folder`` does not have yet; returns the summary.

    Batches are cut by position in the whole task and computed whole, so that neither
    ``write_every`` nor an interruption changes a bit of any image.

    Args:
        provenance: for the manifest: ``command``, ``data`` (name, sha256), ``target`` as typed;
            for the rows: ``sources``, the file of each image id.
        write_every: images between two writes.
        batch_size: images per forward pass; 0: ``write_every``, unpadded.
        on_start: called after all checks, before the first image is computed.
    """
    provenance = provenance or {}
    if write_every < 1:
        raise ValueError(f"write-every is {write_every}; expected 1 or more")
    _check_batch_size("batch-size", batch_size, "batches of --write-every")
    manifest = build_manifest(task, provenance, write_every, batch_size)
    batches = list(batch_ranges(len(task), batch_size or write_every))

    def compute(number: int, advance: Callable[[int], Any]) -> SaveBatch:
        part = task.select(batches[number])
        result = run_batch(part, pad_to=batch_size)
        advance(len(part))
        return partial(_save_batch, part, folder, provenance, result, batch_size)

    with open_run_dir(folder, manifest, TASK_FILES, overwrite) as run:
        on_start()
        rows = resume_rows(
            folder,
            [[task.image_ids[i] for i in batch] for batch in batches],
            ROW_FIELDS,
            compute,
            partial(_progress_bar, task, progress),
            write_every,
            partial(_is_intact, folder),
        )
        summary = summarize_rows(task.task, rows, run.manifest)
        write_json(folder / "summary.json", summary)
        run.finish()
    return summary


def _check_batch_size(name: str, value: int, meaning_of_0: str) -> None:
    if not isinstance(value, int) or value < 0:
        raise ValueError(
            f"{name} is {describe_value(value)}; expected 1 or more, or 0 for {meaning_of_0}"
        )
    if value > MAX_BATCH_SIZE:
        raise ValueError(
            f"{name} is {value}, and short batches are padded to it; expected at most "
            f"{MAX_BATCH_SIZE}, or 0 for {meaning_of_0}, unpadded"
        )


def _progress_bar(task: TaskSpec, progress: bool, done: int) -> "tqdm[Any]":
    hidden = None if progress else True  # None: tqdm shows a bar on a terminal only
    return tqdm(
        total=len(task), initial=done, unit="image", desc=task.task, delay=2, disable=hidden
    )


@torch.inference_mode(False)  # guidance needs gradients
def run_batch(task: TaskSpec, pad_to: int = 0) -> Result:
    """The result of all images of a task in one batch, padded to ``pad_to``."""
    padded = task.pad(pad_to, "task")
    if task.config.attack_scale == AUTO:
        return _search_scales(replace(task, classifier=padded.classifier), pad_to)
    samples = _sample(padded, padded.config)
    _check_finite(padded, samples.images)
    result = _evaluate(padded, padded.config, samples)[: len(task)]
    if not task.is_attack:
        return result
    return _restart_failures(replace(task, classifier=padded.classifier), result, pad_to)


def _restart_failures(task: TaskSpec, result: Result, pad_to: int) -> Result:
    """Sample the images that failed again, each time at twice the attack scale.

    A random classifier continues its draws for each image.  The images are padded, to the same size
    as before, with copies of the last failed one; for these the classifier takes the draws of other
    rows, so that the draws of a failed image advance once.  An image whose chain diverges keeps its
    last sample and is not restarted: a larger scale would not help.
    """
    diverged: set[int] = set()
    for attempt in range(1, task.config.max_restarts + 1):
        assert result.success is not None and task.classifier is not None
        failures = (~result.success).nonzero().flatten().tolist()
        failed = [i for i in failures if i not in diverged]
        if not failed:
            break
        again, rows = _select_padded(task, failed, pad_to)
        assert not isinstance(task.config.attack_scale, str)
        scale = escalate_attack_scale(task.config.attack_scale, attempt)
        resampled, finite = _resample(again, scale, result[rows])
        resampled = replace(resampled, restarts=torch.full_like(resampled.restarts, attempt))
        result = _merge_rows(result, failed, resampled[: len(failed)], finite[: len(failed)])
        diverged |= {row for row, ok in zip(failed, finite.tolist(), strict=False) if not ok}
    return result


def _select_padded(task: TaskSpec, chosen: list[int], pad_to: int) -> tuple[TaskSpec, list[int]]:
    """Some images of a task, padded to the size of before with copies of the last; their rows.

    For the copies the classifier takes the draws of other rows, so that those of a chosen image
    advance once.
    """
    n_padding = max(0, pad_to - len(chosen))
    others = [i for i in range(max(pad_to, len(task))) if i not in chosen][:n_padding]
    rows = [*chosen, *[chosen[-1]] * n_padding]
    assert task.classifier is not None
    classifier = select_rows(task.classifier, [*chosen, *others])
    return replace(task.select(rows), classifier=classifier), rows


def _search_scales(task: TaskSpec, pad_to: int) -> Result:
    """Each image at the smallest attack scale found at which the classifier errs.

    An image that no scale fools keeps its sample at the largest one.
    """
    search, brackets = ScaleSearch(), Brackets.unknown(len(task))
    count = torch.zeros(len(task), dtype=torch.int64)  # of samples
    result: Result | None = None
    for _ in range(task.config.max_restarts + 1):
        scales = brackets.next_scales(search)
        chosen = (~scales.isnan()).nonzero().flatten().tolist()
        if not chosen:
            break
        part, rows = _select_padded(replace(task, scales=scales), chosen, pad_to)
        previous = result[rows] if result is not None else None
        sampled, finite = _resample(part, 1.0, previous)
        count[chosen] += 1
        sampled, finite = sampled[: len(chosen)], finite[: len(chosen)]
        assert sampled.success is not None
        fooled = sampled.success.cpu() & finite.cpu()
        if result is None:
            result = sampled
        else:
            assert result.success is not None
            better = fooled | ~result.success.cpu()[chosen] & finite.cpu()
            result = _merge_rows(result, chosen, sampled, better)
        brackets = brackets.update(chosen, scales[chosen], fooled)
    assert result is not None
    return replace(result, restarts=count - 1, config=task.config.to_dict(task.task))


def escalate_attack_scale(attack_scale: float, restarts: int) -> float:
    """The attack scale of a restart: doubled each time, up to the largest double."""
    return min(attack_scale * 2.0 ** min(restarts, MAX_DOUBLINGS), sys.float_info.max)


def _resample(
    task: TaskSpec, attack_scale: float, previous: Result | None
) -> tuple[Result, Tensor]:
    """The result at another attack scale, and which of the chains stayed finite."""
    config = replace(task.config, attack_scale=attack_scale)
    samples = _sample(task, config)
    finite = samples.images.flatten(1).isfinite().all(1)
    kept = torch.zeros_like(samples.images) if previous is None else previous.images
    images = torch.where(finite.view(-1, 1, 1, 1), samples.images, kept.to(samples.images))

    def predict(images: Images) -> Labels:
        assert task.classifier is not None
        logits = task.classifier(images)
        finite.logical_and_(logits.isfinite().all(1))
        return logits.argmax(1)

    return _evaluate(task, config, replace(samples, images=images), predict), finite


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


def _check_finite(task: TaskSpec, images: Images) -> None:
    """Refuse a chain that diverged: in 8 bits it would be black, and fool any classifier."""
    problem = _describe_nonfinite(task, images.flatten(1).isfinite().all(1), " are not finite")
    if not problem:
        return
    names = ("similarity",) if task.task == "purify" else ("attack_scale", "similarity")
    values = ", ".join(f"{name} {getattr(task.config, name):g}" for name in names)
    flags = " or ".join(f"--{name.replace('_', '-')}" for name in names)
    raise ValueError(
        f"the chain exploded: {problem} at {values}, {task.config.steps} steps; "
        f"write a smaller {flags}, or more --steps"
    )


@torch.no_grad()
def _evaluate(
    task: TaskSpec,
    config: SamplingConfig,
    samples: SampleBatch,
    predict_float: Callable[[Images], Labels] | None = None,
) -> Result:
    """The samples with the predictions of both classifiers, on 8-bit and on float images.

    Args:
        predict_float: the classifier's predictions on float images; by default refuses NaN.
    """
    count, zeros = len(task), torch.zeros(len(task), dtype=torch.int64)
    attack_scale = task.scales
    if attack_scale is None:
        assert not isinstance(config.attack_scale, str)
        attack_scale = torch.full((count,), config.attack_scale, dtype=torch.float64)
    result = Result(
        task=task.task,
        images=samples.images,
        originals=task.images,
        labels=task.labels,
        targets=samples.targets,
        attack_scale=None if task.task == "purify" else attack_scale,
        nfe=zeros + samples.nfe,
        restarts=zeros,
        guidance_skipped=samples.guidance_skipped.long(),
        image_ids=torch.tensor(task.image_ids),
        seed=task.seed,
        config=task.config.to_dict(task.task),
    )
    if task.classifier is None:
        return result
    predict = partial(_predict, task, task.classifier)
    predictions = predict(quantize_8bit(samples.images))
    clean_predictions = None if task.images is None else predict(task.images)
    result = replace(result, predictions=predictions, clean_predictions=clean_predictions)
    if task.labels is None:
        return result
    result = result.with_success((predict_float or predict)(samples.images))
    if task.judge is None:
        return result
    clean = None if task.images is None else _predict(task, task.judge, task.images, "judge")
    return replace(
        result,
        judge=dict(getattr(task.judge, "metadata", {"name": type(task.judge).__name__})),
        judge_predictions=_predict(task, task.judge, quantize_8bit(samples.images), "judge"),
        judge_clean_predictions=clean,
    )


def _predict(task: TaskSpec, classifier: Any, images: Images, role: str = "classifier") -> Labels:
    """The predicted classes; refuses logits that are NaN, whose argmax means nothing."""
    logits: Tensor = classifier(images)
    if images_affected := _describe_nonfinite(task, logits.isfinite().all(1)):
        name = "reference classifier" if role == "judge" else role
        raise ValueError(
            f"the {name} returned NaN or infinity for {images_affected}; give one whose logits are "
            "numbers on all images"
        )
    return logits.argmax(1)


def _describe_nonfinite(task: TaskSpec, finite: Tensor, verb: str = "") -> str:
    """How many images are not finite, and their first ids; empty if all of them are."""
    bad = {i for i, ok in zip(task.image_ids, finite.tolist(), strict=True) if not ok}
    ids = ", ".join(map(str, sorted(bad)[:5])) + (", ..." if len(bad) > 5 else "")
    return f"{len(bad)} of {len(set(task.image_ids))} images{verb} (ids {ids})" if bad else ""


def find_gradient_problem(task: TaskSpec) -> str:
    """Why an attack cannot work: a classifier with a zero gradient; "" if there is no problem."""
    if task.classifier is None or not task.is_attack:
        return ""
    like = torch.empty(0, dtype=task.prior.dtype, device=task.prior.sigmas.device)
    zero = has_zero_gradient(task.classifier, task.prior.image_shape, like)
    return f"the classifier {ZERO_GRADIENT}" if zero else ""


def warn_of_gradient(task: TaskSpec) -> None:
    """Warn the user of the public function that calls this one."""
    if problem := find_gradient_problem(task):
        warnings.warn(problem, stacklevel=4)


def build_manifest(
    task: TaskSpec, provenance: Mapping[str, Any], write_every: int, batch_size: int
) -> dict[str, Any]:
    """Everything that determines the images of ``task``, except the environment.

    Args:
        provenance: what a task does not know: ``command``, the name of the ``data``, ``target`` as
            typed, the accuracy of the ``judge`` in its card.
        batch_size: images per forward pass, on which the rounding depends; 0: ``write_every``.
    """
    return {
        "command": provenance.get("command"),
        "task": task.task,
        "config": to_jsonable(task.config.to_dict(task.task)),
        "seed": task.seed,
        "target": provenance.get("target", target_to_json(task.target)),
        "batch_size": batch_size,
        **({} if batch_size else {"write_every": write_every}),
        "data": {**provenance.get("data", {}), "rows_sha256": rows_sha256(task)},
        "images": len(task),
        "image_ids": format_spans(task.image_ids),
        "labels": None if task.labels is None else sorted(set(task.labels.tolist())),
        **describe_models(task.prior, task.classifier, task.judge, provenance.get("judge")),
    }


def rows_sha256(task: TaskSpec) -> str:
    """The digest of the ids, labels, targets and pixels of the images."""
    inputs = {name: getattr(task, name) for name in ("labels", "target", "images")}
    return tensors_sha256({"ids": torch.tensor(task.image_ids), **inputs})


def target_to_json(target: Tensor | str | None) -> Any:
    """The target of a task as JSON."""
    return target.tolist() if isinstance(target, Tensor) else target


def target_source(task: TaskSpec, provenance: Mapping[str, Any]) -> str | None:
    """How the target was chosen: given, runner_up, random or untargeted; None for purify."""
    if task.task == "purify":
        return None
    if isinstance(task.target, Tensor):
        return "random" if provenance.get("target") == "random" else "given"
    return RUNNER_UP if task.target == RUNNER_UP else "untargeted"


def _is_intact(folder: Path, row: Row) -> bool:
    """Whether a row names its own pictures, and they are unchanged on disk."""
    return row["file"] == picture_path("images", row["image_id"]) and files_intact(folder, row)


def _save_batch(
    task: TaskSpec, folder: Path, provenance: Mapping[str, Any], result: Result, pad_to: int
) -> list[Row]:
    """Write the pictures; returns their rows, with predictions on the pictures read back."""
    result = result.map_tensors(lambda values: values.detach().cpu())
    saved, entries = save_pictures(folder, result, provenance.get("sources"))
    float_predictions = None
    if task.classifier is not None:
        pictures = to_float(saved, result.images.dtype)
        float_predictions = _predict_padded(task, "float", result.images, pad_to)
        result = replace(result, predictions=_predict_padded(task, "saved", pictures, pad_to))
        if task.labels is not None:
            result = result.with_success(float_predictions)
        if task.judge is not None:
            predictions = _predict_padded(task, "judge", pictures, pad_to)
            result = replace(result, judge_predictions=predictions)
    rows = result.to_rows(target_source(task, provenance), float_predictions)
    return [row | entry for row, entry in zip(rows, entries, strict=True)]


@torch.no_grad()
def _predict_padded(task: TaskSpec, purpose: str, images: Tensor, pad_to: int) -> Labels:
    """The predicted classes, from a batch padded to ``pad_to``.

    Args:
        purpose: "judge" uses the reference classifier; any other the classifier, with draws keyed
            by this word.
    """
    classifier = task.judge if purpose == "judge" else task.pad(pad_to, purpose).classifier
    assert classifier is not None
    count = len(images)
    padded = torch.cat([images, images[-1:].expand(max(0, pad_to - count), *images.shape[1:])])
    return classifier(padded.to(task.prior.sigmas.device)).argmax(1)[:count].cpu()
