"""People of known ability answer a study, so that an analysis can be held against the truth.

A person sees the label with probability ``sigmoid(condition + image + person)``.  If not, the
answer is the class that the image resembles, another class, or "cannot tell".  A lapse is any
class.  Of two answers ("real" or "fake", this image or the other), the first has that probability.
Some people click without looking; the rules of the manifest must find them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from scoreag.study.answers import UNSURE, Participant, Trial
from scoreag.study.lists import make_lists
from scoreag.study.manifest import FORMAT, MINIMAL_MS, TASK, compute_study_id, fix_exclusions

Table = Float[np.ndarray, "rows columns"]
Numbers = NDArray[Any]

NAMES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
TYPICAL_MS, SD_TIME, SD_OWN_TIME = 900.0, 0.35, 0.3  # of an answer, and of a person's median
CHECK_LEVEL = 4.5  # logit of the right answer to a check; photographs are seen as clean ones


@dataclass(frozen=True)
class World:
    """How images and people are.

    Args:
        conditions: the logit of seeing the label of a typical image, by condition.
        fooled: the logit of the classifier being fooled; less where people see the label well.
        raters: people an image.
        lapses: the shares of lapses of two kinds of people, equally many of each.
        unsure: the shares of "cannot tell" of both, of answers that do not see the label.
        again: the share of repeats that are answered from memory.
        clickers: people who click without looking, beside those who are planned.
    """

    conditions: Mapping[str, float] = field(
        default_factory=lambda: {"clean": 3.2, "gas": 2.0, "gat": 2.6, "pgd": 1.5}
    )
    fooled: Mapping[str, float] = field(
        default_factory=lambda: {"gas": 1.5, "gat": 2.5, "pgd": 1.0}
    )
    design: str = "name"
    images: int = 60
    raters: int = 5
    sd_source: float = 0.9
    sd_version: float = 0.8
    sd_person: float = 0.5
    lapses: tuple[float, float] = (0.005, 0.03)
    resemblance: float = 0.6
    unsure: tuple[float, float] = (0.05, 0.15)
    again: float = 0.5
    repeats: int = 20
    checks: int = 10
    clickers: int = 1
    judge_slope: float = 0.7
    judge_noise: float = 0.8


@dataclass(frozen=True)
class Images:
    """Images of a world: one row a version of a source."""

    condition: Numbers
    source: Numbers
    label: Numbers
    like: Numbers  # the class that it resembles
    logit: Numbers  # of being seen by a typical person
    fooled: Numbers
    judge: Numbers


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def make_images(world: World, rng: np.random.Generator, count: int) -> Images:
    """``count`` sources, each in all conditions; labels are balanced."""
    names, classes = [*world.conditions], len(NAMES)
    n = count * len(names)
    condition, source = (
        np.tile(np.arange(len(names)), count),
        np.repeat(np.arange(count), len(names)),
    )
    label = source % classes
    level = np.array([*world.conditions.values()])[condition]
    own = world.sd_source * rng.standard_normal(count)[source]
    own += world.sd_version * rng.standard_normal(n)
    tendency = np.array([world.fooled.get(name, -np.inf) for name in names])[condition]
    judge = 0.5 + world.judge_slope * (level + own - 2) + world.judge_noise * rng.standard_normal(n)
    return Images(
        condition, source, label, (label + rng.integers(1, classes, n)) % classes, level + own,
        rng.random(n) < sigmoid(tendency - 0.3 * own), sigmoid(judge),
    )  # fmt: skip


def answer_shares(world: World, images: Images, person: Numbers, kind: Numbers) -> Table:
    """A row an answer: the probability of each; of "cannot tell" in the last column.

    Args:
        person: by row, the person's own logit.
        kind: by row, 0 or 1, the kind of person.
    """
    seen, lapse = sigmoid(images.logit + person), np.array(world.lapses)[kind]
    unsure = np.array(world.unsure)[kind]
    if world.design == "name":
        table = _name_shares(world, images, seen, unsure)
    else:
        table = _two_shares(seen, unsure)
    table *= (1 - lapse)[:, None]
    classes = table.shape[1] - 1
    table[:, :classes] += (lapse / classes)[:, None]
    return table


def _name_shares(world: World, images: Images, seen: Numbers, unsure: Numbers) -> Table:
    """By class: the label, the class that the image resembles, and all others alike."""
    rows, classes = np.arange(len(seen)), len(NAMES)
    missed = (1 - seen) * (1 - unsure)
    table = np.repeat((missed * (1 - world.resemblance) / (classes - 2))[:, None], classes + 1, 1)
    table[rows, images.like] = missed * world.resemblance
    table[rows, images.label] = seen
    table[:, -1] = (1 - seen) * unsure
    return table


def _two_shares(seen: Numbers, unsure: Numbers) -> Table:
    """Yes, no, and "not sure"."""
    known = 1 - unsure
    return np.stack([known * seen, known * (1 - seen), unsure], 1)


def draw(table: Table, rng: np.random.Generator) -> Numbers:
    """A column of each row, by its probabilities."""
    steps = table.cumsum(1)
    return (rng.random((len(table), 1)) * steps[:, -1:] > steps).sum(1)


def simulate(world: World, seed: int) -> tuple[dict[str, Any], list[Participant]]:
    """A study and the answers of all people."""
    rng = np.random.Generator(np.random.Philox(seed))
    images = make_images(world, rng, world.images)
    manifest = make_manifest(world, images, seed)
    n_lists = len(manifest["lists"])
    planned = world.raters * n_lists
    people = []
    for number in range(planned + world.clickers):
        person = world.sd_person * rng.standard_normal()
        kind = int(rng.integers(2))
        ids = np.array(manifest["lists"][number % n_lists])
        make = make_answers if number < planned else click
        people.append(make(world, manifest, images, ids, (number, person, kind), rng))
    return manifest, people


def make_manifest(world: World, images: Images, seed: int) -> dict[str, Any]:
    """The manifest of a study of the images, with checks and practice behind them."""
    names = [*world.conditions]
    sides = [("left", "right")[i // 3 % 2] for i in range(len(images.label))]
    rows = [
        {
            "item": i, "condition": names[images.condition[i]],
            "source": f"made#{images.source[i]}",
            "label": int(images.label[i]), "purpose": "main", "pair": None, "sha256": "",
            "right": None, "side": sides[i] if world.design == "choose" else None,
            "fooled": bool(images.fooled[i]) if names[images.condition[i]] != "clean" else None,
            "proxies": {
                "judge": round(float(images.judge[i]), 6), "semantic": None,
                "lpips": round(float(np.exp(-images.logit[i])), 6),
            },
        }
        for i in range(len(images.label))
    ]  # fmt: skip
    for purpose, count in (("check", world.checks), ("practice", 4)):
        for k in range(count):
            rows.append({
                "item": len(rows), "condition": "clean", "source": f"{purpose}#{k}",
                "label": k % len(NAMES), "fooled": None, "sha256": "", "proxies": {},
                "purpose": purpose, "pair": None, "side": "left",
                "right": _check_answers(k)[world.design],
            })  # fmt: skip
    versions = [(row["source"], row["condition"]) for row in rows if row["purpose"] == "main"]
    if world.design == "choose":  # each beside an untouched image, which is no trial of its own
        asked = [i for i, (_, name) in enumerate(versions) if name != "clean"]
    else:
        asked = [*range(len(versions))]
    shown = [versions[i] for i in asked]
    lists = [[asked[i] for i in one] for one in make_lists(shown, len({name for _, name in shown}))]
    manifest = {
        "format": FORMAT, "task": TASK, "title": "made up", "design": world.design,
        "classes": [*NAMES], "seed": seed, "raters": world.raters * len(lists),
        "conditions": names, "items": rows, "lists": lists,
        "repeats": world.repeats, "checks": world.checks, "minimal_ms": MINIMAL_MS,
        "practice": [row["item"] for row in rows if row["purpose"] == "practice"],
        "exclusions": fix_exclusions(
            world.design, [[_right_answer(world, rows[i]) for i in one] for one in lists],
            world.checks + world.repeats,
        ),
        "completion_code": "",
    }  # fmt: skip
    return manifest | {"study": compute_study_id(manifest)}


def _check_answers(number: int) -> dict[str, int | str]:
    """The right answer to a check, by design; every second photograph is whole."""
    return {
        "name": number % len(NAMES), "choose": "left", "real": ("real", "fake")[number % 2]
    }  # fmt: skip


def _right_answer(world: World, row: Mapping[str, Any]) -> int | str:
    if world.design == "real":
        return "real" if row["condition"] == "clean" else "fake"
    return str(row["side"]) if world.design == "choose" else int(row["label"])


def make_answers(
    world: World, manifest: Mapping[str, Any], images: Images, ids: Numbers,
    who: tuple[int, float, int], rng: np.random.Generator,
) -> Participant:  # fmt: skip
    """What a person answers who looks."""
    number, person, kind = who
    seen = Images(*(getattr(images, name)[ids] for name in images.__dataclass_fields__))
    shares = answer_shares(world, seen, np.full(len(ids), person), np.full(len(ids), kind))
    first = draw(shares, rng)
    chosen = rng.permutation(len(ids))[: world.repeats]
    second = np.where(
        rng.random(len(chosen)) < world.again, first[chosen], draw(shares[chosen], rng)
    )
    checks = [row for row in manifest["items"] if row["purpose"] == "check"]
    levels = [world.conditions["clean"] if c["right"] == "real" else CHECK_LEVEL for c in checks]
    known = sigmoid(np.array(levels) + person) * (1 - world.lapses[kind])
    right = rng.random(world.checks) < known
    rows = manifest["items"]
    asked = [(int(i), "main", say(world, rows[i], int(a))) for i, a in zip(ids, first, strict=True)]
    asked += [
        (row["item"], "check", row["right"] if ok else UNSURE)
        for row, ok in zip(checks, right, strict=True)
    ]
    asked += [
        (int(ids[k]), "repeat", say(world, rows[ids[k]], int(a)))
        for k, a in zip(chosen, second, strict=True)
    ]
    typical = TYPICAL_MS * np.exp(SD_OWN_TIME * rng.standard_normal())
    times = typical * np.exp(SD_TIME * rng.standard_normal(len(asked)))
    return _participant(number, len(manifest["lists"]), asked, times)


def click(
    world: World, manifest: Mapping[str, Any], images: Images, ids: Numbers,
    who: tuple[int, float, int], rng: np.random.Generator,
) -> Participant:  # fmt: skip
    """What a person answers who clicks any class as fast as it goes."""
    checks = [row["item"] for row in manifest["items"] if row["purpose"] == "check"]
    shown = [(int(i), "main") for i in ids] + [(i, "check") for i in checks]
    shown += [(int(i), "repeat") for i in ids[: world.repeats]]
    columns = len(NAMES) if world.design == "name" else 2
    answers = rng.integers(columns, size=len(shown))
    rows = manifest["items"]
    asked = [
        (item, kind, say(world, rows[item], int(a)))
        for (item, kind), a in zip(shown, answers, strict=True)
    ]
    times = 150 * np.exp(0.4 * rng.standard_normal(len(asked)))
    return _participant(who[0], len(manifest["lists"]), asked, times)


def _participant(
    number: int, n_lists: int, asked: Sequence[tuple[int, str, int | str]], times: Numbers
) -> Participant:
    trials = tuple(
        Trial(k, item, kind, answer, round(float(ms)))
        for k, ((item, kind, answer), ms) in enumerate(zip(asked, times, strict=True))
    )
    name = f"person-{number:03d}"
    return Participant(name, f"{name}.json", number % n_lists, True, True, trials)


def say(world: World, item: Mapping[str, Any], column: int) -> int | str:
    """A column of the shares of answers as an answer."""
    if world.design == "name":
        return UNSURE if column == len(NAMES) else column
    if world.design == "real":
        return ("real", "fake", UNSURE)[column]
    other = {"left": "right", "right": "left"}[item["side"]]
    return (item["side"], other, UNSURE)[column]
