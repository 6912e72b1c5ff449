"""The folder of an evaluation, and rows that are computed once, in chunks cut by position.

A chunk is a file, whole or absent; a process that is killed loses the one at hand.  Chunks do not
depend on where it stopped, so the rows are the same, bit for bit, however often it was.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor
from tqdm import tqdm

from scoreag.io.filesystem import atomic_write, check_regular_file, write_json
from scoreag.io.run_dir import RunFiles, open_run_dir
from scoreag.methods.task import batch_ranges

TASK = "evaluate model"
CHUNKS = "parts"
CHUNK_FILES = f"{CHUNKS}/*-{6 * '[0-9]'}.safetensors"
SAMPLES_DIR = "samples"
GRID_FILES = (f"{SAMPLES_DIR}/class-{3 * '[0-9]'}.png", f"{SAMPLES_DIR}/nearest.png")
EVALUATION_FILES = RunFiles(
    ("figures.json", "report.html", *GRID_FILES, CHUNK_FILES), (CHUNK_FILES,)
)


def run_in_folder(
    folder: Path,
    manifest: Mapping[str, Any],
    overwrite: bool,
    compute: Callable[[], dict[str, Any]],
) -> dict[str, Any]:
    """The outcome of ``compute``, for which ``folder`` is held, and where figures.json is written.

    Raises:
        ValueError: the folder holds something else, or an evaluation with another configuration.
    """
    with open_run_dir(folder, {**manifest, "task": TASK}, EVALUATION_FILES, overwrite) as run:
        figures = compute()
        write_json(folder / "figures.json", figures)
        run.finish()
    return figures


def load_or_compute(
    folder: Path,
    name: str,
    count: int,
    chunk_size: int,
    compute: Callable[[range], Tensor],
    progress: bool = True,
) -> Tensor:
    """``compute`` of 0..count-1, in chunks; those that ``folder`` holds are read.

    Args:
        name: of what the rows are; it says all that they depend on, or the folder's manifest does.
        compute: the rows of a range of positions.
    """
    (folder / CHUNKS).mkdir(parents=True, exist_ok=True)
    chunks = []
    off = None if progress else True
    with tqdm(total=count, unit="row", desc=name, delay=2, disable=off) as bar:
        for positions in batch_ranges(count, chunk_size):
            file = folder / CHUNKS / f"{name}-{positions.start:06d}.safetensors"
            rows = _read_chunk(file)
            if rows is None or len(rows) != len(positions):
                rows = compute(positions).detach().cpu().contiguous()
                _write_chunk(file, rows)
            chunks.append(rows)
            bar.update(len(positions))
    return torch.cat(chunks)


def _write_chunk(file: Path, rows: Tensor) -> None:
    packed = save({"rows": rows})
    atomic_write(file, lambda aside: aside.write_bytes(packed))


def _read_chunk(file: Path) -> Tensor | None:
    """The rows of a file; None where it is absent, or was damaged from outside."""
    check_regular_file(file)
    try:
        return load(file.read_bytes())["rows"]
    except (FileNotFoundError, SafetensorError, KeyError):
        return None
