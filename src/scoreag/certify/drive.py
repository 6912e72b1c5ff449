"""A certificate on disk: a row an image or a draw, written whole, continued where it was."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from tqdm import tqdm

from scoreag.files import write_text
from scoreag.runs import folder as place
from scoreag.runs import rows as lines
from scoreag.runs.manifest import now
from scoreag.runs.rows import Row

Tick: TypeAlias = Callable[[int], None]

SMOOTHING, GENERATOR = "certify smoothing", "certify generator"
OURS = ("rows.jsonl", "summary.json", "report.html")
_LABELLED = {"image_id": (int,), "label": (int,)}
FIELDS: dict[str, lines.Fields] = {  # of the rows, by task
    GENERATOR: {**_LABELLED, "said": (int,)},
    SMOOTHING: {
        **_LABELLED,
        **dict.fromkeys(("top", "count"), (int,)),
        **dict.fromkeys(("predicted",), (int, lines.NONE)),
        "radius": (float, lines.NONE),
        "p_lower": (float,),
        "correct": (bool,),
    },
}


def drive(
    folder: Path,
    manifest: Mapping[str, Any],
    pieces: Sequence[Sequence[int]],
    work: Callable[[int, Tick], list[Row]],
    summarise: Callable[[Sequence[Row]], dict[str, Any]],
    page: Callable[[Mapping[str, Any], Mapping[str, Any], Sequence[Row]], str],
    unit: str = "image",
    cost: int = 1,
    progress: bool = True,
    overwrite: bool = False,
    begun: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Compute what ``folder`` still lacks; the summary, which is written beside the page.

    Args:
        pieces: image ids that are computed, and written, together.
        work: the rows of a piece, by its number; it tells ``Tick`` what it has done.
        unit, cost: what the bar counts, and how many of it an image takes.
        begun: called when all is checked, before the work begins.
    """
    with place.alone(folder) as fresh, place.withdrawn(folder, fresh, OURS):
        found = place.claim(folder, manifest, overwrite, OURS)
        begun()
        kept = _kept(folder, found, pieces)
        lines.replace(folder, kept.values())
        bar = tqdm(
            total=cost * sum(map(len, pieces)), initial=cost * len(kept), unit=unit,
            desc=str(manifest["task"]), delay=2, disable=None if progress else True,
        )  # fmt: skip
        with bar:
            for number, ids in enumerate(pieces):
                if ids[0] not in kept:
                    lines.append(folder, work(number, bar.update))
        return _finish(folder, found, pieces, summarise, page)


def _kept(
    folder: Path, found: Mapping[str, Any], pieces: Sequence[Sequence[int]]
) -> dict[int, Row]:
    """Rows by image id, in order, of the pieces that are there whole."""
    there = {row["image_id"]: row for row in lines.read(folder, FIELDS[found["task"]])}
    return {i: there[i] for ids in pieces if all(i in there for i in ids) for i in ids}


def _finish(
    folder: Path,
    found: Mapping[str, Any],
    pieces: Sequence[Sequence[int]],
    summarise: Callable[[Sequence[Row]], dict[str, Any]],
    page: Callable[[Mapping[str, Any], Mapping[str, Any], Sequence[Row]], str],
) -> dict[str, Any]:
    rows = list(_kept(folder, found, pieces).values())
    lines.replace(folder, rows)
    figures = {"task": found["task"], **summarise(rows)}
    place.write_json(folder / "summary.json", figures)
    if not found.get("finished"):
        found = {**found, "finished": now()}
        place.write(folder, found)
    write_text(folder / "report.html", page(found, figures, rows))
    return figures
