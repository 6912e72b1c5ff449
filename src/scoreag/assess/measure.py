"""Rows: what is measured of the 8-bit images that are saved, never by the attack itself.

An image is encoded as the PNG that will lie on the disk and decoded again; all figures are of
what came out of that.  Whoever writes the file checks that it has the sha256 of the row.
"""

import hashlib
import math
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from scoreag.assess.cells import CLEAN, Cell
from scoreag.assess.kit import Kit
from scoreag.assess.plan import NONE
from scoreag.assess.scene import Scene
from scoreag.assess.told import Told
from scoreag.core.rejection import answers, errs, rejects
from scoreag.core.types import Images, Labels, Logits
from scoreag.images import from_png, png, to_float, to_uint8
from scoreag.metrics.distances import distances
from scoreag.metrics.lpips import SMALLEST
from scoreag.metrics.psnr import psnr
from scoreag.metrics.ssim import WINDOW, ssim
from scoreag.runs.rows import Row

if TYPE_CHECKING:
    from scoreag.assess.compute import Made


@dataclass(frozen=True, eq=False)
class Measured:
    """Rows, the files that they name, the features of their images, and what they cost.

    Args:
        files: the bytes of each picture by its name.
        seconds: of the attack; ``other``: of measuring.
        memory: the most that the process had, in bytes.
    """

    rows: list[Row]
    files: Mapping[str, bytes] = field(repr=False)
    features: Tensor | None = None
    seconds: float = 0.0
    memory: int = 0
    other: float = 0.0

    @staticmethod
    def cat(parts: Sequence["Measured"]) -> "Measured":
        """All parts as one."""
        found = [part.features for part in parts if part.features is not None]
        return Measured(
            rows=[row for part in parts for row in part.rows],
            files={name: data for part in parts for name, data in part.files.items()},
            features=torch.cat(found) if found else None,
            seconds=math.fsum(part.seconds for part in parts),
            memory=max(part.memory for part in parts),
            other=math.fsum(part.other for part in parts),
        )


@torch.no_grad()
def measured(plain: Scene, piece: range, made: "Made", kit: Kit, seconds: float) -> Measured:
    """The rows of a piece."""
    cell, positions, count = plain.cell, plain.padded(piece), len(piece)
    saved, files, seen = _saved(plain, piece, made.images, f"cells/{cell.key}/images")
    given = plain.images[positions] if plain.images is not None else None
    told = Told(plain, kit, positions)
    columns: dict[str, list[Any]] = {
        **_verdicts(told, made, seen, given),
        "judges": told.of(cell.judges, seen, given),
        "transfer": told.of(cell.others, seen, given),
        "calls": _rounded(made.calls),
        "retries": made.retries.tolist(),
        "rests": made.rests.tolist(),
        "forwards": [round(made.forwards, 4)] * len(positions),
        "backwards": [round(made.backwards, 4)] * len(positions),
        **saved,
    }
    if made.gradient is not None:
        columns["gradient"] = _significant(made.gradient)
    if cell.task == CLEAN:
        columns["steady"] = told.steady((cell.victim, *cell.others), seen)
    if given is not None:
        origin, originals, before = _saved(plain, piece, given, f"originals/{_of_data(cell)}")
        columns |= _moved(before, seen, kit)
        columns |= {f"original_{name}": values for name, values in origin.items()}
        files |= originals
    rows = [
        {"image_id": plain.image_ids[i], "position": i, "seed": cell.seed}
        | {name: values[row] for name, values in columns.items()}
        for row, i in enumerate(piece)
    ]
    peak = _memory(kit)
    return Measured(rows, files, _features(plain, seen, count, kit), seconds, peak)


def _saved(
    plain: Scene, piece: range, images: Images, folder: str
) -> tuple[dict[str, list[str]], dict[str, bytes], Images]:
    """The names and digests of the PNGs of a piece, the PNGs, and what they show, padded."""
    data = [png(image) for image in to_uint8(images[: len(piece)]).cpu()]
    names = [f"{folder}/{plain.image_ids[i]:06d}.png" for i in piece]
    shown = to_float(torch.stack([from_png(one) for one in data]), images.dtype).to(images.device)
    again = [*range(len(piece)), *[-1] * (len(images) - len(piece))]
    digests = [hashlib.sha256(one).hexdigest() for one in data]
    files = dict(zip(names, data, strict=True))
    return {"file": names, "sha256": digests}, files, shown[again]


def _of_data(cell: Cell) -> str:
    return str(cell.content.get("data", {}).get("sha256", ""))[:8] or "data"


def _verdicts(told: Told, made: "Made", seen: Images, given: Images | None) -> dict[str, list[Any]]:
    """What the classifier says before, of the float image and of the saved one, and success."""
    labels = told.plain.labels[told.positions]
    draws, rejecting = told.plain.cell.answers, rejects(told.plain.victim)
    saved = told.victim(seen, draws)
    before = None if given is None else told.victim(given, draws)
    said, said_before = _said(saved, rejecting), _said(before, rejecting)
    as_float = answers(told.victim(made.images, 1)[0], rejecting)
    after = said[0]
    wrong, fooled = made.wrong.to(labels), errs(after, labels)
    predictions = {
        "before": None if before is None else said_before[0],
        "float": as_float,
        "saved": after,
    }
    found = {
        "label": labels.tolist(),
        "wrong": [None if w < 0 else w for w in wrong.tolist()],
        "predictions": _by_row(predictions, len(seen)),
        "confidence": _by_row({"before": _sure(before), "saved": _sure(saved)}, len(seen)),
        "success": errs(as_float, labels).tolist(),
        "success_8bit": fooled.tolist(),
        "as_wanted": torch.where(wrong >= 0, after == wrong, fooled).tolist(),
    }
    if len(saved) > 1:
        every = {"before": _all(said_before) if said_before else None, "saved": _all(said)}
        found["answers"] = _by_row(every, len(seen))
    if rejecting:
        found["rejects"] = [True] * len(seen)
    return found


def _said(logits: Sequence[Logits] | None, rejecting: bool) -> list[Labels]:
    """The answers, draw by draw; none where nothing was before."""
    return [answers(one, rejecting) for one in logits or ()]


def _sure(logits: Sequence[Logits] | None) -> list[float] | None:
    """The probability of the answer, 0 to 1, at the first draw."""
    if logits is None:
        return None
    return [round(p, 4) for p in logits[0].softmax(1).amax(1).tolist()]


def _all(said: Sequence[Labels]) -> list[list[int]]:
    """The answers of every draw, image by image."""
    found: list[list[int]] = torch.stack(list(said), 1).tolist()
    return found


def _by_row(columns: Mapping[str, Any], count: int) -> list[dict[str, Any]]:
    lists = {n: v.tolist() if isinstance(v, Tensor) else v for n, v in columns.items()}
    return [{n: None if v is None else v[row] for n, v in lists.items()} for row in range(count)]


def _moved(before: Images, seen: Images, kit: Kit) -> dict[str, list[Any]]:
    """Between the saved pictures, in double precision: linf is a whole number of 255ths."""
    a, b = before.double().cpu(), seen.double().cpu()
    norms = {name: d.tolist() for name, d in distances(a, b).items()}
    found: dict[str, list[Any]] = {
        "distances": [
            {name: round(values[row], 6) for name, values in norms.items()}
            for row in range(len(seen))
        ],
        "psnr": [round(x, 4) if x != float("inf") else None for x in psnr(a, b).tolist()],
    }
    if min(seen.shape[-2:]) >= WINDOW:
        found["ssim"] = [round(x, 6) for x in ssim(a, b).tolist()]
    metric = kit.perception()
    if metric is not None and min(seen.shape[-2:]) >= SMALLEST:
        pair = (x if x.shape[1] == 3 else x.expand(-1, 3, -1, -1) for x in (before, seen))
        found["lpips"] = [round(x, 6) for x in metric(*pair).tolist()]
    return found


def _features(plain: Scene, seen: Images, count: int, kit: Kit) -> Tensor | None:
    cell = plain.cell
    if cell.features == NONE or not cell.judges:
        return None
    channels, height, width = seen.shape[1:]
    extract = kit.extractor(cell.features, cell.judges[0], (channels, height, width))
    return extract.of(seen)[:count].float().cpu()


def _rounded(values: Tensor) -> list[float]:
    return [round(float(value), 4) for value in values.tolist()]


def _significant(values: Tensor) -> list[float | None]:
    """Six digits; None where it is not finite, which no JSON can say."""
    return [float(f"{x:.6g}") if abs(x) < float("inf") else None for x in values.tolist()]


def _memory(kit: Kit) -> int:
    if kit.place.type == "cuda":
        return torch.cuda.max_memory_allocated(kit.place)
    return peak_memory()


def peak_memory() -> int:
    """The most memory that this process had, in bytes; 0 where the system does not tell."""
    with suppress(ImportError):  # Windows has no such module
        resource = import_module("resource")
        most = int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        return most if sys.platform == "darwin" else most * 1024  # macOS counts bytes
    return 0
