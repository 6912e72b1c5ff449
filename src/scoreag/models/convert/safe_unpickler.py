"""A pickle as a tree of tensors, numbers, containers, and stand-ins for all objects.

A pickle is a program: it names functions and calls them.  Here each name that is known becomes a
``Stand``, which only remembers what it was given, and any other name ends the reading.  Nothing is
imported for a pickle, no method of a foreign class is called, and a tensor is no larger than the
bytes that the file holds for it.
"""

import io
import re
from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from scoreag.io.bounded import read_bytes
from scoreag.io.pickles import (
    ForbiddenGlobal,
    SafeUnpickler,
    StubObject,
    UnsupportedCheckpoint,
    check_keys,
)
from scoreag.io.torch_files import ByteBudget, load_legacy_bytes, make_view
from scoreag.registry import short_repr, truncate_text

__all__ = ["PickleStub", "UnsupportedCheckpoint", "iter_objects", "read_pickle_tree", "to_plain"]

ALLOWED_GLOBALS = re.compile(
    r"""torch_utils\.persistence\._reconstruct_persistent_obj
    | dnnlib\.util\.EasyDict
    | torch\.nn\.modules\.\w+\.\w+ | torch\.nn\.parameter\.Parameter
    | torch\.(float|bfloat|int|uint)\d+ | torch\.(bool|device|Size)
    | numpy\._?core\.multiarray\.(scalar|_reconstruct) | numpy\.(dtype|ndarray)
    | copyreg\._reconstructor
    | builtins\.(object|set|frozenset|slice|complex|bytearray)
    | _codecs\.encode""",
    re.VERBOSE,
)


class PickleStub(StubObject):
    """What stands for an object: what it was made of, its state, and what was put into it."""

    name = ""  # of what it stands for; a pickle wants a class, so each name has one of its own
    arguments: tuple[Any, ...]
    items: dict[Any, Any]
    elements: list[Any]

    def __new__(cls, *arguments: Any) -> "PickleStub":
        made = super().__new__(cls)
        made.arguments, made.state, made.items, made.elements = arguments, None, {}, []
        return made

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items[key] = value

    def append(self, value: Any) -> None:
        self.elements.append(value)

    def extend(self, values: Any) -> None:
        self.elements.extend(values)


def read_pickle_tree(path: Path) -> Any:
    """The tree that a pickle describes.

    Raises:
        Refused: it names something that is not known, and which; or it is damaged.
    """
    data = read_bytes(path)
    try:
        return _EdmUnpickler(data).load()
    except ForbiddenGlobal as error:
        told = f"it asks for {error.name}, which no checkpoint needs; nothing was run"
        raise UnsupportedCheckpoint(told) from error
    except (UnsupportedCheckpoint, MemoryError):
        raise
    except Exception as error:  # a damaged pickle can raise anything
        reason = truncate_text(str(error), 200) or type(error).__name__
        raise UnsupportedCheckpoint(
            f"{path} is no whole pickle: {reason}; nothing of it was run"
        ) from error


class _EdmUnpickler(SafeUnpickler):
    """Names that are known become stand-ins; all tensors are views of the storages."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))
        self.budget = ByteBudget(len(data))
        self.constructors: Mapping[str, Any] = {
            "collections.OrderedDict": _rebuild_dict,
            "torch._utils._rebuild_tensor_v2": self._rebuild_tensor,
            "torch._utils._rebuild_parameter": _rebuild_parameter,
            "torch.storage._load_from_bytes": _load_storage,
        }

    def resolve_global(self, module: str, name: str) -> Any:
        made = self.constructors.get(f"{module}.{name}")
        if made is None and ALLOWED_GLOBALS.fullmatch(f"{module}.{name}"):
            return type("Stand", (PickleStub,), {"name": f"{module}.{name}"})
        return made

    def _rebuild_tensor(
        self, storage: Any, offset: int, size: Any, stride: Any, *more: Any
    ) -> Tensor:
        if not isinstance(storage, Tensor):
            raise UnsupportedCheckpoint(f"it makes a tensor of a {type(storage).__name__}")
        return make_view(storage, offset, size, stride, self.budget)


def _load_storage(data: bytes) -> Any:
    """A storage that was written by ``torch.save``, as it is and not packed, into the pickle."""
    if data[:2] == b"PK":
        raise UnsupportedCheckpoint("it holds a packed storage, which EDM does not write")
    try:
        return load_legacy_bytes(data)
    except ForbiddenGlobal as error:
        raise ValueError(f"a storage of it: {error}") from error


def _rebuild_parameter(data: Tensor, *more: Any) -> Tensor:
    return data


def _rebuild_dict(pairs: Any = ()) -> OrderedDict[Any, Any]:
    if not isinstance(pairs, list | tuple | dict):
        raise UnsupportedCheckpoint(f"it makes a dictionary of a {type(pairs).__name__}")
    listed = [(key, value) for key, value in (pairs.items() if isinstance(pairs, dict) else pairs)]
    check_keys(key for key, _ in listed)
    return OrderedDict(listed)


def to_plain(value: Any, max_values: int = 1000) -> Any:
    """Numbers, words and lists of a tree; stand-ins become numbers of numpy, or dicts.

    Raises:
        Refused: there are more than ``left``: what is listed once can be shown a billion times.
    """
    room = [max_values]

    def told(value: Any) -> Any:
        room[0] -= 1
        if room[0] < 0:
            raise UnsupportedCheckpoint(f"its arguments are more than {max_values}")
        if isinstance(value, PickleStub):
            if value.name.endswith("multiarray.scalar"):
                return _to_number(*value.arguments)
            value = {**(value.state or {}), **value.items}
        if isinstance(value, dict):
            return {str(key): told(item) for key, item in value.items()}
        return [told(item) for item in value] if isinstance(value, list | tuple) else value

    try:
        return told(value)
    except RecursionError:
        raise UnsupportedCheckpoint("its arguments nest too deeply") from None


def _to_number(kind: PickleStub, data: bytes) -> Any:
    code = kind.arguments[0]
    if not isinstance(code, str) or not re.fullmatch(r"[fiu][1248]|b1", code):
        raise UnsupportedCheckpoint(f"it holds a number of type {short_repr(code)}")
    return np.frombuffer(data, np.dtype(code))[0].item()


def iter_objects(tree: Any) -> Iterator[PickleStub]:
    """All stand-ins in a tree of containers, the outer ones first, each once."""
    seen, waiting = set[int](), deque([tree])
    while waiting:
        value = waiting.popleft()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, PickleStub):
            yield value
            waiting += [*value.arguments, value.state, value.items, value.elements]
        elif isinstance(value, dict):
            waiting += list(value.values())
        elif isinstance(value, list | tuple):
            waiting += list(value)
