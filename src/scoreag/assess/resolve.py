"""A plan's cells, every model loaded once and every option checked, before any work starts."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import torch

from scoreag.assess import kit as content
from scoreag.assess import options
from scoreag.assess.cells import CLEAN, TASKS, Cell, cells
from scoreag.assess.kit import Kit
from scoreag.assess.plan import NONE, Plan, Set
from scoreag.core.algorithm import ALGORITHM
from scoreag.core.frozen import Frozen
from scoreag.core.rejection import rejects
from scoreag.dataset import Dataset
from scoreag.datasets import nameless
from scoreag.images import check_images
from scoreag.judges import same_network
from scoreag.load import UnknownName, load
from scoreag.memory import bytes_of
from scoreag.models import check_classifier, class_names
from scoreag.runs.manifest import plain


@dataclass(frozen=True, eq=False)
class Known:
    """What was found of a set: the word for its data, the data, and the names of its classes."""

    word: str
    data: Dataset
    classes: tuple[str, ...]


def resolve(plan: Plan, kit: Kit) -> list[Cell]:
    """The cells of a plan, checked, with their content.

    Raises:
        ValueError: something in the plan cannot work; with its line, and what to write instead.
    """
    away, crossed = left_out(plan, kit), list(cells(plan))
    _check_used(plan, crossed)
    known = {one.name: _known(plan, one, kit) for one in plan.sets}
    _check_judges(plan, kit)
    found = [
        _resolved(plan, cell, known[cell.group], kit) for cell in crossed if cell.attack not in away
    ]
    counted = Counter(cell.name for cell in found)
    twice = [name for name, count in counted.items() if count > 1]
    if twice:
        raise ValueError(f"{plan.where.file}: two cells are called {twice[0]}; rename a member")
    return found


def with_memory(plan: Plan, size: str | None) -> Plan:
    """The same plan; ``size`` is the ``max_memory`` of the purifiers that have none.

    Raises:
        ValueError: it is no size, or there is no purifier.
    """
    if size is None:
        return plan
    most = bytes_of(size)
    if not plan.purifiers:
        raise ValueError("--max-memory is of purifiers, and the plan has none; leave it out")
    put = (replace(one, options={"max_memory": most, **one.options}) for one in plan.purifiers)
    return replace(plan, purifiers=tuple(put), text={**plan.text, "max_memory": most})


def _check_used(plan: Plan, found: Sequence[Cell]) -> None:
    """Refuse members that lead to no cell: they would be dropped without a word."""
    attacks, purifiers = ({getattr(c, of) for c in found} for of in ("attack", "purification"))
    for one in plan.attacks:
        if one.name not in attacks:
            raise ValueError(
                f"{plan.where.at('attacks', one.name)}: {one.name} has nobody to attack: its "
                "sets, victims and purifiers exclude each other; widen one of them, or leave it out"
            )
    for put in plan.purifiers:
        if put.name not in purifiers:
            raise ValueError(
                f"{plan.where.at('purifiers', put.name)}: no attack takes {put.name}; name it in "
                "the purifiers of an attack on one of its victims, or leave it out"
            )


def _check_judges(plan: Plan, kit: Kit) -> None:
    """Refuse a judge that is attacked anywhere in the plan, under whatever name."""
    attacked = list(dict.fromkeys(word for one in plan.sets for word in one.victims))
    for one in plan.sets:
        for word, victim in product(one.judge, attacked):
            if same_network(kit.classifier(word), kit.classifier(victim)):
                raise ValueError(
                    f"{plan.where.at('sets', one.name, 'judge')}: the judge {word} is the victim "
                    f"{victim} (the same weights), so it cannot tell what images show that were "
                    "made against it; give another judge, trained apart, or a plan of its own"
                )


def left_out(plan: Plan, kit: Kit) -> list[str]:
    """The names of the attacks that are made only with LPIPS, where its weights are not given."""
    return [one.name for one in plan.attacks if one.with_lpips and not kit.lpips]


@contextmanager
def told_at(plan: Plan, *path: str, more: str = "") -> Iterator[None]:
    """What goes wrong inside is said with the line of the plan."""
    try:
        yield
    except UnknownName as error:
        raise UnknownName(f"{plan.where.at(*path)}: {error}{more}") from error
    except (ValueError, TypeError, ImportError, ConnectionError) as error:
        raise ValueError(f"{plan.where.at(*path)}: {error}{more}") from error


def _known(plan: Plan, one: Set, kit: Kit) -> Known:
    """Load the members of a set; they must count the same classes and take its images."""
    here, more = ("sets", one.name), f"; {one.bring}" if one.bring else ""
    classes: tuple[str, ...] = ()
    if one.prior:
        with told_at(plan, *here, "prior", more=more):
            classes = kit.prior(one.prior).classes
    if nameless(classes):
        classes = next(filter(None, map(class_names, (*one.victims, *one.judge))), classes)
    with told_at(plan, *here, "data", more=more):
        word = kit.first_at_hand(one.data)
        data = kit.data(word, classes)
        check_labelled(data)
        shape = kit.prior(one.prior).image_shape if one.prior else None
        check_images(data.images[:1], shape)
    count = len(classes)
    for role, words in (("victims", one.victims), ("judge", one.judge)):
        for name in words:
            with told_at(plan, *here, role, more=more):
                module = kit.classifier(name)
                count = _counted(name, module, data, kit, role == "victims", count)
                _check_names(name, classes)
    with told_at(plan, *here, "data", more=more):
        _check_classes(data, count, classes)
    if plan.features != NONE and one.judge:
        with told_at(plan, "features"):
            kit.extractor(plan.features, one.judge[0], _shape(data))
    return Known(word, data, classes or data.classes)


def _counted(name: str, module: Frozen, data: Dataset, kit: Kit, attacked: bool, count: int) -> int:
    """The classes that a classifier tells apart; all members of a set have as many."""
    images = check_images(data.images[:2]).to(kit.place)
    found = check_classifier(module, images, guides=attacked) - rejects(module)
    if count and found != count:
        raise ValueError(
            f"{name} tells {found} classes apart, and the other members of the set {count}; "
            "give members that were trained on the same classes"
        )
    return found


def _check_names(name: str, classes: Sequence[str]) -> None:
    """Refuse a classifier whose card numbers the same classes otherwise than the set's others."""
    own = class_names(name)
    if own and not nameless(classes) and own != tuple(classes):
        raise ValueError(
            f"the classes of {name} are {', '.join(own[:4])}, ..., those of the other members "
            f"{', '.join(classes[:4])}, ...; give members with the same classes in one order"
        )


def check_labelled(data: Dataset) -> None:
    """Refuse images without labels, which tell success from failure."""
    if data.labels is None:
        raise ValueError(
            f"{data.name} has no labels, and success is judged by them; give class folders, a "
            "labels.csv, or use the images as strangers of an attack"
        )


def _check_classes(data: Dataset, count: int, classes: Sequence[str]) -> None:
    assert data.labels is not None
    named = data.classes and not all(name.isdigit() for name in data.classes)
    if named and not nameless(classes) and data.classes != classes:
        raise ValueError(
            f"the classes of {data.name} are {', '.join(data.classes[:4])}, ..., those of the "
            f"models {', '.join(classes[:4])}, ...; give data of their classes, or use the "
            "images as strangers of an attack"
        )
    if int(data.labels.max()) >= count:
        raise ValueError(
            f"{data.name} has labels up to {int(data.labels.max())}, and the classifiers tell "
            f"{count} classes apart (0..{count - 1}); give data of their classes"
        )


def _shape(data: Dataset) -> tuple[int, int, int]:
    channels, height, width = data.images.shape[1:]
    return channels, height, width


def _resolved(plan: Plan, cell: Cell, known: Known, kit: Kit) -> Cell:
    data, word = known.data, known.word
    if cell.strangers:
        with told_at(plan, "attacks", cell.attack, "strangers"):
            data, word = kit.data(cell.data), cell.data
            check_images(data.images[:1], _shape(known.data))
    images = cell.images if cell.component == "gas" else min(cell.images, len(data))
    cell = replace(cell, data=word, images=images, lpips=kit.lpips)
    with told_at(plan, "attacks", cell.attack):
        chosen, source = _attack(cell, known, kit)
    defence = _purifier(plan, cell, kit)
    with told_at(plan, "attacks", cell.attack):
        drawn = content.of_prior(kit.prior(cell.prior)) if options.wants_prior(cell) else None
    found: dict[str, Any] = {
        "data": content.of_data(data[:images]),
        "victim": content.of_classifier(kit.classifier(cell.victim)),
        "others": {w: content.of_classifier(kit.classifier(w)) for w in cell.others},
        "judges": {w: content.of_classifier(kit.classifier(w)) for w in cell.judges},
        "prior": drawn,
        "features": _features(cell, data, kit),
        "lpips": content.of_lpips(kit.perception()),
        "device": kit.place.type,
        "attack": source,
        "purifier": defence,
        "algorithm": ALGORITHM,
    }
    return replace(cell, options=chosen, classes=known.classes, content=plain(found))


def _attack(cell: Cell, known: Known, kit: Kit) -> tuple[dict[str, Any], str]:
    """The resolved options of a cell's attack, and the digest of its source."""
    if cell.component == CLEAN:
        return {}, ""
    if cell.component not in TASKS:
        made = options.attack(cell, kit)
        return options.of_attack(made), content.of_source(load("attacks", cell.component))
    if not cell.prior:
        raise ValueError(f"{cell.component} draws from a score model; write prior = in the set")
    return options.of_task(cell, kit.prior(cell.prior), known.classes), ""


def _features(cell: Cell, data: Dataset, kit: Kit) -> dict[str, str] | None:
    if cell.features == NONE or not cell.judges:
        return None
    found = kit.extractor(cell.features, cell.judges[0], _shape(data))
    return {"name": found.name, "sha256": found.sha256}


def _purifier(plan: Plan, cell: Cell, kit: Kit) -> str:
    """Both copies of the defence are made, as they will be; the digest of the source."""
    if not cell.purifier:
        return ""
    with told_at(plan, "purifiers", cell.purification):
        if not cell.prior:
            raise ValueError(f"{cell.purifier} needs a score model; write prior = in the set")
        module, prior = load("purifiers", cell.purifier), kit.prior(cell.prior)
        for of in (cell.purifier_options, cell.attacked):
            made = options.defended(cell, kit, of, prior)
            made.at_once(torch.zeros(cell.micro_batch, *prior.image_shape), 1)  # is there room?
    return content.of_source(module)
