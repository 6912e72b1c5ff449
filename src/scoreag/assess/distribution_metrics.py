"""How like the data the images of a cell are, in features; kept beside the rows, as it takes long.

Both distances come of what adds up over shards: the moments in float64, and the features.
"""

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import Tensor

from scoreag.assess.experiments import Cell
from scoreag.core.rng import Stream
from scoreag.io.filesystem import check_regular_file, write_text
from scoreag.metrics.feature_distances import fid_with_jackknife, kid_with_std_error
from scoreag.stats.estimates import MetricEntry, from_estimate

MIN_IMAGES = 8  # images of each set, below which nothing is said
MAX_KERNEL_ROWS = 5000  # rows of the kernel's matrix; more say no more
N_BLOCKS = 20


def cached_distances(
    folder: Path, cell: Cell, generated: Tensor, real: Tensor, population: str
) -> dict[str, MetricEntry]:
    """Frechet and kernel distance of a cell's images to those of the data, from the disk if there.

    Args:
        of: what they are, for people.
    """
    if min(len(generated), len(real)) < MIN_IMAGES:
        return {}
    file = folder / "cells" / cell.key / "likeness.json"
    mark = _digest(generated, real)
    with suppress(OSError, ValueError, KeyError, TypeError):
        check_regular_file(file)
        found: dict[str, Any] = json.loads(file.read_text("utf-8"))
        if found["of"] == mark:
            return dict(found["figures"])
    name = str((cell.content.get("features") or {}).get("name", cell.feature_extractor))
    figures = distribution_distances(generated, real, name, population)
    write_text(file, json.dumps({"of": mark, "figures": figures}))
    return figures


def distribution_distances(
    generated: Tensor, real: Tensor, name: str, population: str
) -> dict[str, MetricEntry]:
    """Both distances; the extractor and the count stand beside."""
    generated, real = _shuffle(generated), _shuffle(real)
    fid = fid_with_jackknife(generated, real, name, N_BLOCKS)
    kernel = kid_with_std_error(generated[:MAX_KERNEL_ROWS], real[:MAX_KERNEL_ROWS], N_BLOCKS)
    told = f"{population}, in features of {name}"
    return {
        "frechet": from_estimate(fid, told, len(generated), "jackknife"),
        "kernel": from_estimate(
            kernel, told, min(len(generated), MAX_KERNEL_ROWS), "disjoint blocks"
        ),
    }


def _digest(generated: Tensor, real: Tensor) -> str:
    digest = hashlib.sha256()
    for rows in (generated, real):
        digest.update(rows.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _shuffle(rows: Tensor) -> Tensor:
    """In an order of no meaning, always the same: a block shall not be a class."""
    return rows[Stream("blocks", len(rows)).permutation(len(rows))]
