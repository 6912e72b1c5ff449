"""A certificate on disk: a row an image or a draw, written whole, resumed where it stopped."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from tqdm import tqdm

from scoreag.io.filesystem import write_json, write_text
from scoreag.io.records import NONE_TYPE, Fields, Row, SaveBatch, resume_rows
from scoreag.io.run_dir import ROWS, RunFiles, open_run_dir

ProgressCallback: TypeAlias = Callable[[int], None]

SMOOTHING_TASK, GENERATOR_TASK = "certify smoothing", "certify generator"
CERTIFICATE_FILES = RunFiles((ROWS, "summary.json", "report.html"))
_LABEL_FIELDS = {"image_id": (int,), "label": (int,)}
ROW_FIELDS: dict[str, Fields] = {  # of the rows, by task
    GENERATOR_TASK: {**_LABEL_FIELDS, "predicted": (int,)},
    SMOOTHING_TASK: {
        **_LABEL_FIELDS,
        **dict.fromkeys(("top", "count"), (int,)),
        "predicted": (int, NONE_TYPE),
        "radius": (float, NONE_TYPE),
        "p_lower": (float,),
        "correct": (bool,),
    },
}


def run_certification(
    folder: Path,
    manifest: Mapping[str, Any],
    batches: Sequence[Sequence[int]],
    compute_rows: Callable[[int, ProgressCallback], list[Row]],
    summarize: Callable[[Sequence[Row]], dict[str, Any]],
    render: Callable[[Mapping[str, Any], Mapping[str, Any], Sequence[Row]], str],
    unit: str = "image",
    units_per_image: int = 1,
    progress: bool = True,
    overwrite: bool = False,
    on_start: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Compute what ``folder`` still lacks; the summary, which is written beside the page.

    Args:
        batches: image ids that are computed, and written, together.
        compute_rows: the rows of a batch, by its number; it advances the progress bar.
        unit, units_per_image: what the bar counts, and how many of it an image takes.
        on_start: called when all is checked, before the work begins.
    """
    task, total = str(manifest["task"]), units_per_image * sum(map(len, batches))

    def compute(number: int, advance: ProgressCallback) -> SaveBatch:
        rows = compute_rows(number, advance)
        return lambda: rows

    def make_bar(done: int) -> "tqdm[Any]":
        off, initial = None if progress else True, units_per_image * done
        return tqdm(total=total, initial=initial, unit=unit, desc=task, delay=2, disable=off)

    with open_run_dir(folder, manifest, CERTIFICATE_FILES, overwrite) as run:
        on_start()
        rows = resume_rows(folder, batches, ROW_FIELDS[task], compute, make_bar)
        summary = {"task": task, **summarize(rows)}
        write_json(folder / "summary.json", summary)
        run.finish()
        write_text(folder / "report.html", render(run.manifest, summary, rows))
    return summary
