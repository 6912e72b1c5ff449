"""What a card says, beside what came out now."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from scoreag.figures.entries import Entry

DEPENDS_ON_COUNT = ("frechet", "precision", "recall")  # with fewer images these are other figures


@dataclass(frozen=True)
class Compared:
    """One figure, then and now; ``reproduced`` is None where the two cannot be compared."""

    name: str
    card: float
    now: float
    low: float
    high: float
    reproduced: bool | None
    why: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        words = {True: "reproduced", False: "not reproduced", None: "not compared"}
        now = f"{self.now:.6g} now, interval {self.low:.6g} to {self.high:.6g}"
        return f"{words[self.reproduced]}: {self.name} is {self.card:.6g} on the card, {now}"


def compared(card: Mapping[str, Entry], now: Mapping[str, Entry], where: str) -> list[Compared]:
    """Each figure of the card that was computed again.

    Args:
        where: of the card's figures these are, e.g. "test".
    """
    names = [name for name in card if name in now and "value" in card[name]]
    return [_compared(f"{where}.{name}", card[name], now[name]) for name in names]


def _compared(name: str, old: Entry, new: Entry) -> Compared:
    low, high = (float(new[end] if end in new else new["value"]) for end in ("low", "high"))
    reproduced: bool | None
    if _counts(old) != _counts(new) and name.rpartition(".")[2].startswith(DEPENDS_ON_COUNT):
        reproduced, why = None, f"it was computed on {_counts(old)} images, now on {_counts(new)}"
    elif old["value"] == new["value"]:
        reproduced, why = True, "the same number"
    else:
        reproduced = low <= old["value"] <= high
        why = f"the card's value lies {'within' if reproduced else 'outside'} the interval"
    return Compared(name, old["value"], new["value"], low, high, reproduced, why)


def _counts(entry: Entry) -> Any:
    return entry.get("total")


def check(found: list[Compared], name: str) -> None:
    """Refuse a card whose figures are not those that came out.

    Raises:
        ValueError: names the first such figure, both values and the interval.
    """
    differ = [one for one in found if one.reproduced is False]
    if differ:
        more = f" (and {len(differ) - 1} more)" if len(differ) > 1 else ""
        raise ValueError(
            f"{name}: {differ[0]}{more}; give the weights and the data of the card, "
            "or --write to put the new figures into it"
        )
