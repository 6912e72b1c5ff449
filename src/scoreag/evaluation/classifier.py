"""The metrics of a classifier: its accuracy, clean and under the attacks that its card names."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scoreag.attacks.pgd import PGD
from scoreag.core.types import Classifier
from scoreag.data.loading import Dataset
from scoreag.models.model_cards import Card
from scoreag.training.outputs import measure_accuracy

TEST_SECTION = "test"  # of a card's metrics: of the test images
PGD_METRIC_PATTERN = re.compile(r"accuracy_pgd(\d+)_(\d+(?:\.\d+)?)")  # steps, and eps in 255ths
IMAGE_RANGE_PATTERN = re.compile(r"\b(training|test) images (\d+)-(\d+)\b")


@dataclass(frozen=True)
class EvaluationSet:
    """Images, their name as the denominator of metrics, and the attacks on them."""

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
    """The images and attacks of each section of the card's metrics, and the skipped metrics.

    Args:
        test_data: the images of the section "test", which is always there.
        read_data: loads a spec such as ``cifar10:train[45000:50000]``, which the "training images
            45000-49999" of a card become if it was trained on ``cifar10:...``.
        attack_specs: further attacks of the section "test", e.g. "pgd40_8".
    """
    sections, skipped = dict(card.metrics), _unknown_metrics(card.metrics)
    names = [*sections.pop(TEST_SECTION, {}), *(f"accuracy_{spec}" for spec in attack_specs)]
    sets = {TEST_SECTION: EvaluationSet(test_data, population, _parse_attacks(names))}
    for section, entries in sections.items():
        first = next((entry for entry in entries.values() if isinstance(entry, Mapping)), {})
        spec = _dataset_spec(card, str(first.get("of", "")))
        if spec is None:
            skipped.append(f"metrics.{section}: it does not say which images it is of")
        else:
            attacks = _parse_attacks(entries)
            sets[section] = EvaluationSet(read_data(spec), str(first["of"]), attacks)
    return sets, skipped


def evaluate(
    classifier: Classifier, eval_sets: Mapping[str, EvaluationSet], batch_size: int = 250
) -> dict[str, dict[str, Any]]:
    """The metrics of each section, with Wilson intervals; the noise of attacks is keyed by row."""
    metrics = {}
    for section, part in eval_sets.items():
        images, labels = part.data.images, part.data.labels
        assert labels is not None
        metrics[section] = measure_accuracy(
            classifier, images, labels, part.population, part.attacks, batch_size
        )
    return metrics


def _unknown_metrics(sections: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return [
        f"metrics.{section}.{name}: how it is computed is not known"
        for section, entries in sections.items()
        for name in entries
        if name != "accuracy" and not PGD_METRIC_PATTERN.fullmatch(name)
    ]


def _parse_attacks(names: Iterable[str]) -> dict[str, PGD]:
    """The attacks of names such as ``accuracy_pgd40_8``: PGD, 40 steps, eps 8/255."""
    matches = filter(None, map(PGD_METRIC_PATTERN.fullmatch, names))
    return {m[0].removeprefix("accuracy_"): PGD(float(m[2]) / 255, int(m[1])) for m in matches}


def _dataset_spec(card: Card, population: str) -> str | None:
    """The data spec of the images that a population names; None where it names none."""
    kind = str(card.training_config.get("data", "")).partition(":")[0]
    match = IMAGE_RANGE_PATTERN.search(population)
    if not kind or not match:
        return None
    split, first, last = match.groups()
    return f"{kind}:{'train' if split == 'training' else 'test'}[{first}:{int(last) + 1}]"
