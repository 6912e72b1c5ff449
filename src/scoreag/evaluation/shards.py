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

from scoreag.files import check_regular, replace_file
from scoreag.jobs import pieces

FOLDER = "parts"
OURS = f"{FOLDER}/*-{6 * '[0-9]'}.safetensors"


def kept(
    folder: Path,
    name: str,
    count: int,
    size: int,
    make: Callable[[range], Tensor],
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
        for piece in pieces(count, size):
            found.append(_piece(folder / FOLDER / f"{name}-{piece.start:06d}", piece, make))
            bar.update(len(piece))
    return torch.cat(found)


def _piece(path: Path, piece: range, make: Callable[[range], Tensor]) -> Tensor:
    file = path.with_name(f"{path.name}.safetensors")
    rows = _read(file)
    if rows is None or len(rows) != len(piece):
        rows = make(piece).detach().cpu().contiguous()
        packed = save({"rows": rows})
        replace_file(file, lambda aside: aside.write_bytes(packed))
    return rows


def _read(file: Path) -> Tensor | None:
    """The rows of a file; None where it is absent, or was damaged from outside."""
    check_regular(file)
    try:
        return load(file.read_bytes())["rows"]
    except (FileNotFoundError, SafetensorError, KeyError):
        return None
