"""Assessments of the tiny world as processes of their own, to be killed, and what they left."""

import subprocess
import sys
from pathlib import Path

import tiny
from scoreag.assess import runner


def start(out: str, size: int, where: Path, *more: str) -> subprocess.Popen:
    """An assessment of plan.toml in ``where``, with ``size`` images a shard."""
    words = ["assess", "plan.toml", "--out", out, "--quiet", *more]
    return subprocess.Popen(
        [sys.executable, "-m", "scoreag", *words, "--write-every", str(size)],
        cwd=where, env=tiny.ENVIRONMENT, stderr=subprocess.PIPE,
    )  # fmt: skip


def contents(folder: Path) -> tuple[dict, dict]:
    """All rows by cell, and all pictures: what must not depend on how the work was done."""
    rows = {cell.name: runner.read_cell(folder, cell).rows for cell in runner.list_cells(folder)}
    return rows, {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*.png")}


def left_aside(folder: Path) -> list[Path]:
    """Files that were being written when a process was killed."""
    return [path for path in folder.rglob(".*") if path.is_file()]
