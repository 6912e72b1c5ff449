"""Data sets.  A file here has ``load(what, ...)``, which looks and gives a ``Source`` to read from.

``what`` is the word behind the colon: ``cifar10:test`` calls ``cifar10.load("test")``.
"""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from jaxtyping import Int64, UInt8
from torch import Tensor

from scoreag.io.filesystem import data_folder
from scoreag.registry import did_you_mean, short_repr

_FoundT = TypeVar("_FoundT")

Pixels = UInt8[Tensor, "batch channels height width"]
Labels = Int64[Tensor, "batch"]


@dataclass(frozen=True, eq=False)
class Source:
    """Labelled images that lie ready; only those asked for are read.

    Args:
        read: the images and labels (None: unlabelled) at the positions of a range of step 1.
        image_ids: one for each position; by default the position itself.
        classes: their names by number; empty where they have none.
        files: the file of each position, relative to the whole; empty where they have none.
        skipped: what else was found and is not among them, by the reason why.
    """

    count: int
    read: Callable[[range], tuple[Pixels, Labels | None]]
    image_ids: Sequence[int]
    classes: tuple[str, ...] = ()
    files: Sequence[str] = ()
    skipped: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def index_labels(
    labels: Sequence[str], classes: Sequence[str], locations: Sequence[str] = ()
) -> tuple[list[int], tuple[str, ...]]:
    """The number of each label, and the names of the classes.

    A label is a number or one of ``classes``.  Where these are no names, labels that are all
    numbers stand for themselves ("10" comes after "9"), others are numbered by the alphabet.

    Args:
        classes: empty, or only numbers, where the classes have no names.
        locations: where each label was read, for messages.

    Raises:
        ValueError: a label is none of the classes, or numbers and names are mixed.
    """
    if lacks_class_names(classes) and not any(map(_looks_numeric, labels)):
        return _index_by_alphabet(labels, len(classes))
    for i, word in enumerate(labels):
        try:
            _check_number(word) if not classes else class_index(word, classes)
        except ValueError as error:
            where = f"{locations[i]}: " if locations else ""
            raise ValueError(f"{where}{error}") from error
    if classes:
        return [class_index(word, classes) for word in labels], tuple(classes)
    numbers = [int(word) for word in labels]
    whole = set(numbers) == set(range(len(set(numbers))))
    return numbers, tuple(str(i) for i in range(len(set(numbers)))) if whole else ()


def lacks_class_names(classes: Sequence[str]) -> bool:
    """Whether the classes have no names, or their numbers in place of names."""
    return list(classes) == [str(i) for i in range(len(classes))]


def _index_by_alphabet(
    labels: Sequence[str], max_classes: int
) -> tuple[list[int], tuple[str, ...]]:
    names = sorted(set(labels))
    if max_classes and len(names) > max_classes:
        raise ValueError(f"there are {len(names)} classes by name, and the model has {max_classes}")
    place = {name: i for i, name in enumerate(names)}
    return [place[word] for word in labels], tuple(names)


def _check_number(word: str) -> None:
    """Refuse a label that is no whole number where another one is."""
    if not _is_number(word):
        raise ValueError(
            f"the label {short_repr(word)} is no whole number of 0 or more, and other labels are "
            "numbers; write 2, not 2.0, or names everywhere"
        )
    if len(word) > 18:
        raise ValueError(f"the label {short_repr(word)} is too large a number for a class")


def interleave_groups(groups: Sequence[object]) -> list[int]:
    """Positions so that the groups take turns: the first of each, then the second of each, ...

    >>> interleave_groups("aaabcc")
    [0, 3, 4, 1, 5, 2]
    """
    seen: Counter[object] = Counter()
    turn = []
    for group in groups:
        turn.append(seen[group])
        seen[group] += 1
    order = {group: i for i, group in enumerate(seen)}  # as they first come
    return sorted(range(len(groups)), key=lambda i: (turn[i], order[groups[i]]))


def class_index(label: str | int, classes: Sequence[str]) -> int:
    """The number of a class that is given by number or by name."""
    word = str(label)
    if word in classes:
        return list(classes).index(word)
    if _is_number(word) and len(word) <= 18:
        if classes and int(word) >= len(classes):
            last = len(classes) - 1
            raise ValueError(f"label {word} is not in 0..{last}: {format_classes(classes)}")
        return int(word)
    if not classes:
        raise ValueError(
            f"label {short_repr(word)}: the names of the classes are not known; give its number"
        )
    raise ValueError(f"no class {short_repr(word)}; {did_you_mean(word, list(classes)[:20])}")


def format_classes(classes: Sequence[str]) -> str:
    """The classes with their numbers, at most ten of them."""
    more = ", ..." if len(classes) > 10 else ""
    return ", ".join(f"{i} {name}" for i, name in enumerate(classes[:10])) + more


def _is_number(word: str) -> bool:
    return word.isascii() and word.isdigit()


def _looks_numeric(word: str) -> bool:
    """Whether someone may have meant a number: 3, -1, 2.0, 1e3."""
    return re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", word, re.IGNORECASE) is not None


def pick_split(splits: Iterable[str], word: str, kind: str) -> str:
    """The split, if there is one of that name."""
    if word not in splits:
        raise ValueError(f"{kind} has no split {word!r}; {did_you_mean(word, list(splits))}")
    return word


def find_or_download(
    title: str,
    data_dir: str | Path | None,
    find: Callable[[Path], _FoundT | None],
    download: Callable[[Path], None],
) -> _FoundT:
    """What ``find`` sees of a data set in its folder; where that is None, after a download.

    Args:
        title: the data set's, for messages.
        data_dir: the folder, which must be there; else SCOREAG_DATA, else the cache folder. Where
            it has none of the files, the official ones are downloaded into it.
        download: fetches the official files into the folder.
    """
    folder = data_folder(data_dir, title)
    found = find(folder)
    if found is None:
        try:
            download(folder)
        except ConnectionError as error:
            raise ConnectionError(f"no {title} files in {folder}, and {error}") from error
        found = find(folder)
    if found is None:
        raise ValueError(f"{folder} has no files of {title}, though just fetched")
    return found


def resolve_url(default_url: str, env_var: str, url: str | None) -> str:
    """``url``, else that in the environment's ``variable``, else the ``official`` one.

    The first two may be of the file or of the folder that it is in.
    """
    given = url or os.environ.get(env_var) or default_url
    name = default_url.rpartition("/")[2]
    return given if given.endswith(Path(name).suffix) else f"{given.rstrip('/')}/{name}"
