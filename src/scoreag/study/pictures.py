"""The images of runs that people can be asked about, by condition: an attack, or untouched."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from scoreag.assess import runner
from scoreag.assess.experiments import CLEAN as CLEAN_TASK
from scoreag.assess.experiments import Cell
from scoreag.assess.plan import NONE
from scoreag.data.loading import Dataset
from scoreag.data.source import interleave_groups
from scoreag.io.images import encode_png
from scoreag.io.manifest import read_manifest
from scoreag.io.records import Row, read_complete_rows, read_picture
from scoreag.methods.result import ROW_FIELDS
from scoreag.study.lists import shuffle_key
from scoreag.study.manifest import CLEAN

TASKS = {"synthesize": "gas", "transform": "gat", "purify": "gap"}
PROXIES = ("judge", "semantic", "lpips")


@dataclass(frozen=True, eq=False)
class Picture:
    """An image with what is known of it.

    Args:
        pixels: digest of its pixels.
        source: name of the untouched image that it is a version of, or its own.
        source_pixels: digest of that image's pixels; its own digest if it is no version.
        fooled: whether the classifier of the run errs on it; None where that is not known.
        proxies: stand-ins for people, from the run.
    """

    condition: str
    source: str
    source_pixels: str
    label: int
    png: bytes
    pixels: str
    fooled: bool | None = None
    proxies: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Pool:
    """The images of several runs: conditions in order, and what the runs were.

    Args:
        data: name and digest of the data sets whose images are shown beside them, by their use.
    """

    classes: tuple[str, ...]
    pictures: Mapping[str, Sequence[Picture]]
    runs: Sequence[Mapping[str, Any]]
    data: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class _Part:
    """The rows of a run, or of an experiment of an assessment."""

    folder: Path
    names: tuple[str, ...]  # for its condition, the shortest first
    task: str
    data: str
    classes: tuple[str, ...]
    rows: Sequence[Row]
    seal: str


def read_runs(folders: Sequence[Path], conditions: Sequence[str] = ()) -> Pool:
    """The images of all runs that were classified correctly before, and the untouched ones.

    An image on which the classifier erred before counts in no rate of an attack.

    Args:
        conditions: the only ones to read; by default all.

    Raises:
        ValueError: a folder holds no images, or the runs differ in their classes.
    """
    if twice := [one for i, one in enumerate(folders) if one.resolve() in _resolved(folders[:i])]:
        raise ValueError(f"{twice[0]} is given twice; give each run once")
    parts = [part for folder in folders for part in _read_parts(folder)]
    named = _name_conditions(parts)
    if unknown := [name for name in conditions if name not in (CLEAN, *named)]:
        known = ", ".join([CLEAN, *named])
        raise ValueError(f"the runs have no condition {unknown[0]!r}; they have {known}")
    # the untouched images alone are those of all runs
    chosen = {name: part for name, part in named.items() if name in conditions} or named
    classes = _common_classes(chosen.values())
    pictures = _read_pictures(chosen)
    if CLEAN in conditions and CLEAN not in pictures:
        raise ValueError("the runs have no untouched images for the condition clean; give --clean")
    pictures = {
        name: some for name, some in pictures.items() if not conditions or name in conditions
    }
    described = [
        {"condition": name, "task": p.task, "folder": p.folder.name, "seal": p.seal}
        for name, p in chosen.items()
    ]
    return Pool(classes, pictures, described)


def select_conditions(pool: Pool, names: Sequence[str]) -> Pool:
    """The pool with these conditions alone; with all if none is named."""
    if not names:
        return pool
    kept = {name: some for name, some in pool.pictures.items() if name in names}
    return replace(pool, pictures=kept, runs=[r for r in pool.runs if r["condition"] in kept])


def dataset_pictures(data: Dataset, positions: Sequence[int], condition: str) -> list[Picture]:
    """Labeled images of a data set as pictures of a condition."""
    assert data.labels is not None
    name, found = data.name.partition("[")[0], []
    for i in positions:
        png, pixels = encode_png(data.images[i]), pixel_digest(data.images[i])
        source = f"{name}#{data.image_ids[i]}"
        found.append(Picture(condition, source, pixels, int(data.labels[i]), png, pixels))
    return found


def sample_positions(labels: Sequence[int], count: int, seed: int) -> list[int]:
    """At most ``count`` positions in a random order in which the labels take turns."""
    order = sorted(range(len(labels)), key=lambda i: shuffle_key(seed, "sample", i))
    turns = interleave_groups([labels[i] for i in order])
    return [order[i] for i in turns[:count]]


def pixel_digest(image: Tensor) -> str:
    """The digest of an image's shape and pixels, whatever file it is in."""
    head = "x".join(map(str, image.shape))
    return hashlib.sha256(f"{head}\n".encode() + image.contiguous().numpy().tobytes()).hexdigest()


def _resolved(folders: Sequence[Path]) -> list[Path]:
    return [folder.resolve() for folder in folders]


def _read_parts(folder: Path) -> Iterator[_Part]:
    manifest = read_manifest(folder)
    task, seal = str(manifest.get("task")), str(manifest.get("seal"))
    if task.startswith("assess "):
        yield from _read_cells(folder, seal)
        return
    if task not in TASKS:
        raise ValueError(
            f"{folder} holds a run of {task!r:.40}, which has no images for people; give runs of "
            "synthesize, transform, purify or assess"
        )
    rows = read_complete_rows(folder, ROW_FIELDS)
    if not rows:
        raise ValueError(f"{folder} is a run without images; give a run that has some")
    if any(row["label"] is None for row in rows):
        raise ValueError(f"{folder} has images without labels, which no answer can be right on")
    data = str(manifest.get("data", {}).get("name") or folder.name).partition("[")[0]
    short = TASKS[task]
    classes = tuple(map(str, manifest.get("classes", ())))
    yield _Part(folder, (short, f"{short}-{folder.name}"), task, data, classes, rows, seal)


def _read_cells(folder: Path, seal: str) -> Iterator[_Part]:
    """The attacks of an assessment that have rows.

    Images of other data have no label: what stands for it there is the first prediction.
    """
    found = 0
    for cell in runner.list_cells(folder):
        skipped = cell.task == CLEAN_TASK or cell.is_ood
        if rows := [] if skipped else runner.read_cell(folder, cell).rows:
            found += 1
            data = cell.data.partition("[")[0]
            names = _cell_names(cell)
            yield _Part(folder, names, cell.task, data, cell.classes, rows, seal)
    if not found:
        raise ValueError(
            f"{folder} is an assessment without images of an attack; run it to its end"
        )


def _cell_names(cell: Cell) -> tuple[str, ...]:
    """ATTACK, PURIFIER/ATTACK, CLASSIFIER/PURIFIER/ATTACK, and the whole name."""
    attack = cell.variant
    defended = attack if cell.purifier_name == NONE else f"{cell.purifier_name}/{attack}"
    return (attack, defended, f"{cell.classifier}/{defended}", cell.name)


def _name_conditions(parts: Sequence[_Part]) -> dict[str, _Part]:
    """Each part by the shortest of its names that no other part has."""
    named: dict[str, _Part] = {}
    for part in parts:
        others = {name for other in parts if other is not part for name in other.names}
        unique = [name for name in part.names if name not in (*others, *named, CLEAN)]
        named[unique[0] if unique else f"{part.names[-1]}-{len(named) + 1}"] = part
    return named


def _common_classes(parts: Any) -> tuple[str, ...]:
    """The classes of all parts, which must be equal and have names."""
    found = {part.classes: part.folder for part in parts}
    if len(found) > 1:
        first, second = list(found.values())[:2]
        raise ValueError(f"{first} and {second} have different classes; give runs of equal ones")
    classes = next(iter(found), ())
    if not classes:
        folder = next(iter(found.values()), "the runs")
        raise ValueError(f"{folder} has classes without names; run it with a model that names them")
    return classes


def _read_pictures(parts: Mapping[str, _Part]) -> dict[str, list[Picture]]:
    """The pictures of each condition; an image that a run of these made has its origin's source."""
    clean: dict[str, Picture] = {}
    pictures: dict[str, list[Picture]] = {}
    read = _make_reader()
    for name, part in parts.items():
        pictures[name] = []
        for row in part.rows:
            if not _is_eligible(part.task, row):
                continue
            one = _read_row(name, part, row, read)
            pictures[name].append(one)
            if part.task not in ("synthesize", "purify"):
                clean.setdefault(one.source_pixels, _read_original(one, part, row, read))
    if clean:
        pictures = {CLEAN: list(clean.values()), **pictures}
    return _trace_sources(pictures)


def _is_eligible(task: str, row: Row) -> bool:
    """Whether a row counts in the rates of its run."""
    return task in ("synthesize", "purify") or bool(row["predictions"]["before"] == row["label"])


def _read_row(name: str, part: _Part, row: Row, read: Callable[..., Any]) -> Picture:
    png, pixels = read(part.folder, row, "")
    own = f"{name}:{part.data}#{row['image_id']}"
    source, source_pixels = own, pixels
    if "original_file" in row:
        _, source_pixels = read(part.folder, row, "original_")
        source = f"{part.data}#{row['image_id']}"
    proxies = _read_proxies(row, "saved", row.get("lpips"))
    return Picture(name, source, source_pixels, row["label"], png, pixels, row["success"], proxies)


def _read_original(one: Picture, part: _Part, row: Row, read: Callable[..., Any]) -> Picture:
    """The untouched image of a row, on which the classifier did not err."""
    png, pixels = read(part.folder, row, "original_")
    proxies = _read_proxies(row, "before", 0.0)
    return Picture(CLEAN, one.source, pixels, one.label, png, pixels, False, proxies)


def _read_proxies(row: Row, form: str, lpips: float | None) -> dict[str, float | None]:
    """What stands for people of one form of a row's image: saved, or before."""
    semantic = row.get("semantic", {}).get(form, {}).get("share")
    return {"judge": _agreement(row, form), "semantic": semantic, "lpips": lpips}


def _agreement(row: Row, form: str) -> float | None:
    """Share of the run's reference classifiers that see the label; None without one."""
    judges = [row["judge"]] if "judge" in row else [*row.get("judges", {}).values()]
    said = [judge[form] == row["label"] for judge in judges if judge.get(form) is not None]
    return sum(said) / len(said) if said else None


def _make_reader() -> Callable[[Path, Row, str], tuple[bytes, str]]:
    """A function that reads a row's picture: the bytes of a PNG, and the digest of its pixels."""
    known: dict[str, tuple[bytes, str]] = {}

    def read(folder: Path, row: Row, prefix: str) -> tuple[bytes, str]:
        key = str(row.get(f"{prefix}sha256"))
        if key not in known:
            image = read_picture(folder, row, prefix)
            known[key] = encode_png(image), pixel_digest(image)
        return known[key]

    return read


def _trace_sources(pictures: Mapping[str, list[Picture]]) -> dict[str, list[Picture]]:
    """Pictures whose source is itself a picture of another run get the source of that one."""
    made = {
        one.pixels: one
        for condition, some in pictures.items()
        if condition != CLEAN
        for one in some
    }

    def trace(one: Picture) -> Picture:
        before = made.get(one.source_pixels)
        if before is None or before is one or before.source_pixels == one.source_pixels:
            return one
        return replace(one, source=before.source, source_pixels=before.source_pixels)

    return {condition: [trace(one) for one in some] for condition, some in pictures.items()}
