"""An interruption that waits for the end of a step, so that what is saved then is whole."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def held_back() -> Iterator[Callable[[], bool]]:
    """A first Ctrl-C is only noted, and the function tells of it; a second one ends at once."""
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if came:
            raise KeyboardInterrupt
        came.append(number)

    ours = threading.current_thread() is threading.main_thread()
    usual = signal.default_int_handler
    if not ours or signal.getsignal(signal.SIGINT) is not usual:  # somebody else takes care of it
        yield lambda: False
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield lambda: bool(came)
    finally:
        signal.signal(signal.SIGINT, usual)
