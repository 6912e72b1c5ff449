"""Signals that end a command: each with one line and its own exit code, whenever it comes."""

import os
import signal
import sys
from types import FrameType

ENDING = tuple(getattr(signal, n) for n in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, n))
KEPT = "what is done is kept"


class Stopped(KeyboardInterrupt):
    """A signal came.

    Args:
        number: of the signal.
        done: what became of the work until then.
    """

    def __init__(self, number: int = signal.SIGINT, done: str = KEPT) -> None:
        super().__init__(number, done)
        self.number, self.done = number, done


class Ended(Exception):
    """A signal ended a command; not a ``KeyboardInterrupt``, which typer keeps to itself."""

    def __init__(self, error: KeyboardInterrupt) -> None:
        super().__init__(error)
        known = error if isinstance(error, Stopped) else Stopped()
        self.code, self.number, self.done = 128 + known.number, known.number, known.done


def line(words: list[str], number: int = signal.SIGINT, done: str = KEPT) -> str:
    """What is said of a command, given as ``words``, that a signal ended."""
    name = "" if number == signal.SIGINT else f" ({signal.Signals(number).name})"
    again = "without --overwrite " if "--overwrite" in words else ""
    return f"stopped; {done}, and the same command {again}goes on from there{name}"


def take_over() -> None:
    """From here on ``stop`` answers the signals; those that are ignored stay so, as under nohup."""
    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, stop)


def stop(number: int, frame: FrameType | None) -> None:
    """End the command; at once while a module is imported, where exceptions are swallowed.

    An import holds nothing that could be lost, and a module may catch whatever is raised in it.
    """
    if not _imports(frame):
        raise Stopped(number)
    os.write(2, f"scoreag: {line(sys.argv[1:], number)}\n".encode())
    os._exit(128 + number)


def _imports(frame: FrameType | None) -> bool:
    """Whether a module is being imported."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False
