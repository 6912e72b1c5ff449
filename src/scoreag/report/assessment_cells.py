"""Which cells a page speaks of where, and what it calls them."""

from scoreag.assess.account import Account, Reckoned
from scoreag.assess.cells import CLEAN
from scoreag.assess.plan import NONE


def name_of(one: Reckoned) -> str:
    """A cell without its set, which stands above it."""
    return one.cell.name.partition("/")[2]


def label(account: Account, name: str) -> str:
    """A cell's name, without its set where there is but one."""
    sets = {one.cell.group for one in account.cells}
    return name if len(sets) > 1 else name.partition("/")[2]


def attacked(account: Account) -> list[Reckoned]:
    """The cells that have rows, but those whose images nothing is done to."""
    return [one for one in account.cells if one.cell.task != CLEAN and len(one.found)]


def at_home(account: Account) -> list[Reckoned]:
    """Of these, all but purifications and images of other data sets."""
    return [c for c in attacked(account) if not c.cell.strangers and c.cell.task != "purify"]


def telling(account: Account) -> list[Reckoned]:
    """Of each attack on a bare classifier the variant that fools most while judges agree."""
    best: dict[tuple[str, str, str], Reckoned] = {}
    for one in at_home(account):
        if one.cell.purification != NONE:
            continue
        which = (one.cell.group, one.cell.victim, one.cell.attack)
        if which not in best or weight(one) > weight(best[which]):
            best[which] = one
    return list(best.values())


def weight(one: Reckoned) -> float:
    """The share that is fooled while the judges agree; without judges, that is fooled."""
    entry = one.figures.get("fooled_and_shown", one.figures["success"])
    return float(entry["value"] or 0)
