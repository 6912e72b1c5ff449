"""The tables of an assessment: what stands in each, from its reckoning."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from scoreag.assess.account import Account, Reckoned
from scoreag.assess.plan import NONE
from scoreag.report.assessment_cells import (
    at_home,
    attacked,
    independence,
    label,
    name_of,
    quality,
    telling,
    untouched,
)
from scoreag.report.assessment_defences import defences, randomised
from scoreag.report.table_files import Field, Table

NOTHING = "from nothing"
MAIN = {  # the heading of each figure in the table of all cells
    "clean accuracy": "clean_accuracy",
    "accuracy": "accuracy",
    "fooled": "success",
    "fooled, of those right before": "success_of_right",
    "judges see the class": "judge_agreement",
    "judges right, untouched": "judge_agreement_before",
    "fooled, and judges see the class": "fooled_and_shown",
}
UNTOUCHED = "judge_agreement_before"
REJECTING = {"rejected": "rejected", "rejected before": "rejected_before"}  # where any may
CHANGES = {
    "LPIPS": "lpips", "SSIM": "ssim", "l2": "l2", "linf": "linf", "PSNR": "psnr",
    "Frechet": "frechet", "kernel": "kernel",
}  # fmt: skip


def tables(account: Account) -> list[Table]:
    """All that have a row."""
    made = [
        results(account), changes(account), randomised(account), defences(account),
        *transfers(account), differences(account), *class_by_class(account), served(account),
        strangers(account), costs(account),
    ]  # fmt: skip
    return [table for table in made if table.rows]


def results(account: Account) -> Table:
    may = any(one.found.rejected is not None for one in at_home(account))
    columns = MAIN | (REJECTING if may else {})
    rows: list[list[Field]] = []
    for one in at_home(account):
        rows.append(
            [
                label(account, one.cell.name),
                len(one.found),
                *(
                    untouched(account, one) if name == UNTOUCHED else one.figures.get(name)
                    for name in columns.values()
                ),
            ]
        )
    judging = f"; {independence(account)}" if any(one.cell.judges for one in account.cells) else ""
    caption = (
        "Every cell: set, classifier, purifier, attack. Shares with 95 % intervals (Wilson), of "
        f"the saved 8-bit images{judging}. Cells of other images, radii or attackers do not "
        "compare."
    )
    return Table("cells", caption, ["cell", "images", *columns], rows)


def changes(account: Account) -> Table:
    used = {h: n for h, n in CHANGES.items() if any(n in c.figures for c in attacked(account))}
    rows: list[list[Field]] = [
        [
            label(account, one.cell.name),
            len(one.found),
            *(one.figures.get(name) for name in used.values()),
        ]
        for one in attacked(account)
        if any(name in one.figures for name in used.values())
    ]
    extractors = {
        str((one.cell.content.get("features") or {}).get("name", "")) for one in attacked(account)
    }
    caption = (
        "How far the images moved: medians of l2, linf and PSNR, means of SSIM and LPIPS, colour "
        "values in [0, 1]. Frechet and kernel distances of the images to those of the data, in "
        f"features of: {', '.join(sorted(extractors - {''})) or 'none'}."
    )
    return Table("changes", caption, ["cell", "images", *used], rows)


def transfers(account: Account) -> Iterator[Table]:
    """For each set: images made against one classifier, shown to all."""
    for group, members in groupby(at_home(account), key=lambda one: one.cell.group):
        rows = [one for one in members if one.cell.purification == NONE and len(one.transfer) > 1]
        words = sorted({word for one in rows for word in one.transfer})
        caption = (
            f"{group}: images made against one classifier, shown to each: how often it errs, of "
            "the images that it got right before; of all, where images are made from nothing."
        )
        fields: list[list[Field]] = [
            [name_of(one), *(one.transfer.get(word) for word in words)] for one in rows
        ]
        yield Table(f"transfer_{group}", caption, ["made against, by", *words], fields)


def differences(account: Account) -> Table:
    rows: list[list[Field]] = [
        [label(account, of), label(account, minus), entry["total"], entry]
        for of, minus, entry in account.differences
    ]
    caption = (
        "Success of an attack minus that of the first one in the same ball, on the same images "
        "(paired interval of Bonett and Price): above 0 it fools more often. Attacks without a "
        "radius are held against variants of their own only."
    )
    return Table("differences", caption, ["attack", "against", "images", "difference"], rows)


def class_by_class(account: Account) -> Iterator[Table]:
    """For each attack at its most telling, by the class that an image shows."""
    for one in telling(account):
        names = one.cell.classes
        rows: list[list[Field]] = [
            [_class(found["label"], names), found["success"], found.get("judge_agreement"),
             found.get("judge_agreement_before"),
             becomes(found["label"], found["becomes"], names, found.get("rejected", 0))]
            for found in one.classes
            if sum(found["becomes"]) + found.get("rejected", 0)
        ]  # fmt: skip
        judging = quality(account, one.cell.group)
        caption = f"{label(account, one.cell.name)}, class by class{'. Judge ' * bool(judging)}"
        caption += f"{judging}."
        header = ["class", "fooled", "judges see the class", "judges right, untouched", "taken for"]
        yield Table(f"classes_{one.cell.key}", caption, header, rows)


def becomes(label: int, counts: Sequence[int], names: Sequence[str], rejected: int = 0) -> str:
    """The three classes that images of ``label`` are taken for most often, itself left out."""
    order = sorted(range(len(counts)), key=lambda i: -counts[i])
    found = [f"{_class(i, names)} {counts[i]}" for i in order if i != label and counts[i]]
    more = [f"rejected {rejected}"] if rejected else []
    return ", ".join(found[:3] + more) or "nothing else"


def served(account: Account) -> Table:
    """Which classes the score model draws badly: judged where guidance is weakest."""
    weakest: dict[str, Reckoned] = {}
    for one in at_home(account):
        if one.cell.task != "synthesize" or "judge_agreement" not in one.figures:
            continue
        held = weakest.get(one.cell.group)
        if held is None or _strength(one) < _strength(held):
            weakest[one.cell.group] = one
    rows: list[list[Field]] = []
    for one in weakest.values():
        ranked = sorted(one.classes, key=lambda found: found["judge_agreement"]["value"] or 0)
        rows += [
            [f"{one.cell.group}: {_class(found['label'], one.cell.classes)}",
             f"{_strength(one):g}", found["judge_agreement"]]
            for found in ranked
            if sum(found["becomes"])
        ]  # fmt: skip
    caption = (
        "How well the score model serves each class, worst first: the judges see the class that "
        "was asked for, in the draws with the least guidance. Judge "
        f"{'; '.join(quality(account, group) for group in weakest)}."
    )
    return Table("generator", caption, ["class", "strength", "judges see the class"], rows)


def _strength(one: Reckoned) -> float:
    return float(one.cell.options.get("strength", 0))


def strangers(account: Account) -> Table:
    names = {"answer changed": "success", "sure before": "confidence_before",
             "sure after": "confidence", "l2": "l2"}  # fmt: skip
    rows: list[list[Field]] = [
        [
            label(account, one.cell.name),
            one.cell.data,
            len(one.found),
            *(one.figures.get(n) for n in names.values()),
        ]
        for one in attacked(account)
        if one.cell.strangers
    ]
    caption = (
        "Images of another data set, none of whose classes the classifier knows: how often its "
        "answer changes, and how sure it is of it (mean probability)."
    )
    return Table("strangers", caption, ["cell", "data", "images", *names], rows)


def costs(account: Account) -> Table:
    names = {"score-model calls": "calls", "classifier calls": "forwards",
             "gradients": "backwards", "retries": "retries", "seconds": "seconds",
             "memory, MB": "memory_mb"}  # fmt: skip
    rows: list[list[Field]] = [
        [
            label(account, one.cell.name),
            len(one.found),
            *(one.cost.get(name) for name in names.values()),
        ]
        for one in attacked(account)
    ]
    caption = "What an image cost on average, and the most memory of a process."
    return Table("cost", caption, ["cell", "images", *names], rows)


def _class(label: int, names: Sequence[str]) -> str:
    return names[label] if label < len(names) else f"class {label}"
