"""A job on disk: computed in micro-batches, written in batches, continued where it was."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from scoreag.core.types import Classifier, Labels
from scoreag.io.images import to_float
from scoreag.methods.api import DEFAULT_BATCH_SIZE, MAX_BATCH_SIZE
from scoreag.methods.result import Result
from scoreag.methods.sampling import RUNNER_UP
from scoreag.methods.task import TaskSpec, batch_ranges, run_batch
from scoreag.runs import records as lines
from scoreag.runs import run_dir as place
from scoreag.runs.manifest import build_manifest, utc_now
from scoreag.runs.records import Row
from scoreag.runs.summary import summarize_rows

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
    found = build_manifest(job, provenance, write_every, batch_size)
    with place.exclusive_lock(folder) as fresh, place.cleanup_on_error(folder, fresh):
        kept_there = place.open_run_dir(folder, found, overwrite)
        on_start()
        cut = list(batch_ranges(len(job), batch_size or write_every))
        kept = _completed_rows(folder, job, cut)
        todo = [piece for piece in cut if job.image_ids[piece[0]] not in kept]
        lines.replace_rows(folder, kept.values())
        _run_pending(job, folder, provenance, todo, (write_every, batch_size), progress, len(kept))
        return _finish(job, folder, kept_there)


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


def _completed_rows(folder: Path, job: TaskSpec, batches: Sequence[range]) -> dict[int, Row]:
    """Rows by image id, in order, of the micro-batches that are there whole and unharmed."""
    there = {row["image_id"]: row for row in lines.read_rows(folder) if _is_own_row(row, folder)}
    ids = [[job.image_ids[i] for i in piece] for piece in batches]
    return {i: there[i] for some in ids if all(i in there for i in some) for i in some}


def _is_own_row(row: Row, folder: Path) -> bool:
    """Whether a row speaks of its own pictures, and they are there."""
    return row["file"] == lines.name_of("images", row["image_id"]) and lines.files_intact(
        folder, row
    )


def _run_pending(
    job: TaskSpec,
    folder: Path,
    provenance: Mapping[str, Any],
    pending: Sequence[range],
    sizes: tuple[int, int],
    progress: bool,
    done: int,
) -> None:
    write_every, batch_size = sizes
    bar = tqdm(
        total=len(job), initial=done, unit="image", desc=job.task, delay=2,
        disable=None if progress else True,
    )  # fmt: skip
    with bar:
        for group in group_batches(pending, write_every):
            computed: list[tuple[TaskSpec, Result]] = []
            try:
                for piece in group:
                    part = job.select(piece)
                    computed.append((part, run_batch(part, pad_to=batch_size)))
                    bar.update(len(piece))
            finally:  # also what was done when the user stops it
                written = [
                    _write_batch(one, folder, provenance, r, batch_size) for one, r in computed
                ]
                if written:
                    lines.append_rows(folder, [row for some in written for row in some])


def group_batches(batches: Sequence[range], min_images: int) -> Iterator[list[range]]:
    """Whole micro-batches, together at least ``batch_size`` images, but for the last ones."""
    group: list[range] = []
    for piece in batches:
        group.append(piece)
        if sum(map(len, group)) >= min_images:
            yield group
            group = []
    if group:
        yield group


def _write_batch(
    job: TaskSpec, folder: Path, provenance: Mapping[str, Any], result: Result, pad_to: int
) -> list[Row]:
    """The pictures on disk and their rows, whose verdicts are on the pictures read from there."""
    result = _to_cpu(result)
    saved, originals = lines.write_result_pictures(folder, result)
    as_float = None
    if job.classifier is not None:
        pictures = to_float(saved, result.images.dtype)
        as_float = _predict(job, _padded_classifier(job, pad_to, "float"), result.images, pad_to)
        seen = _predict(job, _padded_classifier(job, pad_to, "saved"), pictures, pad_to)
        result = _with_predictions(result, as_float, seen)
        if job.judge is not None:
            result = replace(result, judge_predictions=_predict(job, job.judge, pictures, pad_to))
    said = (target_source(job, provenance), as_float, provenance.get("sources"))
    return lines.build_rows(folder, result, saved, originals, job.seed, *said)


def _with_predictions(result: Result, float_predictions: Labels, predictions: Labels) -> Result:
    """``result`` with the verdicts that follow from the classifier's answers to both forms."""
    if result.labels is None:
        return replace(result, predictions=predictions)
    fooled = wanted = predictions != result.labels
    if result.targets is not None:
        wanted = torch.where(result.targets >= 0, predictions == result.targets, fooled)
    return replace(
        result,
        predictions=predictions,
        success_float=float_predictions != result.labels,
        success=fooled,
        targeted_success=wanted,
    )


def _padded_classifier(job: TaskSpec, pad_to: int, purpose: str) -> Classifier:
    """The classifier, whose draws for ``purpose`` are those of the images of this job."""
    ask = job.pad(pad_to, purpose).classifier
    assert ask is not None
    return ask


@torch.no_grad()
def _predict(job: TaskSpec, classifier: Classifier, images: Tensor, pad_to: int) -> Labels:
    """A classifier's answers, from a batch of the size that it always sees."""
    count = len(images)
    padded = torch.cat([images, images[-1:].expand(max(0, pad_to - count), *images.shape[1:])])
    return classifier(padded.to(job.prior.sigmas.device)).argmax(1)[:count].cpu()


def target_source(job: TaskSpec, provenance: Mapping[str, Any]) -> str | None:
    """Who chose the target: given, runner_up, random, or untargeted; None where there is none."""
    if job.task == "purify":
        return None
    if isinstance(job.target, Tensor):
        return RANDOM if provenance.get("target") == RANDOM else "given"
    return RUNNER_UP if job.target == RUNNER_UP else "untargeted"


def _to_cpu(result: Result) -> Result:
    found = {f.name: getattr(result, f.name) for f in fields(result)}
    moved: dict[str, Any] = {
        name: value.detach().cpu() for name, value in found.items() if isinstance(value, Tensor)
    }
    return replace(result, **moved)


def _finish(job: TaskSpec, folder: Path, found: Mapping[str, Any]) -> dict[str, Any]:
    by_id = {row["image_id"]: row for row in lines.read_rows(folder)}
    rows = [by_id[i] for i in job.image_ids]
    lines.replace_rows(folder, rows)  # in their order, also when some had to be computed again
    figures = summarize_rows(job.task, rows, found)
    place.write_json(folder / "summary.json", figures)
    if not found.get("finished"):
        place.write_manifest(folder, {**found, "finished": utc_now()})
    return figures
