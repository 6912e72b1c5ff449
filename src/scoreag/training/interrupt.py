"""An interruption that waits for the end of a step, so that what is saved then is whole."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from scoreag.stopping import ENDING, Stopped, stop


@contextmanager
def held_back(patient: bool = False) -> Iterator[Callable[[], int]]:
    """A first Ctrl-C, SIGTERM or SIGHUP is only noted, and the function tells its number, else 0.

    A second Ctrl-C ends at once; the other two may come twice, as from a terminal that is closed.
    Signals that somebody else takes care of are left to him.

    Args:
        patient: a second Ctrl-C is only noted, too: a launcher of several processes repeats to each
            what the terminal told it already.
    """
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if came and not patient and number == signal.SIGINT:
            raise Stopped(number)
        came.append(number)

    usual = (signal.default_int_handler, signal.SIG_DFL, stop)
    ours = threading.current_thread() is threading.main_thread()
    held = {n: how for n in ENDING if ours and (how := signal.getsignal(n)) in usual}
    for number in held:
        signal.signal(number, note)
    try:
        yield lambda: came[0] if came else 0
    finally:
        for number, how in held.items():
            signal.signal(number, how)
