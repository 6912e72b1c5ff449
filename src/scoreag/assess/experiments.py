"""A cell: everything that determines its rows, and the key that is a hash of it."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

from scoreag.assess.plan import NONE, AttackSpec, Benchmark, Plan, PurifierSpec, parse_values
from scoreag.methods.task import batch_ranges

CLEAN = (
    "clean"  # the cell of a dataset whose images nothing is done to; features are held against it
)
TASKS = {"gas": "synthesize", "gat": "transform", "gap": "purify"}  # attacks that jobs computes


@dataclass(frozen=True)
class Cell:
    """One setting of an assessment; plain values only, so that it can be sent to a worker.

    Args:
        name: DATASET/CLASSIFIER/PURIFIER/ATTACK, with the values of a sweep, as a person writes it.
        data: the word for the images; ``is_ood``: they are of another data set.
        transfer_targets: the dataset's other classifiers, which are asked about the images, too.
        options: of the attack; a task's are resolved with the card's defaults.
        purifier: the component, "" for none; ``attacker_options``: of the attacker's copy;
            ``shared_draw``: one draw of it for the attacker and the judge.
        content: digests of the data, of all weights and of the components' sources.
        classes: the names of the labels, for people; no part of the key.
        stochastic: those of the classifiers that are meant to answer otherwise each time.
        sweep: those options that the plan gives several values, as they are written.
    """

    name: str
    group: str
    data: str
    classifier: str
    attack: str
    component: str
    images: int
    prior: str = ""
    reference_classifiers: tuple[str, ...] = ()
    transfer_targets: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    sweep: Mapping[str, str] = field(default_factory=dict)
    purifier_name: str = NONE
    purifier: str = ""
    purifier_options: Mapping[str, Any] = field(default_factory=dict)
    attacker_options: Mapping[str, Any] = field(default_factory=dict)
    shared_draw: bool = False
    is_ood: bool = False
    stochastic: tuple[str, ...] = ()
    eval_draws: int = 1
    seed: int = 0
    batch_size: int = 16
    feature_extractor: str = NONE
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
            "attacker_options": dict(self.attacker_options), "is_ood": self.is_ood,
            "eval_draws": self.eval_draws, "seed": self.seed, "images": self.images,
            "batch_size": self.batch_size, "feature_extractor": self.feature_extractor,
            "content": dict(self.content),
        }  # fmt: skip
        if self.shared_draw:
            named["shared_draw"] = True
        text = json.dumps(named, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def defense(self) -> str:
        """DATASET/CLASSIFIER/PURIFIER, the beginning of the name."""
        variant = ",".join([self.attack, *(f"{n}={word}" for n, word in self.sweep.items())])
        return self.name.removesuffix(variant).rstrip("/")

    @property
    def task(self) -> str:
        """synthesize, transform or purify, where it is one of these; "clean" or "attack" else."""
        return TASKS.get(self.component, CLEAN if self.component == CLEAN else "attack")

    @property
    def batches(self) -> list[range]:
        """Positions of the images that the networks see together, cut by position alone."""
        return list(batch_ranges(self.images, self.batch_size))

    def to_dict(self) -> dict[str, Any]:
        """For cell.json: plain values, with the key."""
        return {"key": self.key, **{name: _to_plain(value) for name, value in vars(self).items()}}


def cell_from_dict(table: Mapping[str, Any]) -> Cell:
    """The cell of a cell.json."""
    kept = {name: value for name, value in table.items() if name != "key"}
    listed: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in kept.items()}
    return Cell(**listed)


def _to_plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _to_plain(one) for name, one in value.items()}
    return list(value) if isinstance(value, tuple) else value


def build_cells(plan: Plan) -> Iterator[Cell]:
    """The cells that a plan crosses, as it says it: not yet checked, without content.

    For each dataset the first is that of its images as they are.
    """
    for one in plan.datasets:
        yield _base_cell(plan, one, one.classifiers[0], f"{one.name}/{CLEAN}", CLEAN, CLEAN)
        for attack in plan.attacks:
            if one.name in (attack.datasets or [one.name]):
                yield from _cross_attack(plan, one, attack)


def _cross_attack(plan: Plan, benchmark: Benchmark, attack: AttackSpec) -> Iterator[Cell]:
    for victim in benchmark.classifiers:
        if victim not in (attack.classifiers or [victim]):
            continue
        for purifier in _matching_purifiers(plan, benchmark, victim, attack):
            for variant, seed in product(_sweep_variants(attack), plan.seeds):
                yield _build_cell(plan, benchmark, victim, purifier, attack, variant, seed)


def _matching_purifiers(
    plan: Plan, benchmark: Benchmark, classifier: str, attack: AttackSpec
) -> list[PurifierSpec | None]:
    """None, and those that are put to this classifier, where the attack takes them."""
    put = [
        p for p in plan.purifiers
        if benchmark.name in (p.datasets or [benchmark.name]) and classifier in (p.classifiers or [classifier])
    ]  # fmt: skip
    wanted = attack.purifiers or (NONE, *(p.name for p in put))
    if attack.attack == "gap":  # a purification is no attack on one
        wanted = (NONE,)
    found: list[PurifierSpec | None] = [None] if NONE in wanted else []
    return [*found, *(p for p in put if p.name in wanted)]


def _sweep_variants(attack: AttackSpec) -> Iterator[dict[str, tuple[str, Any]]]:
    """All combinations of the options' values."""
    every = [
        [(name, *one) for one in parse_values(given)] for name, given in attack.options.items()
    ]
    for chosen in product(*every):
        yield {name: (word, value) for name, word, value in chosen}


def _build_cell(
    plan: Plan, benchmark: Benchmark, classifier: str, purifier: PurifierSpec | None, attack: AttackSpec,
    variant: Mapping[str, tuple[str, Any]], seed: int,
) -> Cell:  # fmt: skip
    swept = {n: word for n, (word, _) in variant.items() if isinstance(attack.options[n], list)}
    if len(plan.seeds) > 1:
        swept["seed"] = str(seed)
    parts = [attack.name, *(f"{name}={word}" for name, word in swept.items())]
    put = purifier.name if purifier else NONE
    name = f"{benchmark.name}/{shorten_name(classifier, benchmark.classifiers)}/{put}/{','.join(parts)}"
    made = _base_cell(plan, benchmark, classifier, name, attack.name, attack.attack)
    guarded: dict[str, Any] = {}
    if purifier:
        options = dict(purifier.options)
        guarded = {
            "purifier_name": purifier.name, "purifier": purifier.purifier,
            "purifier_options": {n: v for n, v in options.items() if n != "max_memory"},
            "attacker_options": {**options, **purifier.attacker_options},
            "shared_draw": purifier.shared_draw,
        }  # fmt: skip
    drawn = classifier in benchmark.stochastic or (
        purifier is not None and not purifier.shared_draw
    )
    return replace(
        made,
        data=attack.ood_data or made.data,
        is_ood=bool(attack.ood_data),
        images=attack.images or plan.images,
        options={name: value for name, (_, value) in variant.items()},
        sweep=swept,
        seed=seed,
        eval_draws=(attack.eval_draws or plan.eval_draws) if drawn else 1,
        **guarded,
    )


def _base_cell(
    plan: Plan, benchmark: Benchmark, classifier: str, name: str, attack: str, component: str
) -> Cell:
    return Cell(
        name=name,
        group=benchmark.name,
        data=benchmark.data[0],
        classifier=classifier,
        attack=attack,
        component=component,
        images=plan.images,
        prior=benchmark.prior,
        reference_classifiers=benchmark.reference_classifier,
        transfer_targets=tuple(other for other in benchmark.classifiers if other != classifier),
        stochastic=benchmark.stochastic,
        batch_size=plan.batch_size,
        feature_extractor=plan.feature_extractor,
    )


def shorten_name(word: str, among: Sequence[str]) -> str:
    """The last part of a path, or of each of several, where that is still a name of its own."""

    def last(name: str) -> str:
        return ",".join(part.rstrip("/").rpartition("/")[2] for part in name.split(","))

    return last(word) if [last(other) for other in among].count(last(word)) == 1 else word
