"""What a data set is: images and labels that are read on request, and official files.

A data set has ``load(word, ...)``, which returns a ``Source``: for ``cifar10:test``, the word is
``test``.  It may have ``is_cached(word, data_dir)`` and ``CLASSES``, the names by number.
"""

import os
import re
import shutil
import tarfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from scoreag.core.class_names import lacks_class_names, match_classes
from scoreag.io.download import download_file
from scoreag.io.filesystem import atomic_write, data_folder
from scoreag.io.images import is_gray
from scoreag.registry import did_you_mean, short_repr

Pixels = UInt8[Tensor, "batch channels height width"]
Labels = Int64[Tensor, "batch"]
HIDDEN, NOT_A_PICTURE = "hidden", "no picture that is read"  # reasons to skip a file
COLOR_SAMPLE_SIZE = 64  # first pictures that decide whether a data set is in gray or in color


@dataclass(frozen=True, eq=False)
class Source:
    """Images and labels of which any range can be read.

    Args:
        read: the images and labels (None: unlabeled) at the positions of a range of step 1.
        image_ids: one for each position.
        classes: names by number; empty where they have none.
        files: the file of each position, relative to the data set; empty where there are none.
        skipped: other files that were found and are not read, by the reason.
        labels: of all positions, where they are known without reading the images.
    """

    count: int
    read: Callable[[range], tuple[Pixels, Labels | None]]
    image_ids: Sequence[int]
    classes: tuple[str, ...] = ()
    files: Sequence[str] = ()
    skipped: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    labels: Sequence[int] | None = None


def selects_classes(known: Sequence[str], classes: Sequence[str]) -> bool:
    """Whether the classes of a model are some of those of a data set, or others in their order."""
    if lacks_class_names(known) or lacks_class_names(classes) or tuple(known) == tuple(classes):
        return False
    return all(match_classes(known, classes))


def is_within(known: Sequence[str], classes: Sequence[str]) -> bool:
    """Whether the classes of a data set are some of those of a model, which has others, too."""
    if lacks_class_names(known) or lacks_class_names(classes) or len(known) >= len(classes):
        return False
    return all(match_classes(classes, known))


def renumber_source(source: Source, classes: Sequence[str]) -> Source:
    """The images with labels numbered by ``classes``, among which those of the source are."""
    numbers = torch.tensor([own for (own,) in match_classes(classes, source.classes)])

    def read(positions: range) -> tuple[Pixels, Labels | None]:
        pixels, labels = source.read(positions)
        return pixels, None if labels is None else numbers[labels]

    labels = None if source.labels is None else [int(numbers[i]) for i in source.labels]
    return replace(source, read=read, classes=tuple(classes), labels=labels)


def select_source(source: Source, classes: Sequence[str]) -> Source:
    """The images of some classes, in their order, with labels numbered by ``classes``."""
    labels = source.labels
    if labels is None:
        _, read = source.read(range(source.count))
        labels = [] if read is None else read.tolist()
    found = match_classes(source.classes, classes)
    numbers = {own: number for number, (own,) in enumerate(found)}
    chosen = [position for position, label in enumerate(labels) if label in numbers]

    def read_chosen(positions: range) -> tuple[Pixels, Labels | None]:
        places = [chosen[i] for i in positions]
        found = torch.tensor([numbers[labels[place]] for place in places])
        if source.labels is not None:
            return torch.cat([source.read(run)[0] for run in _to_runs(places)]), found
        first = places[0]  # a file is read once, not once for each neighborhood
        pixels, _ = source.read(range(first, places[-1] + 1))
        return pixels[[place - first for place in places]], found

    return Source(
        len(chosen), read_chosen, [source.image_ids[i] for i in chosen], tuple(classes),
        [source.files[i] for i in chosen] if source.files else (), source.skipped,
        [numbers[labels[i]] for i in chosen],
    )  # fmt: skip


def _to_runs(positions: Sequence[int]) -> list[range]:
    """Increasing positions as ranges of neighbors."""
    starts = [i for i, p in enumerate(positions) if not i or positions[i - 1] != p - 1]
    return [
        range(positions[first], positions[last - 1] + 1)
        for first, last in zip(starts, [*starts[1:], len(positions)], strict=True)
    ]


@dataclass(frozen=True, eq=False)
class OfficialDataset:
    """A published data set, whose files are downloaded if they are missing.

    The files are in ``data_dir``, else in SCOREAG_DATA, else in the cache folder.  They are
    downloaded from ``url``, or from the address of the folder or of the file in SCOREAG_NAME_URL.

    Args:
        title: the name in messages.
        digests: of the published files, by their path in the data folder.
        find: what is there of a split in a folder, for ``open``; None if anything is missing.
        open: the source of a split; the last argument is whether to show progress.
        needs: the files to download for a split; by default all.
        archive_folder, members: if the file is an archive, its files to unpack, and to where.
        bundled: splits that need no files.
    """

    name: str
    title: str
    splits: Sequence[str]
    url: str
    digests: dict[str, str]
    find: Callable[[Path, str], Any]
    open: Callable[[Any, str, bool], Source]
    needs: Callable[[str], Sequence[str]] | None = None
    archive_folder: str = ""
    members: Sequence[str] = ()
    bundled: Mapping[str, Callable[[], Source]] = field(default_factory=dict)
    default_split: str = "test"
    CLASSES: tuple[str, ...] = ()

    def load(
        self, split_name: str, data_dir: str | Path | None = None, progress: bool = True
    ) -> Source:
        """The split of that name, with its files downloaded if they are missing."""
        split = self._pick_split(split_name)
        if split in self.bundled:
            return self.bundled[split]()
        folder = data_folder(data_dir, self.title)
        found = self.find(folder, split)
        if found is None:
            try:
                self._download(folder, split, progress)
            except ConnectionError as error:
                raise ConnectionError(f"no {self.title} files in {folder}, and {error}") from error
            found = self.find(folder, split)
        if found is None:
            raise ValueError(f"{folder} has no files of {self.title} after the download")
        return self.open(found, split, progress)

    def is_cached(self, split_name: str, data_dir: str | Path | None = None) -> bool:
        """Whether the split can be read without a download."""
        split = self._pick_split(split_name)
        return split in self.bundled or (
            self.find(data_folder(data_dir, self.title), split) is not None
        )

    def _pick_split(self, name: str) -> str:
        split = name or self.default_split
        if split not in self.splits:
            hint = did_you_mean(split, list(self.splits))
            raise ValueError(f"{self.name} has no split {split!r}; {hint}")
        return split

    def _download(self, folder: Path, split: str, progress: bool) -> None:
        base = os.environ.get(f"SCOREAG_{self.name.replace('-', '_').upper()}_URL") or self.url
        for name in self.needs(split) if self.needs else self.digests:
            path = folder / name
            existed = path.exists()
            is_file = base.endswith(path.suffix)
            url = base if is_file else f"{base.rstrip('/')}/{path.name}"
            download_file(url, path, self.digests[name], progress)
            if self.members:
                _unpack(path, folder / self.archive_folder, list(self.members))
                if not existed:
                    path.unlink()


def _unpack(archive: Path, folder: Path, names: list[str]) -> None:
    """Extract the files ``names`` of the archive, and nothing else that it contains."""
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive) as tar:
        for member in tar:
            name = member.name.removeprefix("./").removeprefix(f"{folder.name}/")
            content = tar.extractfile(member) if member.isreg() and name in names else None
            if content is not None:
                names.remove(name)
                atomic_write(folder / name, partial(_copy, content))
    if names:
        raise ValueError(f"{archive} lacks {', '.join(names)}; it is not the official archive")


def _copy(content: Any, path: Path) -> None:
    with path.open("wb") as file:
        shutil.copyfileobj(content, file, 1 << 20)


def index_labels(
    labels: Sequence[str],
    classes: Sequence[str],
    describe: Callable[[int], str] | None = None,
) -> tuple[list[int], tuple[str, ...]]:
    """The number of each label, and the names of the classes.

    A label is a number or one of ``classes``.  If these have no names, labels that are all numbers
    are taken as they are ("10" comes after "9"), and others are numbered in alphabetical order.

    Args:
        classes: empty, or only numbers, where the classes have no names.
        describe: where the label at a position was read, for messages.
    """
    if lacks_class_names(classes) and not any(map(_looks_numeric, labels)):
        names = sorted(set(labels))
        if classes and len(names) > len(classes):
            raise ValueError(
                f"there are {len(names)} classes by name, and the model has {len(classes)}"
            )
        index = {name: i for i, name in enumerate(names)}
        return [index[word] for word in labels], tuple(names)
    numbers = []
    for i, word in enumerate(labels):
        try:
            numbers.append(class_index(word, classes) if classes else _parse_number(word))
        except ValueError as error:
            where = f"{describe(i)}: " if describe else ""
            raise ValueError(f"{where}{error}") from error
    if classes:
        return numbers, tuple(classes)
    count = len(set(numbers))
    return numbers, tuple(map(str, range(count))) if set(numbers) == set(range(count)) else ()


def _parse_number(word: str) -> int:
    if not is_class_number(word):
        whole = re.fullmatch(r"\+?(\d{1,18})\.?0*", word, re.ASCII)
        fix = f"write {int(whole[1])}" if whole else "give its class a number, or leave it out"
        raise ValueError(
            f"the label {short_repr(word)} is no whole number of 0 or more, and other labels are "
            f"numbers; {fix}, or write names everywhere"
        )
    if len(word) > 18:
        raise ValueError(f"the label {short_repr(word)} is too large a number for a class")
    return int(word)


def interleave_groups(groups: Sequence[object]) -> list[int]:
    """Positions so that the groups take turns: the first of each, then the second of each, ...

    >>> interleave_groups("aaabcc")
    [0, 3, 4, 1, 5, 2]
    """
    counts: Counter[object] = Counter()
    turns = []
    for group in groups:
        turns.append(counts[group])
        counts[group] += 1
    order = {group: i for i, group in enumerate(counts)}  # of their first appearance
    return sorted(range(len(groups)), key=lambda i: (turns[i], order[groups[i]]))


def class_index(label: str | int, classes: Sequence[str]) -> int:
    """The number of a class that is given by number or by name."""
    word = str(label)
    if word in classes:
        return list(classes).index(word)
    if is_class_number(word) and len(word) <= 18:
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


def are_in_color(pictures: Iterable[Path | bytes]) -> bool:
    """Whether at most half of the first pictures are gray, by their headers."""
    gray = [is_gray(one) for one in islice(pictures, COLOR_SAMPLE_SIZE)]
    return 2 * sum(gray) <= len(gray)


def is_class_number(word: str) -> bool:
    """Whether a label is written as a whole number of 0 or more."""
    return word.isascii() and word.isdigit()


def _looks_numeric(word: str) -> bool:
    """Whether a number may be meant: 3, -1, 2.0, 1e3."""
    return re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", word, re.IGNORECASE) is not None
