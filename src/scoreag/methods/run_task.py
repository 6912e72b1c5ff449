"""Run a task in batches, in memory or in a run folder that can be resumed.

Every forward pass has ``batch_size`` images, and the last batch is padded.  The kernels then round
alike, so that an image is bit-identical whatever else is computed with it.  Where some images are
sampled more often than others, several batches are computed together, which leaves fewer gaps.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scoreag.classifiers.checks import ZERO_GRADIENT, has_zero_gradient
from scoreag.core.batching import batch_ranges
from scoreag.core.types import Logits
from scoreag.io.filesystem import write_json
from scoreag.io.images import pixels_to_float, to_float
from scoreag.io.manifest import format_spans, to_jsonable
from scoreag.io.pictures import (
    FORMATS,
    EncodedBatch,
    describe_pictures,
    is_large,
    open_pictures,
)
from scoreag.io.progress import progress_bar, tqdm
from scoreag.io.ray_tasks import RayOptions, run_on_ray
from scoreag.io.records import iter_complete_rows
from scoreag.io.resume import resume_rows
from scoreag.io.row_table import mirror_rows, needs_table
from scoreag.io.run_dir import open_run_dir
from scoreag.io.run_shards import SHARD, RunShard
from scoreag.methods.guided_sampling import RUNNER_UP
from scoreag.methods.result import ROW_FIELDS, TASK_FILES, Result, encode_pictures
from scoreag.methods.run_batch import run_batch, samples_again
from scoreag.methods.summary import summarize_rows
from scoreag.methods.task import TaskSpec, validate_flag
from scoreag.models.identity import describe_models, tensors_sha256
from scoreag.registry import describe_value, did_you_mean

DEFAULT_BATCH_SIZE = 16  # images per forward pass
IMAGES_TOGETHER = 256  # that share batches when some are finished, in memory
MAX_BATCH_SIZE = 4096  # short batches are padded to it, in memory
MAX_DOUBLINGS = 1000  # doubles end at 2^1024


def run_in_memory(
    task: TaskSpec, batch_size: int = DEFAULT_BATCH_SIZE, progress: bool = True
) -> Result:
    """The result of all images of a task; batch size 0 takes them all at once, unpadded."""
    check_batch_size("batch_size", batch_size, "all at once")
    parts = []
    show = validate_flag("progress", progress)
    together = max(1, IMAGES_TOGETHER // (batch_size or 1)) if samples_again(task.config) else 1
    with _progress_bar(task.task, len(task), show, 0) as bar:
        for rows in batch_ranges(len(task), together * batch_size or len(task)):
            parts.append(run_batch(task.select(rows), batch_size, bar.update))
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
    shard: RunShard | None = None,
    picture_format: str = "png",
    ray: RayOptions | None = None,
) -> dict[str, Any]:
    """Compute the images of ``task`` that ``folder`` does not have yet; returns the summary.

    Batches are cut by position in the whole task and computed whole, so that neither
    ``write_every`` nor an interruption nor Ray changes a bit of any image.  Above ``MIN_ROWS``
    images the rows are in ``rows.parquet``, too, where pyarrow is installed.

    Args:
        provenance: for the manifest: ``command``, ``data`` (name, sha256), ``target`` as typed;
            for the rows: ``sources``, the file of each image id.
        write_every: images between two writes, and in one task of Ray; they share batches when
            some are finished.
        batch_size: images per forward pass; 0: ``write_every``, unpadded.
        on_start: called after all checks, before the first image is computed.
        shard: computes only these batches; ``merge_tasks`` joins the folders of all shards.
        picture_format: ``png``, ``webdataset`` or ``parquet``.
        ray: the cluster that computes the batches, each on one thread; None is this process.
    """
    provenance = provenance or {}
    if write_every < 1:
        raise ValueError(f"write-every is {write_every}; expected 1 or more")
    check_batch_size("batch-size", batch_size, "batches of --write-every")
    _check_format(picture_format, shard)
    manifest = build_manifest(task, provenance, write_every, batch_size, picture_format)
    batches: Sequence[range] = list(batch_ranges(len(task), batch_size or write_every))
    if shard is not None:
        batches = shard.select(batches)
        manifest = shard_manifest(manifest, task, shard, batches)
    count = sum(map(len, batches))
    ids = [[task.image_ids[i] for i in batch] for batch in batches]
    store = open_pictures(folder, picture_format, ids, is_large(len(task)))

    compute = partial(_compute_batches, task, batches, provenance, batch_size)
    execute = None
    if ray is not None:
        execute = partial(_execute_on_ray, task, batches, provenance, batch_size, ray)
    with open_run_dir(folder, manifest, TASK_FILES, overwrite) as run:
        on_start()
        bar = partial(_progress_bar, task.task, count, progress)
        computed = resume_rows(
            folder, ids, ROW_FIELDS, compute, bar, write_every, store, execute
        )  # fmt: skip
        rows = iter_complete_rows(folder, ROW_FIELDS)
        if needs_table(folder, len(task), computed):
            rows = mirror_rows(folder, rows)
        summary = summarize_rows(task.task, rows, run.manifest)
        write_json(folder / "summary.json", summary)
        run.finish()
    return summary


def _compute_batches(
    task: TaskSpec,
    batches: Sequence[range],
    provenance: Mapping[str, Any],
    batch_size: int,
    numbers: list[int],
    advance: Callable[[int], Any] = lambda count: None,
) -> Iterator[EncodedBatch]:
    """Some batches of a task, computed together where some of their images are sampled again."""
    for group in [numbers] if samples_again(task.config) else [[n] for n in numbers]:
        rows = [row for number in group for row in batches[number]]
        sizes = [len(batches[number]) for number in group]
        part = task.select(rows)
        yield from _compute_together(part, sizes, provenance, batch_size, advance)


def _execute_on_ray(
    task: TaskSpec,
    batches: Sequence[range],
    provenance: Mapping[str, Any],
    batch_size: int,
    ray: RayOptions,
    groups: Iterable[list[int]],
) -> Iterator[tuple[list[int], list[EncodedBatch]]]:
    """Compute groups of batches on Ray.

    The models are sent once.  A group is its images, ids, labels and targets.
    """
    bare = replace(task, image_ids=(), images=None, labels=None, target=None, found={})

    def arguments() -> Iterator[tuple[list[int], dict[str, Any]]]:
        for group in groups:
            yield group, task.describe_images([i for number in group for i in batches[number]])

    yield from run_on_ray(_compute_group, (bare, provenance, batch_size), arguments(), ray)


def _compute_group(shared: tuple[Any, ...], images: dict[str, Any]) -> list[EncodedBatch]:
    """The batches of a group, in a worker."""
    bare, provenance, batch_size = shared
    group = replace(bare, **images)
    batches = list(batch_ranges(len(group), batch_size or len(group)))
    numbers = [*range(len(batches))]
    return [*_compute_batches(group, batches, provenance, batch_size, numbers)]


def _check_format(picture_format: str, shard: RunShard | None) -> None:
    if picture_format not in FORMATS:
        raise ValueError(
            f"format is {picture_format!r}; {did_you_mean(picture_format, [*FORMATS])}"
        )
    if shard is not None and picture_format != "png":
        raise ValueError(
            f"--shard writes PNG files, which scoreag merge joins, and the format is "
            f"{picture_format}; leave out one of them"
        )


def check_batch_size(name: str, value: int, meaning_of_0: str) -> None:
    """Refuse a number of images a forward pass that is too small or too large."""
    if not isinstance(value, int) or value < 0:
        raise ValueError(
            f"{name} is {describe_value(value)}; expected 1 or more, or 0 for {meaning_of_0}"
        )
    if value > MAX_BATCH_SIZE:
        raise ValueError(
            f"{name} is {value}, and short batches are padded to it; expected at most "
            f"{MAX_BATCH_SIZE}, or 0 for {meaning_of_0}, unpadded"
        )


def select_shard(task: TaskSpec, shard: RunShard | None, batch_size: int) -> TaskSpec:
    """The images of a shard as a task of their own; all without a shard."""
    if shard is None:
        return task
    own = shard.select(list(batch_ranges(len(task), batch_size)))
    return task.select([i for batch in own for i in batch])


def shard_manifest(
    manifest: Mapping[str, Any], task: TaskSpec, shard: RunShard, batches: Sequence[range]
) -> dict[str, Any]:
    """The manifest of a shard: it holds its own images, and ``shard`` what the whole run has."""
    ids = [task.image_ids[i] for batch in batches for i in batch]
    whole = {name: manifest[name] for name in ("images", "image_ids")}
    entry = {"number": shard.number, "count": shard.count, **whole}
    return {**manifest, "images": len(ids), "image_ids": format_spans(ids), SHARD: entry}


def _progress_bar(name: str, count: int, progress: bool, done: int) -> "tqdm[Any]":
    # images that are sampled again finish in bursts: what is left is told by the mean of all
    return progress_bar(
        total=count, initial=done, unit="image", desc=name, show=progress, smoothing=0.0
    )


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
    task: TaskSpec,
    provenance: Mapping[str, Any],
    write_every: int,
    batch_size: int,
    picture_format: str = "png",
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
        **describe_pictures(picture_format, len(task)),
        "data": {**provenance.get("data", {}), "rows_sha256": rows_sha256(task)},
        "images": len(task),
        "image_ids": format_spans(task.image_ids),
        "labels": None if task.labels is None else sorted(set(task.labels.tolist())),
        **describe_models(task.prior, task.classifier, task.judge, provenance.get("judge")),
    }


def rows_sha256(task: TaskSpec) -> str:
    """The digest of the ids, labels, targets and pixels of the images."""
    inputs = {name: getattr(task, name) for name in ("labels", "target", "images")}
    return tensors_sha256({"ids": torch.tensor(task.image_ids), **inputs}, pixels_to_float)


def target_to_json(target: Tensor | str | None) -> Any:
    """The target of a task as JSON."""
    return target.tolist() if isinstance(target, Tensor) else target


def target_source(task: TaskSpec, provenance: Mapping[str, Any]) -> str | None:
    """How the target was chosen: given, runner_up, random or untargeted; None for purify."""
    if task.task == "purify" or task.classifier is None:
        return None
    if isinstance(task.target, Tensor):
        return "random" if provenance.get("target") == "random" else "given"
    return RUNNER_UP if task.target == RUNNER_UP else "untargeted"


def _compute_together(
    task: TaskSpec,
    sizes: Sequence[int],
    provenance: Mapping[str, Any],
    pad_to: int,
    advance: Callable[[int], Any],
) -> Iterator[EncodedBatch]:
    """Images that are computed together, as batches of these sizes."""
    result = run_batch(task, pad_to, advance).map_tensors(lambda values: values.detach().cpu())
    start = 0
    for size in sizes:
        rows = range(start, start + size)
        own = result[start : start + size]
        yield _encode_batch(task.select(rows), own, provenance, pad_to)
        start += size


def _encode_batch(
    task: TaskSpec, result: Result, provenance: Mapping[str, Any], pad_to: int
) -> EncodedBatch:
    """A batch with its pictures as PNG, and with predictions on the pictures decoded from these."""
    saved, entries, encoded = encode_pictures(result, provenance.get("sources"))
    float_predictions = None
    pictures = to_float(saved, result.images.dtype)
    if task.classifier is not None:
        float_predictions = _padded_logits(task, "float", result.images, pad_to).argmax(1)
        result = result.with_predictions(_padded_logits(task, "saved", pictures, pad_to))
        if task.labels is not None:
            result = result.with_success(float_predictions)
    if task.judge is not None:
        predictions = _padded_logits(task, "judge", pictures, pad_to).argmax(1)
        result = replace(result, judge_predictions=predictions)
    rows = result.to_rows(target_source(task, provenance), float_predictions)
    return EncodedBatch([row | more for row, more in zip(rows, entries, strict=True)], encoded)


@torch.no_grad()
def _padded_logits(task: TaskSpec, purpose: str, images: Tensor, pad_to: int) -> Logits:
    """The logits of a batch that is padded to ``pad_to``.

    Args:
        purpose: "judge" uses the reference classifier; any other the classifier, with draws keyed
            by this word.
    """
    classifier = task.judge if purpose == "judge" else task.pad(pad_to, purpose).classifier
    assert classifier is not None
    count = len(images)
    padded = torch.cat([images, images[-1:].expand(max(0, pad_to - count), *images.shape[1:])])
    return classifier(padded.to(task.prior.sigmas.device))[:count].cpu()
