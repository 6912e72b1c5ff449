"""Pickles, followed within bounds: known names only, and no more room than the file's bytes.

A pickle is a program.  The reader of the standard library that is written in C makes room for as
many objects as a file claims; this one is the other, with every step counted.
"""

import pickle
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, ClassVar

from scoreag.registry import truncate_text

MAX_STEPS = 1_000_000  # of one pickle; each makes at most one object
MAX_GLOBALS = 1000  # that one pickle may ask for; checkpoints of EDM ask for thirty
_SAFE_KEY_TYPES = (str, bytes, bool, type(None))
_MAX_INT_KEY = 1 << 32  # larger whole numbers can be chosen so that they collide in a dictionary
_FORBIDDEN_OPCODES = (  # operations that take something from elsewhere
    pickle.NEXT_BUFFER,
    pickle.READONLY_BUFFER,
    pickle.EXT1,
    pickle.EXT2,
    pickle.EXT4,
)


class UnsupportedCheckpoint(ValueError):
    """What was read is no checkpoint of a kind that is known, or is damaged."""


class ForbiddenGlobal(UnsupportedCheckpoint):
    """A pickle asks for what no file of its kind needs; ``name`` says for what."""

    def __init__(self, name: str) -> None:
        super().__init__(f"it asks for {truncate_text(name, 120)}")
        self.name = truncate_text(name, 120)


class StubObject:
    """What stands for an object of a pickle; its state is kept, and given to nobody."""

    state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class SafeUnpickler(pickle._Unpickler):
    """Follows a pickle; what a name stands for says ``known``, anything else is refused."""

    stack: list[Any]
    memo: dict[int, Any]
    dispatch: ClassVar[dict[int, Any]]

    def __init__(self, file: Any, **options: Any) -> None:
        super().__init__(file, **options)
        self.steps = iter(range(MAX_STEPS))
        self.names = dict[tuple[str, str], Any]()

    def resolve_global(self, module: str, name: str) -> Any:
        """What a name of the pickle stands for; None: nothing that is known."""
        raise NotImplementedError

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.names:
            found = self.resolve_global(module, name)
            if found is None:
                raise ForbiddenGlobal(f"{module}.{name}")
            if len(self.names) >= MAX_GLOBALS:
                raise UnsupportedCheckpoint(
                    f"it asks for more than {MAX_GLOBALS} names; nothing was run"
                )
            self.names[module, name] = found
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
        elif isinstance(target, StubObject):
            target.__setstate__(state)
            self.stack.pop()
        else:
            raise UnsupportedCheckpoint(f"it sets the state of a {type(target).__name__}")

    def load_setitem(self) -> None:
        self._check_target(self.stack[-3])
        check_keys([self.stack[-2]])
        super().load_setitem()  # type: ignore[misc]

    def load_setitems(self) -> None:
        self._check_target(self.metastack[-1][-1])  # type: ignore[attr-defined]
        check_keys(self.stack[::2])
        super().load_setitems()  # type: ignore[misc]

    def load_dict(self) -> None:
        check_keys(self.stack[::2])
        super().load_dict()  # type: ignore[misc]

    def load_additems(self) -> None:
        check_keys(self.stack)
        super().load_additems()  # type: ignore[misc]

    def load_frozenset(self) -> None:
        check_keys(self.stack)
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
        if not isinstance(target, dict | StubObject):
            raise UnsupportedCheckpoint(f"it puts entries into a {type(target).__name__}")


def check_keys(keys: Iterable[Any]) -> None:
    """Refuse keys whose hash could take for ever: tuples of tuples, or numbers that collide."""
    for key in keys:
        small = type(key) is int and abs(key) < _MAX_INT_KEY
        if type(key) not in _SAFE_KEY_TYPES and not small:
            raise UnsupportedCheckpoint(
                f"it has a {type(key).__name__} as a key; expected words and numbers"
            )


def _count_steps(opcode_handler: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda reader: (
        next(reader.steps),
        opcode_handler(reader),
    )  # a lambda: there is none faster


def _build_dispatch() -> dict[int, Any]:
    own: dict[bytes, Callable[[Any], None]] = {
        pickle.PUT: SafeUnpickler.load_put, pickle.BUILD: SafeUnpickler.load_build,
        pickle.SETITEM: SafeUnpickler.load_setitem, pickle.SETITEMS: SafeUnpickler.load_setitems,
        pickle.DICT: SafeUnpickler.load_dict, pickle.ADDITEMS: SafeUnpickler.load_additems,
        pickle.BYTEARRAY8: SafeUnpickler.load_bytearray8, pickle.FROZENSET: SafeUnpickler.load_frozenset,
        pickle.EMPTY_SET: SafeUnpickler.load_empty_set,
    }  # fmt: skip
    every = {**pickle._Unpickler.dispatch, **{code[0]: act for code, act in own.items()}}
    refused = {code[0] for code in _FORBIDDEN_OPCODES}
    return {code: _count_steps(act) for code, act in every.items() if code not in refused}


SafeUnpickler.dispatch = _build_dispatch()
