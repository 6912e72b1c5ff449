"""Which cells a page speaks of where, and what it calls them."""

from scoreag.assess.account import Account, Reckoned
from scoreag.assess.cells import CLEAN
from scoreag.assess.checks_judges import are_known
from scoreag.assess.checks_judges import attacked as judges_attacked
from scoreag.assess.plan import NONE
from scoreag.figures.entries import Entry
from scoreag.metrics.accuracy import Rate


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


def untouched(account: Account, one: Reckoned) -> Entry | None:
    """How often the judges are right on images that nobody changed: the cell's own, or its set's.

    None where the cell has no judges, or nobody asked them.
    """
    if "judge_agreement" not in one.figures:
        return None
    return one.figures.get("judge_agreement_before", account.untouched.get(one.cell.group))


def quality(account: Account, group: str) -> str:
    """How good the judges of a set are, in words; "" where it has none."""
    words = next((one.cell.judges for one in account.cells if one.cell.group == group), ())
    rates = account.judges.get(group, {})
    return "; ".join(f"{word}: {_right(rates.get(word))}" for word in words)


def _right(rate: Rate | None) -> str:
    if rate is None:
        return "how often it is right on untouched images is not known"
    low, high = (f"{100 * end:.0f}" for end in rate.interval)
    return f"right on {rate.count} of {rate.total} {rate.of}, {low} to {high} %"


def independence(account: Account) -> str:
    """What is known of whether the judges were attacked, in words."""
    cells = [one.cell for one in account.cells]
    if any(judges_attacked(cell) for cell in cells):
        return "a judge is attacked itself, see the doubts"
    if not are_known(cells):
        return "whether a judge is one of the classifiers attacked was not checked"
    return "by the digests of their weights, no judge is one of the classifiers attacked"
