"""Trade-offs of an assessment as curves: what an attack gains, and what it pays for it."""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

from scoreag.assess.account import Account, Reckoned
from scoreag.figures.entries import Entry
from scoreag.report.assessment_cells import at_home, label, quality
from scoreag.report.page import figure
from scoreag.report.plots import SERIES, Curve, curves

SUCCESS = "fooled, of those right before"
SHOWN = "judges still see the class"


def trade_offs(account: Account) -> list[str]:
    """Success against LPIPS and against the judges' agreement, for each classifier and defence."""
    drawn: list[str] = []
    for where, members in _by_defence(account):
        for name, words in (("lpips", "LPIPS"), ("judge_agreement", SHOWN)):
            judging = quality(account, members[0].cell.group) if words == SHOWN else ""
            drawn += _panels(where, members, name, words, judging)
    return drawn


def over_strength(account: Account) -> list[str]:
    """Accuracy and the judges' agreement over s_y, for each attack that sweeps it."""
    drawn = []
    for where, members in _by_defence(account):
        for attack, some in groupby(members, key=lambda one: one.cell.attack):
            swept = sorted(
                (one for one in some if "strength" in one.cell.swept), key=lambda one: _at(one)
            )
            if len({_at(one) for one in swept}) > 1:
                judging = quality(account, members[0].cell.group)
                drawn.append(_over_strength(f"{where}, {attack}", swept, judging))
    return drawn


def _at(one: Reckoned) -> float:
    return float(one.cell.options["strength"])


def _by_defence(account: Account) -> list[tuple[str, list[Reckoned]]]:
    found: dict[str, list[Reckoned]] = {}
    for one in at_home(account):
        found.setdefault(label(account, one.cell.defence), []).append(one)
    return list(found.items())


def _panels(
    where: str, members: Sequence[Reckoned], name: str, words: str, judging: str
) -> Iterator[str]:
    lines = []
    counts = {len(one.found) for one in members}
    for attack, cells in groupby(members, key=lambda one: one.cell.attack):
        some = list(cells)
        if len(counts) > 1:  # other images: it says so
            attack += f" ({len(some[0].found)} images)"
        points = [(one.figures[name], _gain(one)) for one in some if name in one.figures]
        if points:
            lines.append(_curve(attack, sorted(points, key=lambda point: _value(point[0]))))
    if len(lines) < 2 and not any(len(line.x) > 1 for line in lines):
        return
    for start in range(0, len(lines), len(SERIES)):
        some_lines = lines[start : start + len(SERIES)]
        alt = f"{where}: success of {', '.join(line.name for line in some_lines)} over {words}"
        drawing = curves(some_lines, words, "success", alt=alt)
        more = f" Judge {judging}." if judging else ""
        told = f"{where}: {SUCCESS}, over {words}; the bands are 95 % intervals.{more}"
        yield figure(drawing, told)


def _gain(one: Reckoned) -> Entry:
    return one.figures.get("success_of_right", one.figures["success"])


def _value(entry: Entry) -> float:
    return float(entry["value"] or 0)


def _curve(name: str, points: Sequence[tuple[Entry, Entry]]) -> Curve:
    gains = [gain for _, gain in points]
    x = [_value(at) for at, _ in points]
    return Curve(name, x, [_value(g) for g in gains], _ends(gains, "low"), _ends(gains, "high"))


def _ends(entries: Sequence[Entry], end: str) -> list[float]:
    return [float(entry.get(end, _value(entry))) for entry in entries]


def _over_strength(where: str, swept: Sequence[Reckoned], judging: str) -> str:
    x = [_at(one) for one in swept]
    told: list[tuple[str, Callable[[Reckoned], Entry | None]]] = [
        ("accuracy", lambda one: one.figures["accuracy"]),
        (SHOWN, lambda one: one.figures.get("judge_agreement")),
        ("fooled while they do", lambda one: one.figures.get("fooled_and_shown")),
    ]
    lines = []
    for name, of in told:
        entries = [entry for one in swept if (entry := of(one)) is not None]
        if len(entries) == len(swept):
            y = [_value(entry) for entry in entries]
            lines.append(Curve(name, x, y, _ends(entries, "low"), _ends(entries, "high")))
    drawing = curves(
        lines, "strength s_y", "share", alt=f"{where}: accuracy over s_y", log_x=min(x) > 0
    )
    more = f" Judge {judging}." if judging else ""
    caption = f"{where}: accuracy, and what the judges see, over the strength s_y.{more}"
    return figure(drawing, caption)
