"""``python -m scoreag`` is ``scoreag``."""

from scoreag.stopping import take_over


def run() -> int:
    """Run the command that was typed, and answer signals from the first import on."""
    take_over()
    from scoreag.cli import main

    return main()


if __name__ == "__main__":
    raise SystemExit(run())
