"""Fifteen hundred hostile files, each read in a child: none runs code, hangs, or takes the memory.

A whole file of each kind is changed in a thousand ways; others are made by hand, each to do harm in
a way of its own.
"""

import warnings
from collections import Counter
from pathlib import Path

import pytest

from hostile import made, mutated, readers
from hostile.trials import Case, Outcome, run

MUTATED = 42  # of each kind


@pytest.mark.slow
def test_no_file_runs_code_hangs_or_takes_the_memory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    warnings.simplefilter("ignore")  # of libraries, about files that are damaged
    (tmp_path / "seeds").mkdir()
    (tmp_path / "cases").mkdir()
    readers.warm()
    kinds = readers.wholes(tmp_path / "seeds")
    usual = [Case(kind, "whole", read, files) for kind, (read, files, _) in kinds.items()]
    for case in usual:  # so that the parent knows all modules
        _prepare(case, tmp_path / "warm")
    whole = list(run(usual, tmp_path / "cases", frozenset()))
    assert not [one for one in whole if one.error], "a whole file is refused"
    known = frozenset(act for one in whole for act in one.acts)
    assert not [act for act in known if act.startswith(("os.", "write", "code", "subprocess"))]
    found = [[*run(list(made.every(kinds)), tmp_path / "cases", known)]]
    assert len(found[0]) >= 200
    for number, (kind, one) in enumerate(
        kinds.items()
    ):  # of one kind at a time, for they are large
        cases = list(mutated.cases(kind, one, MUTATED, number))
        found.append([*run(cases, tmp_path / "cases", known)])
        assert len(found[-1]) == MUTATED
    outcomes = [outcome for some in found for outcome in some]
    assert len(outcomes) - len(found[0]) >= 1000
    with capsys.disabled():
        print(_summary(outcomes))
    wrong = [f"{one.family}: {one.name}: {'; '.join(one.faults)}" for one in outcomes if one.faults]
    assert not wrong, f"{len(wrong)} files:\n" + "\n".join(wrong)


def _prepare(case: Case, folder: Path) -> None:
    folder = folder / case.name
    for name, content in case.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        assert isinstance(content, bytes)
        (folder / name).write_bytes(content)
    case.read(folder)


def _summary(found: list[Outcome]) -> str:
    families = Counter(one.family for one in found)
    refused = sum(bool(one.error) for one in found)
    slowest, largest = max(found, key=lambda o: o.seconds), max(found, key=lambda o: o.growth)
    counts = ", ".join(f"{count} {family}" for family, count in families.items())
    return (
        f"\n{len(found)} hostile files ({counts}): {refused} refused, "
        f"{sum(o.seconds for o in found):.0f} s, at most {slowest.seconds:.1f} s ({slowest.name}) "
        f"and {largest.growth >> 20} MB ({largest.name})"
    )
