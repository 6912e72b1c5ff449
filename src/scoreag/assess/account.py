"""What came of an assessment: every cell's figures, differences, doubts; computed from its rows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from torch import Tensor

from scoreag.assess import checks, checks_between, checks_judges, likeness, store, summary
from scoreag.assess.cells import CLEAN, Cell
from scoreag.assess.checks import Finding, Part, differing
from scoreag.assess.columns import Columns, columns
from scoreag.figures.entries import Entry, of_rate
from scoreag.judges import UNTOUCHED
from scoreag.metrics.accuracy import Rate, share
from scoreag.runs import folder as place
from scoreag.runs.rows import Row

SHOWN = 12  # images of a cell that a page shows, of each outcome


@dataclass(frozen=True, eq=False)
class Reckoned:
    """A cell with what came of it; ``shown`` are some of its rows, of every outcome.

    Args:
        state: "done", "N of M images", "not begun", or "failed: why".
    """

    cell: Cell
    found: Columns
    figures: Mapping[str, Entry]
    transfer: Mapping[str, Entry]
    classes: Sequence[Mapping[str, Any]]
    cost: Mapping[str, float]
    state: str
    shown: Sequence[Row] = ()

    @property
    def gradient(self) -> str:
        """Of which kind the attacker's were: exact, bpda or blind; "" where he took none."""
        kind = self.cell.attacked.get("backward", "exact")
        return str(kind) if self.found.gradients else ""

    def to_dict(self) -> dict[str, Any]:
        cell = self.cell
        named = ("name", "group", "victim", "purification", "attack", "component", "seed", "images")
        return {
            "key": cell.key,
            **{name: getattr(cell, name) for name in named},
            "swept": dict(cell.swept),
            "gradient": self.gradient,
            "fixed_draw": cell.fixed,
            "state": self.state,
            "rows": len(self.found),
            "figures": dict(self.figures),
            "transfer": dict(self.transfer),
            "per_class": list(self.classes),
            "cost": dict(self.cost),
        }


@dataclass(frozen=True, eq=False)
class Left:
    """What is left of a classifier behind a defence, when every image gets its worst attack.

    Args:
        accuracy: right at the first draw; ``drawn``: by the worst of several, and by vote.
        challenges: all that was done to it; two defences compare only where these are equal.
    """

    group: str
    victim: str
    purifier: str
    attacks: int
    accuracy: Entry
    drawn: Mapping[str, Entry] = field(default_factory=dict)
    challenges: frozenset[str] = frozenset()

    def to_dict(self) -> dict[str, Any]:
        return {
            "set": self.group, "victim": self.victim, "purifier": self.purifier,
            "attacks": self.attacks, "accuracy_under_all": self.accuracy,
            **{f"{name}_under_all": entry for name, entry in self.drawn.items()},
        }  # fmt: skip


@dataclass(frozen=True, eq=False)
class Account:
    """An assessment, reckoned up.

    Args:
        differences: (attack, the one that it is held against, success minus success).
        defences: of each classifier and defence what all attacks together leave.
        victims: by set and victim, how often it is right on the images as they are.
        judges: by set and judge, the same; ``untouched``: by set, how often all of them are.
    """

    folder: Path
    manifest: Mapping[str, Any]
    cells: Sequence[Reckoned]
    differences: Sequence[tuple[str, str, Entry]]
    findings: Sequence[Finding]
    defences: Sequence[Left] = ()
    victims: Mapping[str, Mapping[str, Entry]] = field(default_factory=dict)
    judges: Mapping[str, Mapping[str, Rate]] = field(default_factory=dict)
    untouched: Mapping[str, Entry] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """For summary.json."""
        return {
            "task": self.manifest["task"],
            "cells": {one.cell.name: one.to_dict() for one in self.cells},
            "clean_accuracy": {group: dict(found) for group, found in self.victims.items()},
            "judges": {
                group: {word: of_rate(rate) for word, rate in found.items()}
                for group, found in self.judges.items()
            },
            "differences": [
                {"of": of, "minus": other, "success": entry}
                for of, other, entry in self.differences
            ],
            "defences": [left.to_dict() for left in self.defences],
            "findings": [finding.to_dict() for finding in self.findings],
        }


def reckon(folder: Path) -> Account:
    """Read an assessment's rows and compute all that is said of them.

    Raises:
        ValueError: the folder holds no assessment.
    """
    manifest = place.read(folder)
    if not str(manifest.get("task")).startswith("assess "):
        raise ValueError(f"{folder} holds {manifest.get('task')!r}, no assessment")
    place.check_own(folder, store.OURS)
    found: list[Reckoned] = []
    doubts: list[Finding] = []
    victims: dict[str, dict[str, Entry]] = {}
    judges: dict[str, Mapping[str, Rate]] = {}
    untouched: dict[str, Entry] = {}
    for group, members in groupby(store.listed(folder), key=lambda cell: cell.group):
        real: Tensor | None = None
        for cell in members:
            kept = store.read(folder, cell)
            if cell.task == CLEAN:
                real = kept.features
            one, part = _reckoned(folder, cell, kept, real)
            if cell.task == CLEAN and len(one.found):
                victims[group] = _accuracies(cell, one.found)
            if group not in judges and not cell.strangers and one.found.shown_before is not None:
                judges[group] = summary.judges_alone(one.found)
                untouched[group] = of_rate(share(one.found.shown_before, UNTOUCHED))
            doubts += checks.of_one(part)
            found.append(replace(one, found=replace(one.found, rows=())))
        mine = [one.cell for one in found if one.cell.group == group]
        if any(len(one.found) for one in found if one.cell.group == group):
            doubts += checks_judges.of_group(mine, judges.get(group, {}))
    doubts += checks_between.of_all(
        [Part(one.cell, one.found, transfer=one.transfer) for one in found]
    )
    doubts.sort(key=lambda finding: not finding.grave)
    differences, defences = list(_differences(found)), list(_defences(found))
    return Account(
        folder, manifest, found, differences, doubts, defences, victims, judges, untouched
    )


def write_summary(account: Account) -> None:
    """summary.json of an assessment."""
    place.write_json(account.folder / "summary.json", account.to_dict())


def _reckoned(
    folder: Path, cell: Cell, kept: store.Kept, real: Tensor | None
) -> tuple[Reckoned, Part]:
    found = columns(kept.rows)
    if not len(found):
        state = _state(folder, cell, 0)
        return Reckoned(cell, found, {}, {}, [], {}, state), Part(cell, found)
    figures = summary.figures(cell, found)
    if cell.task != CLEAN and kept.features is not None and real is not None:
        of = f"saved images, against {len(real)} of the data"
        figures |= likeness.kept(folder, cell, kept.features, real, of)
    width = 0 if kept.features is None else kept.features.shape[1]
    classes = max(len(cell.classes), 1 + int(found.labels.max()), 1 + int(found.saved.max()))
    one = Reckoned(
        cell=cell,
        found=found,
        figures=figures,
        transfer=summary.transfer(cell, found),
        classes=summary.per_class(found, classes),
        cost=summary.cost(found, kept.seconds, kept.memory),
        state=_state(folder, cell, len(found)),
        shown=_shown(cell, found),
    )
    return one, Part(cell, found, width, figures)


def _state(folder: Path, cell: Cell, rows: int) -> str:
    if told := store.failure(folder, cell):
        return f"failed: {told}"
    if rows == cell.images:
        return "done"
    return f"{rows} of {cell.images} images" if rows else "not begun"


def _shown(cell: Cell, found: Columns) -> list[Row]:
    """Some rows of each outcome: not fooled, fooled, wrong before."""
    if cell.task == CLEAN:
        return []
    outcomes = (found.counted & ~found.fooled, found.counted & found.fooled, ~found.counted)
    chosen = [which.nonzero().flatten()[:SHOWN].tolist() for which in outcomes]
    return [found.rows[i] for some in chosen for i in some]


def _accuracies(cell: Cell, found: Columns) -> dict[str, Entry]:
    rates = {word: summary.clean_of(found, word, cell) for word in (cell.victim, *cell.others)}
    return {word: of_rate(rate) for word, rate in {**rates, **summary.judges_alone(found)}.items()}


def _differences(found: Sequence[Reckoned]) -> Iterator[tuple[str, str, Entry]]:
    """Each attack against the first of its classifier, defence and ball, on the same images.

    Attacks that know of no ball are held against variants of their own only.
    """
    first: dict[tuple[Any, ...], Reckoned] = {}
    for one in found:
        cell = one.cell
        if cell.task in (CLEAN, "purify") or not len(one.found):
            continue
        nothing = cell.task == "synthesize"
        known = checks_between.ball(cell)
        near = cell.component if None in known else known  # only equal radii are compared
        which = (cell.group, cell.victim, cell.purification, cell.data, cell.seed, nothing, near)
        base = first.setdefault(which, one)
        entry = None if base is one else summary.difference(one.found, base.found)
        if entry is not None:
            yield cell.name, base.cell.name, entry


def _defences(found: Sequence[Reckoned]) -> Iterator[Left]:
    """For each classifier and defence, the images that stay right whatever attack is used.

    Purifiers that are judged alike are one defence, however the attacker's copies differ.
    """
    grouped: dict[tuple[str, ...], list[Reckoned]] = {}
    for one in found:
        cell = one.cell
        if cell.task in ("attack", "transform") and not cell.strangers and len(one.found):
            judged = (cell.purifier, repr(dict(cell.purifier_options)), str(cell.fixed))
            grouped.setdefault((cell.group, cell.victim, *judged), []).append(one)
    for (group, victim, *_), members in grouped.items():
        parts = [one.found for one in members]
        plain = [c for c in (m.cell for m in members) if c.attacked == c.purifier_options]
        name = (plain or [members[0].cell])[0].purification
        drawn = {n: of_rate(rate) for n, rate in summary.together_drawn(parts).items()}
        rate = of_rate(summary.together(parts))
        done = frozenset(challenge(one) for one in members)
        yield Left(group, victim, name, len(parts), rate, drawn, done)


def challenge(one: Reckoned) -> str:
    """All that decides how hard an attack is, but whom it is made against: its settings, its
    images, and what the attacker knows of the defence."""
    cell = one.cell
    ids, content = one.found.image_ids.tolist(), cell.content
    knows = (one.gradient, [(n, cell.attacked.get(n)) for n in differing(cell)], cell.fixed)
    data, prior = content.get("data"), content.get("prior") if cell.task == "transform" else None
    return repr((cell.component, sorted(cell.options.items()), cell.seed, ids, data, prior, knows))


def alike(defences: Sequence[Left]) -> list[list[Left]]:
    """The defences of one set that were given equal challenges, two or more together."""
    grouped: dict[tuple[str, frozenset[str]], list[Left]] = {}
    for left in defences:
        grouped.setdefault((left.group, left.challenges), []).append(left)
    return [members for members in grouped.values() if len(members) > 1]
