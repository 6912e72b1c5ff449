"""The rows of a task on disk: what each has, and the pictures that it names."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from scoreag.io.images import to_float
from scoreag.io.records import (
    IMAGE_KINDS,
    NONE_TYPE,
    PICTURE_FIELDS,
    Fields,
    Pixels,
    Row,
    describe_pictures,
    owned_pictures,
    write_pictures,
)
from scoreag.io.run_dir import ROWS, RunFiles
from scoreag.metrics.norms import compute_norms

TASK_FILES = RunFiles(
    (ROWS, "summary.json", "report.html", *(f"{kind}/*.png" for kind in IMAGE_KINDS)),
    list_owned=owned_pictures,
)
ROW_FIELDS: Fields = {
    **PICTURE_FIELDS,
    **dict.fromkeys(("label", "target"), (int, NONE_TYPE)),
    "predictions": (dict,),
    **dict.fromkeys(("success_float", "success", "targeted_success"), (bool, NONE_TYPE)),
    **dict.fromkeys(("restarts", "guidance_skipped", "nfe"), (int,)),
}


def save_images(
    folder: Path, images: Tensor, originals: Tensor | None, image_ids: Sequence[int]
) -> tuple[Pixels, Pixels | None]:
    """Write the images and, where there are any, their originals; both read from the disk."""
    saved = write_pictures(folder, "images", images, image_ids)
    if originals is None:
        return saved, None
    return saved, write_pictures(folder, "originals", originals, image_ids)


def add_pictures(
    folder: Path,
    rows: Sequence[Row],
    saved: Pixels,
    originals: Pixels | None,
    sources: Mapping[int, str] | None = None,
) -> list[Row]:
    """The rows with the names of their pictures, which lie in ``folder``, and their distances.

    Args:
        sources: by image id, the file that an image was read from.
    """
    distances: dict[str, Tensor] = {}
    if originals is not None:  # in double precision: linf is a whole number of 255ths
        pair = (to_float(pixels, torch.float64) for pixels in (originals, saved))
        distances = compute_norms(*pair)
    complete = []
    for i, row in enumerate(rows):
        image_id = row["image_id"]
        if distances:
            row["distances"] = {norm: round(float(d[i]), 6) for norm, d in distances.items()}
        if sources and image_id in sources:
            row["source"] = sources[image_id]
        complete.append(row | describe_pictures(folder, image_id, originals is not None))
    return complete
