"""Checks between cells: who knows less of a defence and gets further than who knows all of it.

Both look in the same ball around the same images. Then the search of the latter failed, and what
it leaves is no robustness (Athalye et al. 2018, section 3; Carlini et al. 2019, section 5.2).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from scoreag.assess.cells import Cell
from scoreag.assess.checks import Finding, Part, differing
from scoreag.metrics.accuracy import Rate, share

ONE_NORM = {"di_fgsm": "linf", "si_ni_fgsm": "linf", "advad": "linf"}  # they have no option norm
NARROW = ("fgsm", "low_frequency")  # search a part of the ball by design: less is no failure


@dataclass(frozen=True)
class Rival:
    """Who does more than a cell, in words, and by how much: both on the images of both."""

    who: str
    more: Rate
    less: Rate

    @property
    def beats(self) -> bool:
        return self.more.interval[0] > self.less.interval[1]


def of_all(parts: Sequence[Part]) -> Iterator[Finding]:
    """For each attack along exact gradients the strongest of those that should be weaker."""
    parts = [part for part in parts if len(part.found) and part.cell.task == "attack"]
    for white in parts:
        if _lacks(white) or white.cell.component in NARROW:
            continue
        others = [other for other in parts if _same_search(other.cell, white.cell)]
        rivals = [*_weaker(others, white), *_transferred(others, white)]
        beaten = [rival for rival in rivals if rival.beats]
        if beaten:
            worst = max(beaten, key=lambda rival: rival.more.value - rival.less.value)
            yield Finding(
                "weaker attacker", white.cell.name, True,
                f"{worst.who} on {worst.more.count} of {worst.more.total} and this one on "
                f"{worst.less.count} of {worst.less.total}: its gradients mislead, or its search "
                "ends too early",
            )  # fmt: skip


def _weaker(others: Sequence[Part], white: Part) -> Iterator[Rival]:
    """On the same defence, with less to go by."""
    for other in others:
        what = _lacks(other)
        if what and _defended(other.cell) == _defended(white.cell):
            ids = {*other.found.image_ids.tolist()} & {*white.found.image_ids.tolist()}
            rates = (_success(part, ids) for part in (other, white))
            yield Rival(f"{other.cell.name}, which {what}, succeeds", *rates)


def _transferred(others: Sequence[Part], white: Part) -> Iterator[Rival]:
    """Images made against another classifier, without a look at this one; of its images only."""
    for other in others:
        entry = other.transfer.get(white.cell.victim)
        bare = not other.cell.purifier and not white.cell.purifier
        ids = {*other.found.image_ids.tolist()}
        shared = ids <= {*white.found.image_ids.tolist()}
        if bare and entry and shared and other.cell.victim != white.cell.victim:
            more = Rate(entry["count"], entry["total"], entry["of"])
            made = f"what {other.cell.name} made against {other.cell.victim} succeeds"
            yield Rival(made, more, _success(white, ids))


def _lacks(part: Part) -> str:
    """What an attacker lacks of exact gradients, in words; nothing where he has them."""
    if not part.found.gradients:
        return "takes no gradient"
    how = part.cell.attacked.get("backward", "exact")
    if how == "blind":
        return "does not know of the purifier"
    if how != "exact":
        return f"differentiates the purifier by {how!r}"
    return "has a copy of the purifier with other settings" if differing(part.cell) else ""


def _same_search(a: Cell, b: Cell) -> bool:
    """The same images, and the same ball around them, where an attack has one that is known."""
    same = all(getattr(a, name) == getattr(b, name) for name in ("group", "data", "seed"))
    return same and None not in ball(a) and ball(a) == ball(b)


def ball(cell: Cell) -> tuple[object, object]:
    """The norm and the radius of the ball that an attack looks in; None where it knows of none."""
    norm = cell.options.get("norm", ONE_NORM.get(cell.component))
    return norm, cell.options.get("epsilon")


def _defended(cell: Cell) -> tuple[str, ...]:
    """The classifier and how it is judged; the attackers' copies of a purifier may differ."""
    return (cell.victim, cell.purifier, repr(dict(cell.purifier_options)), str(cell.fixed))


def _success(part: Part, ids: set[int]) -> Rate:
    """At the first draw, of the images among ``ids`` that were right before."""
    among = part.found.image_ids.new_tensor([i in ids for i in part.found.image_ids.tolist()])
    return share(part.found.fooled, "images right before", part.found.counted & among.bool())
