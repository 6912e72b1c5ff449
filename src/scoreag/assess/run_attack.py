"""The rows of a cell: its attack is run, and its images are measured.

An image is encoded as the PNG that will be saved and decoded again; all metrics are of the result.
"""

import hashlib
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, is_dataclass, replace
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import torch
import torch.nn.functional as F
from torch import Tensor

from scoreag.assess.experiments import CLEAN, Cell, ModelCache
from scoreag.assess.semantic_columns import score_images
from scoreag.assess.threat_model import (
    DRAW_OFFSET_EVAL,
    DRAW_OFFSET_GRADIENT,
    CellContext,
    CostByRow,
    CountingClassifier,
    QueryCounter,
    build_context,
    logits_at_draw,
    make_view,
)
from scoreag.classifiers.checks import outputs_match
from scoreag.classifiers.probabilities import list_probabilities, softmax_probabilities
from scoreag.classifiers.rejection import can_reject, is_misclassified, predict_or_reject
from scoreag.core.peak_memory import peak_memory
from scoreag.core.rng import Noise
from scoreag.core.types import BatchScalar, Images, Labels, Logits
from scoreag.diffusion.prior import Prior
from scoreag.io.images import decode_png, encode_png, to_float, to_uint8
from scoreag.io.manifest import to_jsonable
from scoreag.io.records import Row
from scoreag.methods.config import resolve_task_config
from scoreag.methods.guided_sampling import attach_guide
from scoreag.methods.run_batch import run_batch, samples_again
from scoreag.metrics.lpips import MIN_SIDE
from scoreag.metrics.norms import WINDOW_SIZE, compute_norms, psnr, ssim
from scoreag.registry import UnknownNameError, check_options, did_you_mean, load_attack

RANGE_TOLERANCE = 1e-6  # by which rounding may move an image out of [0, 1]
RUNNER_OPTIONS = ("prior", "lpips")  # fields of an attack that the runner fills
RESERVED_OPTIONS = (*RUNNER_OPTIONS, "classifier", "seed", "task")
TARGET_OPTIONS = ("runner_up", "random", "none")

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


def build_attack(cell: Cell, cache: ModelCache) -> Any:
    """The attack of a cell, with its options and those that the runner fills.

    Raises:
        ValueError: it does not take an option, or a value is invalid.
    """
    factory = load_attack(cell.component)
    check_reserved_options(cell.component, cell.options)
    check_options(factory, dict(cell.options), cell.component)
    options = _coerce_options(factory, cell.options)
    names = _field_names(factory)
    if "prior" in names:
        if not cell.prior:
            raise ValueError(f"{cell.component} needs a score model; write prior = in the dataset")
        options["prior"] = cache.fitted_prior(cell)
    if "lpips" in names:
        options["lpips"] = cache.lpips_metric()
        if options["lpips"] is None:
            raise ValueError(f"{cell.component} needs LPIPS; give its weights by --lpips")
    return factory(**options)


def _field_names(factory: Any) -> list[str]:
    return [field.name for field in fields(factory)] if is_dataclass(factory) else []


def check_reserved_options(component: str, options: Mapping[str, Any]) -> None:
    """Refuse options that belong to the dataset or to the plan."""
    for name in RESERVED_OPTIONS:
        if name in options:
            raise UnknownNameError(
                f"{component} takes no option {name!r}; the dataset or the plan has it"
            )


def _coerce_options(factory: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options with whole numbers as floats where the attack takes floats; checked by type."""
    hints = get_type_hints(factory) if is_dataclass(factory) else {}
    coerced = {}
    for name, value in options.items():
        types = _plain_types(hints.get(name, Any))
        if type(value) is int and float in types and int not in types:
            value = float(value)
        if types and type(value) not in types:
            expected = " or ".join(one.__name__ for one in types if one is not type(None))
            raise ValueError(f"{name} is {value!r}; expected {expected}")
        if isinstance(value, float) and math.isnan(value):
            raise ValueError(f"{name} is nan; expected a number")
        coerced[name] = value
    return coerced


def _plain_types(annotation: Any) -> tuple[type, ...]:
    """The plain types of an annotation; none where it holds others, which are not checked."""
    parts = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else [annotation]
    plain = all(part in (int, float, str, bool, type(None)) for part in parts)
    return tuple(parts) if plain else ()


def requires_prior(cell: Cell) -> bool:
    """Whether anything in a cell draws from the score model."""
    if cell.purifier or cell.task not in ("attack", CLEAN):
        return True
    return cell.task == "attack" and "prior" in _field_names(load_attack(cell.component))


def attack_identity(attack: Any) -> dict[str, Any]:
    """All options of an attack, defaults included."""
    names = [name for name in _field_names(attack) if name not in RUNNER_OPTIONS]
    options: dict[str, Any] = to_jsonable({name: getattr(attack, name) for name in names})
    return options


def resolve_task_options(cell: Cell, prior: Prior) -> tuple[dict[str, Any], Prior]:
    """The options of gas, gat or gap with the card's defaults and ``target``; its guided prior."""
    options = dict(cell.options)
    check_reserved_options(cell.component, options)
    if cell.component == "gas" and cell.is_ood:
        raise ValueError("gas draws from nothing, so it takes no ood_data; leave it out")
    if cell.component == "gas" and not prior.classes:
        raise ValueError(f"gas asks for classes, and {cell.prior} knows none")
    target = options.pop("target", "runner_up") if cell.component != "gap" else None
    resolved = resolve_task_config(prior, cell.task, **options)
    config = to_jsonable(resolved.to_dict(cell.task))
    if target is not None:
        config["target"] = _parse_target(target, cell.classes)
    return config, attach_guide(prior, resolved)


def _parse_target(target: Any, classes: Sequence[str]) -> str | int:
    """One of ``TARGET_OPTIONS``, or the number of a class."""
    if type(target) is int and 0 <= target < max(1, len(classes)):
        return target
    if target in TARGET_OPTIONS:
        return str(target)
    if target in classes:
        return list(classes).index(target)
    near = did_you_mean(str(target), [*TARGET_OPTIONS, *classes])
    raise UnknownNameError(f"target {target!r} is no class; {near}")


def compute_rows(cell: Cell, batches: list[range], cache: ModelCache) -> ScoredBatch:
    """The rows of some batches of a cell, with their pictures and their cost."""
    with single_thread():
        context = cache.memoize(cell.key, lambda: build_context(cell, cache))
        spec = context.task_spec
        together = spec is not None and samples_again(spec.config)  # then images share batches
        groups = [batches] if together else [[batch] for batch in batches]
        return ScoredBatch.cat([_compute_group(context, group, cache) for group in groups])


def _compute_group(context: CellContext, batches: list[range], cache: ModelCache) -> ScoredBatch:
    start = time.perf_counter()
    outputs = _run_attack(context, batches, cache)
    attacked = time.perf_counter()
    scored = ScoredBatch.cat(
        [_score_batch(context, *each, cache) for each in zip(batches, outputs, strict=True)]
    )
    return replace(
        scored,
        attack_seconds=attacked - start,
        scoring_seconds=time.perf_counter() - attacked,
        memory_bytes=peak_memory(cache.torch_device),
    )


@contextmanager
def single_thread() -> Iterator[None]:
    """One thread of torch, as other numbers round otherwise; processes share the work instead."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@torch.inference_mode(False)
def _run_attack(
    context: CellContext, batches: Sequence[range], cache: ModelCache
) -> list[AttackOutput]:
    """The images of each batch; of a task they are computed together."""
    counter = QueryCounter()
    defense = context.attacker_defense
    prior = context.prior if defense is None else defense.config.prior  # the same, with its guide
    prior = counter.wrap_prior(prior) if prior is not None else None
    ids = context.ids(context.padded_positions(*batches))
    classifier = CountingClassifier(make_view(context, True, prior), ids, counter)
    if context.task_spec is not None:
        outputs = _run_task(context, batches, classifier)
    else:
        assert len(batches) == 1
        outputs = [_run_direct(context, context.padded_positions(*batches), classifier, cache)]
    return [
        replace(
            output,
            images=_validate_images(context, output.images),
            gradient_norm=_gradient_norms(context, context.padded_positions(batch)),
        )
        for batch, output in zip(batches, outputs, strict=True)
    ]


def _run_direct(
    context: CellContext, positions: list[int], classifier: CountingClassifier, cache: ModelCache
) -> AttackOutput:
    """The attack called directly; of the clean cell the images themselves."""
    assert context.images is not None
    images, labels, cell = context.images[positions], context.labels[positions], context.cell
    if cell.task != CLEAN:
        attack = build_attack(cell, cache)
        if "prior" in _field_names(attack):  # counted with the guide that it may have attached
            attack = replace(attack, prior=classifier.counter.wrap_prior(attack.prior))
        noise = Noise(cell.seed, context.ids(positions)).fold_in("attack")
        # run, not a call: the plan was validated, and every query is counted
        images = attack.run(classifier, images, labels, noise).detach()
    zeros = torch.zeros(len(positions), dtype=torch.int64)
    nfe, forwards, backwards = (
        torch.full((len(positions),), count / len(positions), dtype=torch.float64)
        for count in (classifier.counter.nfe, classifier.counter.forwards,
                      classifier.counter.backwards)
    )  # fmt: skip
    return AttackOutput(images, zeros - 1, nfe, zeros, zeros, forwards, backwards)


def _run_task(
    context: CellContext, batches: Sequence[range], classifier: CountingClassifier
) -> list[AttackOutput]:
    """GAS, GAT and GAP, as their commands compute them."""
    assert context.task_spec is not None
    positions = [i for batch in batches for i in batch]
    cost = CostByRow.start(classifier.counter, len(positions))
    spec = context.task_spec.select(positions)
    spec = replace(spec, classifier=classifier, meter=cost.meter)
    result = run_batch(spec, pad_to=context.cell.batch_size)
    nfe = result.nfe + cost.totals["nfe"]  # of the chain, and of a purifier that it passes
    targets: Labels = torch.full((len(result),), -1) if result.targets is None else result.targets
    outputs, start = [], 0
    for batch in batches:
        rows = [start + i - batch.start for i in context.padded_positions(batch)]
        start += len(batch)
        outputs.append(AttackOutput(
            result.images[rows], targets[rows], nfe[rows], result.restarts[rows],
            result.guidance_skipped[rows], cost.totals["forwards"][rows],
            cost.totals["backwards"][rows],
            energy=None if result.energy is None else result.energy[rows],
            found={
                name: getattr(result, name)[rows]
                for name in (spec.config.searched, "found") if spec.config.searched
            },
        ))  # fmt: skip
    return outputs


def _gradient_norms(context: CellContext, positions: list[int]) -> BatchScalar | None:
    """Of the cross-entropy at the images before the attack, through a draw of its own."""
    if context.images is None or context.cell.task in (CLEAN, "purify"):
        return None
    view, ids = make_view(context, True, context.prior), context.ids(positions)
    leaf = context.images[positions].detach().requires_grad_()
    with torch.enable_grad():
        logits = view(DRAW_OFFSET_GRADIENT, leaf, ids)
        loss = F.cross_entropy(logits, context.labels[positions], reduction="sum")
    if not loss.requires_grad:
        return torch.zeros(len(positions))
    return torch.autograd.grad(loss, leaf)[0].flatten(1).norm(dim=1).cpu()


def _validate_images(context: CellContext, images: Tensor) -> Images:
    """Refuse invalid images: a failure of the attack is not its success."""
    name, batch_size = context.cell.component, context.cell.batch_size
    if context.images is not None:
        shape = (batch_size, *context.images.shape[1:])
    else:
        assert context.prior is not None
        shape = (batch_size, *context.prior.image_shape)
    if not isinstance(images, Tensor) or tuple(images.shape) != shape:
        came = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
        raise ValueError(f"{name} returned {came}; expected images of the shape {shape}")
    if not images.isfinite().all():
        raise ValueError(f"{name} returned NaN or infinity; try smaller steps, or report it")
    low, high = float(images.min()), float(images.max())
    if low < -RANGE_TOLERANCE or high > 1 + RANGE_TOLERANCE:
        raise ValueError(f"{name} returned images in [{low:.4g}, {high:.4g}]; expected [0, 1]")
    return images.clamp(0, 1)


@torch.no_grad()
def _score_batch(
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
