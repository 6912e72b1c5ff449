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

from scoreag.io.bounded import get_file_size, open_zip_archive, read_bytes, read_zip_member
from scoreag.io.pickles import (
    MAX_STEPS,
    ForbiddenGlobal,
    SafeUnpickler,
    UnsupportedCheckpoint,
    check_keys,
)
from scoreag.registry import truncate_text

MAX_EXPANSION = 4  # bytes of all tensors for each byte of the file; some share their numbers
EXTRA_BYTES = 1 << 20
MAX_DIMENSIONS = 32
MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # with which the older layout begins
_SIZES = {"short": 2, "int": 4, "long": 4}
_LEGACY_HEADER = b"".join(  # as torch writes it today
    pickle.dumps(one, 2)
    for one in (
        MAGIC,
        PROTOCOL,
        {"protocol_version": PROTOCOL, "little_endian": True, "type_sizes": _SIZES},
    )
)
_STORAGE_DTYPES = {
    "Double": torch.float64, "Float": torch.float32, "Half": torch.float16,
    "BFloat16": torch.bfloat16, "Long": torch.int64, "Int": torch.int32, "Short": torch.int16,
    "Char": torch.int8, "Byte": torch.uint8, "Bool": torch.bool, "ComplexFloat": torch.complex64,
    "ComplexDouble": torch.complex128, "Untyped": torch.uint8,
}  # fmt: skip
_STORAGE_PATTERN = re.compile(r"(?:torch|torch\.cuda|torch\.storage)\.(\w+)Storage")


class ByteBudget:
    """How many bytes of tensors may still come."""

    def __init__(self, size: int) -> None:
        self.remaining = self.total = MAX_EXPANSION * size + EXTRA_BYTES

    def take(self, count: int) -> None:
        self.remaining -= count
        if self.remaining < 0:
            raise UnsupportedCheckpoint(
                f"its tensors have more than {self.total:,} bytes, {MAX_EXPANSION} times its own"
            )


def make_view(storage: Tensor, offset: int, size: Any, stride: Any, budget: ByteBudget) -> Tensor:
    """A tensor of a storage; one that repeats its numbers would be larger than the file.

    Raises:
        Refused: it has more numbers than its storage, or there is no room for it.
    """
    if len(size) > MAX_DIMENSIONS or not all(type(side) is int and side >= 0 for side in size):
        raise UnsupportedCheckpoint(f"it holds a tensor of {len(size)} dimensions, or of no size")
    if (count := math.prod(size)) > len(storage):
        raise UnsupportedCheckpoint(
            f"it holds a tensor of {count} numbers in a storage of {len(storage)}"
        )
    budget.take(count * storage.element_size())
    return storage.as_strided(tuple(size), tuple(stride), offset)


def load_torch_file(path: Path) -> Any:
    """What ``torch.save`` wrote.

    Raises:
        ValueError: it is something else, damaged, holds more than tensors, or claims more than
            there is.
    """
    size = get_file_size(path)
    with path.open("rb") as file:
        packed = file.read(2) == b"PK"
    try:
        tree = _load_archive(path, size) if packed else load_legacy_bytes(read_bytes(path))
        check_byte_budget(_iter_tensors(tree), size)
        return tree
    except MemoryError:
        raise
    except Exception as error:  # a damaged file can raise anything
        raise ValueError(f"{path} is no whole file of tensors: {_error_reason(error)}") from None


def _error_reason(error: Exception) -> str:
    if isinstance(error, ForbiddenGlobal):
        return f"it holds {error.name}, not only tensors; save its state_dict()"
    return str(error) if isinstance(error, _UnsupportedFile) else "it is damaged; fetch it again"


class _UnsupportedFile(ValueError):
    """What is wrong with a file that is whole; the message says what to do."""


def check_byte_budget(tensors: Iterable[Tensor], size: int) -> None:
    """Refuse tensors that have far more numbers than a file of this size, since they share them.

    Raises:
        Refused: they do.
    """
    room = ByteBudget(size)
    for tensor in tensors:
        room.take(tensor.nbytes)


def _iter_tensors(tree: Any) -> Iterator[Tensor]:
    """Every tensor of a tree, as often as it is there."""
    waiting, left = [tree], MAX_STEPS
    while waiting:
        value = waiting.pop()
        left -= 1
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, dict | list | tuple):
            left -= len(value)
            if left < 0:
                raise UnsupportedCheckpoint("it says the same again and again")
            waiting += value.values() if isinstance(value, dict) else value


def _load_archive(path: Path, size: int) -> Any:
    with open_zip_archive(path) as opened:
        return _load_members(opened, size)


def _load_members(opened: zipfile.ZipFile, size: int) -> Any:
    names = opened.namelist()
    if (whole := sum(one.file_size for one in opened.infolist())) > size:
        raise _UnsupportedFile(f"it unpacks to {whole:,} bytes, which torch.save does not do")
    roots = [name.removesuffix("data.pkl") for name in names if name.endswith("/data.pkl")]
    root = min(roots, key=len, default=None)
    if root is None:
        raise _UnsupportedFile("it was not written by torch.save; fetch it again")
    if f"{root}constants.pkl" in names:
        raise _UnsupportedFile("it holds a program, not only tensors; save its state_dict()")
    order = f"{root}byteorder"
    if order in names and read_zip_member(opened, order, 16) != b"little":
        raise _UnsupportedFile(
            "its numbers begin with the highest byte; save it again on another machine"
        )
    kept: dict[str, Tensor] = {}

    def storage(dtype: torch.dtype, key: str, count: int, more: Any) -> Tensor:
        if key not in kept:
            data = read_zip_member(opened, f"{root}data/{key}", size)
            kept[key] = (
                torch.frombuffer(data, dtype=torch.uint8) if data else _empty_tensor(torch.uint8)
            )
        return kept[key][: count * dtype.itemsize].view(dtype)

    program = io.BytesIO(read_zip_member(opened, f"{root}data.pkl", size))
    return _TensorUnpickler(program, storage, ByteBudget(size)).load()


def load_legacy_bytes(data: bytes) -> Any:
    """What the older layout holds: some pickles, and the numbers of the storages behind them."""
    if not data:
        raise EOFError
    file, made = io.BytesIO(data), dict[str, Tensor]()
    room, storage = ByteBudget(len(data)), partial(_legacy_storage, made, [len(data)])
    _check_legacy_header(file)
    tree = _TensorUnpickler(file, storage, room).load()
    keys = _TensorUnpickler(file, storage, room).load()
    if set(map(str, keys)) != made.keys():
        raise UnsupportedCheckpoint("its storages are not those that it names")
    for key in keys:
        _read_storage(made[str(key)], file)
    return tree


def _legacy_storage(
    storages: dict[str, Tensor],
    bytes_left: list[int],
    dtype: torch.dtype,
    key: str,
    count: int,
    more: Any,
) -> Tensor:
    """A storage whose numbers come behind the pickle."""
    if key not in storages:
        bytes_left[0] -= count * dtype.itemsize
        if bytes_left[0] < 0:
            raise UnsupportedCheckpoint("its storages are larger than the file")
        storages[key] = torch.zeros(count, dtype=dtype)
    if more:  # a part of a storage: a key of its own, where it begins, how long it is
        return storages[key].narrow(0, int(more[1]), int(more[2]))
    return storages[key]


def _check_legacy_header(file: io.BytesIO) -> None:
    if (
        file.getbuffer()[: len(_LEGACY_HEADER)] == _LEGACY_HEADER
    ):  # in a file of EDM there are hundreds of them
        file.seek(len(_LEGACY_HEADER))
        return
    try:
        magic = _TensorUnpickler(file, _reject_storage, ByteBudget(0)).load()
    except (EOFError, ForbiddenGlobal):
        raise
    except Exception:  # whatever this may be
        magic = None
    if type(magic) is not int or magic != MAGIC:
        raise _UnsupportedFile("it was not written by torch.save; fetch it again")
    protocol, system = (
        _TensorUnpickler(file, _reject_storage, ByteBudget(0)).load() for _ in range(2)
    )
    if protocol != PROTOCOL or not system.get("little_endian", True):
        raise _UnsupportedFile(
            "it was written by another torch or on another machine; save it again"
        )


def _read_storage(storage: Tensor, file: io.BytesIO) -> None:
    """The numbers of a storage, behind how many they are."""
    count = int.from_bytes(file.read(8), "little")
    data = file.read(storage.nbytes)
    if count != len(storage) or len(data) != storage.nbytes:
        raise UnsupportedCheckpoint("the numbers of a storage break off")
    if count:
        storage.view(torch.uint8).copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))


def _reject_storage(*given: Any) -> Tensor:
    raise UnsupportedCheckpoint("it has a storage where there is none")


def _empty_tensor(dtype: torch.dtype) -> Tensor:
    return torch.empty(0, dtype=dtype)


class _TensorUnpickler(SafeUnpickler):
    """A pickle of torch.save; its storages come from elsewhere."""

    def __init__(
        self, file: io.BytesIO, storage: Callable[..., Tensor], budget: ByteBudget
    ) -> None:
        super().__init__(file, encoding="utf-8")
        self.storage, self.budget = storage, budget
        self.constructors: Mapping[str, Any] = {
            "torch._utils._rebuild_tensor": self._rebuild_tensor,
            "torch._utils._rebuild_tensor_v2": self._rebuild_tensor,
            "torch._utils._rebuild_tensor_v3": self._rebuild_typed_tensor,
            "torch._utils._rebuild_parameter": _rebuild_parameter,
            "torch._utils._rebuild_parameter_with_state": _rebuild_parameter,
            "torch._tensor._rebuild_from_type_v2": self._rebuild_subclass,
            "torch.nn.parameter.Parameter": _rebuild_parameter,
            "torch.Tensor": _rebuild_parameter,
            "torch._tensor.Tensor": _rebuild_parameter,
            "torch.Size": lambda sizes=(): torch.Size(_to_tuple(sizes)),
            "torch.device": lambda *words: words[0],
            "collections.OrderedDict": _rebuild_dict,
            "collections.Counter": _rebuild_dict,
            "builtins.set": _rebuild_set, "__builtin__.set": _rebuild_set,
            "builtins.complex": complex, "__builtin__.complex": complex,
            "_codecs.encode": _encode_latin1,
        }  # fmt: skip

    def resolve_global(self, module: str, name: str) -> Any:
        found = _STORAGE_PATTERN.fullmatch(f"{module}.{name}")
        if found and found[1] in _STORAGE_DTYPES:
            return _STORAGE_DTYPES[found[1]]
        dtype = getattr(torch, name, None) if module == "torch" else None
        return (
            dtype if isinstance(dtype, torch.dtype) else self.constructors.get(f"{module}.{name}")
        )

    def persistent_load(self, pid: Any) -> Any:
        kind, dtype, key, _, count, *more = pid
        if (
            kind != "storage"
            or not isinstance(dtype, torch.dtype)
            or not isinstance(key, str | int)
        ):
            raise UnsupportedCheckpoint("it points outside of itself")
        if type(count) is not int or count < 0:
            raise UnsupportedCheckpoint(
                f"it has a storage of {truncate_text(repr(count), 40)} numbers"
            )
        found = self.storage(dtype, str(key), count, more[0] if more else None)
        if not (more and more[0]) and len(found) != count:
            raise UnsupportedCheckpoint(f"a storage has {len(found)} numbers, not {count}")
        return found

    def _rebuild_tensor(
        self, storage: Tensor, offset: int, size: Any, stride: Any, *more: Any
    ) -> Tensor:
        return make_view(storage, offset, size, stride, self.budget)

    def _rebuild_typed_tensor(
        self, storage: Tensor, offset: int, size: Any, stride: Any, *more: Any
    ) -> Tensor:  # requires_grad, hooks, dtype
        return make_view(storage.view(more[2]), offset, size, stride, self.budget)

    def _rebuild_subclass(self, make: Any, kind: Any, arguments: Any, state: Any) -> Any:
        if make not in (self._rebuild_tensor, self._rebuild_typed_tensor, _rebuild_parameter):
            raise UnsupportedCheckpoint("it holds tensors of a kind that is not known")
        return make(*arguments)


def _rebuild_parameter(data: Tensor, *more: Any) -> Tensor:
    if not isinstance(data, Tensor):
        raise UnsupportedCheckpoint("it holds a parameter that is no tensor")
    return data


def _to_tuple(items: Any) -> tuple[Any, ...]:
    """A list as it is; of a tensor it would be an object a number."""
    if not isinstance(items, list | tuple):
        raise UnsupportedCheckpoint(f"it holds a {type(items).__name__} in the place of a list")
    return tuple(items)


def _rebuild_dict(pairs: Any = ()) -> OrderedDict[Any, Any]:
    if isinstance(pairs, dict):
        return OrderedDict(pairs)
    listed = [_to_tuple(pair) for pair in _to_tuple(pairs)]
    check_keys(key for key, _ in listed)
    return OrderedDict(listed)


def _rebuild_set(items: Any = ()) -> set[Any]:
    check_keys(_to_tuple(items))
    return set(items)


def _encode_latin1(text: Any, *kind: Any) -> bytes:
    """Bytes, as Python 3 writes them for Python 2."""
    if not isinstance(text, str):
        raise UnsupportedCheckpoint("it encodes what is no text")
    return text.encode("latin1")
