"""Rows: what is measured of the 8-bit images that are saved, never by the attack itself.

An image is encoded as the PNG that will lie on the disk and decoded again; all metrics are of
what came out of that.  Whoever writes the file checks that it has the sha256 of the row.
"""

import hashlib
import math
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from scoreag.assess.experiments import CLEAN, ModelCache
from scoreag.assess.threat_model import DRAW_OFFSET_EVAL, CellContext, logits_at_draw, make_view
from scoreag.classifiers.checks import outputs_match
from scoreag.classifiers.rejection import can_reject, is_misclassified, predict_or_reject
from scoreag.core.types import BatchScalar, Images, Labels, Logits
from scoreag.io.images import decode_png, encode_png, to_float, to_uint8
from scoreag.io.records import Row
from scoreag.metrics.lpips import MIN_SIDE
from scoreag.metrics.norms import WINDOW_SIZE, compute_norms, psnr, ssim


@dataclass(frozen=True, eq=False)
class AttackOutput:
    """What an attack returned for a padded batch, and what it asked for.

    Args:
        targets: the class aimed at, -1 where it is any.
        nfe: score-model evaluations an image; forwards, backwards: of the classifier.
        gradient_norm: length of the loss's gradient at each image, as the attacker sees it.
    """

    images: Images
    targets: Labels
    nfe: Tensor
    restarts: Tensor
    guidance_skipped: Tensor
    forwards: float = 0.0
    backwards: float = 0.0
    gradient_norm: BatchScalar | None = None


@dataclass(frozen=True, eq=False)
class ScoredBatch:
    """Rows, the files that they name, the features of their images, and what they cost.

    Args:
        files: the bytes of each picture by its name.
        memory_bytes: the most that the process had.
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
        features = [part.features for part in parts if part.features is not None]
        return ScoredBatch(
            rows=[row for part in parts for row in part.rows],
            files={name: data for part in parts for name, data in part.files.items()},
            features=torch.cat(features) if features else None,
            attack_seconds=math.fsum(part.attack_seconds for part in parts),
            memory_bytes=max(part.memory_bytes for part in parts),
            scoring_seconds=math.fsum(part.scoring_seconds for part in parts),
        )


@torch.no_grad()
def score_batch(
    context: CellContext, batch: range, output: AttackOutput, cache: ModelCache, seconds: float
) -> ScoredBatch:
    """The rows of a batch."""
    cell, positions = context.cell, context.padded_positions(batch)
    saved, files, decoded = _encode_pngs(context, batch, output.images, f"cells/{cell.key}/images")
    clean = context.images[positions] if context.images is not None else None
    predictor = Predictor(context, cache, positions)
    columns: dict[str, Sequence[Any]] = {
        **_classify(predictor, output, decoded, clean),
        "judges": predictor.predict_labels(cell.reference_classifiers, decoded, clean),
        "transfer": predictor.predict_labels(cell.transfer_targets, decoded, clean),
        "nfe": [round(float(value), 4) for value in output.nfe.tolist()],
        "restarts": output.restarts.tolist(),
        "guidance_skipped": output.guidance_skipped.tolist(),
        "forwards": [round(output.forwards, 4)] * len(positions),
        "backwards": [round(output.backwards, 4)] * len(positions),
        **saved,
    }
    if output.gradient_norm is not None:
        columns["gradient_norm"] = _six_digits(output.gradient_norm)
    if cell.task == CLEAN:
        names = (cell.classifier, *cell.transfer_targets)
        columns["is_deterministic"] = predictor.is_deterministic(names, decoded)
    if clean is not None:
        folder = f"originals/{cell.content.get('data', {}).get('sha256', '')[:8] or 'data'}"
        originals, original_files, before = _encode_pngs(context, batch, clean, folder)
        columns |= _perturbation_sizes(before, decoded, cache)
        columns |= {f"original_{name}": values for name, values in originals.items()}
        files |= original_files
    rows = [
        {"image_id": context.image_ids[i], "position": i, "seed": cell.seed}
        | {name: values[row] for name, values in columns.items()}
        for row, i in enumerate(batch)
    ]
    extractor = cache.extractor(cell, decoded.shape[1:])
    features = extractor.extract(decoded)[: len(batch)].float().cpu() if extractor else None
    return ScoredBatch(rows, files, features, seconds, _peak_memory(cache))


def _encode_pngs(
    context: CellContext, batch: range, images: Images, folder: str
) -> tuple[dict[str, list[str]], dict[str, bytes], Images]:
    """The names and digests of the PNGs of a batch, the PNGs, and what they show, padded."""
    data = [encode_png(image) for image in to_uint8(images[: len(batch)]).cpu()]
    names = [f"{folder}/{context.image_ids[i]:06d}.png" for i in batch]
    decoded = to_float(torch.stack([decode_png(one) for one in data]), images.dtype)
    padded = [*range(len(batch)), *[-1] * (len(images) - len(batch))]
    digests = [hashlib.sha256(one).hexdigest() for one in data]
    files = dict(zip(names, data, strict=True))
    return {"file": names, "sha256": digests}, files, decoded.to(images.device)[padded]


@dataclass(frozen=True, eq=False)
class Predictor:
    """The predictions of all classifiers for some images, each with fresh draws."""

    context: CellContext
    cache: ModelCache
    positions: list[int]

    def predict_logits(self, images: Images, draws: int) -> list[Logits]:
        """The defended classifier's, once for each of the first draws."""
        view = make_view(self.context, False, self.context.prior)
        ids = self.context.ids(self.positions)
        return [view(DRAW_OFFSET_EVAL + draw, images, ids) for draw in range(draws)]

    def predict_labels(
        self, names: Sequence[str], decoded: Images, clean: Images | None
    ) -> list[dict[str, dict[str, int]]]:
        """Other classifiers' predictions for the saved image and the one before, by their words."""
        kinds = {"saved": decoded} | ({} if clean is None else {"before": clean})
        found = {n: {kind: self._predict(n, x) for kind, x in kinds.items()} for n in names}
        return [
            {name: {kind: values[row] for kind, values in one.items()}
             for name, one in found.items()}
            for row in range(len(decoded))
        ]  # fmt: skip

    def is_deterministic(self, names: Sequence[str], decoded: Images) -> list[dict[str, bool]]:
        """Whether two calls of a classifier give the same logits, but for rounding."""
        found = {}
        for name in names:
            classifier = self.cache.classifier(name)
            found[name] = outputs_match(classifier(decoded), classifier(decoded))
        return [found] * len(decoded)

    def _predict(self, name: str, images: Images) -> list[int]:
        classifier, ids = self.cache.classifier(name), self.context.ids(self.positions)
        logits = logits_at_draw(classifier, DRAW_OFFSET_EVAL, images, ids)
        labels: list[int] = predict_or_reject(logits, can_reject(classifier)).tolist()
        return labels


def _classify(
    predictor: Predictor, output: AttackOutput, decoded: Images, clean: Images | None
) -> dict[str, Sequence[Any]]:
    """What the classifier predicts before, of the float image and of the saved one; success."""
    context, count = predictor.context, len(decoded)
    labels, targets = context.labels[predictor.positions], output.targets.to(context.labels)
    rejects, draws = can_reject(context.classifier), context.cell.eval_draws
    logits = {"saved": predictor.predict_logits(decoded, draws)}
    if clean is not None:
        logits["before"] = predictor.predict_logits(clean, draws)
    classes = {n: [predict_or_reject(one, rejects) for one in each] for n, each in logits.items()}
    saved = classes["saved"][0]
    as_float = predict_or_reject(predictor.predict_logits(output.images, 1)[0], rejects)
    fooled = is_misclassified(saved, labels)
    predictions = {
        "before": classes["before"][0].tolist() if clean is not None else None,
        "float": as_float.tolist(),
        "saved": saved.tolist(),
    }
    columns: dict[str, Sequence[Any]] = {
        "label": labels.tolist(),
        "target": [None if target < 0 else target for target in targets.tolist()],
        "predictions": _to_rows(predictions, count),
        "confidence": _to_rows(
            {n: _confidence(logits[n][0]) if n in logits else None for n in ("before", "saved")},
            count,
        ),
        "success_float": is_misclassified(as_float, labels).tolist(),
        "success": fooled.tolist(),
        "targeted_success": torch.where(targets >= 0, saved == targets, fooled).tolist(),
    }
    if draws > 1:
        by_image = {n: torch.stack(each, 1).tolist() for n, each in classes.items()}
        columns["draw_predictions"] = _to_rows({"before": None, **by_image}, count)
    if rejects:
        columns["can_reject"] = [True] * count
    return columns


def _confidence(logits: Logits) -> list[float]:
    """The probability of the prediction, 0 to 1."""
    return [round(p, 4) for p in logits.softmax(1).amax(1).tolist()]


def _to_rows(columns: Mapping[str, Sequence[Any] | None], count: int) -> list[dict[str, Any]]:
    return [{n: None if v is None else v[row] for n, v in columns.items()} for row in range(count)]


def _perturbation_sizes(
    before: Images, decoded: Images, cache: ModelCache
) -> dict[str, Sequence[Any]]:
    """Between the saved pictures, in double precision: linf is a whole number of 255ths."""
    a, b = before.double().cpu(), decoded.double().cpu()
    norms = {n: [round(x, 6) for x in d.tolist()] for n, d in compute_norms(a, b).items()}
    columns: dict[str, Sequence[Any]] = {
        "distances": _to_rows(norms, len(decoded)),
        "psnr": [round(x, 4) if x != float("inf") else None for x in psnr(a, b).tolist()],
    }
    if min(decoded.shape[-2:]) >= WINDOW_SIZE:
        columns["ssim"] = [round(x, 6) for x in ssim(a, b).tolist()]
    metric = cache.lpips_metric()
    if metric is not None and min(decoded.shape[-2:]) >= MIN_SIDE:
        pair = (x if x.shape[1] == 3 else x.expand(-1, 3, -1, -1) for x in (before, decoded))
        columns["lpips"] = [round(x, 6) for x in metric(*pair).tolist()]
    return columns


def _six_digits(values: Tensor) -> list[float | None]:
    """None where it is not finite, which no JSON can say."""
    return [float(f"{x:.6g}") if math.isfinite(x) else None for x in values.tolist()]


def _peak_memory(cache: ModelCache) -> int:
    if cache.torch_device.type == "cuda":
        return torch.cuda.max_memory_allocated(cache.torch_device)
    return peak_memory()


def peak_memory() -> int:
    """The most memory that this process had, in bytes; 0 where the system does not say."""
    with suppress(ImportError):  # Windows has no such module
        resource = import_module("resource")
        most = int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        return most if sys.platform == "darwin" else most * 1024  # macOS counts bytes
    return 0
