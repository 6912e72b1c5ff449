"""SIGTERM and SIGHUP end a verb as Ctrl-C does: what is computed is written before."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def as_interrupts(wanted: bool = True) -> Iterator[list[int]]:
    """Raise KeyboardInterrupt at these signals too; the numbers of those that came.

    Signals that somebody else takes care of, or has ignored, as nohup does, are left to him.

    Args:
        wanted: False leaves all of them as they are: a training saves by itself.
    """
    came: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        came.append(number)
        raise KeyboardInterrupt

    numbers = [getattr(signal, name, None) for name in ("SIGTERM", "SIGHUP")]
    ours = wanted and threading.current_thread() is threading.main_thread()
    held = [n for n in numbers if ours and n and signal.getsignal(n) is signal.SIG_DFL]
    for number in held:
        signal.signal(number, interrupt)
    try:
        yield came
    finally:
        for number in held:
            signal.signal(number, signal.SIG_DFL)
