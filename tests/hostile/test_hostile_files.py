"""Two thousand hostile files, each read in a child: none runs code, hangs, or takes the memory.

A whole file of each kind is changed in a thousand ways; others are made by hand, each to do harm in
a way of its own.  Files that name code are of the family ``made.TRUSTED``.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from hostile.trials import Outcome

TESTS = Path(__file__).parents[1]


@pytest.mark.slow
def test_no_file_runs_code_hangs_or_takes_the_memory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = _outcomes(tmp_path)
    refused = [one.name for one in found["whole"] if one.error]
    acts = {act.split()[0] for one in found["whole"] for act in one.acts}
    assert not refused and acts <= {"import", "exec"}
    assert len(found["made"]) >= 200 and len(found["changed"]) >= 1000
    every = found["made"] + found["changed"]
    with capsys.disabled():
        print(_summary(every))
    wrong = [f"{one.family}: {one.name}: {'; '.join(one.faults)}" for one in every if one.faults]
    assert not wrong, f"{len(wrong)} files:\n" + "\n".join(wrong)


def _outcomes(place: Path) -> dict[str, list[Outcome]]:
    """Of a Python of its own, since a checker of types makes code as it goes."""
    path = os.pathsep.join(map(str, [TESTS.parent / "src", TESTS]))
    command = [sys.executable, "-m", "hostile.main", str(place)]
    subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, check=True)
    table = json.loads((place / "outcomes.json").read_text())
    return {
        part: [Outcome(**{**one, "acts": tuple(one["acts"])}) for one in some]
        for part, some in table.items()
    }


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
