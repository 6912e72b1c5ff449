"""A certificate on disk: a row an image or a draw, written whole, continued where it was."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from tqdm import tqdm

from scoreag.io.filesystem import write_text
from scoreag.runs import records as lines
from scoreag.runs import run_dir as place
from scoreag.runs.manifest import utc_now
from scoreag.runs.records import Row

ProgressCallback: TypeAlias = Callable[[int], None]

SMOOTHING_TASK, GENERATOR_TASK = "certify smoothing", "certify generator"
OWNED_FILES = ("rows.jsonl", "summary.json", "report.html")
_LABEL_FIELDS = {"image_id": (int,), "label": (int,)}
ROW_FIELDS: dict[str, lines.Fields] = {  # of the rows, by task
    GENERATOR_TASK: {**_LABEL_FIELDS, "predicted": (int,)},
    SMOOTHING_TASK: {
        **_LABEL_FIELDS,
        **dict.fromkeys(("top", "count"), (int,)),
        **dict.fromkeys(("predicted",), (int, lines.NONE_TYPE)),
        "radius": (float, lines.NONE_TYPE),
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
        pieces: image ids that are computed, and written, together.
        work: the rows of a piece, by its number; it tells ``Tick`` what it has done.
        unit, cost: what the bar counts, and how many of it an image takes.
        begun: called when all is checked, before the work begins.
    """
    with place.exclusive_lock(folder) as fresh, place.cleanup_on_error(folder, fresh, OWNED_FILES):
        found = place.open_run_dir(folder, manifest, overwrite, OWNED_FILES)
        on_start()
        kept = _complete_rows(folder, found, batches)
        lines.replace_rows(folder, kept.values())
        bar = tqdm(
            total=units_per_image * sum(map(len, batches)), initial=units_per_image * len(kept), unit=unit,
            desc=str(manifest["task"]), delay=2, disable=None if progress else True,
        )  # fmt: skip
        with bar:
            for number, ids in enumerate(batches):
                if ids[0] not in kept:
                    lines.append_rows(folder, compute_rows(number, bar.update))
        return _finish(folder, found, batches, summarize, render)


def _complete_rows(
    folder: Path, manifest: Mapping[str, Any], batches: Sequence[Sequence[int]]
) -> dict[int, Row]:
    """Rows by image id, in order, of the pieces that are there whole."""
    there = {row["image_id"]: row for row in lines.read_rows(folder, ROW_FIELDS[manifest["task"]])}
    return {i: there[i] for ids in batches if all(i in there for i in ids) for i in ids}


def _finish(
    folder: Path,
    manifest: Mapping[str, Any],
    batches: Sequence[Sequence[int]],
    summarize: Callable[[Sequence[Row]], dict[str, Any]],
    render: Callable[[Mapping[str, Any], Mapping[str, Any], Sequence[Row]], str],
) -> dict[str, Any]:
    rows = list(_complete_rows(folder, manifest, batches).values())
    lines.replace_rows(folder, rows)
    figures = {"task": manifest["task"], **summarize(rows)}
    place.write_json(folder / "summary.json", figures)
    if not manifest.get("finished"):
        manifest = {**manifest, "finished": utc_now()}
        place.write_manifest(folder, manifest)
    write_text(folder / "report.html", render(manifest, figures, rows))
    return figures
