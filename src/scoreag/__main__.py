"""``python -m scoreag`` is ``scoreag``."""

from scoreag.cli import main

raise SystemExit(main())
