"""What people answered when they were asked what an image shows: CIFAR-10H, CIFAR-10N, CIFAR-100N.

The answers have licenses of their own, so none are bundled: they are read from a folder or a file,
or fetched after their license was shown.  Each published file is checked by its digest.
"""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Int64
from numpy.typing import NDArray
from torch import Tensor

from scoreag.data.cifar import CIFAR10_CLASSES, FINE_CLASSES
from scoreag.data.source import Labels
from scoreag.io.bounded import read_npy
from scoreag.io.download import download_file
from scoreag.io.filesystem import data_folder, file_sha256
from scoreag.io.safe_unpickler import load_array_archive
from scoreag.registry import did_you_mean, truncate_text

PREFIX = "humans:"
MIN_AGREEMENT = 0.5  # of the labels with the majority of people, in the right order: .99, .91, .60
MAX_ANSWERS = 1_000_000  # of one image

Counts = Int64[Tensor, "images classes"]
_GITHUB = "https://raw.githubusercontent.com"
_CIFAR_N = f"{_GITHUB}/UCSC-REAL/cifar-10-100n/49df7d8a69e355470c77c1c2f2424916325a394b/data"


@dataclass(frozen=True)
class _Published:
    """A published file of answers.

    Args:
        data: the images that were shown, in the order of the file.
        columns: of a file of classes by image and person; empty for a table of counts.
        labels: the column of the true labels, where the file has one.
    """

    title: str
    data: str
    url: str
    file: str
    sha256: str
    license: str
    classes: tuple[str, ...]
    count: int
    columns: tuple[str, ...] = ()
    labels: str = ""


PUBLISHED: Mapping[str, _Published] = {
    "cifar10h": _Published(
        "CIFAR-10H (Peterson et al. 2019)", "cifar10:test",
        f"{_GITHUB}/jcpeterson/cifar-10h/48da312b193b82e6939ec20f23d1f09cbdd849c8/data",
        "cifar10h-counts.npy", "9b36b4550349af56c79083356312eb4af856cc5fd3caf1f669d40b9d0bbb69ff",
        "CC BY-NC-SA 4.0", CIFAR10_CLASSES, 10_000,
    ),
    "cifar10n": _Published(
        "CIFAR-10N (Wei et al. 2022)", "cifar10:train", _CIFAR_N, "CIFAR-10_human.pt",
        "873e69c39cb9b5e97fb6bae2d60bb59b38a5cbc31d2b868f7903dcb2b9dd2310", "CC BY-NC 4.0",
        CIFAR10_CLASSES, 50_000, ("random_label1", "random_label2", "random_label3"), "clean_label",
    ),
    "cifar100n": _Published(
        "CIFAR-100N (Wei et al. 2022)", "cifar100:train", _CIFAR_N, "CIFAR-100_human.pt",
        "bd2d80409754d420292d622e15e25248ba21e37d27429efac49c8da723f44394", "CC BY-NC 4.0",
        FINE_CLASSES, 50_000, ("noisy_label",), "clean_label",
    ),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class HumanAnswers:
    """How many people gave each class to each image.

    Args:
        counts: a row an image, in the order of ``data``.
        data: the images that were shown, e.g. "cifar10:test"; "" where that is not known.
        labels: the true labels, where the file has them.
    """

    counts: Counts
    name: str
    data: str
    license: str
    sha256: str
    classes: tuple[str, ...] = ()
    labels: Labels | None = None

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def shares(self) -> Float64[Tensor, "images classes"]:
        """The share of people who gave each class."""
        return self.counts.double() / self.counts.sum(1, keepdim=True)

    @property
    def identity(self) -> dict[str, str]:
        """The entries that cards and manifests repeat."""
        return {n: getattr(self, n) for n in ("name", "data", "license", "sha256")}

    def share_of(self, labels: Labels) -> Float64[Tensor, " images"]:
        """The share of people who gave the label of each image."""
        return self.shares.gather(1, labels[:, None])[:, 0]


def load_human_answers(
    name: str | Path,
    root: str | Path | None = None,
    progress: bool = True,
    notify: Callable[[str], Any] | None = None,
) -> HumanAnswers:
    """The answers of a published name, or those in a file.

        "cifar10h", "humans:cifar10h"   CIFAR-10H: about 51 answers an image of cifar10:test
        "cifar10n"                      CIFAR-10N: three answers an image of cifar10:train
        "cifar100n"                     CIFAR-100N: one answer an image of cifar100:train
        "counts.npy"                    your own: whole numbers, a row an image, a column a class

    Args:
        root: the folder of the published file, or the file; by default that of data sets.  If it is
            not there, it is fetched into the folder.
        notify: is told the license before a file is fetched; by default it goes to stderr.

    Raises:
        ValueError: there is no such name, or the file is damaged or another one.
    """
    word = str(name).removeprefix(PREFIX)
    if word not in PUBLISHED:
        if not Path(word).is_file():
            near = did_you_mean(word, list(PUBLISHED))
            raise ValueError(f"no human answers {word[:80]!r} and no such file; {near}")
        counts = _check_counts(Path(word), read_npy(Path(word)))
        return HumanAnswers(counts, Path(word).name, "", "unspecified", file_sha256(Path(word)))
    entry = PUBLISHED[word]
    path = _find_file(word, entry, root, progress, notify)
    if (found := file_sha256(path)) != entry.sha256:
        raise ValueError(
            f"{path} is not {entry.title} as published: its sha256 is {found}; remove it, and it "
            "is fetched"
        )
    counts, labels = _read_published(path, entry)
    return HumanAnswers(
        counts, word, entry.data, entry.license, entry.sha256, entry.classes, labels
    )


def _find_file(
    word: str,
    entry: _Published,
    root: str | Path | None,
    progress: bool,
    notify: Callable[[str], Any] | None,
) -> Path:
    """The published file, fetched after its license was shown where it is missing."""
    if root is not None and Path(root).is_file():
        return Path(root)
    folder = data_folder(root, entry.title)
    for path in (folder / entry.file, folder / "data" / entry.file):
        if path.is_file():
            return path
    base = os.environ.get(f"SCOREAG_{word.upper()}_URL") or entry.url
    (notify or _tell)(
        f"{entry.title}: its license is {entry.license} (https://creativecommons.org/licenses): "
        "cite its authors, no commercial use; fetching it, you accept that"
    )
    path = folder / entry.file
    try:
        download_file(f"{base.rstrip('/')}/{entry.file}", path, f"sha256:{entry.sha256}", progress)
    except ConnectionError as error:
        raise ConnectionError(f"no {entry.file} in {folder}, and {error}") from error
    return path


def _tell(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _read_published(path: Path, entry: _Published) -> tuple[Counts, Labels | None]:
    """The counts in the order of the images, and the labels, where the file has them."""
    if not entry.columns:
        return _check_counts(path, read_npy(path), (entry.count, len(entry.classes))), None
    tables = load_array_archive(path)
    columns = [_read_column(path, tables, name, entry) for name in (*entry.columns, entry.labels)]
    answers = torch.stack(columns[:-1], 1)
    counts = torch.nn.functional.one_hot(answers, len(entry.classes)).sum(1)
    return counts, columns[-1]


def _read_column(path: Path, tables: Any, name: str, entry: _Published) -> Labels:
    column = tables.get(name) if isinstance(tables, dict) else None
    if not isinstance(column, np.ndarray) or column.shape != (entry.count,):
        raise ValueError(f"{path} has no column {name!r} of {entry.count:,} classes")
    if not 0 <= int(column.min()) <= int(column.max()) < len(entry.classes):
        raise ValueError(f"{path}: {name} holds classes outside of 0..{len(entry.classes) - 1}")
    return torch.from_numpy(column.astype(np.int64))


def _check_counts(path: Path, table: NDArray[Any], shape: tuple[int, int] | None = None) -> Counts:
    """The table as counts: whole numbers of 0 or more, at least one answer an image."""
    expected = shape or (len(table) if table.ndim else 0, table.shape[-1] if table.ndim else 0)
    if table.ndim != 2 or table.shape != expected or 0 in expected or expected[1] < 2:
        size = " x ".join(map(str, shape)) if shape else "images x classes"
        raise ValueError(f"{path} has the shape {table.shape}; expected {size}")
    if table.dtype.kind not in "iuf":
        kind = truncate_text(str(table.dtype), 40)
        raise ValueError(f"{path} holds {kind}; expected whole numbers: how many gave each class")
    if not np.isfinite(table).all() or (table < 0).any() or (table != np.round(table)).any():
        raise ValueError(f"{path} holds other than whole numbers of 0 or more; expected counts")
    sums = table.sum(1)
    if (sums < 1).any() or (sums > MAX_ANSWERS).any():
        row = int(np.flatnonzero((sums < 1) | (sums > MAX_ANSWERS))[0])
        raise ValueError(f"{path}: image {row} has {sums[row]:g} answers; expected 1 or more")
    return torch.from_numpy(table.astype(np.int64))


def match_answers(
    answers: HumanAnswers, labels: Labels, image_ids: Sequence[int], classes: Sequence[str] = ()
) -> HumanAnswers:
    """The answers about some images, by their ids; refused where they are of other images.

    People agree with the labels nearly always, and with those of shuffled images hardly ever.
    """
    if (last := max(image_ids, default=-1)) >= len(answers) or not len(image_ids):
        raise ValueError(
            f"{answers.name} has answers about {len(answers):,} images, and these are "
            f"{len(image_ids):,} with ids up to {last:,}; give the images that were shown"
            + (f" ({answers.data})" if answers.data else "")
        )
    if classes and answers.classes and tuple(classes) != answers.classes:
        raise ValueError(
            f"{answers.name} is about {', '.join(answers.classes[:4])}, ..., and the images' "
            f"classes are {', '.join(classes[:4])}, ...; give the images that were shown"
        )
    rows = torch.tensor(image_ids)
    counts = answers.counts[rows]
    found = len(classes) or int(labels.max()) + 1
    if found > counts.shape[1] or (classes and found != counts.shape[1]):
        raise ValueError(f"the images have {found} classes, and {answers.name} {counts.shape[1]}")
    agreement = float((counts.argmax(1) == labels).double().mean())
    same = answers.labels is None or torch.equal(answers.labels[rows], labels)
    if agreement < MIN_AGREEMENT or not same:
        raise ValueError(
            f"{answers.name} and the images are in different orders: most people name the label of "
            f"{agreement:.0%} of them; give the images in the order of the answers"
        )
    return HumanAnswers(
        counts, answers.name, answers.data, answers.license, answers.sha256, answers.classes,
        None if answers.labels is None else answers.labels[rows],
    )  # fmt: skip
