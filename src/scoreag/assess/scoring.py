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

from scoreag.assess.experiments import CLEAN, Cell
from scoreag.assess.model_cache import ModelCache
from scoreag.assess.plan import NONE
from scoreag.assess.predictions import Predictor
from scoreag.assess.threat_model import CellContext
from scoreag.classifiers.rejection import can_reject, is_misclassified, predict_or_reject
from scoreag.core.types import Images, Labels, Logits
from scoreag.io.images import decode_png, encode_png, to_float, to_uint8
from scoreag.io.records import Row
from scoreag.metrics.lpips import MIN_SIDE
from scoreag.metrics.norms import compute_norms, psnr
from scoreag.metrics.ssim import WINDOW_SIZE, ssim

if TYPE_CHECKING:
    from scoreag.assess.run_attack import AttackOutput


@dataclass(frozen=True, eq=False)
class ScoredBatch:
    """Rows, the files that they name, the features of their images, and what they cost.

    Args:
        files: the bytes of each picture by its name.
        seconds: of the attack; ``other``: of measuring.
        memory: the most that the process had, in bytes.
    """

    rows: list[Row]
    files: Mapping[str, bytes] = field(repr=False)
    features: Tensor | None = None
    attack_seconds: float = 0.0
    memory_bytes: int = 0
    scoring_seconds: float = 0.0

    @staticmethod
    def cat(parts: Sequence["ScoredBatch"]) -> "ScoredBatch":
        """All parts as one."""
        found = [part.features for part in parts if part.features is not None]
        return ScoredBatch(
            rows=[row for part in parts for row in part.rows],
            files={name: data for part in parts for name, data in part.files.items()},
            features=torch.cat(found) if found else None,
            attack_seconds=math.fsum(part.attack_seconds for part in parts),
            memory_bytes=max(part.memory_bytes for part in parts),
            scoring_seconds=math.fsum(part.scoring_seconds for part in parts),
        )


@torch.no_grad()
def score_batch(
    context: CellContext, batch: range, output: "AttackOutput", cache: ModelCache, seconds: float
) -> ScoredBatch:
    """The rows of a piece."""
    cell, positions, count = context.cell, context.padded_positions(batch), len(batch)
    saved, files, seen = _encode_pngs(context, batch, output.images, f"cells/{cell.key}/images")
    given = context.images[positions] if context.images is not None else None
    told = Predictor(context, cache, positions)
    columns: dict[str, list[Any]] = {
        **_classify(told, output, seen, given),
        "judges": told.predict_labels(cell.reference_classifiers, seen, given),
        "transfer": told.predict_labels(cell.transfer_targets, seen, given),
        "nfe": _round_values(output.nfe),
        "restarts": output.restarts.tolist(),
        "guidance_skipped": output.guidance_skipped.tolist(),
        "forwards": [round(output.forwards, 4)] * len(positions),
        "backwards": [round(output.backwards, 4)] * len(positions),
        **saved,
    }
    if output.gradient_norm is not None:
        columns["gradient_norm"] = _round_significant(output.gradient_norm)
    if cell.task == CLEAN:
        columns["is_deterministic"] = told.is_deterministic(
            (cell.classifier, *cell.transfer_targets), seen
        )
    if given is not None:
        origin, originals, before = _encode_pngs(
            context, batch, given, f"originals/{_data_prefix(cell)}"
        )
        columns |= _perturbation_sizes(before, seen, cache)
        columns |= {f"original_{name}": values for name, values in origin.items()}
        files |= originals
    rows = [
        {"image_id": context.image_ids[i], "position": i, "seed": cell.seed}
        | {name: values[row] for name, values in columns.items()}
        for row, i in enumerate(batch)
    ]
    peak = _peak_memory(cache)
    return ScoredBatch(rows, files, _features(context, seen, count, cache), seconds, peak)


def _encode_pngs(
    context: CellContext, batch: range, images: Images, folder: str
) -> tuple[dict[str, list[str]], dict[str, bytes], Images]:
    """The names and digests of the PNGs of a piece, the PNGs, and what they show, padded."""
    data = [encode_png(image) for image in to_uint8(images[: len(batch)]).cpu()]
    names = [f"{folder}/{context.image_ids[i]:06d}.png" for i in batch]
    shown = to_float(torch.stack([decode_png(one) for one in data]), images.dtype).to(images.device)
    again = [*range(len(batch)), *[-1] * (len(images) - len(batch))]
    digests = [hashlib.sha256(one).hexdigest() for one in data]
    files = dict(zip(names, data, strict=True))
    return {"file": names, "sha256": digests}, files, shown[again]


def _data_prefix(cell: Cell) -> str:
    return str(cell.content.get("data", {}).get("sha256", ""))[:8] or "data"


def _classify(
    predictor: Predictor, output: "AttackOutput", decoded: Images, clean_images: Images | None
) -> dict[str, list[Any]]:
    """What the classifier says before, of the float image and of the saved one, and success."""
    labels = predictor.context.labels[predictor.positions]
    draws, rejecting = predictor.context.cell.eval_draws, can_reject(predictor.context.classifier)
    saved = predictor.predict_logits(decoded, draws)
    before = None if clean_images is None else predictor.predict_logits(clean_images, draws)
    said, said_before = _draw_predictions(saved, rejecting), _draw_predictions(before, rejecting)
    as_float = predict_or_reject(predictor.predict_logits(output.images, 1)[0], rejecting)
    after = said[0]
    wrong, fooled = output.targets.to(labels), is_misclassified(after, labels)
    predictions = {
        "before": None if before is None else said_before[0],
        "float": as_float,
        "saved": after,
    }
    found = {
        "label": labels.tolist(),
        "target": [None if w < 0 else w for w in wrong.tolist()],
        "predictions": _to_rows(predictions, len(decoded)),
        "confidence": _to_rows(
            {"before": _confidence(before), "saved": _confidence(saved)}, len(decoded)
        ),
        "success_float": is_misclassified(as_float, labels).tolist(),
        "success": fooled.tolist(),
        "targeted_success": torch.where(wrong >= 0, after == wrong, fooled).tolist(),
    }
    if len(saved) > 1:
        every = {
            "before": _draws_by_image(said_before) if said_before else None,
            "saved": _draws_by_image(said),
        }
        found["draw_predictions"] = _to_rows(every, len(decoded))
    if rejecting:
        found["can_reject"] = [True] * len(decoded)
    return found


def _draw_predictions(logits: Sequence[Logits] | None, rejecting: bool) -> list[Labels]:
    """The answers, draw by draw; none where nothing was before."""
    return [predict_or_reject(one, rejecting) for one in logits or ()]


def _confidence(logits: Sequence[Logits] | None) -> list[float] | None:
    """The probability of the answer, 0 to 1, at the first draw."""
    if logits is None:
        return None
    return [round(p, 4) for p in logits[0].softmax(1).amax(1).tolist()]


def _draws_by_image(predictions: Sequence[Labels]) -> list[list[int]]:
    """The answers of every draw, image by image."""
    found: list[list[int]] = torch.stack(list(predictions), 1).tolist()
    return found


def _to_rows(columns: Mapping[str, Any], count: int) -> list[dict[str, Any]]:
    lists = {n: v.tolist() if isinstance(v, Tensor) else v for n, v in columns.items()}
    return [{n: None if v is None else v[row] for n, v in lists.items()} for row in range(count)]


def _perturbation_sizes(before: Images, decoded: Images, cache: ModelCache) -> dict[str, list[Any]]:
    """Between the saved pictures, in double precision: linf is a whole number of 255ths."""
    a, b = before.double().cpu(), decoded.double().cpu()
    norms = {name: d.tolist() for name, d in compute_norms(a, b).items()}
    found: dict[str, list[Any]] = {
        "distances": [
            {name: round(values[row], 6) for name, values in norms.items()}
            for row in range(len(decoded))
        ],
        "psnr": [round(x, 4) if x != float("inf") else None for x in psnr(a, b).tolist()],
    }
    if min(decoded.shape[-2:]) >= WINDOW_SIZE:
        found["ssim"] = [round(x, 6) for x in ssim(a, b).tolist()]
    metric = cache.lpips_metric()
    if metric is not None and min(decoded.shape[-2:]) >= MIN_SIDE:
        pair = (x if x.shape[1] == 3 else x.expand(-1, 3, -1, -1) for x in (before, decoded))
        found["lpips"] = [round(x, 6) for x in metric(*pair).tolist()]
    return found


def _features(
    context: CellContext, decoded: Images, count: int, cache: ModelCache
) -> Tensor | None:
    cell = context.cell
    if cell.feature_extractor == NONE or not cell.reference_classifiers:
        return None
    channels, height, width = decoded.shape[1:]
    extract = cache.feature_extractor(
        cell.feature_extractor, cell.reference_classifiers[0], (channels, height, width)
    )
    return extract.extract(decoded)[:count].float().cpu()


def _round_values(values: Tensor) -> list[float]:
    return [round(float(value), 4) for value in values.tolist()]


def _round_significant(values: Tensor) -> list[float | None]:
    """Six digits; None where it is not finite, which no JSON can say."""
    return [float(f"{x:.6g}") if abs(x) < float("inf") else None for x in values.tolist()]


def _peak_memory(cache: ModelCache) -> int:
    if cache.torch_device.type == "cuda":
        return torch.cuda.max_memory_allocated(cache.torch_device)
    return peak_memory()


def peak_memory() -> int:
    """The most memory that this process had, in bytes; 0 where the system does not tell."""
    with suppress(ImportError):  # Windows has no such module
        resource = import_module("resource")
        most = int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        return most if sys.platform == "darwin" else most * 1024  # macOS counts bytes
    return 0
