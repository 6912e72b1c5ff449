"""Images and labels from a word such as ``cifar10:test[0:256]``: a data set, a part, a range."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from inspect import signature
from pathlib import Path
from types import ModuleType
from typing import Any

from jaxtyping import Float
from torch import Tensor

from scoreag.datasets import Labels, Pixels, Source
from scoreag.images import to_float
from scoreag.load import check_options, described, hint, load, names

_PATHS = ("folder", "arrays", "picture", "run")  # the kinds whose word is a path


@dataclass(frozen=True, eq=False)
class Dataset:
    """8-bit images with their ids.

    Args:
        labels: the class of each image; None where they are not labelled.
        image_ids: the position of each in the whole that it was read from, or the id in its run.
        classes: names by number; empty where they have none.
        name: what was read, with its range unless that is the whole, e.g. "cifar10:test[0:4]".
        files: where each was read from, relative to the whole; empty where they have no files.
    """

    images: Pixels
    labels: Labels | None
    image_ids: tuple[int, ...]
    classes: tuple[str, ...]
    name: str
    files: tuple[str, ...] = ()

    @property
    def sha256(self) -> str:
        """The digest of shape, pixels and labels, in hexadecimal."""
        digest = hashlib.sha256(repr(tuple(self.images.shape)).encode())
        digest.update(self.images.contiguous().numpy().data)
        if self.labels is not None:
            digest.update(self.labels.contiguous().numpy().data)
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self.image_ids)

    def __getitem__(self, rows: int | slice) -> "Dataset":
        if isinstance(rows, int):
            place = range(len(self))[rows]
            rows = slice(place, place + 1)
        return replace(
            self,
            images=self.images[rows],
            labels=None if self.labels is None else self.labels[rows],
            image_ids=self.image_ids[rows],
            files=self.files[rows],
        )


def data(
    spec: str | Path, root: str | Path | None = None, **options: Any
) -> tuple[Float[Tensor, "batch channels height width"], Labels | None]:
    """The images in [0, 1] and the labels that ``spec`` names; ``read`` tells their ids as well."""
    dataset = read(spec, root, **options)
    return to_float(dataset.images), dataset.labels


def read(
    spec: str | Path,
    root: str | Path | None = None,
    label: str | int | None = None,
    size: tuple[int, int] | None = None,
    progress: bool = True,
    classes: Sequence[str] = (),
) -> Dataset:
    """The images that ``spec`` names: ``WHAT``, ``WHAT[a:b]``, ``[a:]``, ``[:b]``, ``[i]``.

    ``WHAT`` is ``cifar10:train``, ``cifar10:test``, ``cifar100:test-coarse``,
    ``tiny-imagenet:val``, ``fashion-mnist:sample``, ``samples``, ``folder:PATH``,
    ``arrays:FILE.npz``, ``package.module:word``, or the path of a picture or of a run's folder.

    Args:
        root: where the official files of a data set are, or are fetched to.
        label: the class of a single picture, by number or by a name in ``classes``.
        size: (height, width) that pictures are resized to; None takes them as they are.
        classes: the classifier's, for labels that are given by name.
    """
    if not isinstance(spec, str | Path):
        raise ValueError(
            f"the data is {described(spec)}; expected a word or a path, such as 'samples'; a "
            "tensor of images is given to tasks and attacks as it is"
        )
    what, part = _parts(spec)
    source, name = _source(what, root, label, _checked(size), progress, classes)
    inside = _range(part, source.count, name)
    images, labels = source.read(inside)
    ids = tuple(source.image_ids[i] for i in inside)
    files = tuple(source.files[i] for i in inside) if source.files else ()
    part = "" if len(inside) == source.count else f"[{inside.start}:{inside.stop}]"
    return Dataset(images, labels, ids, source.classes, f"{name}{part}", files)


def at_hand(spec: str | Path, root: str | Path | None = None) -> bool:
    """Whether the images of ``spec`` can be read without a download."""
    what, _ = _parts(spec)
    try:
        _, module, word = _component(what)
        there: bool = module.at_hand(word, root) if hasattr(module, "at_hand") else True
    except ValueError:
        return False
    return there


def path_of(spec: str | Path) -> Path | None:
    """The file or folder that ``spec`` reads from; None where it names a data set."""
    what, _ = _parts(spec)
    kind, colon, word = what.partition(":")
    path = Path(word if colon and kind in _PATHS else what).expanduser()
    return path if _plain(what) not in _kinds() and path.exists() else None


def _parts(spec: str | Path) -> tuple[str, str | None]:
    """The word for the whole, and the range behind it."""
    match = re.fullmatch(r"(.*?)(\[[^\[\]/\\]*\]?)?", str(spec), re.DOTALL)
    what, part = match.groups() if match else (str(spec), None)
    return what, part


def _source(
    what: str,
    root: str | Path | None,
    label: str | int | None,
    size: tuple[int, int] | None,
    progress: bool,
    classes: Sequence[str],
) -> tuple[Source, str]:
    kind, module, word = _component(what)
    asked = {"label": label, "size": size}
    options: dict[str, Any] = {key: value for key, value in asked.items() if value is not None}
    check_options(module.load, options, kind)
    taken = signature(module.load).parameters
    offered = {"root": root, "progress": progress, "classes": classes}
    options |= {key: value for key, value in offered.items() if key in taken}
    last = Path(word).resolve().name if kind in _PATHS else word
    return module.load(word, **options), f"{kind}:{last}" if last else kind


def _component(what: str) -> tuple[str, ModuleType, str]:
    """The kind of data set, its module, and the word for it."""
    kind, colon, word = what.partition(":")
    if _plain(kind) in _kinds():
        return _plain(kind), load("datasets", _kinds()[_plain(kind)]), word
    path = Path(what).expanduser()
    if what and path.exists():
        kind = _kind(path)
        return kind, load("datasets", kind), what
    if not colon and ("." in what or "/" in what):
        raise ValueError(f"no file or folder {what!r}; data sets are: {', '.join(_kinds())}")
    if "." not in kind:
        raise ValueError(f"no {kind!r} in datasets; {hint(_plain(kind), list(_kinds()))}")
    try:
        return kind, load("datasets", kind), word
    except ModuleNotFoundError as error:
        raise ValueError(f"no data set {kind!r}: {error}") from error


def _plain(kind: str) -> str:
    """The name of a data set as it is written: tiny-imagenet, whose file is tiny_imagenet."""
    return kind.replace("_", "-")


def _kinds() -> dict[str, str]:
    """The modules of the data sets by the names that are written."""
    return {_plain(name): name for name in names("datasets")}


def _kind(path: Path) -> str:
    if path.is_dir():
        return "run" if (path / "rows.jsonl").is_file() else "folder"
    return "arrays" if path.suffix == ".npz" else "picture"


def _range(part: str | None, count: int, name: str) -> range:
    """The positions that ``[a:b]`` or ``[i]`` means; nothing is cut to fit."""
    match = re.fullmatch(r"\[(\d*)(:?)(\d*)\]", part or "[:]", re.ASCII)
    words = match.groups() if match else ("", "", "")
    first = int(words[0] or 0)
    last = int(words[2] or count) if words[1] else first + 1
    if not any(words) or not first < last <= count:
        raise ValueError(
            f"{name} has {count} images; {part or 'none'} is no part of them: "
            f"write a range in [0:{count}], or one position in [0]..[{count - 1}]"
        )
    return range(first, last)


def _checked(size: tuple[int, int] | None) -> tuple[int, int] | None:
    if size is not None and (len(size) != 2 or min(size) < 1):
        raise ValueError(f"size is {size}; expected (height, width) in pixels, such as (32, 32)")
    return size
