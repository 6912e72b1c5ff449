"""The rows of a cell: its attack is run, and its images are measured."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import torch
import torch.nn.functional as F
from torch import Tensor

from scoreag.assess.experiments import CLEAN, Cell, ModelCache
from scoreag.assess.score_batch import AttackOutput, ScoredBatch, score_batch
from scoreag.assess.threat_model import (
    DRAW_OFFSET_GRADIENT,
    CellContext,
    CostByRow,
    CountingClassifier,
    QueryCounter,
    build_context,
    make_view,
)
from scoreag.core.peak_memory import peak_memory
from scoreag.core.rng import Noise
from scoreag.core.types import BatchScalar, Images, Labels
from scoreag.diffusion.prior import Prior
from scoreag.io.manifest import to_jsonable
from scoreag.methods.config import resolve_task_config
from scoreag.methods.guided_sampling import attach_guide
from scoreag.methods.run_batch import run_batch, samples_again
from scoreag.registry import UnknownNameError, check_options, did_you_mean, load_attack

RANGE_TOLERANCE = 1e-6  # by which rounding may move an image out of [0, 1]
RUNNER_OPTIONS = ("prior", "lpips")  # fields of an attack that the runner fills
RESERVED_OPTIONS = (*RUNNER_OPTIONS, "classifier", "seed", "task")
TARGET_OPTIONS = ("runner_up", "random", "none")


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
        [score_batch(context, *each, cache) for each in zip(batches, outputs, strict=True)]
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
