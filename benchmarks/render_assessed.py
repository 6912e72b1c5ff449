"""The tables of an assessment: attacks on classifiers, on defences, and images from nothing."""

from collections import Counter
from collections.abc import Sequence

from markdown_parts import Row, share, short, table

from scoreag.stats.proportion import wilson_interval

DONE = "done"
REJECTED = ("rejected_before", "rejected")
BOTH = ("clean", "attacked")
MANY = 12  # names of cells, that a line does not hold


def assessed(data: Row) -> str:
    """Every cell is in one of three tables; n is beside each share."""
    cells = [cell for cell in data["cells"] if cell["state"] == DONE]
    plain = [cell for cell in cells if cell["purification"] == "none"]
    drawn, cleaned = ([c for c in plain if c["component"] == task] for task in ("gas", "gap"))
    moved = [cell for cell in plain if cell["component"] not in ("gas", "gap")]
    purified = [cell for cell in cells if cell["purification"] != "none"]
    text = f"\n{data['task']}: {data['minutes']:.0f} minutes."
    if not data.get("whole", True):
        text = f"\n{data['task']}, a part of its cells: {data['minutes']:.0f} minutes of one core."
    text += "".join(_clean(group, found) for group, found in data["clean"].items())
    text += "\n"
    if moved:
        text += "\nGiven images, attacked; medians of the distances over all n:\n\n"
        text += table(
            ["classifier", "attack", "n", "accuracy", "fooled, of those correct before",
             "fooled, and the judge sees the class", "Linf x 255", "L2", "LPIPS", "Fréchet",
             "s/image"],
            map(_moved, moved),
        )  # fmt: skip
    text += _compared(data.get("shown_differences", [])) + _transferred(moved) + _rejected(moved)
    if drawn:
        text += "\nDrawn from nothing:\n\n" + table(
            ["classifier", "attack", "n", "fooled", "the judge sees the class",
             "fooled, and the judge sees it", "Fréchet", "s/image"],
            map(_drawn, drawn),
        )  # fmt: skip
    if cleaned:
        head = ["classifier", "purification", "n", "clean accuracy", "accuracy after", "s/image"]
        text += "\nImages that nobody attacked, purified:\n\n" + table(head, map(_cleaned, cleaned))
    if purified:
        text += "\nBehind a purifier; K fresh draws that no attack saw:\n\n" + table(
            ["classifier", "purifier", "attack", "gradients", "n", "clean, one draw",
             "clean, worst of K", "clean, vote of K", "attacked, one draw", "worst of K",
             "vote of K", "K", "vote of all", "s/image"],
            map(_purified, purified),
        )  # fmt: skip
    return text + _together(data["defences"]) + _rest(data)


def _compared(differences: Sequence[Row]) -> str:
    """The attack that fools most images that still show their class, minus every other one."""
    if not differences:
        return ""
    body = [
        [
            one["of"].partition("/")[2],
            one["minus"].partition("/")[2],
            str(one["fooled_and_shown"]["total"]),
            "{value:+.3f} ({low:+.3f} to {high:+.3f})".format(**one["fooled_and_shown"]),
        ]
        for one in differences
    ]
    text = "\nFooled, and the judge sees the class: the best attack minus each other one, on the "
    text += "same images that were correct before; 95 % intervals of Bonett and Price:\n\n"
    return text + table(["best attack", "against", "n", "difference"], body)


def _clean(group: str, found: Row) -> str:
    rates = ", ".join(f"{name} {short(rate)}" for name, rate in found.items())
    return f" {group}, clean accuracy: {rates}."


def _named(cell: Row) -> str:
    swept = ", ".join(f"{name} {value}" for name, value in cell["swept"].items())
    return f"{cell['attack']} {swept}".strip()


def _seconds(cell: Row) -> str:
    seconds = cell["cost"]["seconds"]
    return f"{seconds:.2g}" if seconds < 100 else f"{seconds:.0f}"


def _number(figures: Row, name: str, digits: int) -> str:
    return f"{figures[name]['value']:.{digits}f}" if name in figures else ""


def _share(figures: Row, name: str) -> str:
    return short(figures[name]) if name in figures else ""


def _moved(cell: Row) -> list[str]:
    figures = cell["figures"]
    return [
        cell["victim"], _named(cell), str(cell["images"]), short(figures["accuracy"]),
        share(figures["success_of_right"]), _share(figures, "fooled_and_shown"),
        f"{255 * figures['linf']['value']:.0f}", f"{figures['l2']['value']:.2f}",
        _number(figures, "lpips", 4), _number(figures, "frechet", 1), _seconds(cell),
    ]  # fmt: skip


def _transferred(cells: list[Row]) -> str:
    """Images made against one classifier, shown to each."""
    asked = list(dict.fromkeys(name for cell in cells for name in cell["transfer"]))
    if len(asked) < 2:
        return ""
    rows = [
        [cell["victim"], _named(cell), *(_share(cell["transfer"], name) for name in asked)]
        for cell in cells
    ]
    told = "\nThe same images shown to each classifier: fooled, of those that it classified "
    told += "correctly before:\n\n"
    return told + table(["made for", "attack", *asked], rows)


def _rejected(cells: list[Row]) -> str:
    """How often a classifier that may reject does, before the attack and after it."""
    rows = [
        [cell["victim"], _named(cell), *(share(cell["figures"][n]) for n in REJECTED)]
        for cell in cells
        if "rejected" in cell["figures"]
    ]
    head = ["classifier", "attack", "rejected before: false alarms", "rejected"]
    return "\nBehind a detector:\n\n" + table(head, rows) if rows else ""


def _drawn(cell: Row) -> list[str]:
    figures = cell["figures"]
    return [
        cell["victim"], _named(cell), str(cell["images"]), share(figures["success"]),
        short(figures["judge_agreement"]), _share(figures, "fooled_and_shown"),
        _number(figures, "frechet", 1), _seconds(cell),
    ]  # fmt: skip


def _cleaned(cell: Row) -> list[str]:
    figures = cell["figures"]
    before, after = (_share(figures, name) for name in ("clean_accuracy", "accuracy"))
    return [cell["victim"], _named(cell), str(cell["images"]), before, after, _seconds(cell)]


def _purified(cell: Row) -> list[str]:
    figures = cell["figures"]
    worst = "attacked_accuracy_worst_of_"
    draws, *more = sorted(int(name.removeprefix(worst)) for name in figures if worst in name)
    clean, single = (_percent(figures.get(f"{of}_accuracy_single")) for of in BOTH)
    before = [_share(figures, f"clean_accuracy_{by}_of_{draws}") for by in ("worst", "vote")]
    others = [f"{_vote(figures, most)}, of {most}" for most in more] or [""]
    return [
        cell["victim"], cell["purification"], _named(cell), cell.get("gradient", ""),
        str(cell["images"]), clean, *before, single, share(figures[f"{worst}{draws}"]),
        _vote(figures, draws), str(draws), *others,
        _seconds(cell),
    ]  # fmt: skip


def _vote(figures: Row, draws: int) -> str:
    return share(figures[f"attacked_accuracy_vote_of_{draws}"])


def _percent(entry: Row | None) -> str:
    if entry is None:
        return ""
    low, high = wilson_interval(entry["value"], entry["total"])
    return f"{100 * entry['value']:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def _together(defences: Sequence[Row]) -> str:
    """The worst attack on each image: by one draw, and by the fewest draws that judged them all."""
    rows = [
        [one["victim"], one["purifier"], str(one["attacks"]), share(one["accuracy_under_all"]),
         *_under_all(one)]
        for one in defences
    ]  # fmt: skip
    drawn = any(one[-1] for one in rows)
    head = ["classifier", "purifier", "attacks", "accuracy under the worst attack, first draw",
            *(["in the worst of K", "by the vote of K", "K"] if drawn else [])]  # fmt: skip
    body = rows if drawn else [one[:4] for one in rows]
    return "\nThe same images under all attacks:\n\n" + table(head, body)


def _under_all(one: Row) -> list[str]:
    worst, end = "worst_of_", "_under_all"
    counts = [int(name.removeprefix(worst).removesuffix(end)) for name in one if worst in name]
    if not counts:
        return ["", "", ""]
    draws = min(counts)
    return [*(share(one[f"{by}_of_{draws}{end}"]) for by in ("worst", "vote")), str(draws)]


def _rest(data: Row) -> str:
    missing = [cell["name"] for cell in data["cells"] if cell["state"] != DONE]
    text = f"\nNot done: {_listed(missing)}.\n" if missing else ""
    doubts = [f"- {found['cell']}: {found['says']}" for found in data["doubts"]]
    return text + ("\nSanity checks:\n\n" + "\n".join(doubts) + "\n" if doubts else "")


def _listed(names: list[str]) -> str:
    """The cells by name, or, of many, how many of which classifier behind which purifier."""
    if len(names) <= MANY:
        return ", ".join(names)
    places = Counter("/".join(name.split("/")[1:3]) for name in names)
    return f"{len(names)} cells: " + ", ".join(f"{n} of {place}" for place, n in places.items())
