"""Images and labels from a word such as ``cifar10:test[0:256]``: a data set, a part, a range."""

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from inspect import signature
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from scoreag.data.source import Labels, Pixels, Source, interleave_groups
from scoreag.io.images import to_float
from scoreag.registry import (
    check_options,
    component_names,
    describe_value,
    did_you_mean,
    load_component,
)

_PATH_KINDS = ("image-folder", "npz", "single-image", "run-dir")  # the kinds whose word is a path
_OTHER_NAMES = {  # words for a kind that are none of its name
    "folder": "image-folder", "arrays": "npz", "picture": "single-image", "run": "run-dir",
    "samples": "foolbox-samples", "sample": "foolbox-samples",
}  # fmt: skip
_TENSOR_HINT = (
    "write np.savez('data.npz', images=images.numpy(), labels=labels.numpy()), give data.npz"
)
_ARCHIVE_HINT = "unpack it, and give its folder"
_FORMAT_HINTS = {  # of files that look like data
    ".npy": "write np.savez('data.npz', images=np.load(...), labels=np.load(...)), give data.npz",
    **dict.fromkeys((".pt", ".pth", ".safetensors", ".pkl", ".pickle"), _TENSOR_HINT),
    **dict.fromkeys((".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z"), _ARCHIVE_HINT),
    **dict.fromkeys((".csv", ".tsv", ".xlsx"), "give the folder of the pictures and a labels.csv"),
    **dict.fromkeys((".h5", ".hdf5", ".mat", ".parquet", ".arrow", ".tfrecord"), _TENSOR_HINT),
}
_MAX_LISTED = 10  # classes whose counts are told, and files that were left out


@dataclass(frozen=True, eq=False)
class Dataset:
    """8-bit images with their ids.

    Args:
        labels: the class of each image; None where they are not labelled.
        image_ids: the position of each in the whole that it was read from, or the id in its run.
        classes: names by number; empty where they have none.
        name: what was read, with its range unless that is the whole, e.g. "cifar10:test[0:4]".
        files: where each was read from, relative to the whole; empty where they have no files.
        skipped: what else the whole holds and is not read, by the reason why.
    """

    images: Pixels
    labels: Labels | None
    image_ids: tuple[int, ...]
    classes: tuple[str, ...]
    name: str
    files: tuple[str, ...] = ()
    skipped: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def counts(self) -> dict[str, int]:
        """How many images each class has, by its name, or by its number where it has none."""
        if self.labels is None:
            return {}
        found = Counter(self.labels.tolist())
        if not self.classes:
            return {str(number): found[number] for number in sorted(found)}
        return {name: found[number] for number, name in enumerate(self.classes)}

    @property
    def summary(self) -> str:
        """One line: the images, how many of each class, and what of the whole is left out."""
        parts = [f"{len(self)} image{'s' * (len(self) != 1)}, {_format_counts(self.counts)}"]
        for why, files in self.skipped.items():
            parts.append(f"left out: {len(files)} {why} ({_format_files(files)})")
        return f"{self.name}: {'; '.join(parts)}"

    @property
    def is_user_data(self) -> bool:
        """Whether they are one's own, in an order that may go class by class."""
        return self.name.startswith(("image-folder:", "npz:", "run-dir:"))

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

    def select(self, rows: Sequence[int]) -> "Dataset":
        """The images at these positions, in this order."""
        places = torch.tensor(rows, dtype=torch.int64)
        return replace(
            self,
            images=self.images[places],
            labels=None if self.labels is None else self.labels[places],
            image_ids=tuple(self.image_ids[i] for i in rows),
            files=tuple(self.files[i] for i in rows) if self.files else (),
        )


def interleave_classes(data: Dataset) -> Dataset:
    """One's own images in an order in which the classes take turns; others as they are."""
    if not data.is_user_data or data.labels is None:
        return data
    return data.select(interleave_groups(data.labels.tolist()))


def _format_counts(counts: Mapping[str, int]) -> str:
    """cat 8, dog 0; of many classes, how many are there."""
    if not counts:
        return "unlabelled"
    there = [count for count in counts.values() if count]
    if len(counts) > _MAX_LISTED:
        each = f"{min(there)}" if len(set(there)) == 1 else f"{min(there)} to {max(there)}"
        return f"of {len(there)} of {len(counts)} classes, {each} of each"
    return f"by class: {', '.join(f'{name} {count}' for name, count in counts.items())}"


def _format_files(files: Sequence[str]) -> str:
    """The first few of them."""
    return ", ".join(files[:3]) + ", ..." * (len(files) > 3)


class LoadedData(tuple[Tensor, Labels | None]):
    """``images, labels``, with the ``dataset`` they are of: its classes, ids, files and counts."""

    dataset: Dataset


def load_data(spec: str | Path, data_dir: str | Path | None = None, **options: Any) -> LoadedData:
    """The images in [0, 1] and the labels that ``spec`` names, as a pair.

    The pair's ``dataset`` tells what they are: ``classes``, the names by number, ``image_ids``,
    ``files``, ``counts``, ``skipped``, and all in one line, ``summary``.
    """
    dataset = load_dataset(spec, data_dir, **options)
    loaded = LoadedData((to_float(dataset.images), dataset.labels))
    loaded.dataset = dataset
    return loaded


def load_dataset(
    spec: str | Path,
    data_dir: str | Path | None = None,
    label: str | int | None = None,
    size: tuple[int, int] | None = None,
    progress: bool = True,
    classes: Sequence[str] = (),
) -> Dataset:
    """The images that ``spec`` names: ``WHAT``, ``WHAT[a:b]``, ``[a:]``, ``[:b]``, ``[i]``.

    ``WHAT`` is ``cifar10:train``, ``cifar10:test``, ``cifar100:test-coarse``,
    ``tiny-imagenet:val``, ``fashion-mnist:sample``, ``foolbox-samples``, ``image-folder:PATH``,
    ``npz:FILE.npz``, ``package.module:word``, or the path of a picture or of a run's folder.
    Where the whole of it is a path that is there, ``imgs[1]``, its brackets are of the name.

    Args:
        data_dir: where the official files of a data set are, or are fetched to.
        label: the class of a single picture, by number or by a name in ``classes``.
        size: (height, width) that pictures are resized to; None takes them as they are.
        classes: the model's, by number: labels that are given by name are numbered by them; by
            default by the alphabet.
    """
    if not isinstance(spec, str | Path):
        raise ValueError(
            f"the data is {describe_value(spec)}; expected a word or a path, such as "
            "'cifar10:test'; a tensor of images is given to tasks and attacks as it is"
        )
    what, part = _split_spec(spec)
    source, name = _open_source(what, data_dir, label, _check_size(size), progress, classes)
    inside = _parse_range(part, source.count, name)
    images, labels = source.read(inside)
    ids = tuple(source.image_ids[i] for i in inside)
    files = tuple(source.files[i] for i in inside) if source.files else ()
    part = "" if len(inside) == source.count else f"[{inside.start}:{inside.stop}]"
    left = source.skipped
    return Dataset(images, labels, ids, source.classes, f"{name}{part}", files, left)


def is_cached(spec: str | Path, data_dir: str | Path | None = None) -> bool:
    """Whether the images of ``spec`` can be read without a download."""
    what, _ = _split_spec(spec)
    try:
        _, module, word = _resolve_kind(what)
        there: bool = module.is_cached(word, data_dir) if hasattr(module, "is_cached") else True
    except ValueError:
        return False
    return there


def source_path(spec: str | Path) -> Path | None:
    """The file or folder that ``spec`` reads from; None where it names a data set."""
    what, _ = _split_spec(spec)
    kind, colon, word = what.partition(":")
    path = Path(word if colon and kind in _PATH_KINDS else what).expanduser()
    return path if _display_name(what) not in _list_kinds() and path.exists() else None


def _split_spec(spec: str | Path) -> tuple[str, str | None]:
    """The word for the whole, and the range behind it; brackets may be of a path's name."""
    if str(spec).endswith("]") and _exists(str(spec)):
        return str(spec), None
    match = re.fullmatch(r"(.*?)(\[[^\[\]/\\]*\]?)?", str(spec), re.DOTALL)
    what, part = match.groups() if match else (str(spec), None)
    return what, part


def _exists(spec: str) -> bool:
    kind, colon, word = spec.partition(":")
    return Path(word if colon and kind in _PATH_KINDS else spec).expanduser().exists()


def _open_source(
    spec: str,
    data_dir: str | Path | None,
    label: str | int | None,
    size: tuple[int, int] | None,
    progress: bool,
    classes: Sequence[str],
) -> tuple[Source, str]:
    kind, module, word = _resolve_kind(spec)
    asked = {"label": label, "size": size}
    options: dict[str, Any] = {key: value for key, value in asked.items() if value is not None}
    check_options(module.load, options, kind)
    taken = signature(module.load).parameters
    offered = {"data_dir": data_dir, "progress": progress, "classes": classes}
    options |= {key: value for key, value in offered.items() if key in taken}
    last = Path(word).resolve().name if kind in _PATH_KINDS else word
    return module.load(word, **options), f"{kind}:{last}" if last else kind


def _resolve_kind(spec: str) -> tuple[str, ModuleType, str]:
    """The kind of data set, its module, and the word for it."""
    kind, colon, word = spec.partition(":")
    if _display_name(kind) in _list_kinds():
        return (
            _display_name(kind),
            load_component("datasets", _list_kinds()[_display_name(kind)]),
            word,
        )
    path = Path(spec).expanduser()
    if spec and path.exists():
        kind = _detect_kind(path)
        return kind, load_component("datasets", _list_kinds()[kind]), spec
    if not colon and ("." in spec or "/" in spec):
        raise ValueError(f"no file or folder {spec!r}; data sets are: {', '.join(_list_kinds())}")
    if "." not in kind:
        raise ValueError(
            f"no {kind!r} in datasets; "
            + did_you_mean(_OTHER_NAMES.get(kind, _display_name(kind)), list(_list_kinds()))
        )
    try:
        return kind, load_component("datasets", kind), word
    except ModuleNotFoundError as error:
        raise ValueError(f"no data set {kind!r}: {error}") from error


def _display_name(kind: str) -> str:
    """The name of a data set as it is written: tiny-imagenet, whose file is tiny_imagenet."""
    return kind.replace("_", "-")


def _list_kinds() -> dict[str, str]:
    """The modules of the data sets by the names that are written."""
    return {_display_name(name): name for name in component_names("datasets")}


def _detect_kind(path: Path) -> str:
    if path.is_dir():
        return "run-dir" if (path / "rows.jsonl").is_file() else "image-folder"
    if (fix := _FORMAT_HINTS.get(path.suffix.lower())) is not None:
        raise ValueError(f"{path} is not read as data; {fix}")
    return "npz" if path.suffix.lower() == ".npz" else "single-image"


def _parse_range(part: str | None, count: int, name: str) -> range:
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


def _check_size(size: tuple[int, int] | None) -> tuple[int, int] | None:
    if size is not None and (len(size) != 2 or min(size) < 1):
        raise ValueError(f"size is {size}; expected (height, width) in pixels, such as (32, 32)")
    return size
