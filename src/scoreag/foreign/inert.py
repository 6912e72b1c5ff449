"""A pickle as a tree of tensors, numbers, containers, and stand-ins for all objects.

A pickle is a program: it names functions and calls them.  Here each name that is known becomes a
``Stand``, which only remembers what it was given, and any other name ends the reading.  Nothing is
imported for a pickle, no method of a foreign class is called, and a tensor is no larger than the
bytes that the file holds for it.
"""

import io
import math
import pickle
import re
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from scoreag.files import unpacked

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


class Refused(ValueError):
    """What was read is no checkpoint of a kind that is known, or is damaged."""


class Stand:
    """What stands for an object: what it was made of, its state, and what was put into it."""

    name = ""  # of what it stands for; a pickle wants a class, so each name has one of its own
    arguments: tuple[Any, ...]
    state: Any
    items: dict[Any, Any]
    rest: list[Any]

    def __new__(cls, *arguments: Any) -> "Stand":
        made = super().__new__(cls)
        made.arguments, made.state, made.items, made.rest = arguments, None, {}, []
        return made

    def __setstate__(self, state: Any) -> None:
        self.state = state

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
    try:
        return _Reader(io.BytesIO(path.read_bytes())).load()
    except (Refused, OSError):
        raise
    except Exception as error:  # a damaged pickle can raise anything
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise Refused(f"{path} is no whole pickle: {reason}; nothing of it was run") from error


class _Reader(pickle._Unpickler):  # the one in C makes room for as many objects as a file claims
    stack: list[Any]
    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)

    def find_class(self, module: str, name: str) -> Any:
        known = _MADE.get(f"{module}.{name}")
        if known is not None:
            return known
        if KNOWN.fullmatch(f"{module}.{name}"):
            return type("Stand", (Stand,), {"name": f"{module}.{name}"})
        raise Refused(f"it asks for {module}.{name}, which no checkpoint needs; nothing was run")

    def persistent_load(self, pid: Any) -> Any:
        raise Refused("it points outside of itself; nothing was run")

    def load_build(self) -> None:
        if not isinstance(self.stack[-2], Stand | dict):  # a tensor would follow its state
            raise Refused(f"it sets the state of a {type(self.stack[-2]).__name__}")
        super().load_build()  # type: ignore[misc]

    dispatch[pickle.BUILD[0]] = load_build


def _storage(data: bytes) -> Any:
    """A storage that was written by ``torch.save``, as it is and not packed, into the pickle."""
    if data[:2] == b"PK":
        raise Refused("it holds a packed storage, which EDM does not write")
    return unpacked(io.BytesIO(data))


def _tensor(storage: Any, offset: int, size: Any, stride: Any, *more: Any) -> Tensor:
    """A view of a storage; one that repeats its numbers would be larger than the file."""
    whole = torch.tensor([], dtype=storage.dtype).set_(storage)
    if (count := math.prod(size)) > len(whole):
        raise Refused(f"it holds a tensor of {count} numbers in a storage of {len(whole)}")
    return whole.as_strided(tuple(size), tuple(stride), offset).clone()


def _parameter(data: Tensor, *more: Any) -> Tensor:
    return data


_MADE: dict[str, Any] = {
    "collections.OrderedDict": OrderedDict,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch.storage._load_from_bytes": _storage,
}


def plain(value: Any, left: int = 1000) -> Any:
    """Numbers, words and lists of a tree; stand-ins become numbers of numpy, or dicts.

    Raises:
        Refused: there are more than ``left``: what is listed once can be shown a billion times.
    """
    room = [left]

    def shown(value: Any) -> Any:
        room[0] -= 1
        if room[0] < 0:
            raise Refused(f"its arguments are more than {left}")
        if isinstance(value, Stand):
            if value.name.endswith("multiarray.scalar"):
                return _number(*value.arguments)
            value = {**(value.state or {}), **value.items}
        if isinstance(value, dict):
            return {str(key): shown(item) for key, item in value.items()}
        return [shown(item) for item in value] if isinstance(value, list | tuple) else value

    return shown(value)


def _number(kind: Stand, data: bytes) -> Any:
    code = str(kind.arguments[0])
    if not re.fullmatch(r"[fiu][1248]|b1", code):
        raise Refused(f"it holds a number of type {code!r}")
    return np.frombuffer(data, np.dtype(code))[0].item()


def objects(tree: Any) -> Iterator[Stand]:
    """All stand-ins in a tree of containers, the outer ones first, each once."""
    seen, waiting = set[int](), [tree]
    while waiting:
        value = waiting.pop(0)
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
