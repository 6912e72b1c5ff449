"""An interruption that waits for the end of a step, so that what is saved then is whole."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def held_back(patient: bool = False) -> Iterator[Callable[[], bool]]:
    """A first Ctrl-C or SIGTERM is only noted, and the function tells of it; a second ends at once.

    Signals that somebody else takes care of are left to him.

    Args:
        patient: a second one is only noted, too: a launcher of several processes repeats to each
            what the terminal told it already.
    """
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if came and not patient:
            raise KeyboardInterrupt
        came.append(number)

    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    ours = threading.current_thread() is threading.main_thread()
    held = {n: how for n, how in usual.items() if ours and signal.getsignal(n) is how}
    for number in held:
        signal.signal(number, note)
    try:
        yield lambda: bool(came)
    finally:
        for number, how in held.items():
            signal.signal(number, how)
