"""A classifier's figures: its accuracy, and under attack where its card says one, all from data."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scoreag.attacks.pgd import Attack
from scoreag.cards import Card
from scoreag.core.types import Classifier
from scoreag.dataset import Dataset
from scoreag.training.export import figures

TEST = "test"  # the part of a card's figures that speaks of the images given
UNDER_PGD = re.compile(r"accuracy_pgd(\d+)_(\d+(?:\.\d+)?)")  # steps, and radius in 255ths
PLACE = re.compile(r"\b(training|test) images (\d+)-(\d+)\b")


@dataclass(frozen=True)
class Part:
    """Some images, and what a card says of them."""

    data: Dataset
    of: str
    attacks: Mapping[str, Attack]


def parts(
    card: Card,
    given: Dataset,
    of: str,
    read: Callable[[str], Dataset],
    under: Sequence[str] = (),
) -> tuple[dict[str, Part], list[str]]:
    """What can be computed again, by the parts of the card's figures; and what cannot, in words.

    Args:
        given: the images of the part "test", which is there in any case.
        read: the images of a word such as ``cifar10:train[45000:50000]``, which is what a card
            means that was trained on ``cifar10:...`` and names "training images 45000-49999".
        under: further attacks of the part "test", e.g. "pgd40_8".
    """
    table, left = dict(card.figures), _unknown(card.figures)
    asked = [*table.pop(TEST, {}), *(f"accuracy_{word}" for word in under)]
    found = {TEST: Part(given, of, _attacks(asked))}
    for name, entries in table.items():
        word = _word(card, entries)
        if word is None:
            left.append(f"figures.{name}: it does not say which images it is of")
            continue
        found[name] = Part(read(word), str(_first(entries)["of"]), _attacks(entries))
    return found, left


def check_attack(word: str) -> None:
    """Refuse a word that names no attack.

    Raises:
        ValueError: it is not like "pgd40_8", and what to write.
    """
    try:
        found = _attacks([f"accuracy_{word}"])
    except ValueError as error:
        raise ValueError(f"{word!r}: {error}") from error
    if not found:
        raise ValueError(f"{word!r} is no attack; write pgdSTEPS_RADIUS, in 255ths, e.g. pgd40_8")


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


def _attacks(entries: Iterable[str]) -> dict[str, Attack]:
    """The attacks of names such as ``accuracy_pgd40_8``: PGD, 40 steps, radius 8/255."""
    found = {}
    for name in entries:
        if match := UNDER_PGD.fullmatch(name):
            steps, radius = match.groups()
            found[name.removeprefix("accuracy_")] = Attack(float(radius) / 255, int(steps))
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
