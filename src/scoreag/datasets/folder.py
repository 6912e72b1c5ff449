"""A folder of PNG and JPEG pictures, labelled by class folders or by a labels.csv."""

import csv
from collections.abc import Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from scoreag.datasets import Labels, Pixels, Source, numbered, run
from scoreag.images import read_picture

_SUFFIXES = (".png", ".jpg", ".jpeg")


def load(
    what: str,
    size: tuple[int, int] | None = None,
    classes: Sequence[str] = (),
    progress: bool = True,
) -> Source:
    """The pictures of the folder ``what``; their ids are their positions in it.

    Class folders: in the order of class, then of path; classes are the folders' sorted names.
    labels.csv: in its order; its first line is ``file,label``, a label is a name or a number.
    Neither: in the order of names, unlabelled.  The folder of a run is read as that run.

    Args:
        size: (height, width) that the middle of each picture is resized to.
        classes: names by number, e.g. those of a classifier, which folders and labels must be of.
    """
    path = Path(what).expanduser()
    if not path.is_dir():
        raise ValueError(f"no folder {what!r}; give one with class folders or a labels.csv")
    if (path / "rows.jsonl").is_file():
        if size is not None:
            raise ValueError(f"{what!r} is a run, whose images are read as they are; give no size")
        return run.load(what)
    find = _listed if (path / "labels.csv").is_file() else _sorted
    files, labels, names = find(path, classes)
    if not files:
        raise ValueError(f"{path} has no PNG or JPEG pictures in class folders or a labels.csv")

    def read(positions: range) -> tuple[Pixels, Labels | None]:
        pixels = _stacked([files[i] for i in positions], size, progress)
        return pixels, None if labels is None else torch.tensor([labels[i] for i in positions])

    named = [file.relative_to(path).as_posix() for file in files]
    return Source(len(files), read, range(len(files)), names, named)


_Listing = tuple[list[Path], list[int] | None, tuple[str, ...]]


def _sorted(path: Path, classes: Sequence[str]) -> _Listing:
    """The pictures of the class folders, or those beside none, unlabelled."""
    folders = sorted(f for f in path.iterdir() if f.is_dir() and f.name[0] not in "._")
    beside = [file for file in sorted(path.iterdir()) if _is_picture(file)]
    if not folders:
        return beside, None, ()
    if beside:
        raise ValueError(f"{path} has pictures beside its class folders, such as {beside[0].name}")
    numbers, names = numbered([folder.name for folder in folders], classes)
    pairs = [
        (file, number)
        for folder, number in zip(folders, numbers, strict=True)
        for file in sorted(filter(_is_picture, folder.rglob("*")))
    ]
    return [file for file, _ in pairs], [number for _, number in pairs], names


def _listed(path: Path, classes: Sequence[str]) -> _Listing:
    """The pictures that labels.csv names."""
    table = path / "labels.csv"
    with table.open(encoding="utf-8-sig", newline="") as text:
        rows = csv.DictReader(text)
        if not {"file", "label"} <= set(rows.fieldnames or ()):
            first = ",".join(rows.fieldnames or ())
            raise ValueError(f"{table} begins with {first!r}; its first line must be 'file,label'")
        pairs = [((row["file"] or "").strip(), (row["label"] or "").strip()) for row in rows]
    for line, (file, label) in enumerate(pairs, start=2):
        if not label or not (path / file).is_file():
            lacks = "has no label" if not label else f"names {file!r}, which is not there"
            raise ValueError(f"{table}, line {line}, {lacks}")
        if not (path / file).resolve().is_relative_to(path.resolve()):
            raise ValueError(
                f"{table}, line {line}, names {file!r}, which is outside its folder; copy it there"
            )
    numbers, names = numbered([label for _, label in pairs], classes)
    return [path / file for file, _ in pairs], numbers, names


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in _SUFFIXES and path.name[0] != "." and path.is_file()


def _stacked(files: list[Path], size: tuple[int, int] | None, progress: bool) -> Pixels:
    """The pictures of the files as one tensor: all have one size, or are refused."""
    silent = None if progress else True
    pictures: list[torch.Tensor] = []
    for file in tqdm(files, desc="reading", unit="image", delay=2, leave=False, disable=silent):
        picture = read_picture(file, size)
        if pictures and picture.shape != pictures[0].shape:
            first, other = (" x ".join(map(str, p.shape)) for p in (pictures[0], picture))
            raise ValueError(
                f"{file} is {other} but {files[0]} is {first} (channels x height x width): "
                "all must be alike; give a size (--size) to resize them, or convert them"
            )
        pictures.append(picture)
    return torch.stack(pictures)
