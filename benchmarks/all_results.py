"""Measure again what results.toml lists and is not of this version's algorithm: ``make results``.

    python benchmarks/all_results.py --weights weights --dry-run    # what, and how long it took
    python benchmarks/all_results.py --weights weights

What was measured is left alone, so that the same command goes on after a stop.  Assessments go on
inside, too.  Times are the processor seconds that were recorded with the last measurement.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import RESULTS

from scoreag.cli.runs import format_duration
from scoreag.core import ALGORITHM

ROOT = Path(__file__).parent.parent
LIST = Path(__file__).with_name("results.toml")
LPIPS = ("alexnet_features_imagenet.npz", "lpips_v0.1_alex_heads.npz")


@dataclass(frozen=True)
class Listed:
    """A file of results, the commands that make it, and what is recorded of the last time.

    Args:
        about: how the recorded file came about; empty where there is none.
        seconds: that its making took; None where that was not recorded.
    """

    name: str
    commands: tuple[str, ...]
    about: Mapping[str, Any]
    seconds: float | None

    def is_outdated(self, since: str) -> bool:
        """Whether it is of another algorithm, or older than the day ``since``."""
        return self.about.get("algorithm") != ALGORITHM or self.about.get("finished", "") < since


def read_list(file: Path = LIST, results: Path = RESULTS) -> list[Listed]:
    """All results of the list, each with its record."""
    listed = tomllib.loads(file.read_text())
    return [_read(name, tuple(entry["commands"]), results) for name, entry in listed.items()]


def _read(name: str, commands: tuple[str, ...], results: Path) -> Listed:
    file = results / f"{name}.json"
    data = json.loads(file.read_text()) if file.exists() else {}
    about = data.get("about", {})
    minutes = data.get("minutes")  # of the cells of an assessment
    seconds = about.get("cpu_seconds") if minutes is None else 60 * minutes
    return Listed(name, commands, about, seconds)


def expand(command: str, weights: Path | None) -> list[str]:
    """The words of a command, with this Python and the files of LPIPS's weights.

    Raises:
        SystemExit: it needs weights, and none are given.
    """
    if "{lpips" in command and weights is None:
        raise SystemExit(f"--weights is missing: the folder of {LPIPS[0]} and {LPIPS[1]}")
    files = [str((weights or Path()) / name) for name in LPIPS]
    text = command.replace("{lpips,}", shlex.quote(",".join(files)))
    text = text.replace("{lpips}", shlex.join(files))
    program, *words = shlex.split(text)
    start = {"python": [sys.executable], "scoreag": [sys.executable, "-m", "scoreag"]}
    return [*start[program], *words]


def forecast(todo: Sequence[Listed]) -> str:
    """A line for each result, and what all will take as far as it is known."""
    width = max(len(one.name) for one in todo)
    lines = []
    for one in todo:
        when = f"algorithm {one.about['algorithm']}, {one.about['finished']}" if one.about else "-"
        took = "not recorded" if one.seconds is None else format_duration(one.seconds)
        lines.append(f"{one.name:<{width}}  {when:<24}  {took}")
    known = [one.seconds for one in todo if one.seconds is not None]
    more = f", and {len(todo) - len(known)} of unknown length" if len(known) < len(todo) else ""
    lines.append(f"{len(todo)} results: {format_duration(sum(known))} of one core{more}")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None, run: Any = subprocess.run) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", type=Path, help="folder of LPIPS's weights")
    parser.add_argument("--since", default="", help="also those measured before: 2026-11-29")
    parser.add_argument("--only", nargs="*", help="names of results")
    parser.add_argument("--dry-run", action="store_true", help="the forecast alone")
    args = parser.parse_args(argv)
    listed = read_list()
    if unknown := {*(args.only or ())} - {one.name for one in listed}:
        parser.error(f"no result {min(unknown)!r}; there are: {', '.join(o.name for o in listed)}")
    todo = [one for one in listed if one.is_outdated(args.since)
            and (args.only is None or one.name in args.only)]  # fmt: skip
    if not todo:
        print("all results are of this version's algorithm")
        return 0
    print(forecast(todo), flush=True)
    if args.dry_run:
        return 0
    return _measure(todo, args.weights, run)


def _measure(todo: Sequence[Listed], weights: Path | None, run: Any) -> int:
    """Run the commands of each; one that fails does not stop the others."""
    work = [(one, [expand(command, weights) for command in one.commands]) for one in todo]
    paths = [str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    env = {"OMP_NUM_THREADS": "1", **os.environ,
           "PYTHONPATH": os.pathsep.join(filter(None, paths))}  # fmt: skip
    failed = []
    for one, commands in work:
        print(f"{one.name}: {' && '.join(one.commands)}", flush=True)
        codes = (run(words, cwd=ROOT, env=env, check=False).returncode for words in commands)
        if any(codes):  # the first that fails ends the result
            failed.append(one.name)
    if failed:
        print(f"failed: {', '.join(failed)}; the same command tries these again", file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
