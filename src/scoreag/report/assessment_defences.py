"""The tables of defences: by several draws, by kind of gradient, and what all attacks leave."""

from collections.abc import Mapping

from scoreag.assess.account import Account, Reckoned
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
    rows: list[list[Field]] = [
        [label(account, f"{left.group}/{left.victim}/{left.purifier}"), left.attacks,
         left.accuracy["total"], left.accuracy, *(left.drawn.get(name) for name in names)]
        for left in account.defences
    ]  # fmt: skip
    caption = (
        "Images that stay right whatever attack of the plan is used on them, the worst case: at "
        "one draw, and by several. Of a purifier all attackers count, however they differentiate."
    )
    header = ["defence", "attacks", "images", "right under all"]
    return Table("worst_case", caption, [*header, *(n.replace("_", " ") for n in names)], rows)
