"""``python -m scoreag`` is ``scoreag``."""

from scoreag.core.signals import install_handlers


def run() -> int:
    """Run the command line, with signal handlers installed before any other import."""
    install_handlers()
    from scoreag.cli.app import main

    return main()


if __name__ == "__main__":
    raise SystemExit(run())
