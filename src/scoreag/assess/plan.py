"""A plan: which data, classifiers, purifiers and attacks an assessment crosses.

description = "one line, which `scoreag list plans` shows"
images = 256                        # of a cell, at most; an attack may have fewer
seeds = [0]
eval_draws = 10                     # fresh draws by which a randomized classifier is judged
batch_size = 16                     # images that the networks see at once
feature_extractor = "judge"         # for Frechet and kernel distances; "none": without

[datasets.cifar10]
data = "cifar10:test"               # or several words: the first that needs no download
prior = "cifar10"                   # the score model
reference_classifier = "cifar10-judge"  # one or several; they guide nothing
classifiers = ["cifar10-resnet20"]  # each is attacked, and shown the images made against others
stochastic = []                     # those of the classifiers that are meant to be random
missing_hint = "..."                # what to do where something is missing

[purifiers.gap]                     # a name; `purifier` is the component, by default the name
draws = 1                           # its options
attacker_options = { steps = 2 }    # where the attacker's copy differs from the one judged
shared_draw = true                  # one draw for attacker and judge; by default fresh draws
classifiers = ["cifar10-resnet20"]  # which it defends; by default all
datasets = ["cifar10"]              # by default all

[attacks.pgd]                       # a name; `attack` is the component, by default the name
eps = ["2/255", "8/255"]            # its options; a list of values is a sweep
images = 64
eval_draws = 128
requires_lpips = true               # left out where no weights of LPIPS are given
purifiers = ["none", "gap"]         # by default all, and none; []: only none
classifiers = ["cifar10-resnet20"]  # by default all
datasets = ["cifar10"]              # by default all
ood_data = "cifar100:test"          # attack images of another data set
"""

import math
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
)
from pydantic_core import ErrorDetails

from scoreag.defenses.memory_budget import parse_bytes
from scoreag.io.bounded import MAX_TEXT_BYTES, TomlLocations, key_lines, parse_toml, read_text
from scoreag.models import trust
from scoreag.registry import UnknownNameError, did_you_mean, short_repr, truncate_text

PLAN_DIR = Path(__file__).parent / "plans"
MAX_CELLS = 20_000  # of a plan
MAX_LIST_ENTRIES = 1000
NONE = "none"  # in place of a purifier: the classifier itself
OLD_WORDS = {  # keys of version 0.1, by the part of a path that they stand below
    "": ("sets", "about", "answers", "micro_batch", "features"),
    "datasets": ("victims", "judge", "bring", "random"),
    "purifiers": ("victims", "sets", "attacked", "fixed"),
    "attacks": ("victims", "sets", "answers", "with_lpips", "strangers"),
}
EXPECTED = {  # by the type of pydantic's error
    "string_type": "a word in quotes",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "dict_type": "a table",
}


def _as_tuple(value: Any) -> tuple[str, ...]:
    """One word or a list of them, as several."""
    words = _check_length([value] if isinstance(value, str) else value)
    if not (isinstance(words, list) and all(isinstance(one, str) for one in words)):
        raise ValueError(f"is {short_repr(value)}; expected a word in quotes or a list of words")
    return tuple(words)


def _as_seeds(value: Any) -> tuple[int, ...]:
    seeds = _check_length(value)
    plain = isinstance(seeds, list) and all(type(seed) is int and seed >= 0 for seed in seeds)
    if not (plain and seeds):
        raise ValueError(f"are {short_repr(value)}; expected [0], or [0, 1]")
    return tuple(seeds)


def _check_length(value: Any) -> Any:
    if isinstance(value, list) and len(value) > MAX_LIST_ENTRIES:
        raise ValueError(f"has {len(value):,} entries; expected {MAX_LIST_ENTRIES:,} at most")
    return value


def parse_fraction(value: Any) -> Any:
    """``"8/255"`` as a number; TOML has no fractions."""
    above, slash, below = value.partition("/") if isinstance(value, str) else ("", "", "")
    try:
        return float(above) / float(below) if slash else value
    except (ValueError, ZeroDivisionError):
        return value


def parse_fractions(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options with their fractions as numbers."""
    return {name: parse_fraction(value) for name, value in options.items()}


Words = Annotated[tuple[str, ...], BeforeValidator(_as_tuple)]
Seeds = Annotated[tuple[int, ...], BeforeValidator(_as_seeds)]
Count = Annotated[int, Field(ge=1)]


class Table(BaseModel):
    """A table of a plan, with its name."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)
    _name: str = PrivateAttr("")

    @property
    def name(self) -> str:
        return self._name


class Benchmark(Table):
    """Data with its classifiers, score model and reference classifiers."""

    data: Annotated[Words, Field(min_length=1)]
    classifiers: Annotated[Words, Field(min_length=1)]
    prior: str = ""
    reference_classifier: Words = ()
    stochastic: Words = ()
    missing_hint: str = ""


class PurifierSpec(Table):
    """A defense, its options, and those of the attacker's copy where they differ."""

    model_config = ConfigDict(extra="allow")
    purifier: str = ""
    attacker_options: Annotated[dict[str, Any], AfterValidator(parse_fractions)] = {}
    shared_draw: bool = False
    classifiers: Words = ()
    datasets: Words = ()

    @property
    def component(self) -> str:
        return self.purifier or self.name

    @property
    def options(self) -> dict[str, Any]:
        return parse_fractions(self.model_extra or {})


class AttackSpec(Table):
    """An attack with its options, of which a list of values is a sweep."""

    model_config = ConfigDict(extra="allow")
    attack: str = ""
    images: Count | None = None
    eval_draws: Count | None = None
    requires_lpips: bool = False
    classifiers: Words = ()
    purifiers: Words | None = None  # all, and none
    datasets: Words = ()
    ood_data: str = ""

    @property
    def component(self) -> str:
        return self.attack or self.name

    @property
    def options(self) -> dict[str, Any]:
        return self.model_extra or {}


class Plan(Table):
    """All that a plan's file says, and where it says so."""

    description: str = ""
    images: Count = 100
    seeds: Seeds = (0,)
    eval_draws: Count = 10
    batch_size: Count = 16
    feature_extractor: str = "judge"
    datasets: dict[str, Benchmark] = Field(min_length=1)
    purifiers: dict[str, PurifierSpec] = {}
    attacks: dict[str, AttackSpec] = Field(min_length=1)
    _table: Mapping[str, Any] = PrivateAttr(default_factory=dict)
    _locations: TomlLocations = PrivateAttr(default=TomlLocations("", {}))

    @property
    def table(self) -> Mapping[str, Any]:
        return self._table

    @property
    def locations(self) -> TomlLocations:
        return self._locations

    def model_post_init(self, context: Any, /) -> None:
        self._name, self._table, self._locations = context
        for members in (self.datasets, self.purifiers, self.attacks):
            for name, member in members.items():
                member._name = name


def list_plans() -> dict[str, str]:
    """The plans that come with the package, each with its description."""
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
        near = did_you_mean(str(source), [*list_plans()])
        raise UnknownNameError(f"no plan {str(source)!r} and no such file; {near}")
    try:
        table = parse_toml(text := read_text(file, MAX_TEXT_BYTES))
    except ValueError as error:
        reason = truncate_text(str(error).removeprefix(f"{file} "), 200)
        raise ValueError(f"{file}: {reason}") from error
    locations = TomlLocations(str(file), key_lines(text))
    _refuse_old_words(table, locations)
    try:
        plan = Plan.model_validate(table, context=(file.stem, table, locations))
    except ValidationError as error:
        raise _explain(error.errors(include_url=False), locations) from None
    _check_names(plan)
    _check_purifiers(plan)
    _check_attacks(plan)
    _check_cell_count(plan)
    for is_code, name, path in _code_references(plan):
        trust.check_trusted(is_code, name, locations.at(*path), trust_code)
    return plan


def set_max_memory(plan: Plan, max_memory: str | None) -> Plan:
    """The same plan, with this ``max_memory`` for the purifiers that have none.

    Raises:
        ValueError: it is no size, or there is no purifier.
    """
    if max_memory is None:
        return plan
    size = parse_bytes(max_memory)
    if not plan.purifiers:
        raise ValueError("--max-memory is of purifiers, and the plan has none; leave it out")
    table = {**plan.table, "max_memory": size}  # what the manifest shows
    purifiers = {
        name: {"max_memory": size, **options} for name, options in plan.table["purifiers"].items()
    }
    content = {**plan.table, "purifiers": purifiers}
    return Plan.model_validate(content, context=(plan.name, table, plan.locations))


def _refuse_old_words(table: Mapping[str, Any], locations: TomlLocations) -> None:
    """Refuse a plan of version 0.1."""
    places: list[tuple[tuple[str, ...], Mapping[str, Any]]] = [((), table)]
    for kind in ("datasets", "purifiers", "attacks"):
        members = table.get(kind)
        named = members.items() if isinstance(members, dict) else ()
        places += [((kind, name), one) for name, one in named if isinstance(one, dict)]
    for path, keys in places:
        for word in OLD_WORDS[path[0] if path else ""]:
            if word in keys:
                raise ValueError(
                    f"{locations.at(*path, word)}: a plan of version 0.1, which says {word}; write "
                    f"it in today's words: python benchmarks/migrate_0_2.py {locations.file}"
                )


def _explain(errors: list[ErrorDetails], locations: TomlLocations) -> ValueError:
    """The first of pydantic's errors, unknown keys before others, as a line about the file."""
    error = min(errors, key=lambda one: one["type"] != "extra_forbidden")
    path = tuple(part for part in error["loc"] if isinstance(part, str))
    key, kind = path[-1], error["type"]
    place, came = locations.at(*path), f"{path[-1]} is {short_repr(error['input'])}"
    if kind == "extra_forbidden":
        owner, model = ("a plan", Plan) if len(path) == 1 else ("a dataset", Benchmark)
        near = did_you_mean(key, [*model.model_fields])
        return UnknownNameError(f"{place}: {owner} has no {short_repr(key)}; {near}")
    if kind in ("missing", "too_short") and len(path) == 1:
        return ValueError(f"{locations.file}: it has no [{key}.NAME]; see docs/assess.md")
    if kind in ("missing", "too_short"):
        return ValueError(f"{place}: the dataset {short_repr(path[1])} lacks {key}")
    if kind == "model_type":
        header = f"write it below a header such as [{path[0]}.NAME]"
        return ValueError(f"{place}: {key} stands in [{path[0]}] itself; {header}")
    if kind == "value_error":
        return ValueError(f"{place}: {key} {error['ctx']['error']}")
    expected = EXPECTED.get(kind, "1 or more")
    return ValueError(f"{place}: {came}; expected {expected}")


def _check_names(plan: Plan) -> None:
    """Refuse words for members that the plan does not have."""
    classifiers = {word for one in plan.datasets.values() for word in one.classifiers}
    known = {
        "datasets": dict.fromkeys(plan.datasets),
        "purifiers": dict.fromkeys((NONE, *plan.purifiers)),
        **dict.fromkeys(("classifiers", "stochastic"), dict.fromkeys(sorted(classifiers))),
    }
    for kind in ("datasets", "purifiers", "attacks"):
        for member in getattr(plan, kind).values():
            for key, names in known.items():
                for word in getattr(member, key, None) or ():
                    if word not in names:
                        near = f"the plan has no {short_repr(word)} in its {key}"
                        raise UnknownNameError(
                            f"{plan.locations.at(kind, member.name, key)}: {near}; "
                            f"{did_you_mean(word, [*names])}"
                        )


def _check_purifiers(plan: Plan) -> None:
    for name, one in plan.purifiers.items():
        if name == NONE:
            place = plan.locations.at("purifiers", name)
            raise ValueError(f"{place}: 'none' is no purifier's name")
        backward = {**one.options, **one.attacker_options}.get("backward")
        if one.shared_draw and backward == "none":
            raise ValueError(
                f"{plan.locations.at('purifiers', name, 'shared_draw')}: shared_draw shares the "
                'attacker\'s draw with the judge, and an attacker of backward = "none" draws '
                "nothing; leave out one of the two"
            )


def _check_attacks(plan: Plan) -> None:
    for name, one in plan.attacks.items():
        for key, value in one.options.items():
            if value == []:
                place = plan.locations.at("attacks", name, key)
                raise ValueError(f"{place}: {key} is a list of no values")
        if one.component == "gap" and {*(one.purifiers or ())} - {NONE}:
            raise ValueError(
                f"{plan.locations.at('attacks', name, 'purifiers')}: gap purifies images that "
                "nobody attacked, which is no attack on a purifier; leave out purifiers"
            )


def _check_cell_count(plan: Plan) -> None:
    """Refuse a plan that crosses to more cells than anybody computes, before they are listed."""
    count = 0
    for attack in plan.attacks.values():
        sweep = [len(value) for value in attack.options.values() if isinstance(value, list)]
        classifiers = sum(len(one.classifiers) for one in plan.datasets.values())
        count += classifiers * (1 + len(plan.purifiers)) * math.prod(sweep) * len(plan.seeds)
    if count > MAX_CELLS:
        raise ValueError(
            f"{plan.locations.file}: it crosses to {truncate_text(f'{count:,}', 60)} cells; "
            f"expected {MAX_CELLS:,} at most: leave out classifiers, purifiers, or values"
        )


def _code_references(plan: Plan) -> Iterator[tuple[bool, str, tuple[str, ...]]]:
    """Every word that may name code, whether it does, and where it stands."""
    extractor = plan.feature_extractor
    yield trust.is_custom_features(extractor), extractor, ("feature_extractor",)
    for name, one in plan.datasets.items():
        for key in ("data", "classifiers", "reference_classifier"):
            rule = trust.is_custom_data if key == "data" else trust.is_custom_classifier
            for word in getattr(one, key):
                yield rule(word), word, ("datasets", name, key)
    for name, purifier in plan.purifiers.items():
        path = ("purifiers", name)
        yield trust.is_custom_component(purifier.component), purifier.component, (*path, "purifier")
        yield from _option_references(purifier.options, *path)
        yield from _option_references(purifier.attacker_options, *path, "attacker_options")
    for name, attack in plan.attacks.items():
        path = ("attacks", name)
        yield trust.is_custom_component(attack.component), attack.component, (*path, "attack")
        yield trust.is_custom_data(attack.ood_data), attack.ood_data, (*path, "ood_data")
        yield from _option_references(attack.options, *path)


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
