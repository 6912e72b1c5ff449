"""A plan's cells, every model loaded once and every option checked, before any work starts."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch

from scoreag.assess.experiments import (
    CLEAN,
    TASKS,
    Cell,
    ModelCache,
    build_cells,
    classifier_digests,
    data_digests,
    lpips_digest,
    prior_digests,
    source_digest,
)
from scoreag.assess.plan import Benchmark, Plan
from scoreag.assess.run_attack import (
    attack_identity,
    build_attack,
    check_reserved_options,
    requires_prior,
    resolve_task_options,
)
from scoreag.assess.threat_model import build_defense
from scoreag.classifiers.checks import check_classifier, is_same_network
from scoreag.classifiers.loading import class_names
from scoreag.classifiers.normalized import NormalizedClassifier
from scoreag.classifiers.rejection import can_reject
from scoreag.core import ALGORITHM
from scoreag.core.types import Images
from scoreag.data.loading import Dataset
from scoreag.data.source import lacks_class_names
from scoreag.io.images import check_images
from scoreag.io.manifest import to_jsonable
from scoreag.registry import UnknownNameError, load_component


@dataclass(frozen=True, eq=False)
class ResolvedDataset:
    """The word for a benchmark's data, the data, and the names of its classes."""

    name: str
    data: Dataset
    classes: tuple[str, ...]


def resolve_plan(plan: Plan, cache: ModelCache) -> list[Cell]:
    """The cells of a plan, checked, with their content.

    Raises:
        ValueError: something in the plan cannot work; with its line, and what to write instead.
    """
    cells, skipped = list(build_cells(plan)), skipped_attacks(plan, cache)
    _check_used(plan, cells)
    resolved = {name: _resolve_benchmark(plan, one, cache) for name, one in plan.datasets.items()}
    _check_judges(plan, cache)
    cells = [
        _resolve_cell(plan, cell, resolved[cell.group], cache)
        for cell in cells
        if cell.attack not in skipped
    ]
    name, count = Counter(cell.name for cell in cells).most_common(1)[0]
    if count > 1:
        raise ValueError(f"{plan.locations.file}: two cells are called {name}; rename a member")
    return cells


def skipped_attacks(plan: Plan, cache: ModelCache) -> list[str]:
    """The names of the attacks that require LPIPS, where its weights are not given."""
    return [name for name, one in plan.attacks.items() if one.requires_lpips and not cache.lpips]


def _check_used(plan: Plan, cells: Sequence[Cell]) -> None:
    """Refuse members that lead to no cell: they would be dropped without a word."""
    attacks, purifiers = {cell.attack for cell in cells}, {cell.purifier_name for cell in cells}
    for name in plan.attacks:
        if name not in attacks:
            raise ValueError(
                f"{plan.locations.at('attacks', name)}: {name} has nobody to attack: its datasets, "
                "classifiers and purifiers exclude each other; widen one of them, or leave it out"
            )
    for name in plan.purifiers:
        if name not in purifiers:
            raise ValueError(
                f"{plan.locations.at('purifiers', name)}: no attack takes {name}; name it in the "
                "purifiers of an attack on one of its classifiers, or leave it out"
            )


def _check_judges(plan: Plan, cache: ModelCache) -> None:
    """Refuse a reference classifier that is attacked anywhere in the plan, under whatever name."""
    attacked = dict.fromkeys(word for one in plan.datasets.values() for word in one.classifiers)
    for name, one in plan.datasets.items():
        for judge in one.reference_classifier:
            for word in attacked:
                if is_same_network(cache.classifier(judge), cache.classifier(word)):
                    place = plan.locations.at("datasets", name, "reference_classifier")
                    raise ValueError(
                        f"{place}: the judge {judge} is the classifier {word} (the same weights), "
                        "which is attacked, so it cannot tell what images show that were made "
                        "against it; give another one, trained apart, or a plan of its own"
                    )


@contextmanager
def _error_at(plan: Plan, *path: str, suffix: str = "") -> Iterator[None]:
    """What goes wrong inside is reported with the line of the plan."""
    try:
        yield
    except (ValueError, TypeError, ImportError, ConnectionError) as error:
        kind = UnknownNameError if isinstance(error, UnknownNameError) else ValueError
        raise kind(f"{plan.locations.at(*path)}: {error}{suffix}") from error


def _resolve_benchmark(plan: Plan, benchmark: Benchmark, cache: ModelCache) -> ResolvedDataset:
    """Load the members of a benchmark; they must count the same classes and take its images."""
    path = ("datasets", benchmark.name)
    hint = f"; {benchmark.missing_hint}" if benchmark.missing_hint else ""
    classes: tuple[str, ...] = ()
    if benchmark.prior:
        with _error_at(plan, *path, "prior", suffix=hint):
            classes = cache.prior(benchmark.prior).classes
    if lacks_class_names(classes):
        named = map(class_names, (*benchmark.classifiers, *benchmark.reference_classifier))
        classes = next(filter(None, named), classes)
    with _error_at(plan, *path, "data", suffix=hint):
        word = cache.first_cached(benchmark.data)
        data = cache.data(word, classes)
        _require_labels(data)
        shape = cache.prior(benchmark.prior).image_shape if benchmark.prior else None
        images = check_images(data.images[:2], shape).to(cache.torch_device)
    count = len(classes)
    for key in ("classifiers", "reference_classifier"):
        for name in getattr(benchmark, key):
            with _error_at(plan, *path, key, suffix=hint):
                module = cache.classifier(name)
                count = _check_class_count(name, module, images, key == "classifiers", count)
                _check_class_names(name, classes)
    with _error_at(plan, *path, "data", suffix=hint):
        _check_data_classes(data, count, classes)
    with _error_at(plan, "feature_extractor"):
        cell = next(one for one in build_cells(plan) if one.group == benchmark.name)
        cache.extractor(cell, data.images.shape[1:])
    return ResolvedDataset(word, data, classes or data.classes)


def _check_class_count(
    name: str, module: NormalizedClassifier, images: Images, require_grad: bool, expected: int
) -> int:
    """The classes that a classifier tells apart; all members of a dataset have as many."""
    count = check_classifier(module, images, require_grad=require_grad) - can_reject(module)
    if expected and count != expected:
        raise ValueError(
            f"{name} tells {count} classes apart, and the other members of the dataset {expected}; "
            "give members that were trained on the same classes"
        )
    return count


def _check_class_names(name: str, classes: Sequence[str]) -> None:
    """Refuse a classifier whose card numbers the same classes otherwise than the others'."""
    own = class_names(name)
    if own and not lacks_class_names(classes) and own != tuple(classes):
        raise ValueError(
            f"the classes of {name} are {', '.join(own[:4])}, ..., those of the other members "
            f"{', '.join(classes[:4])}, ...; give members with the same classes in one order"
        )


def _require_labels(data: Dataset) -> None:
    """Refuse images without labels, which tell success from failure."""
    if data.labels is None:
        raise ValueError(
            f"{data.name} has no labels, and success is judged by them; give class folders, a "
            "labels.csv, or use the images as ood_data of an attack"
        )


def _check_data_classes(data: Dataset, count: int, classes: Sequence[str]) -> None:
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


def _resolve_cell(plan: Plan, cell: Cell, dataset: ResolvedDataset, cache: ModelCache) -> Cell:
    data, word = dataset.data, dataset.name
    shape = data.images.shape[1:]
    if cell.is_ood:
        with _error_at(plan, "attacks", cell.attack, "ood_data"):
            data, word = cache.data(cell.data), cell.data
            check_images(data.images[:1], (shape[0], shape[1], shape[2]))
    images = cell.images if cell.component == "gas" else min(cell.images, len(data))
    cell = replace(cell, data=word, images=images, lpips=cache.lpips, classes=dataset.classes)
    with _error_at(plan, "attacks", cell.attack):
        options, attack_source = _resolve_attack(cell, cache)
    with _error_at(plan, "purifiers", cell.purifier_name):
        purifier_source = _check_purifier(cell, cache)
    with _error_at(plan, "attacks", cell.attack):
        prior = prior_digests(cache.prior(cell.prior)) if requires_prior(cell) else None
    extractor = cache.extractor(cell, shape)
    content = {
        "data": data_digests(data[:images]),
        "classifier": classifier_digests(cache.classifier(cell.classifier)),
        **{
            role: {w: classifier_digests(cache.classifier(w)) for w in getattr(cell, role)}
            for role in ("transfer_targets", "reference_classifiers")
        },
        "prior": prior,
        "feature_extractor": extractor and {"name": extractor.name, "sha256": extractor.sha256},
        "lpips": lpips_digest(cache.lpips_metric()),
        "device": cache.torch_device.type,
        "attack": attack_source,
        "purifier": purifier_source,
        "algorithm": ALGORITHM,
    }
    return replace(cell, options=options, content=to_jsonable(content))


def _resolve_attack(cell: Cell, cache: ModelCache) -> tuple[dict[str, Any], str]:
    """The resolved options of a cell's attack, and the digest of its source."""
    if cell.component == CLEAN:
        return {}, ""
    if cell.component not in TASKS:
        attack = build_attack(cell, cache)
        return attack_identity(attack), source_digest(load_component("attacks", cell.component))
    if not cell.prior:
        raise ValueError(f"{cell.component} draws from a score model; write prior = in the dataset")
    return resolve_task_options(cell, cache.prior(cell.prior)), ""


def _check_purifier(cell: Cell, cache: ModelCache) -> str:
    """Both copies of the defense are made, as they will be; the digest of the source."""
    if not cell.purifier:
        return ""
    if not cell.prior:
        raise ValueError(f"{cell.purifier} needs a score model; write prior = in the dataset")
    module, prior = load_component("purifiers", cell.purifier), cache.prior(cell.prior)
    for options in (cell.purifier_options, cell.attacker_options):
        check_reserved_options(cell.purifier, options)
        defense = build_defense(cell, cache, options, prior)
        room = torch.zeros(cell.batch_size, *prior.image_shape)
        defense.draws_per_batch(room, 1)  # raises where one draw needs more than max_memory
    return source_digest(module)
