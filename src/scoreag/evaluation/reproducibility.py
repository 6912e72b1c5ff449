"""What a card says, beside what came out now."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from scoreag.stats.estimates import MetricEntry

SAMPLE_SIZE_BIASED = ("frechet", "precision", "recall")  # with fewer images these are other figures


@dataclass(frozen=True)
class MetricComparison:
    """One figure, then and now; ``reproduced`` is None where the two cannot be compared."""

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
    """Each figure of the card that was computed again.

    Args:
        where: of the card's figures these are, e.g. "test".
    """
    names = [name for name in card if name in recomputed and "value" in card[name]]
    return [_compare_entry(f"{section}.{name}", card[name], recomputed[name]) for name in names]


def _compare_entry(name: str, old: MetricEntry, new: MetricEntry) -> MetricComparison:
    low, high = (float(new[end] if end in new else new["value"]) for end in ("low", "high"))
    reproduced: bool | None
    if _sample_size(old) != _sample_size(new) and name.rpartition(".")[2].startswith(
        SAMPLE_SIZE_BIASED
    ):
        reproduced, why = (
            None,
            f"it was computed on {_sample_size(old)} images, now on {_sample_size(new)}",
        )
    elif old["value"] == new["value"]:
        reproduced, why = True, "the same number"
    else:
        reproduced = low <= old["value"] <= high
        why = f"the card's value lies {'within' if reproduced else 'outside'} the interval"
    return MetricComparison(name, old["value"], new["value"], low, high, reproduced, why)


def _sample_size(entry: MetricEntry) -> Any:
    return entry.get("total")


def require_reproduced(comparisons: list[MetricComparison], name: str) -> None:
    """Refuse a card whose figures are not those that came out.

    Raises:
        ValueError: names the first such figure, both values and the interval.
    """
    differ = [one for one in comparisons if one.reproduced is False]
    if differ:
        more = f" (and {len(differ) - 1} more)" if len(differ) > 1 else ""
        raise ValueError(
            f"{name}: {differ[0]}{more}; give the weights and the data of the card, "
            "or --update-card to put the new figures into it"
        )
