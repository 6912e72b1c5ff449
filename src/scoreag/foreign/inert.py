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

from scoreag.bounded import read_bytes
from scoreag.load import cut, shown
from scoreag.pickles import Asked, Object, Reader, Refused, check_keys
from scoreag.saved import Room, of_bytes, view

__all__ = ["Refused", "Stand", "objects", "plain", "read"]

KNOWN = re.compile(
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


class Stand(Object):
    """What stands for an object: what it was made of, its state, and what was put into it."""

    name = ""  # of what it stands for; a pickle wants a class, so each name has one of its own
    arguments: tuple[Any, ...]
    items: dict[Any, Any]
    rest: list[Any]

    def __new__(cls, *arguments: Any) -> "Stand":
        made = super().__new__(cls)
        made.arguments, made.state, made.items, made.rest = arguments, None, {}, []
        return made

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items[key] = value

    def append(self, value: Any) -> None:
        self.rest.append(value)

    def extend(self, values: Any) -> None:
        self.rest.extend(values)


def read(path: Path) -> Any:
    """The tree that a pickle describes.

    Raises:
        Refused: it names something that is not known, and which; or it is damaged.
    """
    data = read_bytes(path)
    try:
        return _Reader(data).load()
    except Asked as error:
        told = f"it asks for {error.name}, which no checkpoint needs; nothing was run"
        raise Refused(told) from error
    except (Refused, MemoryError):
        raise
    except Exception as error:  # a damaged pickle can raise anything
        reason = cut(str(error), 200) or type(error).__name__
        raise Refused(f"{path} is no whole pickle: {reason}; nothing of it was run") from error


class _Reader(Reader):
    """Names that are known become stand-ins; all tensors are views of the storages."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))
        self.room = Room(len(data))
        self.table: Mapping[str, Any] = {
            "collections.OrderedDict": _dictionary,
            "torch._utils._rebuild_tensor_v2": self._tensor,
            "torch._utils._rebuild_parameter": _parameter,
            "torch.storage._load_from_bytes": _storage,
        }

    def known(self, module: str, name: str) -> Any:
        made = self.table.get(f"{module}.{name}")
        if made is None and KNOWN.fullmatch(f"{module}.{name}"):
            return type("Stand", (Stand,), {"name": f"{module}.{name}"})
        return made

    def _tensor(self, storage: Any, offset: int, size: Any, stride: Any, *more: Any) -> Tensor:
        if not isinstance(storage, Tensor):
            raise Refused(f"it makes a tensor of a {type(storage).__name__}")
        return view(storage, offset, size, stride, self.room)


def _storage(data: bytes) -> Any:
    """A storage that was written by ``torch.save``, as it is and not packed, into the pickle."""
    if data[:2] == b"PK":
        raise Refused("it holds a packed storage, which EDM does not write")
    try:
        return of_bytes(data)
    except Asked as error:
        raise ValueError(f"a storage of it: {error}") from error


def _parameter(data: Tensor, *more: Any) -> Tensor:
    return data


def _dictionary(pairs: Any = ()) -> OrderedDict[Any, Any]:
    if not isinstance(pairs, list | tuple | dict):
        raise Refused(f"it makes a dictionary of a {type(pairs).__name__}")
    listed = [(key, value) for key, value in (pairs.items() if isinstance(pairs, dict) else pairs)]
    check_keys(key for key, _ in listed)
    return OrderedDict(listed)


def plain(value: Any, left: int = 1000) -> Any:
    """Numbers, words and lists of a tree; stand-ins become numbers of numpy, or dicts.

    Raises:
        Refused: there are more than ``left``: what is listed once can be shown a billion times.
    """
    room = [left]

    def told(value: Any) -> Any:
        room[0] -= 1
        if room[0] < 0:
            raise Refused(f"its arguments are more than {left}")
        if isinstance(value, Stand):
            if value.name.endswith("multiarray.scalar"):
                return _number(*value.arguments)
            value = {**(value.state or {}), **value.items}
        if isinstance(value, dict):
            return {str(key): told(item) for key, item in value.items()}
        return [told(item) for item in value] if isinstance(value, list | tuple) else value

    try:
        return told(value)
    except RecursionError:
        raise Refused("its arguments nest too deeply") from None


def _number(kind: Stand, data: bytes) -> Any:
    code = kind.arguments[0]
    if not isinstance(code, str) or not re.fullmatch(r"[fiu][1248]|b1", code):
        raise Refused(f"it holds a number of type {shown(code)}")
    return np.frombuffer(data, np.dtype(code))[0].item()


def objects(tree: Any) -> Iterator[Stand]:
    """All stand-ins in a tree of containers, the outer ones first, each once."""
    seen, waiting = set[int](), deque([tree])
    while waiting:
        value = waiting.popleft()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Stand):
            yield value
            waiting += [*value.arguments, value.state, value.items, value.rest]
        elif isinstance(value, dict):
            waiting += list(value.values())
        elif isinstance(value, list | tuple):
            waiting += list(value)
