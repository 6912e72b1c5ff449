"""Signals that stop a command, at any time, with one line and an exit code."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

STOP_SIGNALS = tuple(
    getattr(signal, n) for n in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, n)
)
PROGRESS_KEPT = "what is done is kept"


class SignalInterrupt(KeyboardInterrupt):
    """A signal arrived; ``outcome`` says what happened to the work done so far."""

    def __init__(self, signum: int = signal.SIGINT, outcome: str = PROGRESS_KEPT) -> None:
        super().__init__(signum, outcome)
        self.signum, self.outcome = signum, outcome


class CommandInterrupted(Exception):
    """A signal stopped a command; not a ``KeyboardInterrupt``, which typer would catch."""

    def __init__(self, error: KeyboardInterrupt) -> None:
        super().__init__(error)
        known = error if isinstance(error, SignalInterrupt) else SignalInterrupt()
        self.code, self.signum, self.outcome = 128 + known.signum, known.signum, known.outcome


def format_interrupt(
    argv: list[str], signum: int = signal.SIGINT, outcome: str = PROGRESS_KEPT
) -> str:
    """The message for a command that a signal stopped."""
    name = "" if signum == signal.SIGINT else f" ({signal.Signals(signum).name})"
    again = "without --overwrite " if "--overwrite" in argv else ""
    return f"stopped; {outcome}, and the same command {again}goes on from there{name}"


def install_handlers() -> None:
    """Install ``handle_signal``; ignored signals stay ignored, as under nohup."""
    for number in STOP_SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handle_signal)


def handle_signal(signum: int, frame: FrameType | None) -> None:
    """Raise ``SignalInterrupt``, or exit at once while a module is being imported.

    An import has no work to lose, and a module may catch any exception raised in it.
    """
    if not _is_importing(frame):
        raise SignalInterrupt(signum)
    os.write(2, f"scoreag: {format_interrupt(sys.argv[1:], signum)}\n".encode())
    os._exit(128 + signum)


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


@contextmanager
def defer_signals(defer_repeated: bool = False) -> Iterator[Callable[[], int]]:
    """Record a first Ctrl-C, SIGTERM or SIGHUP; the yielded function returns its number, else 0.

    A second Ctrl-C stops at once; the other two may repeat, as when a terminal closes.  Signals
    with a handler of another library keep it.

    Args:
        defer_repeated: also only record a second Ctrl-C: a launcher of several processes sends
            each of them again what the terminal already sent.
    """
    received: list[int] = []

    def record(number: int, frame: FrameType | None) -> None:
        if received and not defer_repeated and number == signal.SIGINT:
            raise SignalInterrupt(number)
        received.append(number)

    default = (signal.default_int_handler, signal.SIG_DFL, handle_signal)
    is_main = threading.current_thread() is threading.main_thread()
    current = {n: signal.getsignal(n) for n in STOP_SIGNALS if is_main}
    handlers = {n: handler for n, handler in current.items() if handler in default}
    for number in handlers:
        signal.signal(number, record)
    try:
        yield lambda: received[0] if received else 0
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
