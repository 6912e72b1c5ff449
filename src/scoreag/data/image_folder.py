"""Pictures: a folder labeled by class folders or a labels.csv, a run's folder, or a single file."""

import csv
import io
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import SimpleNamespace

import torch

from scoreag.data.source import (
    HIDDEN,
    NOT_A_PICTURE,
    Labels,
    Pixels,
    Source,
    are_in_color,
    class_index,
    index_labels,
    interleave_groups,
)
from scoreag.io.bounded import MAX_TABLE_BYTES, read_bytes
from scoreag.io.images import read_picture
from scoreag.io.manifest import read_manifest, read_seal
from scoreag.io.progress import progress_bar
from scoreag.io.records import iter_complete_rows, iter_lines
from scoreag.io.records import read_picture as read_run_picture
from scoreag.io.run_dir import ROWS
from scoreag.registry import short_repr

_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm"),
)
_RUN_ENTRIES = ("image_id", "label", "file", "sha256", "offset", "source")  # that are read of a row
_SPLITS = ("train", "training", "test", "testing", "val", "valid", "validation")


def load_image_folder(
    folder: str,
    size: tuple[int, int] | None = None,
    classes: Sequence[str] = (),
    progress: bool = True,
) -> Source:
    """The pictures of ``folder``; their ids are their positions in it.

    Class folders: the first picture of each class in the order of the sorted class names, then the
    second of each, and so on, so that every range holds all classes equally often.
    labels.csv: in its order; its first line is ``file,label``; a label is a name or a number.
    Neither: in the order of the file names, unlabeled.  A run's folder is read as that run.
    If most pictures are in color, the gray ones become RGB.  Hidden files and folders are skipped.

    Args:
        size: (height, width) to which the center of each picture is resized.
        classes: names by number, e.g. those of a classifier, among which the labels must be.
    """
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise ValueError(f"no folder {folder!r}; give one with class folders or a labels.csv")
    if (path / ROWS).is_file():
        if size is not None:
            raise ValueError(
                f"{folder!r} is a run, whose images are read as they are; give no size"
            )
        return load_run(folder)
    _check_splits(path, classes)
    find = _list_labels_csv if (path / "labels.csv").is_file() else _list_class_folders
    found = find(path, classes)
    files, labels = found.files, found.labels
    by_reason: defaultdict[str, list[str]] = defaultdict(list)
    for file in sorted(found.skipped):
        by_reason[found.skipped[file]].append(file.relative_to(path).as_posix())
    if not files:
        also = "".join(f"; {len(some)} {why}, e.g. {some[0]}" for why, some in by_reason.items())
        raise ValueError(
            f"{path} has no PNG or JPEG pictures (or WebP, BMP, TIFF, PPM) in class folders or a "
            f"labels.csv{also}"
        )

    def read(positions: range) -> tuple[Pixels, Labels | None]:
        in_color = are_in_color(files)
        pixels = _load_pictures([files[i] for i in positions], size, in_color, progress)
        return pixels, None if labels is None else torch.tensor([labels[i] for i in positions])

    names = [file.relative_to(path).as_posix() for file in files]
    skipped = {why: tuple(some) for why, some in by_reason.items()}
    return Source(len(files), read, range(len(files)), found.classes, names, skipped)


def load_single_image(
    filename: str,
    label: str | int | None = None,
    size: tuple[int, int] | None = None,
    classes: Sequence[str] = (),
) -> Source:
    """The picture at the path, whose image id is 0.

    Args:
        label: a class by number, or by name if ``classes`` are given; None leaves it unlabeled.
    """
    path = Path(filename).expanduser()
    if not path.is_file():
        raise ValueError(f"no picture {filename!r}; give the path of a PNG or JPEG")
    labels = None if label is None else torch.tensor([class_index(label, classes)])

    def read(positions: range) -> tuple[Pixels, Labels | None]:
        return read_picture(path, size)[None], labels

    return Source(1, read, (0,), tuple(classes) if label is not None else (), (path.name,))


def load_run(run_dir: str) -> Source:
    """The images of a run's folder, in the order of their ids.

    An unfinished run is refused, and so is a row or a picture that was changed.
    """
    folder = Path(run_dir).expanduser()
    if not (folder / ROWS).is_file():
        raise ValueError(f"{run_dir!r} is no folder of a run: it has no {ROWS}")
    _check_finished(folder)
    found = iter_complete_rows(folder)
    rows = [{name: row[name] for name in _RUN_ENTRIES if name in row} for row in found]
    rows.sort(key=lambda row: row["image_id"])
    if not rows:
        raise ValueError(f"{folder / ROWS} has no rows; give the run's command again")
    labels = [row.get("label") for row in rows]
    is_unlabeled = all(label is None for label in labels)
    if not is_unlabeled and not all(isinstance(label, int) for label in labels):
        raise ValueError(f"{folder / ROWS} has rows with a label and rows without")

    def read(positions: range) -> tuple[Pixels, Labels | None]:
        pixels = torch.stack([read_run_picture(folder, rows[i]) for i in positions])
        return pixels, None if is_unlabeled else torch.tensor([labels[i] for i in positions])

    files = [str(row["source"]) for row in rows if row.get("source")]
    ids = [row["image_id"] for row in rows]
    return Source(len(rows), read, ids, (), files if len(files) == len(rows) else ())


def _check_finished(folder: Path) -> None:
    manifest = read_manifest(folder)
    read_seal(manifest, folder)
    finished, expected, command = (manifest.get(key) for key in ("finished", "images", "command"))
    count = sum(1 for _ in iter_lines(folder))
    if not finished or count != expected:
        raise ValueError(
            f"{folder} is a run that is not finished ({count} of {expected} images); "
            f"give the run's command again{f': {command}' if command else ''}"
        )


@dataclass(frozen=True)
class _FolderListing:
    """The pictures of a folder with their labels, and the skipped files with the reasons."""

    files: list[Path]
    labels: list[int] | None
    classes: tuple[str, ...]
    skipped: dict[Path, str]


def _check_splits(path: Path, classes: Sequence[str]) -> None:
    """Refuse a folder of train/, test/ and the like, which are splits, not classes.

    One such name among others is a class: CIFAR-100 has trains.
    """
    named = sorted(folder.name for folder in path.iterdir() if folder.is_dir())
    visible = [name for name in named if name[0] not in "._"]
    splits = [name for name in visible if name.lower() in _SPLITS and name not in classes]
    if (path / "labels.csv").is_file() or len(splits) < min(2, max(1, len(visible))):
        return
    first = next((name for name in splits if name.lower().startswith("train")), splits[0])
    raise ValueError(
        f"{path} holds the splits {', '.join(splits)}, which are no classes; "
        f"write the one that you want, e.g. image-folder:{path / first}"
    )


def _list_class_folders(path: Path, classes: Sequence[str]) -> _FolderListing:
    """The pictures in the class folders; without class folders, the pictures, unlabeled."""
    folders = sorted(f for f in path.iterdir() if f.is_dir() and not _is_hidden(f))
    outside, skipped = _scan_folder(path, recursive=False)
    if not folders:
        return _FolderListing(outside, None, (), skipped)
    if outside:
        raise ValueError(f"{path} has pictures beside its class folders, such as {outside[0].name}")
    numbers, names = index_labels([f.name for f in folders], classes, lambda i: str(folders[i]))
    pairs: list[tuple[Path, int]] = []
    for folder, number in zip(folders, numbers, strict=True):
        files, others = _scan_folder(folder)
        skipped |= others | ({} if files else {folder: "an empty class"})
        pairs += [(file, number) for file in files]
    pairs = [pairs[i] for i in interleave_groups([number for _, number in pairs])]
    ordered, labels = [file for file, _ in pairs], [number for _, number in pairs]
    return _FolderListing(ordered, labels, names, skipped)


def _list_labels_csv(path: Path, classes: Sequence[str]) -> _FolderListing:
    table = path / "labels.csv"
    entries = read_labels_csv(table)
    labels = [one.label for one in entries]
    numbers, names = index_labels(labels, classes, lambda i: entries[i].location)
    files = [path / one.file for one in entries]
    pictures, skipped = _scan_folder(path)
    skipped |= dict.fromkeys(set(pictures) - set(files), "not in labels.csv")
    skipped.pop(table, None)
    return _FolderListing(files, numbers, names, skipped)


def _scan_folder(folder: Path, recursive: bool = True) -> tuple[list[Path], dict[Path, str]]:
    """The pictures in a folder, sorted by path, and what else is there, with the reason."""
    files: list[Path] = []
    skipped: dict[Path, str] = {}

    def refuse(error: OSError) -> None:
        raise error

    for place, folders, names in os.walk(folder, onerror=refuse):
        for child in [Path(place, name) for name in folders]:
            if _is_hidden(child) or (recursive and child.is_symlink()):
                skipped[child] = HIDDEN if _is_hidden(child) else "a link to a folder"
        folders[:] = [name for name in folders if recursive and Path(place, name) not in skipped]
        for file in [Path(place, name) for name in names]:
            if file.name[0] == ".":
                skipped[file] = HIDDEN
            elif file.suffix.lower() in _SUFFIXES and file.is_file():
                files.append(file)
            else:
                skipped[file] = NOT_A_PICTURE
    return sorted(files), skipped


def _is_hidden(folder: Path) -> bool:
    return folder.name[0] in "._"


def _load_pictures(
    files: list[Path], size: tuple[int, int] | None, color: bool, progress: bool
) -> Pixels:
    """The pictures as one tensor; all must have the same size."""
    pictures: list[torch.Tensor] = []
    for file in progress_bar(files, desc="reading", unit="image", leave=False, show=progress):
        picture = read_picture(file, size)
        if len(picture) == 3 and not color:
            raise ValueError(
                f"{file} is in color, and most pictures of its folder are gray: convert it to "
                'gray, e.g. by PIL\'s .convert("L"), or the others to RGB'
            )
        picture = picture.expand(3, -1, -1) if color else picture
        if pictures and picture.shape != pictures[0].shape:
            first, other = (" x ".join(map(str, p.shape)) for p in (pictures[0], picture))
            raise ValueError(
                f"{file} is {other} but {files[0]} is {first} (channels x height x width): "
                "all must be alike; give a size (--size) to resize them"
            )
        pictures.append(picture)
    return torch.stack(pictures)


REQUIRED_COLUMNS = {"file", "label"}
_SEPARATORS = ",;\t"  # Excel's, which depend on the country and the format


@dataclass(frozen=True)
class LabelEntry:
    """A picture's path, relative to the folder, its label, and the line with both."""

    file: str
    label: str
    location: str


def read_labels_csv(table: Path) -> list[LabelEntry]:
    """The entries of a labels.csv, in its order.

    Its first line names the columns, ``file`` and ``label`` among them.  The text is UTF-8, UTF-16
    with a byte-order mark, or Windows-1252; columns are separated by commas, semicolons or tabs.

    Raises:
        ValueError: it is no such table, or an entry has no label, two labels, or no picture
            inside the folder; the message names the line.
    """
    first: dict[str, LabelEntry] = {}
    entries = _read_rows(table)
    for entry in entries:
        _check_entry(table.parent, entry)
        other = first.setdefault(entry.file, entry)
        if other.label != entry.label:
            raise ValueError(
                f"{entry.location}: {short_repr(entry.file)} has the label "
                f"{short_repr(entry.label)}, and {short_repr(other.label)} in "
                f"{other.location.rpartition(', ')[2]}; keep one of them"
            )
    return entries


def _read_rows(table: Path) -> list[LabelEntry]:
    text = io.StringIO(_read_text(table), newline="")
    head = text.readline().strip()
    for separator in _SEPARATORS:
        columns = [cell.strip().strip('"') for cell in head.split(separator)]
        if set(columns) >= REQUIRED_COLUMNS:
            break
    else:
        raise ValueError(f"{table} begins with {head[:80]!r}; its first line must be 'file,label'")
    rows = csv.DictReader(text, columns, delimiter=separator)
    entries = []
    try:
        for row in rows:
            file, label = ((row[name] or "").strip() for name in ("file", "label"))
            entries.append(LabelEntry(file, label, f"{table}, line {rows.line_num + 1}"))
    except csv.Error as error:
        raise ValueError(f"{table}, line {rows.line_num + 1}: {error}") from error
    return entries


def _read_text(table: Path) -> str:
    data = read_bytes(table, MAX_TABLE_BYTES)
    is_utf16 = data[:2] in (b"\xff\xfe", b"\xfe\xff")
    for encoding in ["utf-16"] if is_utf16 else ["utf-8-sig", "cp1252"]:
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" not in text:
            return text
    raise ValueError(f"{table} is no text in UTF-8, UTF-16 or Windows-1252; save it as UTF-8")


def _check_entry(folder: Path, entry: LabelEntry) -> None:
    file, slashed = entry.file, entry.file.replace("\\", "/")
    if not entry.label:
        raise ValueError(f"{entry.location}, has no label")
    is_absolute = PurePosixPath(file).is_absolute() or PureWindowsPath(file).drive
    if is_absolute or ".." in slashed.split("/"):
        raise ValueError(
            f"{entry.location}: {short_repr(file)} is not a path inside the folder; write it "
            f"relative to {folder}{_relative_hint(file, folder)}"
        )
    if not (folder / file).is_file():
        fix = f"; write {short_repr(slashed)}" if slashed != file else ""
        raise ValueError(f"{entry.location}, names {short_repr(file)}, which is not there{fix}")


def _relative_hint(file: str, folder: Path) -> str:
    """``, 'a.png'`` for a path that leads into the folder."""
    if "\\" in file or PureWindowsPath(file).drive:
        return ""
    path = Path(os.path.abspath(folder / file))
    inside = path.is_relative_to(folder.absolute())
    return f", {short_repr(path.relative_to(folder.absolute()).as_posix())}" if inside else ""


IMAGE_FOLDER = SimpleNamespace(load=load_image_folder)
SINGLE_IMAGE = SimpleNamespace(load=load_single_image)
RUN_DIR = SimpleNamespace(load=load_run)
