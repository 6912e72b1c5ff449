"""The options of attacks, tasks and purifiers, checked and resolved with their defaults."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from scoreag.assess.experiments import Cell
from scoreag.assess.model_cache import ModelCache
from scoreag.defenses.purified_classifier import PurifiedClassifier, defend
from scoreag.diffusion.prior import Prior
from scoreag.io.manifest import to_jsonable
from scoreag.methods.config import resolve_task_config
from scoreag.registry import UnknownNameError, check_options, did_you_mean, load_attack

RUNNER_OPTIONS = ("prior", "lpips")  # fields of an attack that the runner fills
TARGET_OPTIONS = ("runner_up", "random", "none")


def build_attack(cell: Cell, cache: ModelCache, prior: Prior | None = None) -> Any:
    """The attack of a cell, with its options and what the runner fills.

    Raises:
        ValueError: an option that it does not take, or a value that cannot be meant.
    """
    factory = load_attack(cell.component)
    taken = [f.name for f in fields(factory)] if is_dataclass(factory) else []
    _check_reserved_options(cell.component, cell.options)
    check_options(factory, dict(cell.options), cell.component)
    options = _coerce_options(factory, cell.options)
    if "prior" in taken:
        options["prior"] = prior or _require_prior(cell, cache)
    if "lpips" in taken:
        options["lpips"] = cache.lpips_metric()
        if options["lpips"] is None:
            raise ValueError(f"{cell.component} needs LPIPS; give its weights by --lpips")
    return factory(**options)


def requires_prior(cell: Cell) -> bool:
    """Whether anything in a cell draws from the score model."""
    return (
        bool(cell.purifier)
        or cell.task in ("synthesize", "transform", "purify")
        or (
            cell.task == "attack"
            and "prior" in getattr(load_attack(cell.component), "__dataclass_fields__", {})
        )
    )


def attack_identity(attack: Any) -> dict[str, Any]:
    """All options of an attack, also those that were left to their defaults."""
    found = (
        {f.name: getattr(attack, f.name) for f in fields(attack)} if is_dataclass(attack) else {}
    )
    return to_jsonable({name: value for name, value in found.items() if name not in RUNNER_OPTIONS})


def resolve_task_options(cell: Cell, prior: Prior, classes: Sequence[str]) -> dict[str, Any]:
    """The options of gas, gat or gap with the card's defaults, and its ``target``."""
    options = dict(cell.options)
    _check_reserved_options(cell.component, options)
    if cell.component == "gas" and cell.is_ood:
        raise ValueError("gas draws from nothing, so it takes no ood_data; leave it out")
    if cell.component == "gas" and not prior.classes:
        raise ValueError(f"gas asks for classes, and {cell.prior} knows none")
    wrong = options.pop("target", "runner_up") if cell.component != "gap" else None
    chosen = to_jsonable(resolve_task_config(prior, cell.task, **options).to_dict(cell.task))
    return chosen if wrong is None else {**chosen, "target": _parse_target(wrong, classes)}


def build_defense(
    cell: Cell, cache: ModelCache, options: Mapping[str, Any], prior: Prior
) -> PurifiedClassifier:
    """The classifier behind the cell's purifier.

    Args:
        options: its options, of the copy that is judged or of the one that is attacked.
    """
    _check_reserved_options(cell.purifier, options)
    return defend(
        cache.classifier(cell.classifier), prior, cell.purifier, seed=cell.seed, **options
    )


def _check_reserved_options(component: str, options: Mapping[str, Any]) -> None:
    """Refuse what is no option: the dataset and the plan say it for all members."""
    for name in (*RUNNER_OPTIONS, "classifier", "seed", "task"):
        if name in options:
            raise UnknownNameError(
                f"{component} takes no option {name!r}; the dataset or the plan has it"
            )


def _require_prior(cell: Cell, cache: ModelCache) -> Prior:
    if not cell.prior:
        raise ValueError(f"{cell.component} needs a score model; write prior = in the dataset")
    return cache.prior(cell.prior)


def _parse_target(target: Any, classes: Sequence[str]) -> str | int:
    """ "runner_up", "random", "none", or the number of a class."""
    if type(target) is int and 0 <= target < max(1, len(classes)):
        return target
    if target in TARGET_OPTIONS:
        return str(target)
    if target in classes:
        return list(classes).index(target)
    raise UnknownNameError(
        f"target {target!r} is no class; {did_you_mean(str(target), [*TARGET_OPTIONS, *classes])}"
    )


def _coerce_options(factory: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options, whole numbers as floats where floats are wanted; others are refused."""
    hints = get_type_hints(factory) if is_dataclass(factory) else {}
    found = {}
    for name, value in options.items():
        kinds = _plain_types(hints.get(name, Any))
        if type(value) is int and float in kinds and int not in kinds:
            value = float(value)
        if kinds and type(value) not in kinds:
            wanted = " or ".join(kind.__name__ for kind in kinds if kind is not type(None))
            raise ValueError(f"{name} is {value!r}; expected {wanted}")
        if isinstance(value, float) and math.isnan(value):
            raise ValueError(f"{name} is nan; expected a number")
        found[name] = value
    return found


def _plain_types(annotation: Any) -> tuple[type, ...]:
    """The plain types of an annotation; none where it is something else, which is not checked."""
    parts = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else [annotation]
    plainly = all(part in (int, float, str, bool, type(None)) for part in parts)
    return tuple(parts) if plainly else ()
