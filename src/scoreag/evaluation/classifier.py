"""A classifier's figures: its accuracy, and under attack where its card says one, all from data."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from scoreag.attacks.pgd import Attack
from scoreag.cards import Card
from scoreag.core.types import Classifier
from scoreag.dataset import Dataset
from scoreag.training.export import figures

TEST = "test"  # the part of a card's figures that speaks of the images given
UNDER_PGD = re.compile(r"accuracy_pgd(\d+)_(\d+)")  # steps, and radius in 255ths
PLACE = re.compile(r"\b(training|test) images (\d+)-(\d+)\b")


@dataclass(frozen=True)
class Part:
    """Some images, and what a card says of them."""

    data: Dataset
    of: str
    attacks: Mapping[str, Attack]


def parts(
    card: Card, given: Dataset, of: str, read: Callable[[str], Dataset]
) -> tuple[dict[str, Part], list[str]]:
    """What can be computed again, by the parts of the card's figures; and what cannot, in words.

    Args:
        given: the images of the part "test", which is there in any case.
        read: the images of a word such as ``cifar10:train[45000:50000]``, which is what a card
            means that was trained on ``cifar10:...`` and names "training images 45000-49999".
    """
    table, left = dict(card.figures), _unknown(card.figures)
    found = {TEST: Part(given, of, _attacks(table.pop(TEST, {})))}
    for name, entries in table.items():
        word = _word(card, entries)
        if word is None:
            left.append(f"figures.{name}: it does not say which images it is of")
            continue
        found[name] = Part(read(word), str(_first(entries)["of"]), _attacks(entries))
    return found, left


def evaluate(
    classifier: Classifier, computed: Mapping[str, Part], batch: int = 250
) -> dict[str, dict[str, Any]]:
    """The figures of each part, with Wilson's intervals; what the attacks draw is keyed by row."""
    found = {}
    for name, part in computed.items():
        assert part.data.labels is not None
        images, labels = part.data.images, part.data.labels
        found[name] = figures(classifier, images, labels, part.of, part.attacks, batch)
    return found


def _unknown(table: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Figures that are computed in a way that is not known here."""
    return [
        f"figures.{part}.{name}: how it is computed is not known"
        for part, entries in table.items()
        for name in entries
        if name != "accuracy" and not UNDER_PGD.fullmatch(name)
    ]


def _attacks(entries: Mapping[str, Any]) -> dict[str, Attack]:
    """The attacks of entries such as ``accuracy_pgd40_8``: PGD, 40 steps, radius 8/255."""
    found = {}
    for name in entries:
        if match := UNDER_PGD.fullmatch(name):
            steps, radius = map(int, match.groups())
            found[name.removeprefix("accuracy_")] = Attack(radius / 255, steps)
    return found


def _word(card: Card, entries: Mapping[str, Any]) -> str | None:
    """The images that entries are of, as the word of a data set."""
    kind = str(card.recipe.get("data", "")).partition(":")[0]
    match = PLACE.search(str(_first(entries).get("of", "")))
    if not kind or not match:
        return None
    part, first, last = match.groups()
    return f"{kind}:{'train' if part == 'training' else 'test'}[{first}:{int(last) + 1}]"


def _first(entries: Mapping[str, Any]) -> Mapping[str, Any]:
    return next((entry for entry in entries.values() if isinstance(entry, Mapping)), {})
