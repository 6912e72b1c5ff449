"""A process that ends when the one who started it is gone.  Imports nothing that takes long: until
this module is loaded, a killed parent leaves its child behind."""

import ctypes
import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable
from multiprocessing import parent_process
from multiprocessing.connection import wait
from typing import Any

SET_PDEATHSIG = 1  # of prctl: the signal that the kernel sends when the parent is gone


def run_until_orphaned(pickled_call: bytes, *leading_args: Any) -> None:
    """Call the function and its arguments that are ``packed``, after ``more``, until orphaned.

    The one who started the process alone hears of an interrupt or a hangup, and ends this one.
    """
    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    _die_with_parent()
    function: Callable[..., None]
    function, arguments = pickle.loads(pickled_call)
    function(*leading_args, *arguments)


def _die_with_parent() -> None:
    """By the kernel, where it does that, and by a thread that looks at the parent anyway."""
    parent = parent_process()
    if parent is None:
        return
    threading.Thread(target=_exit_when_orphaned, args=(parent.sentinel,), daemon=True).start()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent.pid:  # it went before the kernel was told
            os._exit(1)


def _exit_when_orphaned(sentinel: Any) -> None:
    wait([sentinel])
    os._exit(1)
