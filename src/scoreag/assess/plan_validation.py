"""A plan's cells, every model loaded once and every option checked, before any work starts."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import torch

from scoreag.assess import attack_factory
from scoreag.assess import model_cache as content
from scoreag.assess.experiments import CLEAN, TASKS, Cell, build_cells
from scoreag.assess.model_cache import ModelCache
from scoreag.assess.plan import NONE, Benchmark, Plan
from scoreag.classifiers.judges import is_same_network
from scoreag.classifiers.loading import check_classifier, class_names
from scoreag.classifiers.normalized import NormalizedClassifier
from scoreag.classifiers.rejection import can_reject
from scoreag.core.algorithm import ALGORITHM
from scoreag.data.loading import Dataset
from scoreag.data.source import lacks_class_names
from scoreag.defenses.memory_budget import parse_bytes
from scoreag.io.images import check_images
from scoreag.io.manifest import to_jsonable
from scoreag.registry import UnknownNameError, load_component


@dataclass(frozen=True, eq=False)
class ResolvedDataset:
    """What was found of a set: the word for its data, the data, and the names of its classes."""

    name: str
    data: Dataset
    classes: tuple[str, ...]


def resolve_plan(plan: Plan, cache: ModelCache) -> list[Cell]:
    """The cells of a plan, checked, with their content.

    Raises:
        ValueError: something in the plan cannot work; with its line, and what to write instead.
    """
    away, crossed = skipped_attacks(plan, cache), list(build_cells(plan))
    _check_used(plan, crossed)
    known = {one.name: _resolve_benchmark(plan, one, cache) for one in plan.datasets}
    _check_judges(plan, cache)
    found = [
        _resolve_cell(plan, cell, known[cell.group], cache)
        for cell in crossed
        if cell.attack not in away
    ]
    counted = Counter(cell.name for cell in found)
    twice = [name for name, count in counted.items() if count > 1]
    if twice:
        raise ValueError(f"{plan.locations.file}: two cells are called {twice[0]}; rename a member")
    return found


def set_max_memory(plan: Plan, max_memory: str | None) -> Plan:
    """The same plan; ``size`` is the ``max_memory`` of the purifiers that have none.

    Raises:
        ValueError: it is no size, or there is no purifier.
    """
    if max_memory is None:
        return plan
    most = parse_bytes(max_memory)
    if not plan.purifiers:
        raise ValueError("--max-memory is of purifiers, and the plan has none; leave it out")
    put = (replace(one, options={"max_memory": most, **one.options}) for one in plan.purifiers)
    return replace(plan, purifiers=tuple(put), table={**plan.table, "max_memory": most})


def _check_used(plan: Plan, found: Sequence[Cell]) -> None:
    """Refuse members that lead to no cell: they would be dropped without a word."""
    attacks, purifiers = ({getattr(c, of) for c in found} for of in ("attack", "purifier_name"))
    for one in plan.attacks:
        if one.name not in attacks:
            raise ValueError(
                f"{plan.locations.at('attacks', one.name)}: {one.name} has nobody to attack: its "
                "datasets, classifiers and purifiers exclude each other; widen one of them, or leave it out"
            )
    for put in plan.purifiers:
        if put.name not in purifiers:
            raise ValueError(
                f"{plan.locations.at('purifiers', put.name)}: no attack takes {put.name}; name it in "
                "the purifiers of an attack on one of its classifiers, or leave it out"
            )


def _check_judges(plan: Plan, cache: ModelCache) -> None:
    """Refuse a judge that is attacked anywhere in the plan, under whatever name."""
    attacked = list(dict.fromkeys(word for one in plan.datasets for word in one.classifiers))
    for one in plan.datasets:
        for word, victim in product(one.reference_classifier, attacked):
            if is_same_network(cache.classifier(word), cache.classifier(victim)):
                raise ValueError(
                    f"{plan.locations.at('datasets', one.name, 'reference_classifier')}: the judge {word} is the classifier "
                    f"{victim} (the same weights), which is attacked, so it cannot tell what images show that were "
                    "made against it; give another reference_classifier, trained apart, or a plan of its own"
                )


def skipped_attacks(plan: Plan, cache: ModelCache) -> list[str]:
    """The names of the attacks that are made only with LPIPS, where its weights are not given."""
    return [one.name for one in plan.attacks if one.requires_lpips and not cache.lpips]


@contextmanager
def error_at(plan: Plan, *path: str, suffix: str = "") -> Iterator[None]:
    """What goes wrong inside is said with the line of the plan."""
    try:
        yield
    except UnknownNameError as error:
        raise UnknownNameError(f"{plan.locations.at(*path)}: {error}{suffix}") from error
    except (ValueError, TypeError, ImportError, ConnectionError) as error:
        raise ValueError(f"{plan.locations.at(*path)}: {error}{suffix}") from error


def _resolve_benchmark(plan: Plan, benchmark: Benchmark, cache: ModelCache) -> ResolvedDataset:
    """Load the members of a set; they must count the same classes and take its images."""
    here, more = (
        ("datasets", benchmark.name),
        f"; {benchmark.missing_hint}" if benchmark.missing_hint else "",
    )
    classes: tuple[str, ...] = ()
    if benchmark.prior:
        with error_at(plan, *here, "prior", suffix=more):
            classes = cache.prior(benchmark.prior).classes
    if lacks_class_names(classes):
        classes = next(
            filter(
                None, map(class_names, (*benchmark.classifiers, *benchmark.reference_classifier))
            ),
            classes,
        )
    with error_at(plan, *here, "data", suffix=more):
        word = cache.first_cached(benchmark.data)
        data = cache.data(word, classes)
        require_labels(data)
        shape = cache.prior(benchmark.prior).image_shape if benchmark.prior else None
        check_images(data.images[:1], shape)
    count = len(classes)
    for role, words in (
        ("classifiers", benchmark.classifiers),
        ("reference_classifier", benchmark.reference_classifier),
    ):
        for name in words:
            with error_at(plan, *here, role, suffix=more):
                module = cache.classifier(name)
                count = _check_class_count(name, module, data, cache, role == "classifiers", count)
                _check_names(name, classes)
    with error_at(plan, *here, "data", suffix=more):
        _check_classes(data, count, classes)
    if plan.feature_extractor != NONE and benchmark.reference_classifier:
        with error_at(plan, "feature_extractor"):
            cache.feature_extractor(
                plan.feature_extractor, benchmark.reference_classifier[0], _image_shape(data)
            )
    return ResolvedDataset(word, data, classes or data.classes)


def _check_class_count(
    name: str,
    module: NormalizedClassifier,
    data: Dataset,
    cache: ModelCache,
    require_grad: bool,
    count: int,
) -> int:
    """The classes that a classifier tells apart; all members of a set have as many."""
    images = check_images(data.images[:2]).to(cache.torch_device)
    found = check_classifier(module, images, require_grad=require_grad) - can_reject(module)
    if count and found != count:
        raise ValueError(
            f"{name} tells {found} classes apart, and the other members of the dataset {count}; "
            "give members that were trained on the same classes"
        )
    return found


def _check_names(name: str, classes: Sequence[str]) -> None:
    """Refuse a classifier whose card numbers the same classes otherwise than the set's others."""
    own = class_names(name)
    if own and not lacks_class_names(classes) and own != tuple(classes):
        raise ValueError(
            f"the classes of {name} are {', '.join(own[:4])}, ..., those of the other members "
            f"{', '.join(classes[:4])}, ...; give members with the same classes in one order"
        )


def require_labels(data: Dataset) -> None:
    """Refuse images without labels, which tell success from failure."""
    if data.labels is None:
        raise ValueError(
            f"{data.name} has no labels, and success is judged by them; give class folders, a "
            "labels.csv, or use the images as ood_data of an attack"
        )


def _check_classes(data: Dataset, count: int, classes: Sequence[str]) -> None:
    assert data.labels is not None
    named = data.classes and not all(name.isdigit() for name in data.classes)
    if named and not lacks_class_names(classes) and data.classes != classes:
        raise ValueError(
            f"the classes of {data.name} are {', '.join(data.classes[:4])}, ..., those of the "
            f"models {', '.join(classes[:4])}, ...; give data of their classes, or use the "
            "images as ood_data of an attack"
        )
    if int(data.labels.max()) >= count:
        raise ValueError(
            f"{data.name} has labels up to {int(data.labels.max())}, and the classifiers tell "
            f"{count} classes apart (0..{count - 1}); give data of their classes"
        )


def _image_shape(data: Dataset) -> tuple[int, int, int]:
    channels, height, width = data.images.shape[1:]
    return channels, height, width


def _resolve_cell(plan: Plan, cell: Cell, dataset: ResolvedDataset, cache: ModelCache) -> Cell:
    data, word = dataset.data, dataset.name
    if cell.is_ood:
        with error_at(plan, "attacks", cell.attack, "ood_data"):
            data, word = cache.data(cell.data), cell.data
            check_images(data.images[:1], _image_shape(dataset.data))
    images = cell.images if cell.component == "gas" else min(cell.images, len(data))
    cell = replace(cell, data=word, images=images, lpips=cache.lpips)
    with error_at(plan, "attacks", cell.attack):
        chosen, source = _resolve_attack(cell, dataset, cache)
    defence = _check_purifier(plan, cell, cache)
    with error_at(plan, "attacks", cell.attack):
        drawn = (
            content.prior_digests(cache.prior(cell.prior))
            if attack_factory.requires_prior(cell)
            else None
        )
    found: dict[str, Any] = {
        "data": content.data_digests(data[:images]),
        "victim": content.classifier_digests(cache.classifier(cell.classifier)),
        "others": {
            w: content.classifier_digests(cache.classifier(w)) for w in cell.transfer_targets
        },
        "judges": {
            w: content.classifier_digests(cache.classifier(w)) for w in cell.reference_classifiers
        },
        "prior": drawn,
        "features": _extractor_digest(cell, data, cache),
        "lpips": content.lpips_digest(cache.lpips_metric()),
        "device": cache.torch_device.type,
        "attack": source,
        "purifier": defence,
        "algorithm": ALGORITHM,
    }
    return replace(cell, options=chosen, classes=dataset.classes, content=to_jsonable(found))


def _resolve_attack(
    cell: Cell, dataset: ResolvedDataset, cache: ModelCache
) -> tuple[dict[str, Any], str]:
    """The resolved options of a cell's attack, and the digest of its source."""
    if cell.component == CLEAN:
        return {}, ""
    if cell.component not in TASKS:
        made = attack_factory.build_attack(cell, cache)
        return attack_factory.attack_identity(made), content.source_digest(
            load_component("attacks", cell.component)
        )
    if not cell.prior:
        raise ValueError(f"{cell.component} draws from a score model; write prior = in the dataset")
    return attack_factory.resolve_task_options(cell, cache.prior(cell.prior), dataset.classes), ""


def _extractor_digest(cell: Cell, data: Dataset, cache: ModelCache) -> dict[str, str] | None:
    if cell.feature_extractor == NONE or not cell.reference_classifiers:
        return None
    found = cache.feature_extractor(
        cell.feature_extractor, cell.reference_classifiers[0], _image_shape(data)
    )
    return {"name": found.name, "sha256": found.sha256}


def _check_purifier(plan: Plan, cell: Cell, cache: ModelCache) -> str:
    """Both copies of the defence are made, as they will be; the digest of the source."""
    if not cell.purifier:
        return ""
    with error_at(plan, "purifiers", cell.purifier_name):
        if not cell.prior:
            raise ValueError(f"{cell.purifier} needs a score model; write prior = in the dataset")
        module, prior = load_component("purifiers", cell.purifier), cache.prior(cell.prior)
        for of in (cell.purifier_options, cell.attacker_options):
            made = attack_factory.build_defense(cell, cache, of, prior)
            made.draws_per_batch(
                torch.zeros(cell.batch_size, *prior.image_shape), 1
            )  # is there room?
    return content.source_digest(module)
