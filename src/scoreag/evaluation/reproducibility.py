"""What a card says, beside what came out now."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from scoreag.stats.estimates import MetricEntry

SAMPLE_SIZE_BIASED = ("frechet", "precision", "recall")  # other numbers with fewer images


@dataclass(frozen=True)
class MetricComparison:
    """One metric, then and now; ``reproduced`` is None where the two cannot be compared."""

    name: str
    card_value: float
    recomputed: float
    low: float
    high: float
    reproduced: bool | None
    reason: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        words = {True: "reproduced", False: "not reproduced", None: "not compared"}
        now = f"{self.recomputed:.6g} now, interval {self.low:.6g} to {self.high:.6g}"
        return f"{words[self.reproduced]}: {self.name} is {self.card_value:.6g} on the card, {now}"


def compare_with_card(
    card: Mapping[str, MetricEntry], recomputed: Mapping[str, MetricEntry], section: str
) -> list[MetricComparison]:
    """Each metric of a section of the card, e.g. "test", that was computed again."""
    names = [name for name in card if name in recomputed and "value" in card[name]]
    return [_compare_entry(f"{section}.{name}", card[name], recomputed[name]) for name in names]


def _compare_entry(name: str, old: MetricEntry, new: MetricEntry) -> MetricComparison:
    low, high = (float(new[end] if end in new else new["value"]) for end in ("low", "high"))
    before, now = old.get("total"), new.get("total")
    reproduced: bool | None = low <= old["value"] <= high
    reason = f"the card's value lies {'within' if reproduced else 'outside'} the interval"
    if before != now and name.rpartition(".")[2].startswith(SAMPLE_SIZE_BIASED):
        reproduced, reason = None, f"it was computed on {before} images, now on {now}"
    elif old["value"] == new["value"]:
        reproduced, reason = True, "the same number"
    return MetricComparison(name, old["value"], new["value"], low, high, reproduced, reason)


def require_reproduced(comparisons: list[MetricComparison], name: str) -> None:
    """Refuse a card whose metrics are not those that came out.

    Raises:
        ValueError: names the first such metric, both values and the interval.
    """
    different = [one for one in comparisons if one.reproduced is False]
    if different:
        more = f" (and {len(different) - 1} more)" if len(different) > 1 else ""
        raise ValueError(
            f"{name}: {different[0]}{more}; give the weights and the data of the card, "
            "or --update-card to put the new metrics into it"
        )
