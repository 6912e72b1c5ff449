"""All hostile files in a Python of their own, without a checker of types; a line of JSON each.

PYTHONPATH=src:tests python -m hostile.main FOLDER
"""

import json
import sys
import warnings
from dataclasses import asdict
from pathlib import Path

from hostile import made, mutated, readers
from hostile.trials import Case, Outcome, run

MUTATED = 42  # of each kind


def outcomes(place: Path) -> dict[str, list[Outcome]]:
    """Of whole files, of those made by hand, and of those that were changed."""
    warnings.simplefilter("ignore")  # of libraries, about files that are damaged
    for name in ("seeds", "cases"):
        (place / name).mkdir()
    readers.warm()
    kinds = readers.wholes(place / "seeds")
    usual = [Case(kind, "whole", read, files) for kind, (read, files, _) in kinds.items()]
    for case in usual:  # so that the parent knows all modules
        _prepare(case, place / "warm")
    whole = list(run(usual, place / "cases", frozenset()))
    known = frozenset(act for one in whole for act in one.acts)
    found = {"whole": whole, "made": [*run([*made.every(kinds)], place / "cases", known)]}
    found["changed"] = []
    for number, (kind, one) in enumerate(kinds.items()):  # a kind at a time, for they are large
        cases = list(mutated.cases(kind, one, MUTATED, number))
        found["changed"] += run(cases, place / "cases", known)
    return found


def _prepare(case: Case, folder: Path) -> None:
    folder = folder / case.name
    for name, content in case.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        assert isinstance(content, bytes)
        (folder / name).write_bytes(content)
    case.read(folder)


if __name__ == "__main__":
    found = outcomes(Path(sys.argv[1]))
    table = {part: [asdict(one) for one in some] for part, some in found.items()}
    Path(sys.argv[1], "outcomes.json").write_text(json.dumps(table))
