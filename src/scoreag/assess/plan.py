"""A plan: which data, classifiers, purifiers and attacks an assessment crosses.

about = "one line, which ``scoreag list plans`` shows"
images = 256                    # of a cell, at most; an attack may have fewer
seeds = [0]
answers = 10                    # fresh draws by which a randomised classifier is judged
micro_batch = 16                # images that the networks see at once
features = "judge"              # for Frechet and kernel distances; "none": without

[sets.cifar10]
data = "cifar10:test"           # or several words, of which the first that is at hand counts
prior = "cifar10"               # the score model
judge = "cifar10-judge"         # one or several; they guide nothing
victims = ["cifar10-resnet20"]  # each is attacked, and asked about the others' images
random = []                     # those of the victims that are meant to be random
bring = "..."                   # what to bring where something is missing

[purifiers.gap]                 # a name; ``purifier`` is the component, by default the name
draws = 1                       # its options
attacked = { steps = 2 }        # where the attacker's copy differs from the one judged
fixed = true                    # one draw for attacker and judge, again and again; by default fresh
victims = ["cifar10-resnet20"]  # to which of them it is put; by default to all

[attacks.pgd]                   # a name; ``attack`` is the component, by default the name
epsilon = ["2/255", "8/255"]    # its options; a list of values is a sweep
images = 64
answers = 128                   # where it shall be judged by more draws, or fewer
with_lpips = true               # left out where no weights of LPIPS are given
purifiers = ["none", "gap"]     # by default all, and none
victims = [...]                 # by default all
sets = [...]                    # by default all
strangers = "cifar100:test"     # its images are of another data set than the set's
"""

import math
import tomllib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from scoreag import trust
from scoreag.assess.places import Where, lines
from scoreag.assess.plan_values import fraction, words
from scoreag.bounded import TEXT, parsed_toml, read_text
from scoreag.load import UnknownName, cut, hint, shown

PLANS = Path(__file__).parent / "plans"
CELLS = 20_000  # of a plan
NONE = "none"  # in place of a purifier: the classifier itself


@dataclass(frozen=True)
class Set:
    """Data with its classifiers, score model and judges; see the top of this file."""

    name: str
    data: tuple[str, ...]
    victims: tuple[str, ...]
    prior: str = ""
    judge: tuple[str, ...] = ()
    random: tuple[str, ...] = ()
    bring: str = ""


@dataclass(frozen=True)
class Purifier:
    """A defence, its options, and those of the attacker's copy where they differ."""

    name: str
    purifier: str
    options: Mapping[str, Any]
    attacked: Mapping[str, Any]
    fixed: bool = False
    victims: tuple[str, ...] = ()
    sets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Attack:
    """An attack with its options, of which a list of values is a sweep."""

    name: str
    attack: str
    options: Mapping[str, Any]
    images: int | None = None
    answers: int | None = None
    with_lpips: bool = False
    victims: tuple[str, ...] = ()
    purifiers: tuple[str, ...] = ()
    sets: tuple[str, ...] = ()
    strangers: str = ""


@dataclass(frozen=True)
class Plan:
    """All that a plan's file says, and where it says so."""

    name: str
    about: str
    sets: tuple[Set, ...]
    purifiers: tuple[Purifier, ...]
    attacks: tuple[Attack, ...]
    images: int
    seeds: tuple[int, ...]
    answers: int
    micro_batch: int
    features: str
    text: Mapping[str, Any]
    where: Where


TOP = {
    "about": str, "images": int, "seeds": list, "answers": int, "micro_batch": int,
    "features": str, "sets": dict, "purifiers": dict, "attacks": dict,
}  # fmt: skip
WORDS: tuple[type, ...] = (str, list)
OF_SET: dict[str, tuple[type, ...]] = {
    f.name: WORDS for f in fields(Set) if f.name not in ("name", "prior", "bring")
}
OF_SET |= {"prior": (str,), "bring": (str,)}
OF_PURIFIER: dict[str, tuple[type, ...]] = {
    "purifier": (str,),
    "attacked": (dict,),
    "fixed": (bool,),
    "victims": WORDS,
    "sets": WORDS,
}
OF_ATTACK: dict[str, tuple[type, ...]] = {"attack": (str,), "images": (int,), "strangers": (str,)}
OF_ATTACK |= {"answers": (int,), "with_lpips": (bool,)}
OF_ATTACK |= {name: WORDS for name in ("victims", "purifiers", "sets")}

Member = TypeVar("Member", Set, Purifier, Attack)


def plans() -> dict[str, str]:
    """The plans that come with the package, each with its line."""
    files = sorted(PLANS.glob("*.toml"))
    return {file.stem: tomllib.loads(file.read_text("utf-8"))["about"] for file in files}


def read(word: str | Path, trust_code: bool = False) -> Plan:
    """The plan of a file, or the one of that name that comes with the package.

    Args:
        trust_code: whether words such as ``package.module:function`` in it may be run.

    Raises:
        ValueError: there is none, or something in it cannot be meant; with the line.  Or it names
            code, and that is not trusted.
    """
    file = PLANS / f"{word}.toml" if str(word) in plans() else Path(word)
    if not file.is_file():
        raise UnknownName(f"no plan {str(word)!r} and no such file; {hint(str(word), [*plans()])}")
    try:
        table = parsed_toml(text := read_text(file, TEXT))
    except ValueError as error:
        told = cut(str(error).removeprefix(f"{file} "), 200)
        raise ValueError(f"{file}: {told}") from error
    plan = _plan(file.stem, table, Where(str(file), lines(text)))
    for code, named, path in _codes(plan):
        trust.check(code, named, plan.where.at(*path), trust_code)
    return plan


def _codes(plan: Plan) -> Iterator[tuple[bool, str, tuple[str, ...]]]:
    """Every word that may name code, whether it does, and where it stands."""
    yield trust.features(plan.features), plan.features, ("features",)
    for one in plan.sets:
        for key in ("data", "victims", "judge"):
            rule = trust.data if key == "data" else trust.classifier
            for word in getattr(one, key):
                yield rule(word), word, ("sets", one.name, key)
    for put in plan.purifiers:
        here = ("purifiers", put.name)
        yield trust.component(put.purifier), put.purifier, (*here, "purifier")
        yield from _of_options(put.options, *here)
        yield from _of_options(put.attacked, *here, "attacked")
    for attack in plan.attacks:
        here = ("attacks", attack.name)
        yield trust.component(attack.attack), attack.attack, (*here, "attack")
        yield trust.data(attack.strangers), attack.strangers, (*here, "strangers")
        yield from _of_options(attack.options, *here)


def _of_options(value: Any, *path: str) -> Iterator[tuple[bool, str, tuple[str, ...]]]:
    """Options whose value is the name of a module, at any depth."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _of_options(inner, *path, name)
    elif isinstance(value, list):
        for inner in value:
            yield from _of_options(inner, *path)
    elif isinstance(value, str):
        dotted = path[-1] == "sampler" or value.replace(".", "_").replace(":", "_").isidentifier()
        yield dotted and trust.component(value), value, path


def _plan(name: str, table: Mapping[str, Any], where: Where) -> Plan:
    where.check_keys(table, TOP, "a plan")
    for member in ("sets", "attacks"):
        if not table.get(member):
            raise ValueError(f"{where.file}: it has no [{member}.NAME]; see docs/assess.md")
    seeds = tuple(table.get("seeds", [0]))
    if not seeds or not all(type(seed) is int and seed >= 0 for seed in seeds):
        raise ValueError(f"{where.at('seeds')}: seeds are {shown(seeds)}; expected [0], or [0, 1]")
    for key in ("images", "answers", "micro_batch"):
        where.check_count(table, key)
    plan = Plan(
        name=name,
        about=table.get("about", ""),
        sets=tuple(_set(where, *item) for item in where.tables(table, "sets")),
        purifiers=tuple(_purifier(where, *item) for item in where.tables(table, "purifiers")),
        attacks=tuple(_attack(where, *item) for item in where.tables(table, "attacks")),
        images=table.get("images", 100),
        seeds=seeds,
        answers=table.get("answers", 10),
        micro_batch=table.get("micro_batch", 16),
        features=table.get("features", "judge"),
        text=table,
        where=where,
    )
    _check_names(plan)
    _check_count(plan)
    return plan


def _check_count(plan: Plan) -> None:
    """Refuse a plan that crosses to more cells than anybody computes, before they are listed."""
    every = 0
    for attack in plan.attacks:
        swept = [len(value) for value in attack.options.values() if isinstance(value, list)]
        variants = math.prod(swept) * len(plan.seeds)
        victims = sum(len(one.victims) for one in plan.sets)
        every += victims * (1 + len(plan.purifiers)) * variants
    if every > CELLS:
        raise ValueError(
            f"{plan.where.file}: it crosses to {cut(f'{every:,}', 60)} cells; expected {CELLS:,} "
            "at most: leave out victims, purifiers, or values"
        )


def _check_names(plan: Plan) -> None:
    """Refuse words for members that the plan does not have."""
    victims = {word for one in plan.sets for word in one.victims}
    known: dict[str, Collection[str]] = {
        "sets": [one.name for one in plan.sets],
        "purifiers": [NONE, *(one.name for one in plan.purifiers)],
        "victims": dict.fromkeys(sorted(victims)),
        "random": dict.fromkeys(sorted(victims)),
    }
    for table in ("sets", "purifiers", "attacks"):
        for member in getattr(plan, table):
            for key in known:
                if table == "sets" and key == "victims":
                    continue
                for word in getattr(member, key, ()):
                    _check_known(plan.where, (table, member.name, key), word, known[key])


def _check_known(where: Where, path: tuple[str, ...], word: str, known: Collection[str]) -> None:
    if word not in known:
        told = f"the plan has no {shown(word)} in its {path[2]}; {hint(word, [*known])}"
        raise UnknownName(f"{where.at(*path)}: {told}")


def _set(where: Where, name: str, table: Mapping[str, Any]) -> Set:
    where.check_keys(table, OF_SET, "a set", "sets", name)
    for key in ("data", "victims"):
        if not table.get(key):
            raise ValueError(f"{where.at('sets', name)}: the set {name!r} lacks {key}")
    listed: dict[str, Any]
    listed = {k: words(v) if OF_SET[k] is WORDS else v for k, v in table.items()}
    return Set(name=name, **listed)


def _purifier(where: Where, name: str, table: Mapping[str, Any]) -> Purifier:
    if name == NONE:
        raise ValueError(f"{where.at('purifiers', name)}: 'none' is no purifier's name")
    where.check_types(table, OF_PURIFIER, "purifiers", name)
    options = {k: fraction(v) for k, v in table.items() if k not in OF_PURIFIER}
    others = {k: words(table.get(k, ())) for k in ("victims", "sets")}
    attacked = {k: fraction(v) for k, v in table.get("attacked", {}).items()}
    fixed = table.get("fixed", False)
    if fixed and {**options, **attacked}.get("backward") == "blind":
        raise ValueError(
            f"{where.at('purifiers', name, 'fixed')}: fixed shares the attacker's draw with the "
            "judge, and a blind attacker draws nothing; leave out one of the two"
        )
    return Purifier(name, table.get("purifier", name), options, attacked, fixed, **others)


def _attack(where: Where, name: str, table: Mapping[str, Any]) -> Attack:
    where.check_types(table, OF_ATTACK, "attacks", name)
    for key in ("images", "answers"):
        where.check_count(table, key, "attacks", name)
    options = {k: v for k, v in table.items() if k not in OF_ATTACK}
    for key, value in options.items():
        if value == []:
            raise ValueError(f"{where.at('attacks', name, key)}: {key} is a list of no values")
    others = {k: words(table.get(k, ())) for k in ("victims", "purifiers", "sets")}
    if table.get("attack", name) == "gap" and others["purifiers"] not in ((), (NONE,)):
        raise ValueError(
            f"{where.at('attacks', name, 'purifiers')}: gap purifies images that nobody attacked, "
            "which is no attack on a purifier; leave out purifiers"
        )
    return Attack(
        name, table.get("attack", name), options, table.get("images"), table.get("answers"),
        table.get("with_lpips", False), strangers=table.get("strangers", ""), **others,
    )  # fmt: skip
