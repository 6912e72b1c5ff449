"""Pickles, followed within bounds: known names only, and no more room than the file's bytes.

A pickle is a program.  The reader of the standard library that is written in C makes room for as
many objects as a file claims; this one is the other, with every step counted.
"""

import pickle
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, ClassVar

from scoreag.load import cut

STEPS = 1_000_000  # of one pickle; each makes at most one object
NAMES = 1000  # that one pickle may ask for; checkpoints of EDM ask for thirty
_PLAIN = (str, bytes, bool, type(None))
_SMALL = 1 << 32  # larger whole numbers can be chosen so that they collide in a dictionary
_OUTSIDE = (  # operations that take something from elsewhere
    pickle.NEXT_BUFFER,
    pickle.READONLY_BUFFER,
    pickle.EXT1,
    pickle.EXT2,
    pickle.EXT4,
)


class Refused(ValueError):
    """What was read is no checkpoint of a kind that is known, or is damaged."""


class Asked(Refused):
    """A pickle asks for what no file of its kind needs; ``name`` says for what."""

    def __init__(self, name: str) -> None:
        super().__init__(f"it asks for {cut(name, 120)}")
        self.name = cut(name, 120)


class Object:
    """What stands for an object of a pickle; its state is kept, and given to nobody."""

    state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class Reader(pickle._Unpickler):
    """Follows a pickle; what a name stands for says ``known``, anything else is refused."""

    stack: list[Any]
    memo: dict[int, Any]
    dispatch: ClassVar[dict[int, Any]]

    def __init__(self, file: Any, **options: Any) -> None:
        super().__init__(file, **options)
        self.steps = iter(range(STEPS))
        self.names = dict[tuple[str, str], Any]()

    def known(self, module: str, name: str) -> Any:
        """What a name of the pickle stands for; None: nothing that is known."""
        raise NotImplementedError

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.names:
            found = self.known(module, name)
            if found is None:
                raise Asked(f"{module}.{name}")
            if len(self.names) >= NAMES:
                raise Refused(f"it asks for more than {NAMES} names; nothing was run")
            self.names[module, name] = found
        return self.names[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise Refused("it points outside of itself; nothing was run")

    def load(self) -> Any:
        try:
            return super().load()
        except StopIteration:
            raise Refused(f"it has more than {STEPS:,} steps; nothing was run") from None

    def load_put(self) -> None:
        place = int(self.readline()[:-1])  # type: ignore[attr-defined]
        if not 0 <= place < _SMALL:
            raise Refused("it keeps an object at a place that no pickle has")
        self.memo[place] = self.stack[-1]

    def load_build(self) -> None:
        state, target = self.stack[-1], self.stack[-2]
        if isinstance(target, dict):  # attributes of a dictionary: torch keeps versions there
            self.stack.pop()
        elif isinstance(target, Object):
            target.__setstate__(state)
            self.stack.pop()
        else:
            raise Refused(f"it sets the state of a {type(target).__name__}")

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
        if not isinstance(target, dict | Object):
            raise Refused(f"it puts entries into a {type(target).__name__}")


def check_keys(keys: Iterable[Any]) -> None:
    """Refuse keys whose hash could take for ever: tuples of tuples, or numbers that collide."""
    for key in keys:
        small = type(key) is int and abs(key) < _SMALL
        if type(key) not in _PLAIN and not small:
            raise Refused(f"it has a {type(key).__name__} as a key; expected words and numbers")


def _counted(act: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda reader: (next(reader.steps), act(reader))  # a lambda: there is none faster


def _steps() -> dict[int, Any]:
    own: dict[bytes, Callable[[Any], None]] = {
        pickle.PUT: Reader.load_put, pickle.BUILD: Reader.load_build,
        pickle.SETITEM: Reader.load_setitem, pickle.SETITEMS: Reader.load_setitems,
        pickle.DICT: Reader.load_dict, pickle.ADDITEMS: Reader.load_additems,
        pickle.BYTEARRAY8: Reader.load_bytearray8, pickle.FROZENSET: Reader.load_frozenset,
        pickle.EMPTY_SET: Reader.load_empty_set,
    }  # fmt: skip
    every = {**pickle._Unpickler.dispatch, **{code[0]: act for code, act in own.items()}}
    refused = {code[0] for code in _OUTSIDE}
    return {code: _counted(act) for code, act in every.items() if code not in refused}


Reader.dispatch = _steps()
