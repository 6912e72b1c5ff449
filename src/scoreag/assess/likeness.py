"""How like the data the images of a cell are, in features; kept beside the rows, as it takes long.

Both distances come of what adds up over shards: the moments in float64, and the features.
"""

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import Tensor

from scoreag.assess.cells import Cell
from scoreag.core.noise import Stream
from scoreag.figures import frechet_error
from scoreag.figures.entries import Entry, of_estimate
from scoreag.files import check_regular, write_text
from scoreag.metrics import kernel_distance

FEWEST = 8  # images of each set, below which nothing is said
MOST = 5000  # rows of the kernel's matrix; more say no more
BLOCKS = 20


def kept(folder: Path, cell: Cell, drawn: Tensor, real: Tensor, of: str) -> dict[str, Entry]:
    """Frechet and kernel distance of a cell's images to those of the data, from the disk if there.

    Args:
        of: what they are, for people.
    """
    if min(len(drawn), len(real)) < FEWEST:
        return {}
    file = folder / "cells" / cell.key / "likeness.json"
    mark = _mark(drawn, real)
    with suppress(OSError, ValueError, KeyError, TypeError):
        check_regular(file)
        found: dict[str, Any] = json.loads(file.read_text("utf-8"))
        if found["of"] == mark:
            return dict(found["figures"])
    name = str((cell.content.get("features") or {}).get("name", cell.features))
    figures = distances(drawn, real, name, of)
    write_text(file, json.dumps({"of": mark, "figures": figures}))
    return figures


def distances(drawn: Tensor, real: Tensor, name: str, of: str) -> dict[str, Entry]:
    """Both distances; the extractor and the count stand beside."""
    drawn, real = _shuffled(drawn), _shuffled(real)
    frechet = frechet_error.with_error(drawn, real, name, BLOCKS)
    kernel = kernel_distance.with_error(drawn[:MOST], real[:MOST], BLOCKS)
    told = f"{of}, in features of {name}"
    return {
        "frechet": of_estimate(frechet, told, len(drawn), "jackknife"),
        "kernel": of_estimate(kernel, told, min(len(drawn), MOST), "disjoint blocks"),
    }


def _mark(drawn: Tensor, real: Tensor) -> str:
    digest = hashlib.sha256()
    for rows in (drawn, real):
        digest.update(rows.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _shuffled(rows: Tensor) -> Tensor:
    """In an order of no meaning, always the same: a block shall not be a class."""
    return rows[Stream("blocks", len(rows)).permutation(len(rows))]
