"""A plan: which data, classifiers, purifiers and attacks an assessment crosses.

description = "one line, which ``scoreag list plans`` shows"
images = 256                    # of a cell, at most; an attack may have fewer
seeds = [0]
eval_draws = 10                 # fresh draws by which a randomized classifier is judged
batch_size = 16                 # images that the networks see at once
feature_extractor = "judge"     # for Frechet and kernel distances; "none": without

[datasets.cifar10]
data = "cifar10:test"           # or several words, of which the first that is at hand counts
prior = "cifar10"               # the score model
reference_classifier = "cifar10-judge"  # one or several; they guide nothing
classifiers = ["cifar10-resnet20"]  # each is attacked, and asked about the others' images
stochastic = []                 # those of the classifiers that are meant to be random
missing_hint = "..."            # what to do where something is missing

[purifiers.gap]                 # a name; ``purifier`` is the component, by default the name
draws = 1                       # its options
attacker_options = { steps = 2 }  # where the attacker's copy differs from the one judged
shared_draw = true              # one draw for attacker and judge, again and again; by default fresh
classifiers = ["cifar10-resnet20"]  # to which of them it is put; by default to all

[attacks.pgd]                   # a name; ``attack`` is the component, by default the name
eps = ["2/255", "8/255"]        # its options; a list of values is a sweep
images = 64
eval_draws = 128                # where it shall be judged by more draws, or fewer
requires_lpips = true           # left out where no weights of LPIPS are given
purifiers = ["none", "gap"]     # by default all, and none; []: only none
classifiers = [...]             # by default all
datasets = [...]                # by default all
ood_data = "cifar100:test"      # its images are of another data set than the dataset's
"""

import math
import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from scoreag.io.bounded import MAX_TEXT_BYTES, parse_toml, read_text
from scoreag.io.toml_lines import TomlLocations, key_lines
from scoreag.models import trust
from scoreag.registry import UnknownNameError, did_you_mean, short_repr, truncate_text


def as_tuple(value: str | Sequence[str]) -> tuple[str, ...]:
    """One word or a list of them, as several."""
    return (value,) if isinstance(value, str) else tuple(value)


def parse_fraction(value: Any) -> Any:
    """``"8/255"`` as a number; TOML has no fractions."""
    above, slash, below = value.partition("/") if isinstance(value, str) else ("", "", "")
    try:
        return float(above) / float(below) if slash else value
    except (ValueError, ZeroDivisionError):
        return value


def parse_values(value: Any) -> list[tuple[str, Any]]:
    """The values of a sweep, each as it is written and as it is meant; of one value, that one."""
    several = value if isinstance(value, list) else [value]
    return [(str(one), parse_fraction(one)) for one in several]


PLAN_DIR = Path(__file__).parent / "plans"
MAX_CELLS = 20_000  # of a plan
NONE = "none"  # in place of a purifier: the classifier itself


@dataclass(frozen=True)
class Benchmark:
    """Data with its classifiers, score model and judges; see the top of this file."""

    name: str
    data: tuple[str, ...]
    classifiers: tuple[str, ...]
    prior: str = ""
    reference_classifier: tuple[str, ...] = ()
    stochastic: tuple[str, ...] = ()
    missing_hint: str = ""


@dataclass(frozen=True)
class PurifierSpec:
    """A defense, its options, and those of the attacker's copy where they differ."""

    name: str
    purifier: str
    options: Mapping[str, Any]
    attacker_options: Mapping[str, Any]
    shared_draw: bool = False
    classifiers: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()


@dataclass(frozen=True)
class AttackSpec:
    """An attack with its options, of which a list of values is a sweep."""

    name: str
    attack: str
    options: Mapping[str, Any]
    images: int | None = None
    eval_draws: int | None = None
    requires_lpips: bool = False
    classifiers: tuple[str, ...] = ()
    purifiers: tuple[str, ...] | None = None  # all, and none
    datasets: tuple[str, ...] = ()
    ood_data: str = ""


@dataclass(frozen=True)
class Plan:
    """All that a plan's file says, and where it says so."""

    name: str
    description: str
    datasets: tuple[Benchmark, ...]
    purifiers: tuple[PurifierSpec, ...]
    attacks: tuple[AttackSpec, ...]
    images: int
    seeds: tuple[int, ...]
    eval_draws: int
    batch_size: int
    feature_extractor: str
    table: Mapping[str, Any]
    locations: TomlLocations


TOP_LEVEL_KEYS = {
    "description": str, "images": int, "seeds": list, "eval_draws": int, "batch_size": int,
    "feature_extractor": str, "datasets": dict, "purifiers": dict, "attacks": dict,
}  # fmt: skip
STRING_OR_LIST: tuple[type, ...] = (str, list)
BENCHMARK_KEYS: dict[str, tuple[type, ...]] = {
    f.name: STRING_OR_LIST
    for f in fields(Benchmark)
    if f.name not in ("name", "prior", "missing_hint")
}
BENCHMARK_KEYS |= {"prior": (str,), "missing_hint": (str,)}
PURIFIER_KEYS: dict[str, tuple[type, ...]] = {
    "purifier": (str,),
    "attacker_options": (dict,),
    "shared_draw": (bool,),
    "classifiers": STRING_OR_LIST,
    "datasets": STRING_OR_LIST,
}
ATTACK_KEYS: dict[str, tuple[type, ...]] = {"attack": (str,), "images": (int,), "ood_data": (str,)}
ATTACK_KEYS |= {"eval_draws": (int,), "requires_lpips": (bool,)}
ATTACK_KEYS |= {name: STRING_OR_LIST for name in ("classifiers", "purifiers", "datasets")}

Member = TypeVar("Member", Benchmark, PurifierSpec, AttackSpec)


def list_plans() -> dict[str, str]:
    """The plans that come with the package, each with its line."""
    files = sorted(PLAN_DIR.glob("*.toml"))
    return {file.stem: tomllib.loads(file.read_text("utf-8"))["description"] for file in files}


def load_plan(source: str | Path, trust_code: bool = False) -> Plan:
    """The plan of a file, or the one of that name that comes with the package.

    Args:
        trust_code: whether words such as ``package.module:function`` in it may be run.

    Raises:
        ValueError: there is none, or something in it cannot be meant; with the line.  Or it names
            code, and that is not trusted.
    """
    file = PLAN_DIR / f"{source}.toml" if str(source) in list_plans() else Path(source)
    if not file.is_file():
        raise UnknownNameError(
            f"no plan {str(source)!r} and no such file; {did_you_mean(str(source), [*list_plans()])}"
        )
    try:
        table = parse_toml(text := read_text(file, MAX_TEXT_BYTES))
    except ValueError as error:
        told = truncate_text(str(error).removeprefix(f"{file} "), 200)
        raise ValueError(f"{file}: {told}") from error
    plan = _parse_plan(file.stem, table, TomlLocations(str(file), key_lines(text)))
    for code, named, path in _code_references(plan):
        trust.check_trusted(code, named, plan.locations.at(*path), trust_code)
    return plan


def _code_references(plan: Plan) -> Iterator[tuple[bool, str, tuple[str, ...]]]:
    """Every word that may name code, whether it does, and where it stands."""
    yield (
        trust.is_custom_features(plan.feature_extractor),
        plan.feature_extractor,
        ("feature_extractor",),
    )
    for one in plan.datasets:
        for key in ("data", "classifiers", "reference_classifier"):
            rule = trust.is_custom_data if key == "data" else trust.is_custom_classifier
            for word in getattr(one, key):
                yield rule(word), word, ("datasets", one.name, key)
    for put in plan.purifiers:
        here = ("purifiers", put.name)
        yield trust.is_custom_component(put.purifier), put.purifier, (*here, "purifier")
        yield from _option_references(put.options, *here)
        yield from _option_references(put.attacker_options, *here, "attacker_options")
    for attack in plan.attacks:
        here = ("attacks", attack.name)
        yield trust.is_custom_component(attack.attack), attack.attack, (*here, "attack")
        yield trust.is_custom_data(attack.ood_data), attack.ood_data, (*here, "ood_data")
        yield from _option_references(attack.options, *here)


def _option_references(value: Any, *path: str) -> Iterator[tuple[bool, str, tuple[str, ...]]]:
    """Options whose value is the name of a module, at any depth."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _option_references(inner, *path, name)
    elif isinstance(value, list):
        for inner in value:
            yield from _option_references(inner, *path)
    elif isinstance(value, str):
        dotted = path[-1] == "sampler" or value.replace(".", "_").replace(":", "_").isidentifier()
        yield dotted and trust.is_custom_component(value), value, path


def _parse_plan(name: str, table: Mapping[str, Any], locations: TomlLocations) -> Plan:
    locations.check_keys(table, TOP_LEVEL_KEYS, "a plan")
    for member in ("datasets", "attacks"):
        if not table.get(member):
            raise ValueError(f"{locations.file}: it has no [{member}.NAME]; see docs/assess.md")
    seeds = tuple(table.get("seeds", [0]))
    if not seeds or not all(type(seed) is int and seed >= 0 for seed in seeds):
        raise ValueError(
            f"{locations.at('seeds')}: seeds are {short_repr(seeds)}; expected [0], or [0, 1]"
        )
    for key in ("images", "eval_draws", "batch_size"):
        locations.check_count(table, key)
    plan = Plan(
        name=name,
        description=table.get("description", ""),
        datasets=tuple(
            _parse_benchmark(locations, *item) for item in locations.tables(table, "datasets")
        ),
        purifiers=tuple(
            _parse_purifier(locations, *item) for item in locations.tables(table, "purifiers")
        ),
        attacks=tuple(
            _parse_attack(locations, *item) for item in locations.tables(table, "attacks")
        ),
        images=table.get("images", 100),
        seeds=seeds,
        eval_draws=table.get("eval_draws", 10),
        batch_size=table.get("batch_size", 16),
        feature_extractor=table.get("feature_extractor", "judge"),
        table=table,
        locations=locations,
    )
    _check_names(plan)
    _check_cell_count(plan)
    return plan


def _check_cell_count(plan: Plan) -> None:
    """Refuse a plan that crosses to more cells than anybody computes, before they are listed."""
    every = 0
    for attack in plan.attacks:
        swept = [len(value) for value in attack.options.values() if isinstance(value, list)]
        variants = math.prod(swept) * len(plan.seeds)
        victims = sum(len(one.classifiers) for one in plan.datasets)
        every += victims * (1 + len(plan.purifiers)) * variants
    if every > MAX_CELLS:
        raise ValueError(
            f"{plan.locations.file}: it crosses to {truncate_text(f'{every:,}', 60)} cells; expected {MAX_CELLS:,} "
            "at most: leave out classifiers, purifiers, or values"
        )


def _check_names(plan: Plan) -> None:
    """Refuse words for members that the plan does not have."""
    victims = {word for one in plan.datasets for word in one.classifiers}
    known: dict[str, Collection[str]] = {
        "datasets": [one.name for one in plan.datasets],
        "purifiers": [NONE, *(one.name for one in plan.purifiers)],
        "classifiers": dict.fromkeys(sorted(victims)),
        "stochastic": dict.fromkeys(sorted(victims)),
    }
    for table in ("datasets", "purifiers", "attacks"):
        for member in getattr(plan, table):
            for key in known:
                if table == "datasets" and key == "classifiers":
                    continue
                for word in getattr(member, key, None) or ():
                    _check_known(plan.locations, (table, member.name, key), word, known[key])


def _check_known(
    locations: TomlLocations, path: tuple[str, ...], word: str, known: Collection[str]
) -> None:
    if word not in known:
        told = (
            f"the plan has no {short_repr(word)} in its {path[2]}; {did_you_mean(word, [*known])}"
        )
        raise UnknownNameError(f"{locations.at(*path)}: {told}")


def _parse_benchmark(locations: TomlLocations, name: str, table: Mapping[str, Any]) -> Benchmark:
    locations.check_keys(table, BENCHMARK_KEYS, "a dataset", "datasets", name)
    for key in ("data", "classifiers"):
        if not table.get(key):
            raise ValueError(f"{locations.at('datasets', name)}: the dataset {name!r} lacks {key}")
    listed: dict[str, Any]
    listed = {
        k: as_tuple(v) if BENCHMARK_KEYS[k] is STRING_OR_LIST else v for k, v in table.items()
    }
    return Benchmark(name=name, **listed)


def _parse_purifier(locations: TomlLocations, name: str, table: Mapping[str, Any]) -> PurifierSpec:
    if name == NONE:
        raise ValueError(f"{locations.at('purifiers', name)}: 'none' is no purifier's name")
    locations.check_types(table, PURIFIER_KEYS, "purifiers", name)
    options = {k: parse_fraction(v) for k, v in table.items() if k not in PURIFIER_KEYS}
    others = {k: as_tuple(table.get(k, ())) for k in ("classifiers", "datasets")}
    attacked = {k: parse_fraction(v) for k, v in table.get("attacker_options", {}).items()}
    fixed = table.get("shared_draw", False)
    if fixed and {**options, **attacked}.get("backward") == "none":
        raise ValueError(
            f"{locations.at('purifiers', name, 'shared_draw')}: shared_draw shares the attacker's draw with the "
            'judge, and an attacker with backward = "none" draws nothing; leave out one of the two'
        )
    return PurifierSpec(name, table.get("purifier", name), options, attacked, fixed, **others)


def _parse_attack(locations: TomlLocations, name: str, table: Mapping[str, Any]) -> AttackSpec:
    locations.check_types(table, ATTACK_KEYS, "attacks", name)
    for key in ("images", "eval_draws"):
        locations.check_count(table, key, "attacks", name)
    options = {k: v for k, v in table.items() if k not in ATTACK_KEYS}
    for key, value in options.items():
        if value == []:
            raise ValueError(f"{locations.at('attacks', name, key)}: {key} is a list of no values")
    others: dict[str, Any] = {k: as_tuple(table.get(k, ())) for k in ("classifiers", "datasets")}
    purifiers = as_tuple(table["purifiers"]) or (NONE,) if "purifiers" in table else None
    if table.get("attack", name) == "gap" and purifiers not in (None, (NONE,)):
        raise ValueError(
            f"{locations.at('attacks', name, 'purifiers')}: gap purifies images that nobody attacked, "
            "which is no attack on a purifier; leave out purifiers"
        )
    return AttackSpec(
        name, table.get("attack", name), options, table.get("images"), table.get("eval_draws"),
        table.get("requires_lpips", False), purifiers=purifiers, ood_data=table.get("ood_data", ""), **others,
    )  # fmt: skip
