"""A folder of pictures, labelled by class folders or by a labels.csv."""

import csv
import io
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

import torch
from tqdm import tqdm

from scoreag.data import run_dir
from scoreag.data.source import Labels, Pixels, Source, index_labels, interleave_groups
from scoreag.io.bounded import MAX_TABLE_BYTES, read_bytes
from scoreag.io.images import is_gray, read_picture
from scoreag.registry import short_repr

_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm"),
)
_COLOR_SAMPLE_SIZE = 64  # pictures by which a folder is taken for one in gray or in color
HIDDEN, NOT_A_PICTURE = "hidden", "no picture that is read"  # why something is left out
_SPLITS = ("train", "training", "test", "testing", "val", "valid", "validation")


def load(
    folder: str,
    size: tuple[int, int] | None = None,
    classes: Sequence[str] = (),
    progress: bool = True,
) -> Source:
    """The pictures of ``folder``; their ids are their positions in it.

    Class folders: the first picture of each class by their sorted names, then the second of each,
    and so on, so that any range holds the classes alike; classes are the folders' sorted names.
    labels.csv: in its order; its first line is ``file,label``, a label is a name or a number.
    Neither: in the order of names, unlabelled.  The folder of a run is read as that run.
    Gray pictures among ones in color become RGB.  What is hidden is left out, at every level.

    Args:
        size: (height, width) that the middle of each picture is resized to.
        classes: names by number, e.g. those of a classifier, which folders and labels must be of.
    """
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise ValueError(f"no folder {folder!r}; give one with class folders or a labels.csv")
    if (path / "rows.jsonl").is_file():
        if size is not None:
            raise ValueError(
                f"{folder!r} is a run, whose images are read as they are; give no size"
            )
        return run_dir.load(folder)
    _check_splits(path, classes)
    find = _list_labels_csv if (path / "labels.csv").is_file() else _list_class_folders
    found = find(path, classes)
    files, labels = found.files, found.labels
    left = _group_by_reason(path, found.skipped)
    if not files:
        also = "".join(f"; {len(some)} {why}, e.g. {some[0]}" for why, some in left.items())
        raise ValueError(
            f"{path} has no PNG or JPEG pictures (or WebP, BMP, TIFF, PPM) in class folders or a "
            f"labels.csv{also}"
        )

    def read(positions: range) -> tuple[Pixels, Labels | None]:
        color = _is_mostly_color(files[:_COLOR_SAMPLE_SIZE])
        pixels = _load_pictures([files[i] for i in positions], size, color, progress)
        return pixels, None if labels is None else torch.tensor([labels[i] for i in positions])

    named = [file.relative_to(path).as_posix() for file in files]
    return Source(len(files), read, range(len(files)), found.classes, named, left)


@dataclass(frozen=True)
class _FolderListing:
    """The pictures of a folder with their labels, and why other things are left out."""

    files: list[Path]
    labels: list[int] | None
    classes: tuple[str, ...]
    skipped: dict[Path, str]


def _check_splits(path: Path, classes: Sequence[str]) -> None:
    """Refuse a folder of train/, test/ and the like: they are no classes, and one is wanted.

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
    """The pictures of the class folders, or those beside none, unlabelled."""
    folders = sorted(f for f in path.iterdir() if f.is_dir() and not _is_hidden(f))
    beside, left = _scan_folder(path, recursive=False)
    if not folders:
        return _FolderListing(beside, None, (), left)
    if beside:
        raise ValueError(f"{path} has pictures beside its class folders, such as {beside[0].name}")
    numbers, names = index_labels([f.name for f in folders], classes, [str(f) for f in folders])
    pairs: list[tuple[Path, int]] = []
    for folder, number in zip(folders, numbers, strict=True):
        files, others = _scan_folder(folder)
        left |= others | ({} if files else {folder: "an empty class"})
        pairs += [(file, number) for file in files]
    pairs = [pairs[i] for i in interleave_groups([number for _, number in pairs])]
    return _FolderListing([file for file, _ in pairs], [number for _, number in pairs], names, left)


def _list_labels_csv(path: Path, classes: Sequence[str]) -> _FolderListing:
    """The pictures that labels.csv names."""
    table = path / "labels.csv"
    entries = read_labels_csv(table)
    labels, places = [one.label for one in entries], [one.location for one in entries]
    numbers, names = index_labels(labels, classes, places)
    files = [path / one.file for one in entries]
    others, left = _scan_folder(path)
    left |= dict.fromkeys(set(others) - set(files), "not in labels.csv")
    return _FolderListing(files, numbers, names, {f: why for f, why in left.items() if f != table})


def _scan_folder(folder: Path, recursive: bool = True) -> tuple[list[Path], dict[Path, str]]:
    """The pictures in a folder, sorted by path, and what else is there, with the reason why."""
    files: list[Path] = []
    left: dict[Path, str] = {}

    def refuse(error: OSError) -> None:
        raise error

    for place, folders, names in os.walk(folder, onerror=refuse):
        for below in [Path(place, name) for name in folders]:
            if _is_hidden(below) or (recursive and below.is_symlink()):
                left[below] = HIDDEN if _is_hidden(below) else "a link to a folder"
        folders[:] = [name for name in folders if recursive and Path(place, name) not in left]
        for file in [Path(place, name) for name in names]:
            if why := _skip_reason(file):
                left[file] = why
            else:
                files.append(file)
    return sorted(files), left


def _is_hidden(path: Path) -> bool:
    return path.name[0] in "._" if path.is_dir() else path.name[0] == "."


def _skip_reason(file: Path) -> str:
    """Why a file is not read as a picture; "" where it is."""
    if file.name[0] == ".":
        return HIDDEN
    return "" if file.suffix.lower() in _SUFFIXES and file.is_file() else NOT_A_PICTURE


def _group_by_reason(path: Path, skipped: dict[Path, str]) -> dict[str, tuple[str, ...]]:
    """What is left out, relative to the whole, by the reason why."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for file in sorted(skipped):
        found[skipped[file]].append(file.relative_to(path).as_posix())
    return {why: tuple(files) for why, files in found.items()}


def _is_mostly_color(files: list[Path]) -> bool:
    """Whether at least half of some pictures are in color."""
    return 2 * sum(map(is_gray, files)) <= len(files)


def _load_pictures(
    files: list[Path], size: tuple[int, int] | None, color: bool, progress: bool
) -> Pixels:
    """The pictures of the files as one tensor: all have one size, or are refused."""
    silent = None if progress else True
    pictures: list[torch.Tensor] = []
    for file in tqdm(files, desc="reading", unit="image", delay=2, leave=False, disable=silent):
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


REQUIRED_COLUMNS = {"file", "label"}  # columns that it must have
_SEPARATORS = ",;\t"  # Excel's, by the country and by "save as"


@dataclass(frozen=True)
class LabelEntry:
    """A picture's path, relative to the folder, its label, and where that is written."""

    file: str
    label: str
    location: str


def read_labels_csv(table: Path) -> list[LabelEntry]:
    """The entries of a labels.csv, in its order.

    Its first line names the columns, ``file`` and ``label`` among them.  The text is UTF-8, UTF-16
    with its mark, or else Windows-1252; columns are separated by commas, semicolons or tabs.

    Raises:
        ValueError: it is no such table, or an entry has no label, two labels, or no picture that
            is inside the folder; says the line.
    """
    entries = [_check_entry(table, entry) for entry in _read_rows(table)]
    first: dict[str, LabelEntry] = {}
    for entry in entries:
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
    separator = next(
        (s for s in _SEPARATORS if set(_split_line(head, s)) >= REQUIRED_COLUMNS), None
    )
    if separator is None:
        raise ValueError(f"{table} begins with {head[:80]!r}; its first line must be 'file,label'")
    rows = csv.DictReader(text, _split_line(head, separator), delimiter=separator)
    found = []
    try:
        for row in rows:
            file, label = ((row[name] or "").strip() for name in ("file", "label"))
            found.append(LabelEntry(file, label, f"{table}, line {rows.line_num + 1}"))
    except csv.Error as error:
        raise ValueError(f"{table}, line {rows.line_num + 1}: {error}") from error
    return found


def _split_line(line: str, separator: str) -> list[str]:
    return [cell.strip().strip('"') for cell in line.split(separator)]


def _read_text(table: Path) -> str:
    data = read_bytes(table, MAX_TABLE_BYTES)
    marked = data[:2] in (b"\xff\xfe", b"\xfe\xff")
    for encoding in ["utf-16"] if marked else ["utf-8-sig", "cp1252"]:
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" not in text:
            return text
    raise ValueError(f"{table} is no text in UTF-8, UTF-16 or Windows-1252; save it as UTF-8")


def _check_entry(table: Path, entry: LabelEntry) -> LabelEntry:
    file = entry.file
    if not entry.label:
        raise ValueError(f"{entry.location}, has no label")
    if (
        PurePosixPath(file).is_absolute()
        or PureWindowsPath(file).drive
        or ".." in _path_parts(file)
    ):
        raise ValueError(
            f"{entry.location}: {short_repr(file)} is not a path inside the folder; write it "
            f"relative to {table.parent}"
        )
    if not (table.parent / file).is_file():
        fix = f"; write {short_repr(file.replace(chr(92), '/'))}" if "\\" in file else ""
        raise ValueError(f"{entry.location}, names {short_repr(file)}, which is not there{fix}")
    return entry


def _path_parts(file: str) -> list[str]:
    return file.replace("\\", "/").split("/")
