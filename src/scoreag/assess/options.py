"""The options of attacks, tasks and purifiers, checked and resolved with their defaults."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from scoreag.assess.cells import Cell
from scoreag.assess.kit import Kit
from scoreag.core.prior import Prior
from scoreag.defence import Defended, defend
from scoreag.load import UnknownName, check_options, hint, load
from scoreag.runs.manifest import plain
from scoreag.settings import settings_for

GIVEN = ("prior", "lpips")  # fields of an attack that the runner fills
AIMS = ("second", "random", "none")


def attack(cell: Cell, kit: Kit, prior: Prior | None = None) -> Any:
    """The attack of a cell, with its options and what the runner fills.

    Raises:
        ValueError: an option that it does not take, or a value that cannot be meant.
    """
    factory = load("attacks", cell.component).Attack
    taken = [f.name for f in fields(factory)] if is_dataclass(factory) else []
    _check_not_filled(cell.component, cell.options)
    check_options(factory, dict(cell.options), cell.component)
    options = _typed(factory, cell.options)
    if "prior" in taken:
        options["prior"] = prior or _prior(cell, kit)
    if "lpips" in taken:
        options["lpips"] = kit.perception()
        if options["lpips"] is None:
            raise ValueError(f"{cell.component} needs LPIPS; give its weights by --lpips")
    return factory(**options)


def wants_prior(cell: Cell) -> bool:
    """Whether anything in a cell draws from the score model."""
    return (
        bool(cell.purifier)
        or cell.task in ("synthesize", "transform", "purify")
        or (
            cell.task == "attack"
            and "prior"
            in getattr(load("attacks", cell.component).Attack, "__dataclass_fields__", {})
        )
    )


def of_attack(made: Any) -> dict[str, Any]:
    """All options of an attack, also those that were left to their defaults."""
    found = {f.name: getattr(made, f.name) for f in fields(made)} if is_dataclass(made) else {}
    return plain({name: value for name, value in found.items() if name not in GIVEN})


def of_task(cell: Cell, prior: Prior, classes: Sequence[str]) -> dict[str, Any]:
    """The settings of gas, gat or gap with the card's defaults, and the word for ``wrong``."""
    options = dict(cell.options)
    _check_not_filled(cell.component, options)
    if cell.component == "gas" and cell.strangers:
        raise ValueError("gas draws from nothing, so there are no strangers; leave them out")
    if cell.component == "gas" and not prior.classes:
        raise ValueError(f"gas asks for classes, and {cell.prior} knows none")
    wrong = options.pop("wrong", "second") if cell.component != "gap" else None
    chosen = plain(settings_for(prior, cell.task, **options).to_dict(cell.task))
    return chosen if wrong is None else {**chosen, "wrong": _aim(wrong, classes)}


def defended(cell: Cell, kit: Kit, of: Mapping[str, Any], prior: Prior) -> Defended:
    """The victim behind the cell's purifier.

    Args:
        of: its options, of the copy that is judged or of the one that is attacked.
    """
    _check_not_filled(cell.purifier, of)
    return defend(kit.classifier(cell.victim), prior, cell.purifier, seed=cell.seed, **of)


def _check_not_filled(component: str, options: Mapping[str, Any]) -> None:
    """Refuse what is no option: the set and the plan say it for all members."""
    for name in (*GIVEN, "classifier", "seed", "task"):
        if name in options:
            raise UnknownName(f"{component} takes no setting {name!r}; the set or the plan has it")


def _prior(cell: Cell, kit: Kit) -> Prior:
    if not cell.prior:
        raise ValueError(f"{cell.component} needs a score model; write prior = in the set")
    return kit.prior(cell.prior)


def _aim(wrong: Any, classes: Sequence[str]) -> str | int:
    """ "second", "random", "none", or the number of a class."""
    if type(wrong) is int and 0 <= wrong < max(1, len(classes)):
        return wrong
    if wrong in AIMS:
        return str(wrong)
    if wrong in classes:
        return list(classes).index(wrong)
    raise UnknownName(f"wrong {wrong!r} is no class; {hint(str(wrong), [*AIMS, *classes])}")


def _typed(factory: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options, whole numbers as floats where floats are wanted; others are refused."""
    hints = get_type_hints(factory) if is_dataclass(factory) else {}
    found = {}
    for name, value in options.items():
        kinds = _kinds(hints.get(name, Any))
        if type(value) is int and float in kinds and int not in kinds:
            value = float(value)
        if kinds and type(value) not in kinds:
            wanted = " or ".join(kind.__name__ for kind in kinds if kind is not type(None))
            raise ValueError(f"{name} is {value!r}; expected {wanted}")
        if isinstance(value, float) and math.isnan(value):
            raise ValueError(f"{name} is nan; expected a number")
        found[name] = value
    return found


def _kinds(annotation: Any) -> tuple[type, ...]:
    """The plain types of an annotation; none where it is something else, which is not checked."""
    parts = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else [annotation]
    plainly = all(part in (int, float, str, bool, type(None)) for part in parts)
    return tuple(parts) if plainly else ()
