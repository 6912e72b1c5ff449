"""Images and labels from a word such as ``cifar10:test[0:256]``: a data set, a split, a range."""

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scoreag.core.class_names import match_classes
from scoreag.data.edm_dataset import is_edm_dataset
from scoreag.data.source import (
    Labels,
    Pixels,
    Source,
    interleave_groups,
    is_within,
    renumber_source,
    select_source,
    selects_classes,
)
from scoreag.io.images import to_float
from scoreag.io.run_dir import ROWS
from scoreag.registry import (
    check_options,
    component_names,
    describe_value,
    did_you_mean,
    load_component,
    no_such_class,
)

# whose word is a path
_PATH_KINDS = (
    "edm-dataset", "image-folder", "npz", "single-image", "run-dir", "webdataset", "parquet",
)  # fmt: skip
_OTHER_NAMES = {  # that are too unlike a kind's name to be near it
    "folder": "image-folder", "arrays": "npz", "picture": "single-image", "run": "run-dir",
    "samples": "foolbox-samples", "sample": "foolbox-samples",
}  # fmt: skip
_TENSOR_HINT = (
    "write np.savez('data.npz', images=images.numpy(), labels=labels.numpy()), give data.npz"
)
_ARCHIVE_HINT = "unpack it, and give its folder"
_FORMAT_HINTS = {  # for files in formats that are not read
    **dict.fromkeys((".pt", ".pth", ".safetensors", ".pkl", ".pickle"), _TENSOR_HINT),
    **dict.fromkeys((".zip", ".gz", ".tgz", ".bz2", ".xz", ".7z"), _ARCHIVE_HINT),
    **dict.fromkeys((".csv", ".tsv", ".xlsx"), "give the folder of the pictures and a labels.csv"),
    **dict.fromkeys((".h5", ".hdf5", ".mat", ".arrow", ".tfrecord"), _TENSOR_HINT),
}
USER_KINDS = ("edm-dataset:", "image-folder:", "npz:", "run-dir:", "webdataset:", "parquet:")
_MAX_LISTED = 10  # classes whose counts a summary lists


@dataclass(frozen=True, eq=False)
class Dataset:
    """8-bit images with their ids.

    Args:
        labels: the class of each image; None if they are unlabeled.
        image_ids: the position of each in the data set that it was read from, or its id in a run.
        classes: names by number; empty where they have none.
        name: what was read, with its range unless that is everything, e.g. "cifar10:test[0:4]".
        files: where each was read from, relative to the data set; empty where there are no files.
        skipped: files of the data set that are not read, by the reason.
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
        names = dict(enumerate(self.classes)) or {number: str(number) for number in sorted(found)}
        return {name: found[number] for number, name in names.items()}

    @property
    def summary(self) -> str:
        """One line: the number of images, how many of each class, and the skipped files."""
        parts = [f"{len(self)} image{'s' * (len(self) != 1)}, {_format_counts(self.counts)}"]
        for why, files in self.skipped.items():
            examples = ", ".join(files[:3]) + ", ..." * (len(files) > 3)
            parts.append(f"left out: {len(files)} {why} ({examples})")
        return f"{self.name}: {'; '.join(parts)}"

    @property
    def is_user_data(self) -> bool:
        """Whether these are the user's own images, which may be sorted by class."""
        return self.name.startswith(USER_KINDS)

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

    def __repr__(self) -> str:
        return f"Dataset({_format_shape(self.images)}; {self.summary})"

    def __getitem__(self, rows: int | slice) -> "Dataset":
        if isinstance(rows, int):
            position = range(len(self))[rows]
            rows = slice(position, position + 1)
        return self._take(rows, range(len(self))[rows])

    def select(self, rows: Sequence[int]) -> "Dataset":
        """The images at these positions, in this order."""
        return self._take(torch.tensor(rows, dtype=torch.int64), rows)

    def select_classes(self, names: Sequence[str], keep_others: bool = False) -> "Dataset":
        """The images of these classes, numbered in this order.

        Args:
            keep_others: keep the others with the label ``len(names)``, the null label in training.
        """
        found = match_classes(self.classes, names)
        missing = [name for name, numbers in zip(names, found, strict=True) if not numbers]
        if self.labels is None or missing or not names or len(set(found)) < len(names):
            raise ValueError(self._explain_classes(names, missing))
        numbers = torch.full((len(self.classes),), len(names))
        for number, (own,) in enumerate(found):
            numbers[own] = number
        labels = numbers[self.labels]
        kept = self if keep_others else self.select((labels < len(names)).nonzero()[:, 0].tolist())
        labels = labels if keep_others else labels[labels < len(names)]
        word = f"{self.name}, {'classes' if len(names) > 1 else 'class'} {', '.join(names)}"
        word += " and others" if keep_others else ""
        return replace(kept, labels=labels, classes=tuple(names), name=word)

    def _explain_classes(self, names: Sequence[str], missing: Sequence[str]) -> str:
        """Why these classes cannot be selected, and what to write."""
        if self.labels is None or not self.classes:
            return f"{self.name} has no named classes to choose from; leave out the classes"
        if missing:
            return f"{self.name} has {no_such_class(missing[0], self.classes)}"
        return (
            f"the classes are {', '.join(names) or 'none'}; write each once, e.g. "
            f"{','.join(self.classes[:2])}"
        )

    def _take(self, index: slice | Tensor, positions: Sequence[int]) -> "Dataset":
        return replace(
            self,
            images=self.images[index],
            labels=None if self.labels is None else self.labels[index],
            image_ids=tuple(self.image_ids[i] for i in positions),
            files=tuple(self.files[i] for i in positions) if self.files else (),
        )


def interleave_classes(data: Dataset) -> Dataset:
    """The user's own images in an order in which the classes take turns; others unchanged."""
    if not data.is_user_data or data.labels is None:
        return data
    return data.select(interleave_groups(data.labels.tolist()))


def _format_shape(images: Tensor) -> str:
    """40 x 1 x 28 x 28."""
    return " x ".join(map(str, images.shape))


def _format_counts(counts: Mapping[str, int]) -> str:
    """cat 8, dog 0; for many classes, how many of them have images."""
    if not counts:
        return "unlabeled"
    if len(counts) <= _MAX_LISTED:
        return f"by class: {', '.join(f'{name} {count}' for name, count in counts.items())}"
    present = [count for count in counts.values() if count]
    low, high = min(present), max(present)
    each = f"{low}" if low == high else f"{low} to {high}"
    return f"of {len(present)} of {len(counts)} classes, {each} of each"


class LoadedData(tuple[Tensor, Labels | None]):
    """``images, labels``, with the ``dataset`` they come from: classes, ids, files and counts."""

    dataset: Dataset

    def __repr__(self) -> str:
        return f"(images, labels): {_format_shape(self[0])}, in [0, 1]; {self.dataset.summary}"


def load_data(spec: str | Path, data_dir: str | Path | None = None, **options: Any) -> LoadedData:
    """The images in [0, 1] and the labels that ``spec`` names, as a pair.

    The pair's ``dataset`` has ``classes``, the names by number, ``image_ids``, ``files``,
    ``counts``, ``skipped``, and all of that in one line, ``summary``.
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
    select: bool = True,
) -> Dataset:
    """The images that ``spec`` names: ``WHAT``, ``WHAT[a:b]``, ``[a:]``, ``[:b]``, ``[i]``.

    ``WHAT`` is ``cifar10:train``, ``cifar10:test``, ``cifar100:test-coarse``,
    ``tiny-imagenet:val``, ``fashion-mnist:sample``, ``foolbox-samples``, ``image-folder:PATH``,
    ``npz:FILE.npz``, ``edm-dataset:FILE.zip``, ``webdataset:PATH``, ``parquet:PATH``,
    ``package.module:word``, or the path of a picture or of a run's folder.
    If ``spec`` with its brackets is a path that exists, ``imgs[1]``, they belong to the path.

    Args:
        data_dir: the folder of a data set's official files, which are downloaded if missing.
        label: the class of a single picture, by number or by a name in ``classes``.
        size: (height, width) to which pictures are resized; None keeps their size.
        classes: the model's, by number: labels given by name are numbered by them; by default in
            alphabetical order. Of an official data set that has all of them and others, the images
            of these are read, and a range counts them; one that has some of them is numbered so.
        select: whether it is so; else an official data set keeps all of its classes.
    """
    if not isinstance(spec, str | Path):
        raise ValueError(
            f"the data is {describe_value(spec)}; expected a word or a path, such as "
            "'cifar10:test'; a tensor of images is given to tasks and attacks as it is"
        )
    if size is not None and (len(size) != 2 or min(size) < 1):
        raise ValueError(f"size is {size}; expected (height, width) in pixels, such as (32, 32)")
    what, part = _split_spec(spec)
    source, name = _open_source(
        what,
        {"label": label, "size": size},
        {"data_dir": data_dir, "progress": progress, "classes": classes},
    )
    if select and selects_classes(source.classes, classes):
        fewer = len(classes) < len(source.classes)
        name = f"{name}, {len(classes)} classes" if fewer else name
        source = select_source(source, classes)
    elif is_within(source.classes, classes):
        source = renumber_source(source, classes)
    positions = _parse_range(part, source.count, name)
    images, labels = source.read(positions)
    ids = tuple(source.image_ids[i] for i in positions)
    files = tuple(source.files[i] for i in positions) if source.files else ()
    if len(positions) < source.count:
        name = f"{name}[{positions.start}:{positions.stop}]"
    return Dataset(images, labels, ids, source.classes, name, files, source.skipped)


def is_cached(spec: str | Path, data_dir: str | Path | None = None) -> bool:
    """Whether the images of ``spec`` can be read without a download."""
    try:
        _, dataset, word = _resolve_kind(_split_spec(spec)[0])
        return bool(dataset.is_cached(word, data_dir)) if hasattr(dataset, "is_cached") else True
    except ValueError:
        return False


def source_path(spec: str | Path) -> Path | None:
    """The file or folder that ``spec`` reads from; None where it names a data set."""
    what, _ = _split_spec(spec)
    path = _path_of(what)
    return (
        path
        if what.replace("_", "-") not in component_names("datasets") and path.exists()
        else None
    )


def _split_spec(spec: str | Path) -> tuple[str, str | None]:
    """The data set and the range behind it; a path that exists may end in brackets itself."""
    text = str(spec)
    if text.endswith("]") and _path_of(text).exists():
        return text, None
    match = re.fullmatch(r"(.*?)(\[[^\[\]/\\]*\]?)?", text, re.DOTALL)
    return (match[1], match[2]) if match else (text, None)


def _path_of(spec: str) -> Path:
    kind, colon, word = spec.partition(":")
    return Path(word if colon and kind in _PATH_KINDS else spec).expanduser()


def _open_source(
    spec: str, options: Mapping[str, Any], context: Mapping[str, Any]
) -> tuple[Source, str]:
    """The source and its name.

    Args:
        options: refused, unless None, where the data set does not take them.
        context: passed where the data set takes it.
    """
    kind, dataset, word = _resolve_kind(spec)
    chosen = {key: value for key, value in options.items() if value is not None}
    check_options(dataset.load, chosen, kind)
    accepted = signature(dataset.load).parameters
    chosen |= {key: value for key, value in context.items() if key in accepted}
    last = Path(word).resolve().name if kind in _PATH_KINDS else word
    return dataset.load(word, **chosen), f"{kind}:{last}" if last else kind


def _resolve_kind(spec: str) -> tuple[str, Any, str]:
    """The kind of data set, its component, and the word for it."""
    kind, colon, word = spec.partition(":")
    name, known = kind.replace("_", "-"), component_names("datasets")
    if name in known:
        return name, load_component("datasets", name), word
    path = Path(spec).expanduser()
    if spec and path.exists():
        name = _detect_kind(path)
        return name, load_component("datasets", name), spec
    if not colon and ("." in spec or "/" in spec):
        raise ValueError(f"no file or folder {spec!r}; data sets are: {', '.join(known)}")
    if "." not in kind:
        hint = did_you_mean(_OTHER_NAMES.get(kind, name), known)
        missing = f"no {kind!r} in datasets" if colon else f"no file, folder or data set {spec!r}"
        raise ValueError(f"{missing}; {hint}")
    try:
        return kind, load_component("datasets", kind), word
    except ModuleNotFoundError as error:
        raise ValueError(f"no data set {kind!r}: {error}") from error


def _detect_kind(path: Path) -> str:
    if path.is_dir() and (path / ROWS).is_file():
        return "run-dir"
    if is_edm_dataset(path):
        return "edm-dataset"
    if path.is_dir():
        return "image-folder"
    if (fix := _FORMAT_HINTS.get(path.suffix.lower())) is not None:
        raise ValueError(f"{path} is not read as data; {fix}")
    kinds = {".npz": "npz", ".npy": "npz", ".tar": "webdataset", ".parquet": "parquet"}
    return kinds.get(path.suffix.lower(), "single-image")


def _parse_range(part: str | None, count: int, name: str) -> range:
    """The positions that ``[a:b]`` or ``[i]`` means; a range beyond the end is refused."""
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
