"""Checks between cells: who knows less of a defence gets further than who knows all of it.

Both look in the same ball around the same images. Then the search of the latter failed, and what
it leaves is no robustness (Athalye et al. 2018, section 3; Carlini et al. 2019, section 5.2).
"""

from collections.abc import Iterator, Sequence

from scoreag.assess.cells import Cell
from scoreag.assess.checks import Finding, Part
from scoreag.metrics.accuracy import Rate, share


def of_all(parts: Sequence[Part]) -> Iterator[Finding]:
    """What is doubtful about attacks along exact gradients, seen beside all others."""
    parts = [part for part in parts if len(part.found) and part.cell.task == "attack"]
    for white in parts:
        if _lacks(white):
            continue
        for other in parts:
            if _same_search(other.cell, white.cell):
                yield from _weaker(other, white)
                yield from _transferred(other, white)


def _weaker(other: Part, white: Part) -> Iterator[Finding]:
    """On the same defence, with less to go by."""
    what = _lacks(other)
    if what and _defended(other.cell) == _defended(white.cell):
        more, less = _success(other), _success(white)
        if more.interval[0] > less.interval[1]:
            yield _finding(white, f"{other.cell.name}, which {what}, succeeds", more, less)


def _transferred(other: Part, white: Part) -> Iterator[Finding]:
    """Images made against another classifier, without a look at this one."""
    bare = not other.cell.purifier and not white.cell.purifier
    entry = other.transfer.get(white.cell.victim)
    if bare and entry and other.cell.victim != white.cell.victim:
        more, less = Rate(entry["count"], entry["total"], entry["of"]), _success(white)
        if more.interval[0] > less.interval[1]:
            made = f"what {other.cell.name} made against {other.cell.victim} succeeds"
            yield _finding(white, made, more, less)


def _finding(white: Part, who: str, more: Rate, less: Rate) -> Finding:
    says = f"{who} on {more.count} of {more.total} and this one on {less.count} of {less.total}"
    told = f"{says}: its gradients mislead, or its search ends too early"
    return Finding("weaker attacker", white.cell.name, True, told)


def _lacks(part: Part) -> str:
    """What an attacker lacks of exact gradients, in words; nothing where he has them."""
    if not part.found.gradients:
        return "takes no gradient"
    how = part.cell.attacked.get("backward", "exact") if part.cell.purifier else "exact"
    return "" if how == "exact" else f"differentiates the purifier by {how!r}"


def _same_search(a: Cell, b: Cell) -> bool:
    """The same images, and the same ball around them."""
    return all(getattr(a, name) == getattr(b, name) for name in ("group", "data", "seed")) and all(
        a.options.get(name) == b.options.get(name) for name in ("norm", "epsilon")
    )


def _defended(cell: Cell) -> tuple[str, ...]:
    """The classifier and how it is judged; the attackers' copies of a purifier may differ."""
    return (cell.victim, cell.purifier, repr(dict(cell.purifier_options)), str(cell.fixed))


def _success(part: Part) -> Rate:
    return share(part.found.fooled, "images right before", part.found.counted)
