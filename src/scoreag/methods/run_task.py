"""A task on disk: computed in batches, written in groups of these, resumed where it stopped."""

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from scoreag.core.types import Labels
from scoreag.io.filesystem import write_json
from scoreag.io.images import to_float
from scoreag.io.manifest import format_spans, to_jsonable
from scoreag.io.records import Row, SaveBatch, files_intact, picture_path, resume_rows
from scoreag.io.run_dir import open_run_dir
from scoreag.methods.guided_sampling import RUNNER_UP
from scoreag.methods.records import ROW_FIELDS, TASK_FILES, add_pictures, save_images
from scoreag.methods.result import Result
from scoreag.methods.summary import summarize_rows
from scoreag.methods.task import (
    DEFAULT_BATCH_SIZE,
    MAX_BATCH_SIZE,
    TaskSpec,
    batch_ranges,
    run_batch,
)
from scoreag.models.identity import describe_models, tensors_sha256

WRITE_EVERY = 64  # images between two writes
RANDOM = "random"


def run_task(
    job: TaskSpec,
    folder: Path,
    provenance: Mapping[str, Any] | None = None,
    write_every: int = WRITE_EVERY,
    batch_size: int = DEFAULT_BATCH_SIZE,
    progress: bool = True,
    overwrite: bool = False,
    on_start: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Compute what ``folder`` still lacks of ``job``; its summary.

    Batches are cut by position in the whole job and computed whole, so that neither
    ``write_every`` nor an interruption changes a bit of any image.

    Args:
        provenance: for the manifest: ``command``, ``data`` (name, sha256), the word for the target;
            for the rows: ``sources``, the files that the images were read from, by image id.
        batch_size: images a forward pass; 0: ``write_every``, and nothing is padded.
        on_start: called when all is checked, before the first image is computed.
    """
    provenance = provenance or {}
    _check_sizes(write_every, batch_size)
    manifest = build_manifest(job, provenance, write_every, batch_size)
    batches = list(batch_ranges(len(job), batch_size or write_every))

    def compute(number: int, advance: Callable[[int], Any]) -> SaveBatch:
        part = job.select(batches[number])
        result = run_batch(part, pad_to=batch_size)
        advance(len(part))
        return partial(_save_batch, part, folder, provenance, result, batch_size)

    with open_run_dir(folder, manifest, TASK_FILES, overwrite) as run:
        on_start()
        rows = resume_rows(
            folder,
            [[job.image_ids[i] for i in batch] for batch in batches],
            ROW_FIELDS,
            compute,
            partial(_progress_bar, job, progress),
            write_every,
            partial(_is_intact, folder),
        )
        summary = summarize_rows(job.task, rows, run.manifest)
        write_json(folder / "summary.json", summary)
        run.finish()
    return summary


def _progress_bar(job: TaskSpec, progress: bool, done: int) -> "tqdm[Any]":
    off = None if progress else True
    return tqdm(total=len(job), initial=done, unit="image", desc=job.task, delay=2, disable=off)


def _check_sizes(write_every: int, batch_size: int) -> None:
    if write_every < 1 or batch_size < 0:
        raise ValueError(
            f"write-every is {write_every} and batch-size {batch_size}; expected at least 1 and 0"
        )
    if batch_size > MAX_BATCH_SIZE:
        raise ValueError(
            f"batch-size is {batch_size}, and short batches are padded to it; "
            f"expected at most {MAX_BATCH_SIZE}, or 0 for batches of --write-every, unpadded"
        )


def build_manifest(
    job: TaskSpec, provenance: Mapping[str, Any], write_every: int, batch_size: int
) -> dict[str, Any]:
    """All that determines the images of ``job``, but the environment.

    Args:
        provenance: what a job does not know: ``command``, the ``data``'s name, the word for
            ``target``, the ``judge``'s accuracy by its card.
        batch_size: images a forward pass, on which the rounding depends; 0: ``write_every``.
    """
    return {
        "command": provenance.get("command"),
        "task": job.task,
        "config": to_jsonable(job.config.to_dict(job.task)),
        "seed": job.seed,
        "target": provenance.get("target", target_word(job.target)),
        "batch_size": batch_size,
        **({} if batch_size else {"write_every": write_every}),
        "data": {**provenance.get("data", {}), "rows_sha256": rows_sha256(job)},
        "images": len(job),
        "image_ids": format_spans(job.image_ids),
        "labels": None if job.labels is None else sorted(set(job.labels.tolist())),
        **describe_models(job.prior, job.classifier, job.judge, provenance.get("judge")),
    }


def rows_sha256(job: TaskSpec) -> str:
    """The digest of what is given for each image: its id, label, target and pixels."""
    given = {name: getattr(job, name) for name in ("labels", "target", "images")}
    return tensors_sha256({"ids": torch.tensor(job.image_ids), **given})


def target_word(target: Tensor | str | None) -> Any:
    """The target of a job as JSON keeps it."""
    return target.tolist() if isinstance(target, Tensor) else target


def target_source(job: TaskSpec, provenance: Mapping[str, Any]) -> str | None:
    """Who chose the target: given, runner_up, random, or untargeted; None where there is none."""
    if job.task == "purify":
        return None
    if isinstance(job.target, Tensor):
        return RANDOM if provenance.get("target") == RANDOM else "given"
    return RUNNER_UP if job.target == RUNNER_UP else "untargeted"


def _is_intact(folder: Path, row: Row) -> bool:
    """Whether a row names its own pictures, and they are there."""
    return row["file"] == picture_path("images", row["image_id"]) and files_intact(folder, row)


def _save_batch(
    job: TaskSpec, folder: Path, provenance: Mapping[str, Any], result: Result, pad_to: int
) -> list[Row]:
    """The pictures on disk and their rows, whose verdicts are on the pictures read from there."""
    result = _to_cpu(result)
    saved, originals = save_images(
        folder, result.images, result.originals, result.image_ids.tolist()
    )
    float_predictions = None
    if job.classifier is not None:
        pictures = to_float(saved, result.images.dtype)
        float_predictions = _predict(job, "float", result.images, pad_to)
        result = _judged(result, float_predictions, _predict(job, "saved", pictures, pad_to))
        if job.judge is not None:
            result = replace(result, judge_predictions=_predict(job, "judge", pictures, pad_to))
    rows = result.to_rows(target_source(job, provenance), float_predictions)
    return add_pictures(folder, rows, saved, originals, provenance.get("sources"))


def _judged(result: Result, float_predictions: Labels, predictions: Labels) -> Result:
    """``result`` with the verdicts that follow from the classifier's answers to both forms."""
    if result.labels is None:
        return replace(result, predictions=predictions)
    success = targeted = predictions != result.labels
    if result.targets is not None:
        targeted = torch.where(result.targets >= 0, predictions == result.targets, success)
    return replace(
        result,
        predictions=predictions,
        success_float=float_predictions != result.labels,
        success=success,
        targeted_success=targeted,
    )


@torch.no_grad()
def _predict(job: TaskSpec, purpose: str, images: Tensor, pad_to: int) -> Labels:
    """The answers to images, from a batch of the size that the networks always see.

    Args:
        purpose: "judge" asks the judge; any other the classifier, whose draws are keyed by it.
    """
    classifier = job.judge if purpose == "judge" else job.pad(pad_to, purpose).classifier
    assert classifier is not None
    count = len(images)
    padded = torch.cat([images, images[-1:].expand(max(0, pad_to - count), *images.shape[1:])])
    return classifier(padded.to(job.prior.sigmas.device)).argmax(1)[:count].cpu()


def _to_cpu(result: Result) -> Result:
    values = {f.name: getattr(result, f.name) for f in fields(result)}
    moved: dict[str, Any] = {
        name: v.detach().cpu() for name, v in values.items() if isinstance(v, Tensor)
    }
    return replace(result, **moved)
