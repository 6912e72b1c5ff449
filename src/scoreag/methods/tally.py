"""The rows of a run counted one by one: what a summary needs, in memory of 8 bytes a median."""

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from scoreag.classifiers.checks import CLEAN_IMAGES
from scoreag.io.records import Row
from scoreag.methods.scale_search import at_end
from scoreag.stats.proportion import Proportion

ALL_IMAGES = "all images"
CLEAN_CORRECT = "images classified correctly before"
PRESERVED_SUCCESS, ATTACK_SUCCESS = "fooled_and_shown", "success"  # names of rates
COSTS = ("nfe", "restarts", "guidance_skipped")
MAX_IDS = 5  # that a message lists
Test: TypeAlias = Callable[[Row], Any]


@dataclass(frozen=True)
class Rate:
    """A share of images.

    Args:
        of: the images in its denominator, in words.
        hit: whether an image counts.
        eligible: whether an image is in the denominator.
        known: whether the row tells; the rate is left out unless every row does.
    """

    name: str
    of: str
    hit: Test
    eligible: Test = lambda row: True
    known: Test = lambda row: True


def _was_correct(row: Row) -> bool:
    return bool(row["predictions"]["before"] == row["label"])


def _entry(name: str) -> Test:
    return lambda row: row[name]


def _without_restarts(name: str) -> Test:
    return lambda row: row[name] and not row["restarts"]


def _judge_agrees(form: str) -> Test:
    return lambda row: row["judge"][form] == row["label"]


def _is_judged(form: str) -> Test:
    return lambda row: "judge" in row and row["judge"][form] is not None


def _is_attacked(row: Row) -> bool:
    """Whether there is a classifier that may be fooled; ``synthesize`` can do without."""
    return row["success"] is not None


def _is_preserved(row: Row) -> bool:
    return bool(row["success"] and row["judge"]["saved"] == row["label"])


def _success_rates(of: str, eligible: Test) -> list[Rate]:
    """The three kinds of success, without and with restarts."""
    rates = []
    for name in ("success_float", "success", "targeted_success"):
        first = f"{name}_without_restarts"
        rates.append(Rate(first, of, _without_restarts(name), eligible, _is_attacked))
        rates.append(Rate(name, of, _entry(name), eligible, _is_attacked))
    return rates


def _judge_rates(of: str, eligible: Test) -> list[Rate]:
    """Success with the label preserved, among eligible rows; agreement of the judge with labels."""
    rates = [
        Rate(
            PRESERVED_SUCCESS, of, _is_preserved, eligible,
            lambda row: "judge" in row and _is_attacked(row),
        )
    ]  # fmt: skip
    for name, form, images in (
        ("judge_agreement", "saved", ALL_IMAGES),
        ("judge_agreement_before", "before", CLEAN_IMAGES),
    ):
        rates.append(Rate(name, images, _judge_agrees(form), known=_is_judged(form)))
    return rates


def _accuracy(name: str, form: str) -> Rate:
    """Accuracy before or after a purification, if labels and predictions are known."""
    return Rate(
        name, ALL_IMAGES, lambda r: r["predictions"][form] == r["label"],
        known=lambda r: r["label"] is not None and r["predictions"]["saved"] is not None,
    )  # fmt: skip


_ON_IMAGES = [
    Rate("clean_accuracy", ALL_IMAGES, _was_correct),
    *_judge_rates(CLEAN_CORRECT, _was_correct),
    *_success_rates(CLEAN_CORRECT, _was_correct),
]
RATES: dict[str, list[Rate]] = {  # of each task, in their order
    "synthesize": [
        *_judge_rates(ALL_IMAGES, lambda row: True),
        *_success_rates(ALL_IMAGES, lambda row: True),
    ],
    "transform": _ON_IMAGES,
    "attack": _ON_IMAGES,
    "purify": [_accuracy("accuracy_before", "before"), _accuracy("accuracy_after", "saved")],
}


@dataclass
class IdList:
    """The number of some images, and the first of their ids."""

    count: int = 0
    first: list[int] = field(default_factory=list)

    def __bool__(self) -> bool:
        return self.count > 0

    def add(self, image_id: int) -> None:
        self.count += 1
        if len(self.first) <= MAX_IDS:
            self.first.append(image_id)


def list_ids(ids: Sequence[int], count: int = MAX_IDS) -> str:
    """The first of some image ids."""
    return ", ".join(map(str, ids[:count])) + (", ..." if len(ids) > count else "")


@dataclass
class SearchTally:
    """Images that no attack fooled, and images that the weakest attack of a search fools.

    Args:
        option: that was searched for.
        has_originals: whether an image at the weak end was given, and not generated.
    """

    option: str
    images: int = 0
    missed: IdList = field(default_factory=IdList)
    weakest: IdList = field(default_factory=IdList)
    has_originals: bool = False

    def add(self, row: Row) -> None:
        self.images += 1
        if not row["found"]:
            self.missed.add(row["image_id"])
        if at_end(self.option, row[self.option]) < 0:
            before = row["predictions"].get("before")
            self.has_originals |= "before" in row["predictions"]
            if row["found"] and before in (None, row["label"]):
                self.weakest.add(row["image_id"])


@dataclass
class Tally:
    """The counts of a run.

    Args:
        option: that was searched for; "" is none.
        hits, totals: of each rate of the task; ``unknown`` rates are left out.
        labels, seen: how often each label is, and each prediction of the reference classifier.
        values: of which there are medians: distances by norm, the option, and finite energies.
        norms: of the distances.
        n_energies: images whose energy was counted.
    """

    task: str
    option: str
    images: int = 0
    hits: Counter[str] = field(default_factory=Counter)
    totals: Counter[str] = field(default_factory=Counter)
    unknown: set[str] = field(default_factory=set)
    labels: Counter[Any] = field(default_factory=Counter)
    seen: Counter[Any] = field(default_factory=Counter)
    values: dict[str, "array[float]"] = field(default_factory=dict)
    norms: tuple[str, ...] = ()
    n_energies: int = 0
    costs: Counter[str] = field(default_factory=Counter)
    search: SearchTally = field(default_factory=lambda: SearchTally(""))

    @property
    def rates(self) -> dict[str, Proportion]:
        """The rates of the task that every row knows."""
        return {
            rate.name: Proportion(self.hits[rate.name], self.totals[rate.name], rate.of)
            for rate in RATES[self.task]
            if rate.name not in self.unknown
        }

    def add(self, row: Row) -> None:
        """Count a row."""
        self.images += 1
        for rate in RATES[self.task]:
            if not rate.known(row):
                self.unknown.add(rate.name)
            elif rate.name not in self.unknown and rate.eligible(row):
                self.totals[rate.name] += 1
                self.hits[rate.name] += bool(rate.hit(row))
        for name in COSTS:
            self.costs[name] += row[name]
        self.labels[row["label"]] += 1
        if "judge" in row:
            self.seen[row["judge"]["saved"]] += 1
        if self.option:
            self.search.add(row)
            self.values[self.option].append(row[self.option])
        self._add_sizes(row)

    def _add_sizes(self, row: Row) -> None:
        """Count the distances and the energy of a row."""
        if "distances" in row:
            if not self.norms:
                self.norms = tuple(row["distances"])
                self.values |= {norm: array("d") for norm in self.norms}
            for norm in self.norms:
                self.values[norm].append(row["distances"][norm])
        if "energy" in row:
            self.n_energies += 1
            if row["energy"] is not None:
                self.values["energy"].append(row["energy"])


def tally_rows(task: str, rows: Iterable[Row], option: str = "") -> Tally:
    """The counts of a run's rows.

    Args:
        option: that was searched for; "" is none.
    """
    tally = Tally(task, option, search=SearchTally(option))
    tally.values = {name: array("d") for name in ("energy", option) if name}
    for row in rows:
        tally.add(row)
    if not tally.images:  # without images, a reference classifier is unknown, too
        tally.unknown.update(rate.name for rate in RATES[task] if rate.name in _OF_JUDGES)
    return tally


_OF_JUDGES = [rate.name for rate in _judge_rates("", lambda row: True)]
