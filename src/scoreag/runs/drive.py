"""A job on disk: computed in micro-batches, written in batches, continued where it was."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from scoreag.api import LARGEST, MICRO_BATCH
from scoreag.core.types import Classifier, Labels
from scoreag.images import to_float
from scoreag.jobs import Job, compute, pieces
from scoreag.result import Result
from scoreag.runs import folder as place
from scoreag.runs import rows as lines
from scoreag.runs.manifest import manifest, now
from scoreag.runs.rows import Row
from scoreag.runs.summary import summary

BATCH = 64  # images between two writes
SECOND, RANDOM = "second", "random"


def drive(
    job: Job,
    folder: Path,
    about: Mapping[str, Any] | None = None,
    batch_size: int = BATCH,
    micro_batch: int = MICRO_BATCH,
    progress: bool = True,
    overwrite: bool = False,
    begun: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Compute what ``folder`` still lacks of ``job``; its summary.

    Micro-batches are cut by position in the whole job and computed whole, so that neither
    ``batch_size`` nor an interruption changes a bit of any image.

    Args:
        about: for the manifest: ``command``, ``data`` (name, sha256), the word for ``wrong``;
            for the rows: ``sources``, the files that the images were read from, by image id.
        micro_batch: 0: the networks see ``batch_size`` images at once, and nothing is padded.
        begun: called when all is checked, before the first image is computed.
    """
    about = about or {}
    _check_sizes(batch_size, micro_batch)
    found = manifest(job, about, batch_size, micro_batch)
    with place.alone(folder) as fresh, place.withdrawn(folder, fresh):
        kept_there = place.claim(folder, found, overwrite)
        begun()
        cut = list(pieces(len(job), micro_batch or batch_size))
        kept = _kept(folder, job, cut)
        todo = [piece for piece in cut if job.image_ids[piece[0]] not in kept]
        lines.replace(folder, kept.values())
        _fill(job, folder, about, todo, (batch_size, micro_batch), progress, len(kept))
        return _finish(job, folder, kept_there)


def _check_sizes(batch_size: int, micro_batch: int) -> None:
    if batch_size < 1 or micro_batch < 0:
        raise ValueError(
            f"batch-size is {batch_size} and micro-batch {micro_batch}; expected at least 1 and 0"
        )
    if micro_batch > LARGEST:
        raise ValueError(
            f"micro-batch is {micro_batch}, and short ones are padded to it; "
            f"expected at most {LARGEST}, or 0 for batches of --batch-size, unpadded"
        )


def _kept(folder: Path, job: Job, cut: Sequence[range]) -> dict[int, Row]:
    """Rows by image id, in order, of the micro-batches that are there whole and unharmed."""
    there = {row["image_id"]: row for row in lines.read(folder) if _own(row, folder)}
    ids = [[job.image_ids[i] for i in piece] for piece in cut]
    return {i: there[i] for some in ids if all(i in there for i in some) for i in some}


def _own(row: Row, folder: Path) -> bool:
    """Whether a row speaks of its own pictures, and they are there."""
    return row["file"] == lines.name_of("images", row["image_id"]) and lines.holds(folder, row)


def _fill(
    job: Job,
    folder: Path,
    about: Mapping[str, Any],
    todo: Sequence[range],
    sizes: tuple[int, int],
    progress: bool,
    done: int,
) -> None:
    batch_size, micro_batch = sizes
    bar = tqdm(
        total=len(job), initial=done, unit="image", desc=job.task, delay=2,
        disable=None if progress else True,
    )  # fmt: skip
    with bar:
        for group in groups(todo, batch_size):
            computed: list[tuple[Job, Result]] = []
            try:
                for piece in group:
                    part = job.rows(piece)
                    computed.append((part, compute(part, pad_to=micro_batch)))
                    bar.update(len(piece))
            finally:  # also what was done when the user stops it
                written = [_written(one, folder, about, r, micro_batch) for one, r in computed]
                if written:
                    lines.append(folder, [row for some in written for row in some])


def groups(todo: Sequence[range], batch_size: int) -> Iterator[list[range]]:
    """Whole micro-batches, together at least ``batch_size`` images, but for the last ones."""
    group: list[range] = []
    for piece in todo:
        group.append(piece)
        if sum(map(len, group)) >= batch_size:
            yield group
            group = []
    if group:
        yield group


def _written(
    job: Job, folder: Path, about: Mapping[str, Any], result: Result, pad_to: int
) -> list[Row]:
    """The pictures on disk and their rows, whose verdicts are on the pictures read from there."""
    result = _on_cpu(result)
    saved, originals = lines.write_all(folder, result)
    as_float = None
    if job.classifier is not None:
        pictures = to_float(saved, result.images.dtype)
        as_float = _said(job, _asked(job, pad_to, "float"), result.images, pad_to)
        seen = _said(job, _asked(job, pad_to, "saved"), pictures, pad_to)
        result = _judged(result, as_float, seen)
        if job.judge is not None:
            result = replace(result, judge_predictions=_said(job, job.judge, pictures, pad_to))
    said = (wrong_from(job, about), as_float, about.get("sources"))
    return lines.rows_of(folder, result, saved, originals, job.seed, *said)


def _judged(result: Result, as_float: Labels, seen: Labels) -> Result:
    """``result`` with the verdicts that follow from the classifier's answers to both forms."""
    if result.labels is None:
        return replace(result, predictions=seen)
    fooled = wanted = seen != result.labels
    if result.wrong is not None:
        wanted = torch.where(result.wrong >= 0, seen == result.wrong, fooled)
    return replace(
        result,
        predictions=seen,
        success=as_float != result.labels,
        success_8bit=fooled,
        as_wanted=wanted,
    )


def _asked(job: Job, pad_to: int, purpose: str) -> Classifier:
    """The classifier, whose draws for ``purpose`` are those of the images of this job."""
    ask = job.padded(pad_to, purpose).classifier
    assert ask is not None
    return ask


@torch.no_grad()
def _said(job: Job, classifier: Classifier, images: Tensor, pad_to: int) -> Labels:
    """A classifier's answers, from a batch of the size that it always sees."""
    count = len(images)
    padded = torch.cat([images, images[-1:].expand(max(0, pad_to - count), *images.shape[1:])])
    return classifier(padded.to(job.prior.sigmas.device)).argmax(1)[:count].cpu()


def wrong_from(job: Job, about: Mapping[str, Any]) -> str | None:
    """Who chose the wrong class: given, second, random, or untargeted; None where there is none."""
    if job.task == "purify":
        return None
    if isinstance(job.wrong, Tensor):
        return RANDOM if about.get("wrong") == RANDOM else "given"
    return SECOND if job.wrong == SECOND else "untargeted"


def _on_cpu(result: Result) -> Result:
    found = {f.name: getattr(result, f.name) for f in fields(result)}
    moved: dict[str, Any] = {
        name: value.detach().cpu() for name, value in found.items() if isinstance(value, Tensor)
    }
    return replace(result, **moved)


def _finish(job: Job, folder: Path, found: Mapping[str, Any]) -> dict[str, Any]:
    by_id = {row["image_id"]: row for row in lines.read(folder)}
    rows = [by_id[i] for i in job.image_ids]
    lines.replace(folder, rows)  # in their order, also when some had to be computed again
    figures = summary(job.task, rows, found)
    place.write_json(folder / "summary.json", figures)
    if not found.get("finished"):
        place.write(folder, {**found, "finished": now()})
    return figures
