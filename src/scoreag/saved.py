"""Files of ``torch.save``, of which only tensors, numbers and containers are taken.

They are read here, not by torch: its reader makes room for what a file claims, and tensors may
repeat their numbers without end.  Both layouts are known: archives, and what came before 2020.
"""

import io
import math
import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scoreag.bounded import archive, member, read_bytes, size_of
from scoreag.load import cut
from scoreag.pickles import STEPS, Asked, Reader, Refused, check_keys

ROOM = 4  # bytes of all tensors for each byte of the file; some share their numbers
SLACK = 1 << 20
DIMENSIONS = 32
MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # with which the older layout begins
_SIZES = {"short": 2, "int": 4, "long": 4}
_HEAD = b"".join(  # as torch writes it today
    pickle.dumps(one, 2)
    for one in (
        MAGIC,
        PROTOCOL,
        {"protocol_version": PROTOCOL, "little_endian": True, "type_sizes": _SIZES},
    )
)
_STORAGES = {
    "Double": torch.float64, "Float": torch.float32, "Half": torch.float16,
    "BFloat16": torch.bfloat16, "Long": torch.int64, "Int": torch.int32, "Short": torch.int16,
    "Char": torch.int8, "Byte": torch.uint8, "Bool": torch.bool, "ComplexFloat": torch.complex64,
    "ComplexDouble": torch.complex128, "Untyped": torch.uint8,
}  # fmt: skip
_STORAGE = re.compile(r"(?:torch|torch\.cuda|torch\.storage)\.(\w+)Storage")


class Room:
    """How many bytes of tensors may still come."""

    def __init__(self, size: int) -> None:
        self.left = self.all = ROOM * size + SLACK

    def take(self, count: int) -> None:
        self.left -= count
        if self.left < 0:
            raise Refused(f"its tensors have more than {self.all:,} bytes, {ROOM} times its own")


def view(storage: Tensor, offset: int, size: Any, stride: Any, room: Room) -> Tensor:
    """A tensor of a storage; one that repeats its numbers would be larger than the file.

    Raises:
        Refused: it has more numbers than its storage, or there is no room for it.
    """
    if len(size) > DIMENSIONS or not all(type(side) is int and side >= 0 for side in size):
        raise Refused(f"it holds a tensor of {len(size)} dimensions, or of no size")
    if (count := math.prod(size)) > len(storage):
        raise Refused(f"it holds a tensor of {count} numbers in a storage of {len(storage)}")
    room.take(count * storage.element_size())
    return storage.as_strided(tuple(size), tuple(stride), offset)


def load(path: Path) -> Any:
    """What ``torch.save`` wrote.

    Raises:
        ValueError: it is something else, damaged, holds more than tensors, or claims more than
            there is.
    """
    size = size_of(path)
    with path.open("rb") as file:
        packed = file.read(2) == b"PK"
    try:
        tree = _of_archive(path, size) if packed else of_bytes(read_bytes(path))
        check_room(_all(tree), size)
        return tree
    except MemoryError:
        raise
    except Exception as error:  # a damaged file can raise anything
        raise ValueError(f"{path} is no whole file of tensors: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    if isinstance(error, Asked):
        return f"it holds {error.name}, not only tensors; save its state_dict()"
    return str(error) if isinstance(error, _Other) else "it is damaged; fetch it again"


class _Other(ValueError):
    """What is wrong with a file that is whole; the message says what to do."""


def check_room(tensors: Iterable[Tensor], size: int) -> None:
    """Refuse tensors that have far more numbers than a file of this size, since they share them.

    Raises:
        Refused: they do.
    """
    room = Room(size)
    for tensor in tensors:
        room.take(tensor.nbytes)


def _all(tree: Any) -> Iterator[Tensor]:
    """Every tensor of a tree, as often as it is there."""
    waiting, left = [tree], STEPS
    while waiting:
        value = waiting.pop()
        left -= 1
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, dict | list | tuple):
            left -= len(value)
            if left < 0:
                raise Refused("it says the same again and again")
            waiting += value.values() if isinstance(value, dict) else value


def _of_archive(path: Path, size: int) -> Any:
    with archive(path) as opened:
        return _of_members(opened, size)


def _of_members(opened: zipfile.ZipFile, size: int) -> Any:
    names = opened.namelist()
    if (whole := sum(one.file_size for one in opened.infolist())) > size:
        raise _Other(f"it unpacks to {whole:,} bytes, which torch.save does not do")
    roots = [name.removesuffix("data.pkl") for name in names if name.endswith("/data.pkl")]
    root = min(roots, key=len, default=None)
    if root is None:
        raise _Other("it was not written by torch.save; fetch it again")
    if f"{root}constants.pkl" in names:
        raise _Other("it holds a program, not only tensors; save its state_dict()")
    order = f"{root}byteorder"
    if order in names and member(opened, order, 16) != b"little":
        raise _Other("its numbers begin with the highest byte; save it again on another machine")
    kept: dict[str, Tensor] = {}

    def storage(dtype: torch.dtype, key: str, count: int, more: Any) -> Tensor:
        if key not in kept:
            data = member(opened, f"{root}data/{key}", size)
            kept[key] = torch.frombuffer(data, dtype=torch.uint8) if data else _empty(torch.uint8)
        return kept[key][: count * dtype.itemsize].view(dtype)

    program = io.BytesIO(member(opened, f"{root}data.pkl", size))
    return _Tensors(program, storage, Room(size)).load()


def of_bytes(data: bytes) -> Any:
    """What the older layout holds: some pickles, and the numbers of the storages behind them."""
    if not data:
        raise EOFError
    file, made = io.BytesIO(data), dict[str, Tensor]()
    room, storage = Room(len(data)), partial(_behind, made, [len(data)])
    _check_head(file)
    tree = _Tensors(file, storage, room).load()
    keys = _Tensors(file, storage, room).load()
    if set(map(str, keys)) != made.keys():
        raise Refused("its storages are not those that it names")
    for key in keys:
        _fill(made[str(key)], file)
    return tree


def _behind(
    made: dict[str, Tensor], left: list[int], dtype: torch.dtype, key: str, count: int, more: Any
) -> Tensor:
    """A storage whose numbers come behind the pickle."""
    if key not in made:
        left[0] -= count * dtype.itemsize
        if left[0] < 0:
            raise Refused("its storages are larger than the file")
        made[key] = torch.zeros(count, dtype=dtype)
    if more:  # a part of a storage: a key of its own, where it begins, how long it is
        return made[key].narrow(0, int(more[1]), int(more[2]))
    return made[key]


def _check_head(file: io.BytesIO) -> None:
    if file.getbuffer()[: len(_HEAD)] == _HEAD:  # in a file of EDM there are hundreds of them
        file.seek(len(_HEAD))
        return
    try:
        magic = _Tensors(file, _none, Room(0)).load()
    except (EOFError, Asked):
        raise
    except Exception:  # whatever this may be
        magic = None
    if type(magic) is not int or magic != MAGIC:
        raise _Other("it was not written by torch.save; fetch it again")
    protocol, system = (_Tensors(file, _none, Room(0)).load() for _ in range(2))
    if protocol != PROTOCOL or not system.get("little_endian", True):
        raise _Other("it was written by another torch or on another machine; save it again")


def _fill(storage: Tensor, file: io.BytesIO) -> None:
    """The numbers of a storage, behind how many they are."""
    count = int.from_bytes(file.read(8), "little")
    data = file.read(storage.nbytes)
    if count != len(storage) or len(data) != storage.nbytes:
        raise Refused("the numbers of a storage break off")
    if count:
        storage.view(torch.uint8).copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))


def _none(*given: Any) -> Tensor:
    raise Refused("it has a storage where there is none")


def _empty(dtype: torch.dtype) -> Tensor:
    return torch.empty(0, dtype=dtype)


class _Tensors(Reader):
    """A pickle of torch.save; its storages come from elsewhere."""

    def __init__(self, file: io.BytesIO, storage: Callable[..., Tensor], room: Room) -> None:
        super().__init__(file, encoding="utf-8")
        self.storage, self.room = storage, room
        self.table: Mapping[str, Any] = {
            "torch._utils._rebuild_tensor": self._tensor,
            "torch._utils._rebuild_tensor_v2": self._tensor,
            "torch._utils._rebuild_tensor_v3": self._typed,
            "torch._utils._rebuild_parameter": _first,
            "torch._utils._rebuild_parameter_with_state": _first,
            "torch._tensor._rebuild_from_type_v2": self._subclass,
            "torch.nn.parameter.Parameter": _first,
            "torch.Tensor": _first,
            "torch._tensor.Tensor": _first,
            "torch.Size": lambda sizes=(): torch.Size(_listed(sizes)),
            "torch.device": lambda *words: words[0],
            "collections.OrderedDict": _dictionary,
            "collections.Counter": _dictionary,
            "builtins.set": _set, "__builtin__.set": _set,
            "builtins.complex": complex, "__builtin__.complex": complex,
            "_codecs.encode": _encoded,
        }  # fmt: skip

    def known(self, module: str, name: str) -> Any:
        found = _STORAGE.fullmatch(f"{module}.{name}")
        if found and found[1] in _STORAGES:
            return _STORAGES[found[1]]
        dtype = getattr(torch, name, None) if module == "torch" else None
        return dtype if isinstance(dtype, torch.dtype) else self.table.get(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        kind, dtype, key, _, count, *more = pid
        if (
            kind != "storage"
            or not isinstance(dtype, torch.dtype)
            or not isinstance(key, str | int)
        ):
            raise Refused("it points outside of itself")
        if type(count) is not int or count < 0:
            raise Refused(f"it has a storage of {cut(repr(count), 40)} numbers")
        found = self.storage(dtype, str(key), count, more[0] if more else None)
        if not (more and more[0]) and len(found) != count:
            raise Refused(f"a storage has {len(found)} numbers, not {count}")
        return found

    def _tensor(self, storage: Tensor, offset: int, size: Any, stride: Any, *more: Any) -> Tensor:
        return view(storage, offset, size, stride, self.room)

    def _typed(
        self, storage: Tensor, offset: int, size: Any, stride: Any, *more: Any
    ) -> Tensor:  # requires_grad, hooks, dtype
        return view(storage.view(more[2]), offset, size, stride, self.room)

    def _subclass(self, make: Any, kind: Any, arguments: Any, state: Any) -> Any:
        if make not in (self._tensor, self._typed, _first):
            raise Refused("it holds tensors of a kind that is not known")
        return make(*arguments)


def _first(data: Tensor, *more: Any) -> Tensor:
    if not isinstance(data, Tensor):
        raise Refused("it holds a parameter that is no tensor")
    return data


def _listed(items: Any) -> tuple[Any, ...]:
    """A list as it is; of a tensor it would be an object a number."""
    if not isinstance(items, list | tuple):
        raise Refused(f"it holds a {type(items).__name__} in the place of a list")
    return tuple(items)


def _dictionary(pairs: Any = ()) -> OrderedDict[Any, Any]:
    if isinstance(pairs, dict):
        return OrderedDict(pairs)
    listed = [_listed(pair) for pair in _listed(pairs)]
    check_keys(key for key, _ in listed)
    return OrderedDict(listed)


def _set(items: Any = ()) -> set[Any]:
    check_keys(_listed(items))
    return set(items)


def _encoded(text: Any, *kind: Any) -> bytes:
    """Bytes, as Python 3 writes them for Python 2."""
    if not isinstance(text, str):
        raise Refused("it encodes what is no text")
    return text.encode("latin1")
