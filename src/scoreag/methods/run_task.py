"""Run a task in batches, in memory or in a run folder that can be resumed.

Every forward pass has ``batch_size`` images, and the last batch is padded.  The kernels then round
alike, so that an image is bit-identical whatever else is computed with it.
"""

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
from scoreag.core.batching import batch_ranges
from scoreag.core.types import Logits
from scoreag.io.filesystem import write_json
from scoreag.io.images import to_float
from scoreag.io.manifest import format_spans, to_jsonable
from scoreag.io.records import Row, SaveBatch, files_intact, picture_path, resume_rows
from scoreag.io.run_dir import open_run_dir
from scoreag.methods.guided_sampling import RUNNER_UP
from scoreag.methods.result import ROW_FIELDS, TASK_FILES, Result, save_pictures
from scoreag.methods.run_batch import run_batch
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
        float_predictions = _padded_logits(task, "float", result.images, pad_to).argmax(1)
        result = result.with_predictions(_padded_logits(task, "saved", pictures, pad_to))
        if task.labels is not None:
            result = result.with_success(float_predictions)
        if task.judge is not None:
            predictions = _padded_logits(task, "judge", pictures, pad_to).argmax(1)
            result = replace(result, judge_predictions=predictions)
    rows = result.to_rows(target_source(task, provenance), float_predictions)
    return [row | entry for row, entry in zip(rows, entries, strict=True)]


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
