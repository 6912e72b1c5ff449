"""A cell: everything that determines its rows, and the key that is a hash of it."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

from scoreag.assess.plan import NONE, Attack, Plan, Purifier, Set
from scoreag.assess.plan_values import values
from scoreag.jobs import pieces

CLEAN = "clean"  # the cell of a set whose images nothing is done to; features are held against it
TASKS = {"gas": "synthesize", "gat": "transform", "gap": "purify"}  # attacks that jobs computes


@dataclass(frozen=True)
class Cell:
    """One setting of an assessment; plain values only, so that it can be sent to a worker.

    Args:
        name: SET/VICTIM/PURIFIER/ATTACK, with the values of a sweep, as a person writes it.
        data: the word for the images; ``strangers``: they are of another data set.
        others: the set's other victims, who are asked about the images, too.
        options: of the attack; a task's are resolved with the card's defaults.
        purifier: the component, "" for none; ``attacked`` are the options of the attacker's copy;
            ``fixed``: one draw of it for the attacker and the judge.
        content: digests of the data, of all weights and of the components' sources.
        classes: the names of the labels, for people; no part of the key.
        random: those of the victims that are meant to answer otherwise each time.
        swept: those options that the plan gives several values, as they are written.
    """

    name: str
    group: str
    data: str
    victim: str
    attack: str
    component: str
    images: int
    prior: str = ""
    judges: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    swept: Mapping[str, str] = field(default_factory=dict)
    purification: str = NONE
    purifier: str = ""
    purifier_options: Mapping[str, Any] = field(default_factory=dict)
    attacked: Mapping[str, Any] = field(default_factory=dict)
    fixed: bool = False
    strangers: bool = False
    random: tuple[str, ...] = ()
    answers: int = 1
    seed: int = 0
    micro_batch: int = 16
    features: str = NONE
    lpips: str = ""
    classes: tuple[str, ...] = ()
    content: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The first 16 digits of the sha256 of all that determines the rows.

        Words for data and models are left out: what they mean is in ``content``.
        """
        named = {
            "component": self.component, "options": dict(self.options),
            "purifier": self.purifier, "purifier_options": dict(self.purifier_options),
            "attacked": dict(self.attacked), "strangers": self.strangers,
            "answers": self.answers, "seed": self.seed, "images": self.images,
            "micro_batch": self.micro_batch, "features": self.features,
            "content": dict(self.content),
        }  # fmt: skip
        if self.fixed:
            named["fixed"] = True
        text = json.dumps(named, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def defence(self) -> str:
        """SET/VICTIM/PURIFIER, the beginning of the name."""
        variant = ",".join([self.attack, *(f"{n}={word}" for n, word in self.swept.items())])
        return self.name.removesuffix(variant).rstrip("/")

    @property
    def task(self) -> str:
        """synthesize, transform or purify, where it is one of these; "clean" or "attack" else."""
        return TASKS.get(self.component, CLEAN if self.component == CLEAN else "attack")

    @property
    def pieces(self) -> list[range]:
        """Positions of the images that the networks see together, cut by position alone."""
        return list(pieces(self.images, self.micro_batch))

    def to_dict(self) -> dict[str, Any]:
        """For cell.json: plain values, with the key."""
        return {"key": self.key, **{name: _plain(value) for name, value in vars(self).items()}}


def from_dict(table: Mapping[str, Any]) -> Cell:
    """The cell of a cell.json."""
    kept = {name: value for name, value in table.items() if name != "key"}
    listed: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in kept.items()}
    return Cell(**listed)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    return list(value) if isinstance(value, tuple) else value


def cells(plan: Plan) -> Iterator[Cell]:
    """The cells that a plan crosses, as it says it: not yet checked, without content.

    For each set the first is that of its images as they are.
    """
    for one in plan.sets:
        yield _base(plan, one, one.victims[0], f"{one.name}/{CLEAN}", CLEAN, CLEAN)
        for attack in plan.attacks:
            if one.name in (attack.sets or [one.name]):
                yield from _crossed(plan, one, attack)


def _crossed(plan: Plan, one: Set, attack: Attack) -> Iterator[Cell]:
    for victim in one.victims:
        if victim not in (attack.victims or [victim]):
            continue
        for purifier in _purifiers(plan, one, victim, attack):
            for variant, seed in product(_variants(attack), plan.seeds):
                yield _cell(plan, one, victim, purifier, attack, variant, seed)


def _purifiers(plan: Plan, one: Set, victim: str, attack: Attack) -> list[Purifier | None]:
    """None, and those that are put to this victim, where the attack takes them."""
    put = [
        p for p in plan.purifiers
        if one.name in (p.sets or [one.name]) and victim in (p.victims or [victim])
    ]  # fmt: skip
    wanted = attack.purifiers or [NONE, *(p.name for p in put)]
    if attack.attack == "gap":  # a purification is no attack on one
        wanted = [NONE]
    found: list[Purifier | None] = [None] if NONE in wanted else []
    return [*found, *(p for p in put if p.name in wanted)]


def _variants(attack: Attack) -> Iterator[dict[str, tuple[str, Any]]]:
    """All combinations of the options' values."""
    every = [[(name, *one) for one in values(given)] for name, given in attack.options.items()]
    for chosen in product(*every):
        yield {name: (word, value) for name, word, value in chosen}


def _cell(
    plan: Plan, one: Set, victim: str, purifier: Purifier | None, attack: Attack,
    variant: Mapping[str, tuple[str, Any]], seed: int,
) -> Cell:  # fmt: skip
    swept = {n: word for n, (word, _) in variant.items() if isinstance(attack.options[n], list)}
    if len(plan.seeds) > 1:
        swept["seed"] = str(seed)
    parts = [attack.name, *(f"{name}={word}" for name, word in swept.items())]
    put = purifier.name if purifier else NONE
    name = f"{one.name}/{short(victim, one.victims)}/{put}/{','.join(parts)}"
    made = _base(plan, one, victim, name, attack.name, attack.attack)
    guarded: dict[str, Any] = {}
    if purifier:
        options = dict(purifier.options)
        guarded = {
            "purification": purifier.name, "purifier": purifier.purifier,
            "purifier_options": {n: v for n, v in options.items() if n != "max_memory"},
            "attacked": {**options, **purifier.attacked},
            "fixed": purifier.fixed,
        }  # fmt: skip
    drawn = victim in one.random or (purifier is not None and not purifier.fixed)
    return replace(
        made,
        data=attack.strangers or made.data,
        strangers=bool(attack.strangers),
        images=attack.images or plan.images,
        options={name: value for name, (_, value) in variant.items()},
        swept=swept,
        seed=seed,
        answers=(attack.answers or plan.answers) if drawn else 1,
        **guarded,
    )


def _base(plan: Plan, one: Set, victim: str, name: str, attack: str, component: str) -> Cell:
    return Cell(
        name=name,
        group=one.name,
        data=one.data[0],
        victim=victim,
        attack=attack,
        component=component,
        images=plan.images,
        prior=one.prior,
        judges=one.judge,
        others=tuple(other for other in one.victims if other != victim),
        random=one.random,
        micro_batch=plan.micro_batch,
        features=plan.features,
    )


def short(word: str, among: Sequence[str]) -> str:
    """The last part of a path, or of each of several, where that is still a name of its own."""

    def last(name: str) -> str:
        return ",".join(part.rstrip("/").rpartition("/")[2] for part in name.split(","))

    return last(word) if [last(other) for other in among].count(last(word)) == 1 else word
