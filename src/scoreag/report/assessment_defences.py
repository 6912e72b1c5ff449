"""The tables of defences: by several draws, by kind of gradient, and what all attacks leave."""

from collections.abc import Mapping, Sequence

from scoreag.assess.account import Account, Left, Reckoned, alike
from scoreag.assess.plan import NONE
from scoreag.figures.entries import Entry
from scoreag.report.assessment_cells import attacked, label
from scoreag.report.table_files import Field, Table


def randomised(account: Account) -> Table:
    """A row a cell; where cells were judged by different counts of draws, fields stay empty."""
    told = [(one, found) for one in attacked(account) if (found := _by_draws(one))]
    names = list(dict.fromkeys(name for _, found in told for name in found))
    names.sort(key=lambda name: not name.startswith("clean"))
    rows: list[list[Field]] = [
        [label(account, one.cell.name), len(one.found), one.gradient or "none",
         "fixed" if one.cell.fixed else "fresh", *(found.get(name) for name in names)]
        for one, found in told
    ]  # fmt: skip
    caption = (
        "Randomised classifiers, asked again with fresh draws that no attack saw: right on "
        "average (single), at every one of them (worst), and by their majority (vote). The "
        "gradient is the one that the attacker took; a fixed draw is the same one for attacker "
        "and judge."
    )
    header = ["cell", "images", "gradient", "draws", *(name.replace("_", " ") for name in names)]
    return Table("randomised", caption, header, rows)


def _by_draws(one: Reckoned) -> Mapping[str, Entry]:
    """The figures of several draws; of a fixed draw those of that one."""
    figures = one.figures
    if one.cell.fixed and "clean_accuracy" in figures:
        single = {"clean": figures["clean_accuracy"], "attacked": figures["accuracy"]}
        return {f"{name}_accuracy_single": entry for name, entry in single.items()}
    names = [n for n in figures if n.startswith(("clean_accuracy_", "attacked_accuracy_"))]
    return {name: figures[name] for name in names}


def defences(account: Account) -> Table:
    """A row a defence, whatever the attackers' copies were."""
    names = list(dict.fromkeys(name for left in account.defences for name in left.drawn))
    families = alike(account.defences)
    rows: list[list[Field]] = [
        [label(account, f"{left.group}/{left.victim}/{left.purifier}"), left.attacks,
         _family(left, families), left.accuracy["total"], left.accuracy,
         *(left.drawn.get(name) for name in names)]
        for left in account.defences
    ]  # fmt: skip
    caption = (
        "Images that stay right whatever attack of the plan is used on them, the worst case: at "
        "one draw, and by several. Of a purifier all attackers count, however they differentiate. "
        "Only rows with the same letter were given the same attacks, radii, images and attackers: "
        "no others compare."
    )
    header = ["defence", "attacks", "treated as", "images", "right under all"]
    return Table("worst_case", caption, [*header, *(n.replace("_", " ") for n in names)], rows)


def _family(left: Left, families: Sequence[Sequence[Left]]) -> str:
    """A letter that all defences of one treatment share; "alone" for one that no other had."""
    found = [i for i, members in enumerate(families) if left in members]
    return chr(ord("A") + found[0]) if found and found[0] < 26 else "alone"


def comparison(members: Sequence[Left]) -> str:
    """What is left of defences that were treated alike, and whether one keeps more."""
    best, *others = sorted(members, key=lambda left: -(left.accuracy["value"] or 0))
    close = [left for left in others if left.accuracy["high"] >= best.accuracy["low"]]
    told = "; ".join(f"{_named(left)} {_share(left)}" for left in (best, *others))
    many = "attack" if best.attacks == 1 else f"{best.attacks} attacks"
    says = (
        f"Under the same {many} on the same {best.accuracy['total']} images, right whichever is "
        f"used (95 % intervals): {told}."
    )
    if not close:
        return f"{says} Most is left of {_named(best)}."
    return (
        f"{says} The intervals of {_named(best)} and {', '.join(map(_named, close))} overlap: the "
        "difference is not established."
    )


def _named(left: Left) -> str:
    return left.victim if left.purifier == NONE else f"{left.victim} behind {left.purifier}"


def _share(left: Left) -> str:
    entry = left.accuracy
    ends = f"{100 * entry['low']:.0f} to {100 * entry['high']:.0f} %"
    return f"{entry['count']} of {entry['total']} ({ends})"
