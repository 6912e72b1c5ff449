"""demo and report: the pages that a person looks at."""

import json
from pathlib import Path

from scoreag.cli.options import Given, loud, say
from scoreag.cli.tasks import readable, render


def demo(given: Given) -> None:
    """The tour: synthesise, transform beside PGD, purify; one table and one page (2 minutes)."""
    from scoreag.cli.demo import demo as tour

    tour(
        given.out,
        given.data,
        loud(given),
        device=given.device,
        seed=given.seed,
        overwrite=given.overwrite,
        root=given.data_dir,
        echo=print if loud(given) and not given.json else lambda text: None,
    )
    if given.json:
        found = sorted(Path(given.out).glob("*/summary.json"))
        runs = {file.parent.name: json.loads(file.read_text(encoding="utf-8")) for file in found}
        print(json.dumps(runs, indent=2, ensure_ascii=False))


def report(given: Given) -> None:
    """Write the report.html of a run's folder anew, from its rows and pictures."""
    folder = Path(given.folder)
    page = (certificate if _certifies(folder) else render)(folder)
    if given.json:
        print((folder / "summary.json").read_text(encoding="utf-8"), end="")
    say(given, f"open {page}")


def certificate(folder: Path) -> Path:
    """Write the report of a certificate's folder."""
    from scoreag.report.certification import write_page

    return readable(folder, write_page)


def _certifies(folder: Path) -> bool:
    from scoreag.io.manifest import read_manifest

    return str(read_manifest(folder).get("task")).startswith("certify")
