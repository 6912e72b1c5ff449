"""A plan: which data, classifiers, purifiers and attacks an assessment crosses.

Each model below is a TOML table; docs/assess.md has an example.
"""

import math
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import product
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
from scoreag.diffusion.prior_guidance import WEAKER
from scoreag.io.bounded import MAX_TEXT_BYTES, TomlLocations, key_lines, parse_toml, read_text
from scoreag.models import trust
from scoreag.registry import UnknownNameError, did_you_mean, short_repr, truncate_text

PLAN_DIR = Path(__file__).parent / "plans"
MAX_CELLS = 20_000  # of a plan
MAX_LIST_ENTRIES = 1000
NONE = "none"  # in place of a purifier: the classifier itself
MEMBER_KINDS = ("datasets", "purifiers", "attacks")
OLD_WORDS = {  # keys of version 0.1: of the plan itself, and of its members by kind
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
    """``"8/255"`` as a number, as TOML has no fractions; other values unchanged."""
    above, slash, below = value.partition("/") if isinstance(value, str) else ("", "", "")
    try:
        return float(above) / float(below) if slash else value
    except (ValueError, ZeroDivisionError):
        return value


def parse_fractions(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options with their fractions as numbers."""
    return {name: parse_fraction(value) for name, value in options.items()}


Words = Annotated[tuple[str, ...], BeforeValidator(_as_tuple)]  # one word or a list of words
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

    data: Annotated[Words, Field(min_length=1)]  # of several, the first that needs no download
    classifiers: Annotated[Words, Field(min_length=1)]
    prior: str = ""
    reference_classifier: Words = ()
    semantic: str = ""  # a measure of what people would see, of scoreag train semantic
    stochastic: Words = ()  # classifiers that are random on purpose
    missing_hint: str = ""  # what to do where a member is missing


class PurifierSpec(Table):
    """A purifier with its options, and those of the attacker's copy where they differ."""

    model_config = ConfigDict(extra="allow")
    purifier: str = ""  # the component; by default the name
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
    attack: str = ""  # the component; by default the name
    images: Count | None = None
    eval_draws: Count | None = None
    requires_lpips: bool = False  # skipped without the weights of LPIPS
    classifiers: Words = ()
    purifiers: Words | None = None  # None: all, and the classifier itself
    datasets: Words = ()
    ood_data: str = ""

    @property
    def component(self) -> str:
        return self.attack or self.name

    @property
    def options(self) -> dict[str, Any]:
        return self.model_extra or {}

    @property
    def variants(self) -> Iterator[dict[str, Any]]:
        """All combinations of the options' values, as the plan writes them."""
        lists = [value if isinstance(value, list) else [value] for value in self.options.values()]
        return (dict(zip(self.options, values, strict=True)) for values in product(*lists))


class Plan(Table):
    """The content of a plan's file, with the line of each key."""

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
        """The content as the manifest of an assessment records it."""
        return self._table

    @property
    def members(self) -> Iterator[tuple[str, Any]]:
        """Each dataset, purifier and attack, with its kind before it."""
        return ((kind, one) for kind in MEMBER_KINDS for one in getattr(self, kind).values())

    def error(self, message: object, *path: str, kind: type[ValueError] = ValueError) -> ValueError:
        """An error about the key at ``path``, with the plan's file and line."""
        return kind(f"{self._locations.at(*path) if path else self._locations.file}: {message}")

    @contextmanager
    def locate_errors(self, *path: str, suffix: str = "") -> Iterator[None]:
        """Report errors inside the block with the line of ``path``."""
        try:
            yield
        except (ValueError, TypeError, ImportError, ConnectionError) as error:
            kind = UnknownNameError if isinstance(error, UnknownNameError) else ValueError
            raise self.error(f"{error}{suffix}", *path, kind=kind) from error

    def model_post_init(self, context: Any, /) -> None:
        self._name, self._table, self._locations = context
        for kind in MEMBER_KINDS:
            for name, member in getattr(self, kind).items():
                member._name = name


def list_plans() -> dict[str, str]:
    """The bundled plans by name, each with its description."""
    files = sorted(PLAN_DIR.glob("*.toml"))
    return {file.stem: tomllib.loads(file.read_text("utf-8"))["description"] for file in files}


def load_plan(source: str | Path, trust_code: bool = False) -> Plan:
    """The plan in a file, or the bundled plan of that name.

    Args:
        trust_code: allow words such as ``package.module:function`` to run code.

    Raises:
        ValueError: there is no such plan, a value in it is invalid, or it names code that is not
            trusted; the message has the line.
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
    return build_plan(file.stem, table, locations, trust_code)


def build_plan(
    name: str, table: Mapping[str, Any], locations: TomlLocations, trust_code: bool = False
) -> Plan:
    """The plan of a table, as a TOML file would have it; as ``load_plan``.

    Args:
        locations: where messages say that a key stands.
    """
    try:
        plan = Plan.model_validate(table, context=(name, table, locations))
    except ValidationError as error:
        raise _explain(error.errors(include_url=False), locations) from None
    _check_names(plan)
    _check_members(plan)
    _check_cell_count(plan)
    for is_code, name, path in _code_references(plan):
        trust.check_trusted(is_code, name, locations.at(*path), trust_code)
    return plan


def set_max_memory(plan: Plan, max_memory: str | None) -> Plan:
    """The plan with this ``max_memory`` for the purifiers that have none.

    Raises:
        ValueError: it is no size, or the plan has no purifier.
    """
    if max_memory is None:
        return plan
    size = parse_bytes(max_memory)
    if not plan.purifiers:
        raise ValueError("--max-memory is of purifiers, and the plan has none; leave it out")
    table = {**plan.table, "max_memory": size}
    purifiers = {
        name: {"max_memory": size, **options} for name, options in plan.table["purifiers"].items()
    }
    content = {**plan.table, "purifiers": purifiers}
    return Plan.model_validate(content, context=(plan.name, table, plan._locations))


def _refuse_old_words(table: Mapping[str, Any], locations: TomlLocations) -> None:
    places: list[tuple[tuple[str, ...], Any]] = [((), table)]
    for kind in MEMBER_KINDS:
        members = table.get(kind)
        places += [((kind, n), m) for n, m in members.items()] if isinstance(members, dict) else []
    for path, keys in places:
        for word in OLD_WORDS[path[0] if path else ""]:
            if isinstance(keys, dict) and word in keys:
                raise ValueError(
                    f"{locations.at(*path, word)}: a plan of version 0.1, which says {word}; write "
                    f"it in today's words: python benchmarks/migrate_0_2.py {locations.file}"
                )


def _explain(errors: list[ErrorDetails], locations: TomlLocations) -> ValueError:
    """The first of pydantic's errors, unknown keys before others, with its place in the file."""
    error = min(errors, key=lambda one: one["type"] != "extra_forbidden")
    path = tuple(part for part in error["loc"] if isinstance(part, str))
    key, kind, place = path[-1], error["type"], locations.at(*path)
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
    return ValueError(f"{place}: {key} is {short_repr(error['input'])}; expected {expected}")


def _check_names(plan: Plan) -> None:
    """Refuse names of members that the plan does not have."""
    classifiers = sorted({word for one in plan.datasets.values() for word in one.classifiers})
    known = {
        "datasets": dict.fromkeys(plan.datasets),
        "purifiers": dict.fromkeys((NONE, *plan.purifiers)),
        **dict.fromkeys(("classifiers", "stochastic"), dict.fromkeys(classifiers)),
    }
    for (kind, member), (key, names) in product(plan.members, known.items()):
        for word in getattr(member, key, None) or ():
            if word not in names:
                text = f"the plan has no {short_repr(word)} in its {key}"
                text += f"; {did_you_mean(word, [*names])}"
                raise plan.error(text, kind, member.name, key, kind=UnknownNameError)


def _check_members(plan: Plan) -> None:
    for name, one in plan.purifiers.items():
        if name == NONE:
            raise plan.error("'none' is no purifier's name", "purifiers", name)
        if one.shared_draw and {**one.options, **one.attacker_options}.get("backward") == "none":
            text = (
                "shared_draw shares the attacker's draw with the judge, and an attacker of "
                'backward = "none" draws nothing; leave out one of the two'
            )
            raise plan.error(text, "purifiers", name, "shared_draw")
    for name, attack in plan.attacks.items():
        for key, value in attack.options.items():
            if value == []:
                raise plan.error(f"{key} is a list of no values", "attacks", name, key)
        if attack.component == "gap" and {*(attack.purifiers or ())} - {NONE}:
            text = (
                "gap purifies images that nobody attacked, which is no attack on a purifier; "
                "leave out purifiers"
            )
            raise plan.error(text, "attacks", name, "purifiers")


def _check_cell_count(plan: Plan) -> None:
    """Refuse a plan of too many cells, before they are listed."""
    classifiers = sum(len(one.classifiers) for one in plan.datasets.values())
    sweeps = sum(
        math.prod(len(value) for value in one.options.values() if isinstance(value, list))
        for one in plan.attacks.values()
    )
    count = classifiers * (1 + len(plan.purifiers)) * sweeps * len(plan.seeds)
    if count > MAX_CELLS:
        raise plan.error(
            f"it crosses to {truncate_text(f'{count:,}', 60)} cells; expected {MAX_CELLS:,} at "
            "most: leave out classifiers, purifiers, or values"
        )


def _code_references(plan: Plan) -> Iterator[tuple[bool, str, tuple[str, ...]]]:
    """Every word that may name code, whether it does, and its path in the plan."""
    extractor = plan.feature_extractor
    yield trust.is_custom_features(extractor), extractor, ("feature_extractor",)
    for name, one in plan.datasets.items():
        for key in ("data", "classifiers", "reference_classifier", "semantic"):
            rule = trust.is_custom_data if key == "data" else trust.is_custom_classifier
            words = getattr(one, key)
            for word in words if isinstance(words, tuple) else filter(None, [words]):
                yield rule(word), word, ("datasets", name, key)
    for kind, member in plan.members:
        if kind != "datasets":
            path, component = (kind, member.name), member.component
            yield trust.is_custom_component(component), component, (*path, kind.removesuffix("s"))
            yield from _option_references(member.options, *path)
        if kind == "purifiers":
            yield from _option_references(member.attacker_options, *path, "attacker_options")
        if kind == "attacks":
            yield trust.is_custom_data(member.ood_data), member.ood_data, (*path, "ood_data")


def _option_references(value: Any, *path: str) -> Iterator[tuple[bool, str, tuple[str, ...]]]:
    """Options whose value names a module, at any depth."""
    if path[-1] == "guide" and str(value).startswith(WEAKER):
        return  # a score model, whose card is checked when it is read
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _option_references(inner, *path, name)
    elif isinstance(value, list):
        for inner in value:
            yield from _option_references(inner, *path)
    elif isinstance(value, str):
        dotted = path[-1] == "sampler" or value.replace(".", "_").replace(":", "_").isidentifier()
        yield dotted and trust.is_custom_component(value), value, path
