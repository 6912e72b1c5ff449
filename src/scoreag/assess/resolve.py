"""The cells of a plan: crossed, every model loaded once, and every option checked."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any, NamedTuple

import torch

from scoreag.assess.experiments import (
    CLEAN,
    TASKS,
    Cell,
    ModelCache,
    classifier_digests,
    data_digests,
    guide_names,
    lpips_digest,
    prior_digests,
    source_digest,
)
from scoreag.assess.plan import NONE, AttackSpec, Benchmark, Plan, PurifierSpec, parse_fractions
from scoreag.assess.run_attack import (
    attack_identity,
    build_attack,
    check_reserved_options,
    requires_prior,
    resolve_task_options,
)
from scoreag.assess.semantic_columns import check_measure
from scoreag.assess.threat_model import build_defense
from scoreag.classifiers.checks import check_classifier, is_same_network
from scoreag.classifiers.class_groups import known_names, select_classes
from scoreag.classifiers.loading import class_names
from scoreag.classifiers.rejection import can_reject
from scoreag.core import ALGORITHM
from scoreag.core.class_names import NO_GROUPS, Groups, lacks_class_names
from scoreag.data.loading import Dataset
from scoreag.diffusion.class_labels import fit_classes
from scoreag.io.images import check_images
from scoreag.io.manifest import to_jsonable
from scoreag.registry import load_component

UNUSED = {  # messages about members without a cell
    "attacks": (
        "{} has nobody to attack: its datasets, classifiers and purifiers exclude each other; "
        "widen one of them, or leave it out"
    ),
    "purifiers": (
        "no attack takes {}; name it in the purifiers of an attack on one of its classifiers, or "
        "leave it out"
    ),
}


def build_cells(plan: Plan) -> Iterator[Cell]:
    """The cells of a plan, unchecked and without content; each dataset's clean cell first."""
    for benchmark in plan.datasets.values():
        yield _base_cell(plan, benchmark, benchmark.classifiers[0])
        for attack, classifier in product(plan.attacks.values(), benchmark.classifiers):
            if not _applies(attack, benchmark, classifier):
                continue
            for purifier in _matching_purifiers(plan, benchmark, classifier, attack):
                for variant, seed in product(attack.variants, plan.seeds):
                    yield _attack_cell(plan, benchmark, classifier, purifier, attack, variant, seed)


def _applies(member: AttackSpec | PurifierSpec, benchmark: Benchmark, classifier: str) -> bool:
    return benchmark.name in (member.datasets or [benchmark.name]) and classifier in (
        member.classifiers or [classifier]
    )


def _matching_purifiers(
    plan: Plan, benchmark: Benchmark, classifier: str, attack: AttackSpec
) -> list[PurifierSpec | None]:
    """The purifiers of this classifier that the attack names; None is the classifier itself."""
    wanted = (NONE, *plan.purifiers) if attack.purifiers is None else attack.purifiers or (NONE,)
    if attack.component == "gap":  # a purification is no attack on one
        wanted = (NONE,)
    bare: list[PurifierSpec | None] = [None] if NONE in wanted else []
    purifiers = plan.purifiers.values()
    return bare + [p for p in purifiers if p.name in wanted and _applies(p, benchmark, classifier)]


def _base_cell(plan: Plan, benchmark: Benchmark, classifier: str) -> Cell:
    return Cell(
        name=f"{benchmark.name}/{CLEAN}",
        group=benchmark.name,
        data=benchmark.data[0],
        classifier=classifier,
        attack=CLEAN,
        component=CLEAN,
        images=plan.images,
        prior=benchmark.prior,
        reference_classifiers=benchmark.reference_classifier,
        transfer_targets=tuple(one for one in benchmark.classifiers if one != classifier),
        stochastic=benchmark.stochastic,
        batch_size=plan.batch_size,
        feature_extractor=plan.feature_extractor,
        semantic=benchmark.semantic,
    )


def _attack_cell(
    plan: Plan, benchmark: Benchmark, classifier: str, purifier: PurifierSpec | None,
    attack: AttackSpec, variant: Mapping[str, Any], seed: int,
) -> Cell:  # fmt: skip
    sweep = {n: str(value) for n, value in variant.items() if isinstance(attack.options[n], list)}
    if len(plan.seeds) > 1:
        sweep["seed"] = str(seed)
    cell = replace(
        _base_cell(plan, benchmark, classifier),
        attack=attack.name,
        component=attack.component,
        data=attack.ood_data or benchmark.data[0],
        is_ood=bool(attack.ood_data),
        images=attack.images or plan.images,
        options=parse_fractions(variant),
        sweep=sweep,
        seed=seed,
    )
    is_random = classifier in benchmark.stochastic
    if purifier:
        is_random |= not purifier.shared_draw
        options = purifier.options
        cell = replace(
            cell,
            purifier_name=purifier.name,
            purifier=purifier.component,
            purifier_options={n: v for n, v in options.items() if n != "max_memory"},
            attacker_options={**options, **purifier.attacker_options},
            shared_draw=purifier.shared_draw,
        )
    short = _short_name(classifier, benchmark.classifiers)
    return replace(
        cell,
        name=f"{benchmark.name}/{short}/{cell.purifier_name}/{cell.variant}",
        eval_draws=(attack.eval_draws or plan.eval_draws) if is_random else 1,
    )


def _short_name(word: str, among: Sequence[str]) -> str:
    """The last part of each path in a word, unless another word shortens to the same."""

    def last(name: str) -> str:
        return ",".join(part.rstrip("/").rpartition("/")[2] for part in name.split(","))

    return last(word) if [last(other) for other in among].count(last(word)) == 1 else word


class LoadedDataset(NamedTuple):
    """The word that was used for a dataset's data, the data, and the names of its classes."""

    word: str
    data: Dataset
    classes: tuple[str, ...]


def resolve_plan(plan: Plan, cache: ModelCache) -> list[Cell]:
    """The cells of a plan with their content; every model is loaded and every option checked.

    Raises:
        ValueError: something in the plan cannot work; with its line, and what to write instead.
    """
    cells, skipped = list(build_cells(plan)), skipped_attacks(plan, cache)
    _check_used(plan, cells)
    loaded = {name: _load_benchmark(plan, one, cache) for name, one in plan.datasets.items()}
    _check_judges(plan, cache)
    cells = [
        _resolve_cell(plan, cell, loaded[cell.group], cache)
        for cell in cells
        if cell.attack not in skipped
    ]
    name, count = Counter(cell.name for cell in cells).most_common(1)[0]
    if count > 1:
        raise plan.error(f"two cells are called {name}; rename a member")
    return cells


def skipped_attacks(plan: Plan, cache: ModelCache) -> list[str]:
    """The attacks that require LPIPS, where its weights are missing."""
    return [name for name, one in plan.attacks.items() if one.requires_lpips and not cache.lpips]


def _check_used(plan: Plan, cells: Sequence[Cell]) -> None:
    """Refuse attacks and purifiers without a cell, which would be dropped silently."""
    used = {
        "attacks": {cell.attack for cell in cells},
        "purifiers": {cell.purifier_name for cell in cells},
    }
    for kind, names in used.items():
        for name in getattr(plan, kind):
            if name not in names:
                raise plan.error(UNUSED[kind].format(name), kind, name)


def _check_judges(plan: Plan, cache: ModelCache) -> None:
    """Refuse a reference classifier that the plan attacks anywhere, under any name."""
    attacked = dict.fromkeys(word for one in plan.datasets.values() for word in one.classifiers)
    for name, one in plan.datasets.items():
        for judge, word in product(one.reference_classifier, attacked):
            if is_same_network(cache.classifier(judge), cache.classifier(word)):
                text = (
                    f"the judge {judge} is the classifier {word} (the same weights), which is "
                    "attacked, so it cannot tell what images show that were made against it; give "
                    "another one, trained apart, or a plan of its own"
                )
                raise plan.error(text, "datasets", name, "reference_classifier")


def _load_benchmark(plan: Plan, benchmark: Benchmark, cache: ModelCache) -> LoadedDataset:
    """Load a benchmark's members, which must know the same classes and take its images."""
    path = ("datasets", benchmark.name)
    hint = f"; {benchmark.missing_hint}" if benchmark.missing_hint else ""
    classes, groups = _find_classes(plan, benchmark, cache, hint)
    with plan.locate_errors(*path, "data", suffix=hint):
        word = cache.first_cached(benchmark.data)
        data = cache.data(word, classes)
        if data.labels is None:
            raise ValueError(
                f"{data.name} has no labels, and success is judged by them; give class folders, a "
                "labels.csv, or use the images as ood_data of an attack"
            )
        shape = cache.prior(benchmark.prior).image_shape if benchmark.prior else None
        images = check_images(data.images[:2], shape).to(cache.torch_device)
    count = len(classes)
    for key in ("classifiers", "reference_classifier"):
        for name in getattr(benchmark, key):
            with plan.locate_errors(*path, key, suffix=hint):
                module, attacked = cache.classifier(name), key == "classifiers"
                if not attacked and known_names(module) and not lacks_class_names(classes):
                    module = select_classes(module, classes, groups)
                own = check_classifier(module, images, require_grad=attacked) - can_reject(module)
                _check_classes(name, own, count, known_names(module), classes)
                count = own
    with plan.locate_errors(*path, "data", suffix=hint):
        _check_data_classes(data, count, classes)
    _check_semantic(plan, benchmark, classes, cache)
    with plan.locate_errors("feature_extractor"):
        cell = _base_cell(plan, benchmark, benchmark.classifiers[0])
        cache.extractor(cell, data.images.shape[1:])
    return LoadedDataset(word, data, classes or data.classes)


def _check_semantic(
    plan: Plan, benchmark: Benchmark, classes: Sequence[str], cache: ModelCache
) -> None:
    """Load a benchmark's measure of people, if it has one."""
    if not benchmark.semantic:
        return
    with plan.locate_errors("datasets", benchmark.name, "semantic"):
        measure = cache.semantic(benchmark.semantic)
        words = (word for one in plan.datasets.values() for word in one.classifiers)
        digests = {n: classifier_digests(cache.classifier(n))["sha256"] for n in words}
        check_measure(measure, classes, digests)


def _find_classes(
    plan: Plan, benchmark: Benchmark, cache: ModelCache, hint: str
) -> tuple[tuple[str, ...], Groups]:
    """The names of a benchmark's classes, and what superclasses among them stand for.

    They are those of its classifiers, else of its score model, else of its reference classifier.
    """
    path = ("datasets", benchmark.name)
    with plan.locate_errors(*path, "classifiers", suffix=hint):
        classifiers = [cache.classifier(name) for name in benchmark.classifiers]
    classes = next(filter(None, map(known_names, classifiers)), ())
    groups = next((one.groups for one in classifiers if one.groups), NO_GROUPS)
    if benchmark.prior:
        with plan.locate_errors(*path, "prior", suffix=hint):
            prior = cache.prior(benchmark.prior)
            fit_classes(prior, classes, groups)
            classes = classes or prior.classes
    if lacks_class_names(classes):
        named = map(class_names, benchmark.reference_classifier)
        classes = next(filter(None, named), classes)
    return classes, groups


def _check_classes(
    name: str, count: int, expected: int, own: Sequence[str], classes: Sequence[str]
) -> None:
    """Refuse a classifier of other classes than the other members, or in another order."""
    if expected and count != expected:
        raise ValueError(
            f"{name} tells {count} classes apart, and the other members of the dataset {expected}; "
            "give members that were trained on the same classes"
        )
    if own and not lacks_class_names(classes) and own != tuple(classes):
        raise ValueError(
            f"the classes of {name} are {', '.join(own[:4])}, ..., those of the other members "
            f"{', '.join(classes[:4])}, ...; give members with the same classes in one order"
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
    if (largest := int(data.labels.max())) >= count:
        raise ValueError(
            f"{data.name} has labels up to {largest}, and the classifiers tell {count} classes "
            f"apart (0..{count - 1}); give data of their classes"
        )


def _resolve_cell(plan: Plan, cell: Cell, loaded: LoadedDataset, cache: ModelCache) -> Cell:
    word, data, classes = loaded
    shape = data.images.shape[1:]
    if cell.is_ood:
        with plan.locate_errors("attacks", cell.attack, "ood_data"):
            word, data = cell.data, cache.data(cell.data)
            check_images(data.images[:1], (shape[0], shape[1], shape[2]))
    images = cell.images if cell.component == "gas" else min(cell.images, len(data))
    cell = replace(cell, data=word, images=images, lpips=cache.lpips, classes=classes)
    with plan.locate_errors("attacks", cell.attack):
        options, attack_source, guides = _resolve_attack(cell, cache)
    with plan.locate_errors("purifiers", cell.purifier_name):
        purifier_source, more = _check_purifier(cell, cache)
        weaker = {n: prior_digests(cache.prior(n)) for n in sorted(guides | more)}
    with plan.locate_errors("attacks", cell.attack):
        prior = prior_digests(cache.prior(cell.prior)) if requires_prior(cell) else None
        choices = cache.fitted_prior(cell).label_choices if prior else ()
    extractor = cache.extractor(cell, shape)
    content = {
        "data": data_digests(data[:images]),
        "classifier": classifier_digests(cache.classifier(cell.classifier)),
        **{
            role: {w: classifier_digests(cache.classifier(w)) for w in getattr(cell, role)}
            for role in ("transfer_targets", "reference_classifiers")
        },
        "prior": prior,
        **({"guides": weaker} if weaker else {}),
        **({"label_choices": choices} if choices else {}),  # by which the prior is asked
        "feature_extractor": extractor and {"name": extractor.name, "sha256": extractor.sha256},
        "lpips": lpips_digest(cache.lpips_metric()),
        "device": cache.torch_device.type,
        **({"semantic": cache.semantic(cell.semantic).digests} if cell.semantic else {}),
        "attack": attack_source,
        "purifier": purifier_source,
        "algorithm": ALGORITHM,
    }
    return replace(cell, options=options, content=to_jsonable(content))


def _resolve_attack(cell: Cell, cache: ModelCache) -> tuple[dict[str, Any], str, set[str]]:
    """The resolved options of a cell's attack, the digest of its source, and its weaker guides."""
    if cell.component == CLEAN:
        return {}, "", set()
    if cell.component not in TASKS:
        attack = build_attack(cell, cache)
        source = source_digest(load_component("attacks", cell.component))
        return attack_identity(attack), source, guide_names(getattr(attack, "prior", None))
    if not cell.prior:
        raise ValueError(f"{cell.component} draws from a score model; write prior = in the dataset")
    options, guided = resolve_task_options(cell, cache.prior(cell.prior))
    return options, "", guide_names(guided)


def _check_purifier(cell: Cell, cache: ModelCache) -> tuple[str, set[str]]:
    """Build the defense with both sets of options; the source's digest, and the weaker guides."""
    if not cell.purifier:
        return "", set()
    if not cell.prior:
        raise ValueError(f"{cell.purifier} needs a score model; write prior = in the dataset")
    module, prior = load_component("purifiers", cell.purifier), cache.prior(cell.prior)
    guides: set[str] = set()
    for options in (cell.purifier_options, cell.attacker_options):
        check_reserved_options(cell.purifier, options)
        defense = build_defense(cell, cache, options, prior)
        room = torch.zeros(cell.batch_size, *prior.image_shape)
        defense.draws_per_batch(room, 1)  # raises where one draw needs more than max_memory
        guides |= guide_names(defense.config.prior)
    return source_digest(module), guides
