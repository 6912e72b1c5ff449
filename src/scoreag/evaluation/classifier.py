"""A classifier's figures: its accuracy, and under attack where its card says one, all from data."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scoreag.attacks.pgd import PGD
from scoreag.core.types import Classifier
from scoreag.data.loading import Dataset
from scoreag.models.model_cards import Card
from scoreag.training.export import measure_accuracy

TEST_SECTION = "test"  # the part of a card's figures that speaks of the images given
PGD_METRIC_PATTERN = re.compile(r"accuracy_pgd(\d+)_(\d+(?:\.\d+)?)")  # steps, and radius in 255ths
IMAGE_RANGE_PATTERN = re.compile(r"\b(training|test) images (\d+)-(\d+)\b")


@dataclass(frozen=True)
class EvaluationSet:
    """Some images, and what a card says of them."""

    data: Dataset
    population: str
    attacks: Mapping[str, PGD]


def plan_evaluation(
    card: Card,
    test_data: Dataset,
    population: str,
    read_data: Callable[[str], Dataset],
    attack_specs: Sequence[str] = (),
) -> tuple[dict[str, EvaluationSet], list[str]]:
    """What can be computed again, by the parts of the card's figures; and what cannot, in words.

    Args:
        given: the images of the part "test", which is there in any case.
        read: the images of a word such as ``cifar10:train[45000:50000]``, which is what a card
            means that was trained on ``cifar10:...`` and names "training images 45000-49999".
        under: further attacks of the part "test", e.g. "pgd40_8".
    """
    table, left = dict(card.metrics), _unknown_metrics(card.metrics)
    asked = [*table.pop(TEST_SECTION, {}), *(f"accuracy_{word}" for word in attack_specs)]
    found = {TEST_SECTION: EvaluationSet(test_data, population, _parse_attacks(asked))}
    for name, entries in table.items():
        word = _dataset_spec(card, entries)
        if word is None:
            left.append(f"metrics.{name}: it does not say which images it is of")
            continue
        found[name] = EvaluationSet(
            read_data(word), str(_first_entry(entries)["of"]), _parse_attacks(entries)
        )
    return found, left


def validate_attack_spec(spec: str) -> None:
    """Refuse a word that names no attack.

    Raises:
        ValueError: it is not like "pgd40_8", and what to write.
    """
    try:
        found = _parse_attacks([f"accuracy_{spec}"])
    except ValueError as error:
        raise ValueError(f"{spec!r}: {error}") from error
    if not found:
        raise ValueError(f"{spec!r} is no attack; write pgdSTEPS_RADIUS, in 255ths, e.g. pgd40_8")


def evaluate(
    classifier: Classifier, eval_sets: Mapping[str, EvaluationSet], batch_size: int = 250
) -> dict[str, dict[str, Any]]:
    """The figures of each part, with Wilson's intervals; what the attacks draw is keyed by row."""
    found = {}
    for name, part in eval_sets.items():
        assert part.data.labels is not None
        images, labels = part.data.images, part.data.labels
        found[name] = measure_accuracy(
            classifier, images, labels, part.population, part.attacks, batch_size
        )
    return found


def _unknown_metrics(table: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Figures that are computed in a way that is not known here."""
    return [
        f"metrics.{part}.{name}: how it is computed is not known"
        for part, entries in table.items()
        for name in entries
        if name != "accuracy" and not PGD_METRIC_PATTERN.fullmatch(name)
    ]


def _parse_attacks(entries: Iterable[str]) -> dict[str, PGD]:
    """The attacks of names such as ``accuracy_pgd40_8``: PGD, 40 steps, radius 8/255."""
    found = {}
    for name in entries:
        if match := PGD_METRIC_PATTERN.fullmatch(name):
            steps, radius = match.groups()
            found[name.removeprefix("accuracy_")] = PGD(float(radius) / 255, int(steps))
    return found


def _dataset_spec(card: Card, entries: Mapping[str, Any]) -> str | None:
    """The images that entries are of, as the word of a data set."""
    kind = str(card.training_config.get("data", "")).partition(":")[0]
    match = IMAGE_RANGE_PATTERN.search(str(_first_entry(entries).get("of", "")))
    if not kind or not match:
        return None
    part, first, last = match.groups()
    return f"{kind}:{'train' if part == 'training' else 'test'}[{first}:{int(last) + 1}]"


def _first_entry(entries: Mapping[str, Any]) -> Mapping[str, Any]:
    return next((entry for entry in entries.values() if isinstance(entry, Mapping)), {})
