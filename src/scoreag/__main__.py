"""``python -m scoreag`` is ``scoreag``."""

import os

from scoreag.core.allocator import keep_freed_memory
from scoreag.core.signals import install_handlers

SPIN_COUNT = "3000"  # iterations for which a thread waits actively


def limit_spinning() -> None:
    """Let threads that wait for one another sleep soon, unless the environment says otherwise.

    By default they spin for so long that a second busy process on the machine makes a command
    many times slower.  OpenMP reads the variable when torch is imported.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)


def run() -> int:
    """Run the command line, with signal handlers installed before any other import."""
    install_handlers()
    limit_spinning()
    keep_freed_memory()
    from scoreag.cli.app import main

    return main()


if __name__ == "__main__":
    raise SystemExit(run())
