"""The measured images of a cell: predictions, distances and pictures, a row an image.

An image is encoded as the PNG that will be saved and decoded again; all metrics are of the result.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from scoreag.assess.experiments import CLEAN, ModelCache
from scoreag.assess.semantic_columns import score_images
from scoreag.assess.threat_model import DRAW_OFFSET_EVAL, CellContext, logits_at_draw, make_view
from scoreag.classifiers.checks import outputs_match
from scoreag.classifiers.probabilities import list_probabilities, softmax_probabilities
from scoreag.classifiers.rejection import can_reject, is_misclassified, predict_or_reject
from scoreag.core.types import BatchScalar, Images, Labels, Logits
from scoreag.io.images import decode_png, encode_png, to_float, to_uint8
from scoreag.io.records import Row
from scoreag.metrics.lpips import MIN_SIDE
from scoreag.metrics.norms import WINDOW_SIZE, compute_norms, psnr, ssim

Columns = dict[str, Sequence[Any]]  # of rows by name, one value an image


@dataclass(frozen=True, eq=False)
class AttackOutput:
    """The images that an attack returned for a padded batch, and their cost.

    Args:
        targets: the class aimed at, -1 where it is any.
        nfe: score-model evaluations for each image; forwards, backwards: of the classifier.
        gradient_norm: length of the loss's gradient at each image, for the attacker.
        energy: of the shifts of a sampler's noise; None where it is not counted.
        found: the values of an option that was searched for, by its name, and whether the search
            found one that fools.
    """

    images: Images
    targets: Labels
    nfe: Tensor
    restarts: Tensor
    guidance_skipped: Tensor
    forwards: Tensor
    backwards: Tensor
    gradient_norm: BatchScalar | None = None
    energy: BatchScalar | None = None
    found: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class ScoredBatch:
    """Rows, the files that they name, the features of their images, and their cost.

    Args:
        files: the bytes of each picture by its name.
        memory_bytes: the largest memory of the process.
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
    context: CellContext, batch: range, output: AttackOutput, cache: ModelCache
) -> ScoredBatch:
    """The rows of a batch with their files and features."""
    cell, positions = context.cell, context.padded_positions(batch)
    saved, files, decoded = _encode_pngs(context, batch, output.images, f"cells/{cell.key}/images")
    clean = context.images[positions] if context.images is not None else None
    predictor = Predictor(context, cache, positions)
    columns: Columns = {
        **_classify(predictor, output, decoded, clean),
        "judges": predictor.predict_labels(cell.reference_classifiers, decoded, clean),
        "transfer": predictor.predict_labels(cell.transfer_targets, decoded, clean),
        "nfe": _round(output.nfe.double(), 4),
        "restarts": output.restarts.tolist(),
        "guidance_skipped": output.guidance_skipped.tolist(),
        "forwards": _round(output.forwards, 4),
        "backwards": _round(output.backwards, 4),
        **saved,
        **_semantic_columns(context, cache, positions, decoded, clean),
    }
    columns |= {
        name: values.tolist() if values.dtype == torch.bool else _round(values, 6)
        for name, values in output.found.items()
    }
    for name in ("gradient_norm", "energy"):  # None where not finite, which JSON does not have
        if (values := getattr(output, name)) is not None:
            columns[name] = [
                float(f"{x:.6g}") if math.isfinite(x) else None for x in values.tolist()
            ]
    if cell.task == CLEAN:
        columns["is_deterministic"] = predictor.is_deterministic(decoded)
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
    return ScoredBatch(rows, files, features)


def _semantic_columns(
    context: CellContext, cache: ModelCache, positions: list[int], saved: Images,
    before: Images | None,
) -> Columns:  # fmt: skip
    """What people would see, where the dataset has a measure of it and the labels are its own."""
    if not context.cell.semantic or context.cell.is_ood:
        return {}
    measure = cache.semantic(context.cell.semantic)
    return dict(score_images(measure, context.labels[positions], saved, before))


def _encode_pngs(
    context: CellContext, batch: range, images: Images, folder: str
) -> tuple[dict[str, list[str]], dict[str, bytes], Images]:
    """The names and digests of a batch's PNGs, the PNGs, and the decoded images, padded."""
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
        """The defended classifier's, at each of the first draws."""
        view = make_view(self.context, False, self.context.prior)
        ids = self.context.ids(self.positions)
        return [view(DRAW_OFFSET_EVAL + draw, images, ids) for draw in range(draws)]

    def predict_labels(
        self, names: Sequence[str], decoded: Images, clean: Images | None
    ) -> list[dict[str, dict[str, int]]]:
        """The predictions of other classifiers for the saved image and the one before, by name."""
        kinds = {"saved": decoded} | ({} if clean is None else {"before": clean})
        by_name = {
            name: _to_rows({kind: self._predict(name, x) for kind, x in kinds.items()}, decoded)
            for name in names
        }
        return _to_rows(by_name, decoded)

    def is_deterministic(self, images: Images) -> list[dict[str, bool]]:
        """Whether two calls of each classifier give the same logits, up to rounding."""
        same = {}
        for name in (self.context.cell.classifier, *self.context.cell.transfer_targets):
            classifier = self.cache.classifier(name)
            same[name] = outputs_match(classifier(images), classifier(images))
        return [same] * len(images)

    def _predict(self, name: str, images: Images) -> list[int]:
        classifier = self.cache.fitted_classifier(name, self.context.cell)
        ids = self.context.ids(self.positions)
        logits = logits_at_draw(classifier, DRAW_OFFSET_EVAL, images, ids)
        labels: list[int] = predict_or_reject(logits, can_reject(classifier)).tolist()
        return labels


def _classify(
    predictor: Predictor, output: AttackOutput, decoded: Images, clean: Images | None
) -> Columns:
    """The predictions for the clean, the float and the saved image, and success."""
    context = predictor.context
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
    confidences = {
        name: _round(logits[name][0].softmax(1).amax(1), 4) if name in logits else None
        for name in ("before", "saved")
    }
    probabilities = {
        name: list_probabilities(softmax_probabilities(each[0]), (labels, targets), rejects)
        for name, each in logits.items()
    }
    columns: Columns = {
        "label": labels.tolist(),
        "target": [None if target < 0 else target for target in targets.tolist()],
        "predictions": _to_rows(predictions, decoded),
        "confidence": _to_rows(confidences, decoded),
        "probabilities": _to_rows(probabilities, decoded),
        "success_float": is_misclassified(as_float, labels).tolist(),
        "success": fooled.tolist(),
        "targeted_success": torch.where(targets >= 0, saved == targets, fooled).tolist(),
    }
    if draws > 1:
        by_image = {n: torch.stack(each, 1).tolist() for n, each in classes.items()}
        columns["draw_predictions"] = _to_rows({"before": None, **by_image}, decoded)
    if rejects:
        columns["can_reject"] = [True] * len(decoded)
    return columns


def _to_rows(columns: Mapping[str, Sequence[Any] | None], images: Images) -> list[dict[str, Any]]:
    """Columns by name as one table per image."""
    return [
        {name: None if values is None else values[row] for name, values in columns.items()}
        for row in range(len(images))
    ]


def _round(values: Tensor, digits: int) -> list[float]:
    return [round(x, digits) for x in values.tolist()]


def _perturbation_sizes(before: Images, decoded: Images, cache: ModelCache) -> Columns:
    """Between the saved pictures, in double precision: linf is a whole number of 255ths."""
    a, b = before.double().cpu(), decoded.double().cpu()
    norms = {name: _round(distances, 6) for name, distances in compute_norms(a, b).items()}
    columns: Columns = {
        "distances": _to_rows(norms, decoded),
        "psnr": [None if math.isinf(x) else x for x in _round(psnr(a, b), 4)],
    }
    if min(decoded.shape[-2:]) >= WINDOW_SIZE:
        columns["ssim"] = _round(ssim(a, b), 6)
    metric = cache.lpips_metric()
    if metric is not None and min(decoded.shape[-2:]) >= MIN_SIDE:
        pair = (x if x.shape[1] == 3 else x.expand(-1, 3, -1, -1) for x in (before, decoded))
        columns["lpips"] = _round(metric(*pair), 6)
    return columns
