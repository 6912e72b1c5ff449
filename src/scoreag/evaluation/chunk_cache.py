"""Rows that are computed once: in pieces cut by position, each of which is a file, whole or absent.

A process that is killed loses the piece at hand.  The pieces do not depend on where it stopped, so
that the rows are the same, bit for bit, however often it was.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor
from tqdm import tqdm

from scoreag.io.filesystem import atomic_write, check_regular_file
from scoreag.methods.task import batch_ranges

FOLDER = "parts"
OWNED_FILES = f"{FOLDER}/*-{6 * '[0-9]'}.safetensors"


def load_or_compute(
    folder: Path,
    name: str,
    count: int,
    chunk_size: int,
    compute: Callable[[range], Tensor],
    progress: bool = True,
) -> Tensor:
    """``make`` of 0..count-1, in pieces of ``size``; those that ``folder`` holds are read.

    Args:
        name: of what the rows are; it says all that they depend on, or the folder's manifest does.
        make: the rows of a range of positions.
    """
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    bar = tqdm(total=count, unit="row", desc=name, delay=2, disable=None if progress else True)
    found = []
    with bar:
        for piece in batch_ranges(count, chunk_size):
            found.append(
                _load_or_compute_chunk(
                    folder / FOLDER / f"{name}-{piece.start:06d}", piece, compute
                )
            )
            bar.update(len(piece))
    return torch.cat(found)


def _load_or_compute_chunk(
    path: Path, positions: range, compute: Callable[[range], Tensor]
) -> Tensor:
    file = path.with_name(f"{path.name}.safetensors")
    rows = _read_rows(file)
    if rows is None or len(rows) != len(positions):
        rows = compute(positions).detach().cpu().contiguous()
        packed = save({"rows": rows})
        atomic_write(file, lambda aside: aside.write_bytes(packed))
    return rows


def _read_rows(file: Path) -> Tensor | None:
    """The rows of a file; None where it is absent, or was damaged from outside."""
    check_regular_file(file)
    try:
        return load(file.read_bytes())["rows"]
    except (FileNotFoundError, SafetensorError, KeyError):
        return None
