"""A restricted unpickler for files of torch.save, of EDM and of CIFAR: it runs none of their code.

A pickle is a program: it names functions and calls them.  Here a name stands for a function of this
file or for a ``PickleStub``, which only stores its arguments; any other name is an error.  Nothing
is imported for a pickle, every step is counted, and tensors are no larger than their bytes in the
file.  The unpickler in C, and torch's, allocate whatever size a file claims.
"""

import io
import math
import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scoreag.io.bounded import get_file_size, open_zip_archive, read_bytes, read_zip_member
from scoreag.registry import short_repr, truncate_text

MAX_STEPS = 1_000_000  # of one pickle; each makes at most one object
MAX_GLOBALS = 1000  # names in one pickle; checkpoints of EDM have thirty
MAX_EXPANSION, EXTRA_BYTES = 4, 1 << 20  # bytes of all tensors: for each of the file's, and more
MAX_DIMENSIONS = 32
_MAX_INT_KEY = 1 << 32  # larger integers can be chosen so that they collide in a dictionary
_FORBIDDEN_OPCODES = (  # operations that take data from outside of the pickle
    pickle.NEXT_BUFFER, pickle.READONLY_BUFFER, pickle.EXT1, pickle.EXT2, pickle.EXT4
)  # fmt: skip
_EDM_STUBS = re.compile(
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
_ARRAY_STUBS = re.compile(
    r"numpy\.(ndarray|dtype)|numpy\._?core\.(multiarray|numeric)\.(_reconstruct|_frombuffer)"
)
MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # with which files of torch.save begin before 2020
_SYSTEM = {
    "protocol_version": PROTOCOL, "little_endian": True,
    "type_sizes": {"short": 2, "int": 4, "long": 4},
}  # fmt: skip
_LEGACY_HEADER = b"".join(pickle.dumps(one, 2) for one in (MAGIC, PROTOCOL, _SYSTEM))
_STORAGE_PATTERN = re.compile(r"(?:torch|torch\.cuda|torch\.storage)\.(\w+)Storage")
_STORAGE_DTYPES = {
    "Double": torch.float64, "Float": torch.float32, "Half": torch.float16,
    "BFloat16": torch.bfloat16, "Long": torch.int64, "Int": torch.int32, "Short": torch.int16,
    "Char": torch.int8, "Byte": torch.uint8, "Bool": torch.bool, "ComplexFloat": torch.complex64,
    "ComplexDouble": torch.complex128, "Untyped": torch.uint8,
}  # fmt: skip


class UnsupportedCheckpoint(ValueError):
    """The file is no checkpoint of a known kind, or is damaged."""


class ForbiddenGlobal(UnsupportedCheckpoint):
    """A pickle contains the name of something that no file of its kind needs."""

    def __init__(self, name: str) -> None:
        super().__init__(f"it asks for {truncate_text(name, 120)}")
        self.name = truncate_text(name, 120)


class _UnsupportedFile(ValueError):
    """A complete file that is not read; the message says what to do."""


class PickleStub:
    """The record of an object: its arguments, its state, its items and elements."""

    name = ""  # of the object's class; a pickle needs a class, so each name has a subclass
    arguments: tuple[Any, ...]
    items: dict[Any, Any]
    elements: list[Any]

    def __new__(cls, *arguments: Any) -> "PickleStub":
        stub = super().__new__(cls)
        stub.arguments, stub.state, stub.items, stub.elements = arguments, None, {}, []
        return stub

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items[key] = value

    def append(self, value: Any) -> None:
        self.elements.append(value)

    def extend(self, values: Any) -> None:
        self.elements.extend(values)


class SafeUnpickler(pickle._Unpickler):
    """Reads a pickle; ``resolve`` maps its names to functions, and forbidden ones to None."""

    stack: list[Any]
    memo: dict[int, Any]
    dispatch: ClassVar[dict[int, Any]]

    def __init__(self, file: Any, resolve: Callable[[str], Any], **options: Any) -> None:
        super().__init__(file, **options)
        self.resolve = resolve
        self.steps = iter(range(MAX_STEPS))
        self.names = dict[tuple[str, str], Any]()

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.names:
            value = self.resolve(f"{module}.{name}")
            if value is None:
                raise ForbiddenGlobal(f"{module}.{name}")
            if len(self.names) >= MAX_GLOBALS:
                raise UnsupportedCheckpoint(
                    f"it asks for more than {MAX_GLOBALS} names; nothing was run"
                )
            self.names[module, name] = value
        return self.names[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise UnsupportedCheckpoint("it points outside of itself; nothing was run")

    def load(self) -> Any:
        try:
            return super().load()
        except StopIteration:
            raise UnsupportedCheckpoint(
                f"it has more than {MAX_STEPS:,} steps; nothing was run"
            ) from None

    def load_put(self) -> None:
        place = int(self.readline()[:-1])  # type: ignore[attr-defined]
        if not 0 <= place < _MAX_INT_KEY:
            raise UnsupportedCheckpoint("it keeps an object at a place that no pickle has")
        self.memo[place] = self.stack[-1]

    def load_build(self) -> None:
        state, target = self.stack[-1], self.stack[-2]
        if isinstance(target, dict):  # attributes of a dictionary: torch keeps versions there
            self.stack.pop()
        elif isinstance(target, PickleStub):
            target.__setstate__(state)
            self.stack.pop()
        else:
            raise UnsupportedCheckpoint(f"it sets the state of a {type(target).__name__}")

    def load_setitem(self) -> None:
        self._check_target(self.stack[-3])
        _check_keys([self.stack[-2]])
        super().load_setitem()  # type: ignore[misc]

    def load_setitems(self) -> None:
        self._check_target(self.metastack[-1][-1])  # type: ignore[attr-defined]
        _check_keys(self.stack[::2])
        super().load_setitems()  # type: ignore[misc]

    def load_dict(self) -> None:
        _check_keys(self.stack[::2])
        super().load_dict()  # type: ignore[misc]

    def load_additems(self) -> None:
        _check_keys(self.stack)
        super().load_additems()  # type: ignore[misc]

    def load_frozenset(self) -> None:
        _check_keys(self.stack)
        super().load_frozenset()  # type: ignore[misc]

    def load_bytearray8(self) -> None:
        count = int.from_bytes(self.read(8), "little")  # type: ignore[attr-defined]
        data = self.read(min(count, 1 << 62))  # type: ignore[attr-defined]
        if len(data) != count:
            raise EOFError("it breaks off")
        self.append(bytearray(data))  # type: ignore[attr-defined]

    def load_empty_set(self) -> None:
        list(islice(self.steps, 3))  # as large as four other objects
        super().load_empty_set()  # type: ignore[misc]

    def _check_target(self, target: Any) -> None:
        if not isinstance(target, dict | PickleStub):
            raise UnsupportedCheckpoint(f"it puts entries into a {type(target).__name__}")


def _check_keys(keys: Iterable[Any]) -> None:
    """Refuse keys that could take forever to hash: tuples of tuples, or integers that collide."""
    for key in keys:
        small = type(key) is int and abs(key) < _MAX_INT_KEY
        if type(key) not in (str, bytes, bool, type(None)) and not small:
            raise UnsupportedCheckpoint(
                f"it has a {type(key).__name__} as a key; expected words and numbers"
            )


def _count_steps(handler: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda reader: (next(reader.steps), handler(reader))  # a lambda is fastest


SafeUnpickler.dispatch = {  # all handlers by name, so those that are overridden above
    code: _count_steps(getattr(SafeUnpickler, handler.__name__))
    for code, handler in pickle._Unpickler.dispatch.items()
    if bytes([code]) not in _FORBIDDEN_OPCODES
}


class ByteBudget:
    """The bytes of tensors that a file of this size may still have."""

    def __init__(self, size: int) -> None:
        self.remaining = self.total = MAX_EXPANSION * size + EXTRA_BYTES

    def take(self, count: int) -> None:
        self.remaining -= count
        if self.remaining < 0:
            raise UnsupportedCheckpoint(
                f"its tensors have more than {self.total:,} bytes, {MAX_EXPANSION} times its own"
            )

    def rebuild_tensor(
        self, storage: Any, offset: int, size: Any, stride: Any, *more: Any
    ) -> Tensor:
        """A tensor of a storage, which has at least as many numbers."""
        if not isinstance(storage, Tensor):
            raise UnsupportedCheckpoint(f"it makes a tensor of a {type(storage).__name__}")
        if len(size) > MAX_DIMENSIONS or not all(type(n) is int and n >= 0 for n in size):
            raise UnsupportedCheckpoint(
                f"it holds a tensor of {len(size)} dimensions, or of no size"
            )
        if (count := math.prod(size)) > len(storage):
            raise UnsupportedCheckpoint(
                f"it holds a tensor of {count} numbers in a storage of {len(storage)}"
            )
        self.take(count * storage.element_size())
        return storage.as_strided(tuple(size), tuple(stride), offset)


def check_byte_budget(tensors: Iterable[Tensor], size: int) -> None:
    """Refuse tensors that are far larger than their file, as they share numbers."""
    budget = ByteBudget(size)
    for tensor in tensors:
        budget.take(tensor.nbytes)


def _rebuild_parameter(data: Any, *more: Any) -> Tensor:
    if not isinstance(data, Tensor):
        raise UnsupportedCheckpoint("it holds a parameter that is no tensor")
    return data


def _rebuild_dict(pairs: Any = ()) -> OrderedDict[Any, Any]:
    if isinstance(pairs, dict):
        return OrderedDict(pairs)
    listed = [_to_tuple(pair) for pair in _to_tuple(pairs)]
    _check_keys(key for key, _ in listed)
    return OrderedDict(listed)


def _rebuild_set(items: Any = ()) -> set[Any]:
    _check_keys(_to_tuple(items))
    return set(items)


def _to_tuple(items: Any) -> tuple[Any, ...]:
    """The items of a list or tuple, but not of a tensor, which would be an object a number."""
    if not isinstance(items, list | tuple):
        raise UnsupportedCheckpoint(f"it holds a {type(items).__name__} in the place of a list")
    return tuple(items)


def _encode_latin1(text: Any, *kind: Any) -> bytes:
    """Bytes, which Python 3 writes as text for Python 2."""
    if not isinstance(text, str):
        raise UnsupportedCheckpoint("it encodes what is no text")
    return text.encode("latin1")


def load_tensors(path: Path) -> Any:
    """What ``torch.save`` wrote: tensors, numbers and containers; anything else is an error."""
    size = get_file_size(path)
    with path.open("rb") as file:
        is_archive = file.read(2) == b"PK"
    try:
        if is_archive:
            with open_zip_archive(path) as archive:
                tree = _load_archive(archive, size)
        else:
            tree = _load_legacy(read_bytes(path))
        check_byte_budget(_iter_tensors(tree), size)
        return tree
    except MemoryError:
        raise
    except Exception as error:  # a damaged file can raise anything
        reason = "it is damaged; fetch it again"
        if isinstance(error, ForbiddenGlobal):
            reason = f"it holds {error.name}, not only tensors; save its state_dict()"
        elif isinstance(error, _UnsupportedFile):
            reason = str(error)
        raise ValueError(f"{path} is no whole file of tensors: {reason}") from None


def _iter_tensors(tree: Any) -> Iterator[Tensor]:
    """Every tensor of a tree, as often as it occurs."""
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


def _load_archive(archive: zipfile.ZipFile, size: int) -> Any:
    names = archive.namelist()
    if (total := sum(member.file_size for member in archive.infolist())) > size:
        raise _UnsupportedFile(f"it unpacks to {total:,} bytes, which torch.save does not do")
    roots = [name.removesuffix("data.pkl") for name in names if name.endswith("/data.pkl")]
    root = min(roots, key=len, default=None)
    if root is None:
        raise _UnsupportedFile("it was not written by torch.save; fetch it again")
    if f"{root}constants.pkl" in names:
        raise _UnsupportedFile("it holds a program, not only tensors; save its state_dict()")
    order = f"{root}byteorder"
    if order in names and read_zip_member(archive, order, 16) != b"little":
        raise _UnsupportedFile(
            "its numbers begin with the highest byte; save it again on another machine"
        )
    storages: dict[str, Tensor] = {}

    def storage(dtype: torch.dtype, key: str, count: int, view: Any) -> Tensor:
        if key not in storages:
            data = read_zip_member(archive, f"{root}data/{key}", size)
            storages[key] = torch.from_numpy(np.frombuffer(data, np.uint8))
        return storages[key][: count * dtype.itemsize].view(dtype)

    program = io.BytesIO(read_zip_member(archive, f"{root}data.pkl", size))
    return _TensorUnpickler(program, storage, ByteBudget(size)).load()


def _load_legacy(data: bytes) -> Any:
    """The content of the older layout: some pickles, then the numbers of the storages."""
    if not data:
        raise EOFError
    file, budget = io.BytesIO(data), ByteBudget(len(data))
    storages, bytes_left = dict[str, Tensor](), len(data)

    def storage(dtype: torch.dtype, key: str, count: int, view: Any) -> Tensor:
        nonlocal bytes_left
        if key not in storages:
            bytes_left -= count * dtype.itemsize
            if bytes_left < 0:
                raise UnsupportedCheckpoint("its storages are larger than the file")
            storages[key] = torch.zeros(count, dtype=dtype)
        if view:  # a part of a storage: its own key, its offset, its length
            return storages[key].narrow(0, int(view[1]), int(view[2]))
        return storages[key]

    _check_legacy_header(file)
    tree = _TensorUnpickler(file, storage, budget).load()
    keys = _TensorUnpickler(file, storage, budget).load()
    if set(map(str, keys)) != storages.keys():
        raise UnsupportedCheckpoint("its storages are not those that it names")
    for key in keys:
        _read_storage(storages[str(key)], file)
    return tree


def _check_legacy_header(file: io.BytesIO) -> None:
    length = len(_LEGACY_HEADER)
    if file.getbuffer()[:length] == _LEGACY_HEADER:  # the fast path: EDM has hundreds of them
        file.seek(length)
        return
    try:
        magic = _TensorUnpickler(file, _reject_storage, ByteBudget(0)).load()
    except (EOFError, ForbiddenGlobal):
        raise
    except Exception:  # another kind of file
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
    count, data = int.from_bytes(file.read(8), "little"), file.read(storage.nbytes)
    if count != len(storage) or len(data) != storage.nbytes:
        raise UnsupportedCheckpoint("the numbers of a storage break off")
    if count:
        storage.view(torch.uint8).copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))


def _reject_storage(*arguments: Any) -> Tensor:
    raise UnsupportedCheckpoint("it has a storage where there is none")


class _TensorUnpickler(SafeUnpickler):
    """A pickle of torch.save, whose storages are stored outside of it."""

    def __init__(
        self, file: io.BytesIO, storage: Callable[..., Tensor], budget: ByteBudget
    ) -> None:
        super().__init__(file, self._resolve, encoding="utf-8")
        self.storage, self.budget = storage, budget
        self.constructors: Mapping[str, Any] = {
            "torch._utils._rebuild_tensor": budget.rebuild_tensor,
            "torch._utils._rebuild_tensor_v2": budget.rebuild_tensor,
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

    def _resolve(self, name: str) -> Any:
        storage = _STORAGE_PATTERN.fullmatch(name)
        if storage and storage[1] in _STORAGE_DTYPES:
            return _STORAGE_DTYPES[storage[1]]
        module, _, attribute = name.rpartition(".")
        dtype = getattr(torch, attribute, None) if module == "torch" else None
        return dtype if isinstance(dtype, torch.dtype) else self.constructors.get(name)

    def persistent_load(self, pid: Any) -> Any:
        kind, dtype, key, _, count, *more = pid
        is_valid = isinstance(dtype, torch.dtype) and isinstance(key, str | int)
        if kind != "storage" or not is_valid:
            raise UnsupportedCheckpoint("it points outside of itself")
        if type(count) is not int or count < 0:
            raise UnsupportedCheckpoint(
                f"it has a storage of {truncate_text(repr(count), 40)} numbers"
            )
        view = more[0] if more else None
        storage = self.storage(dtype, str(key), count, view)
        if not view and len(storage) != count:
            raise UnsupportedCheckpoint(f"a storage has {len(storage)} numbers, not {count}")
        return storage

    def _rebuild_typed_tensor(
        self, storage: Tensor, offset: int, size: Any, stride: Any, *more: Any
    ) -> Tensor:  # requires_grad, hooks, dtype
        return self.budget.rebuild_tensor(storage.view(more[2]), offset, size, stride)

    def _rebuild_subclass(self, make: Any, kind: Any, arguments: Any, state: Any) -> Any:
        tensors = (self.budget.rebuild_tensor, self._rebuild_typed_tensor, _rebuild_parameter)
        if make not in tensors:
            raise UnsupportedCheckpoint("it holds tensors of a kind that is not known")
        return make(*arguments)


def load_pickle(path: Path) -> Any:
    """A pickle of containers, numbers, text, bytes and integer arrays; Python 2 text is bytes."""
    return _load_plain(path, read_bytes(path))


def load_array_archive(path: Path) -> Any:
    """What ``torch.save`` wrote of containers, numbers, text and integer arrays of numpy."""
    with open_zip_archive(path) as archive:
        names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(names) != 1:
            raise ValueError(f"{path} has {len(names)} pickles; expected one, as of torch.save")
        try:
            data = read_zip_member(archive, names[0], get_file_size(path))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
    return _load_plain(path, data)


def _load_plain(path: Path, data: bytes | bytearray) -> Any:
    resolve = _stubs_of(_ARRAY_STUBS, {"_codecs.encode": _encode_latin1})
    try:
        reader = SafeUnpickler(io.BytesIO(data), resolve, encoding="bytes")
        return _build_arrays(reader.load(), {})
    except MemoryError:
        raise
    except Exception as error:  # a damaged pickle can raise anything
        reason = truncate_text(str(error), 200)
        raise ValueError(f"{path} is no plain pickle: {reason}; nothing of it was run") from error


def _stubs_of(pattern: re.Pattern[str], constructors: Mapping[str, Any]) -> Callable[[str], Any]:
    """The function of a name: a constructor, or a class of stubs where the pattern matches."""

    def resolve(name: str) -> Any:
        if name in constructors:
            return constructors[name]
        return type("Stub", (PickleStub,), {"name": name}) if pattern.fullmatch(name) else None

    return resolve


def _build_arrays(value: Any, built: dict[int, Any]) -> Any:
    """The value with arrays in place of their stubs; each object is built once."""
    if id(value) not in built:
        if isinstance(value, PickleStub):
            built[id(value)] = _build_array(value)
        elif isinstance(value, dict):
            built[id(value)] = {key: _build_arrays(item, built) for key, item in value.items()}
        elif isinstance(value, list):
            built[id(value)] = [_build_arrays(item, built) for item in value]
        else:
            return value
    return built[id(value)]


def _build_array(stub: PickleStub) -> NDArray[Any]:
    if stub.name.endswith("._frombuffer"):
        raw, kind, shape, order = stub.arguments
    else:
        _, shape, kind, by_columns, raw = stub.state
        order = "F" if by_columns else "C"
    code, mark = _to_str(kind.arguments[0]), _to_str(kind.state[1])
    if code not in ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8") or mark not in tuple("<>|="):
        raise ValueError(f"it holds an array of {short_repr(code)}, not of integers")
    return np.frombuffer(raw, np.dtype(mark + code)).reshape(shape, order=_to_str(order))


def _to_str(word: Any) -> Any:
    return word.decode("latin1") if isinstance(word, bytes) else word


def read_pickle_tree(path: Path) -> Any:
    """The tree of stubs, tensors and containers in a pickle of EDM."""
    data = read_bytes(path)
    constructors = {
        "collections.OrderedDict": _rebuild_dict,
        "torch._utils._rebuild_tensor_v2": ByteBudget(len(data)).rebuild_tensor,
        "torch._utils._rebuild_parameter": lambda data, *more: data,
        "torch.storage._load_from_bytes": _load_storage,
    }
    try:
        return SafeUnpickler(io.BytesIO(data), _stubs_of(_EDM_STUBS, constructors)).load()
    except ForbiddenGlobal as error:
        reason = f"it asks for {error.name}, which no checkpoint needs; nothing was run"
        raise UnsupportedCheckpoint(reason) from error
    except (UnsupportedCheckpoint, MemoryError):
        raise
    except Exception as error:  # a damaged pickle can raise anything
        reason = truncate_text(str(error), 200) or type(error).__name__
        raise UnsupportedCheckpoint(
            f"{path} is no whole pickle: {reason}; nothing of it was run"
        ) from error


def _load_storage(data: bytes) -> Any:
    """A storage within the pickle, as ``torch.save`` writes it in the older layout."""
    if data[:2] == b"PK":
        raise UnsupportedCheckpoint("it holds a packed storage, which EDM does not write")
    try:
        return _load_legacy(data)
    except ForbiddenGlobal as error:
        raise ValueError(f"a storage of it: {error}") from error


def to_plain(tree: Any, max_values: int = 1000) -> Any:
    """Numbers, words and lists of a tree; stubs become numbers, or dicts.

    Shared lists are counted as often as they occur, at most ``max_values`` in all.
    """
    left = max_values

    def convert(value: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise UnsupportedCheckpoint(f"its arguments are more than {max_values}")
        if isinstance(value, PickleStub):
            if value.name.endswith("multiarray.scalar"):
                return _to_number(*value.arguments)
            value = {**(value.state or {}), **value.items}
        if isinstance(value, dict):
            return {str(key): convert(item) for key, item in value.items()}
        return [convert(item) for item in value] if isinstance(value, list | tuple) else value

    try:
        return convert(tree)
    except RecursionError:
        raise UnsupportedCheckpoint("its arguments nest too deeply") from None


def _to_number(kind: PickleStub, data: bytes) -> Any:
    code = kind.arguments[0]
    if not isinstance(code, str) or not re.fullmatch(r"[fiu][1248]|b1", code):
        raise UnsupportedCheckpoint(f"it holds a number of type {short_repr(code)}")
    return np.frombuffer(data, np.dtype(code))[0].item()
