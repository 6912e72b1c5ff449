"""The page of an assessment: what it found in a sentence, doubts, tables, curves, images, cost."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from scoreag.assess.account import Account, Reckoned, alike, reckon, write_summary
from scoreag.assess.cells import CLEAN
from scoreag.assess.plan import NONE
from scoreag.figures.entries import Entry
from scoreag.files import write_text
from scoreag.report import table_files
from scoreag.report.assessment_cells import at_home, label, quality, weight
from scoreag.report.assessment_curves import over_strength, trade_offs
from scoreag.report.assessment_defences import comparison
from scoreag.report.assessment_images import blocks
from scoreag.report.assessment_tables import tables
from scoreag.report.page import Entry as Words
from scoreag.report.page import page, paragraph, section, table, terms
from scoreag.report.run import FOOT
from scoreag.report.table_files import Table
from scoreag.runs.manifest import leaves

TITLES = {  # of the sections, by the names of their tables
    "cells": "What each attack achieves",
    "worst_case": "What is left when all attacks are used",
    "randomised": "Randomised defences",
    "transfer": "Made against one, shown to others",
    "differences": "One attack against another",
    "changes": "How far the images moved",
    "classes": "Class by class",
    "generator": "Classes that the score model serves badly",
    "strangers": "Inputs from another data set",
    "cost": "What it cost",
}
WORDS = (
    ("right before", "the classifier says the label of the image before the attack."),
    ("fooled", "it does not say the label to the saved 8-bit image."),
    ("judge", "another classifier, asked only when all is done; it stands in for a person who says "
     "what a picture shows, as far as it is right on untouched images."),
    ("gas", "images drawn from nothing, of a class that the classifier takes for another."),
    ("gat", "images drawn again near the given ones by a score model, until the classifier errs."),
    ("gap", "the most natural image near a given one: as an attack it is none, as a purifier it "
     "stands before the classifier."),
)  # fmt: skip


def write_report(folder: Path) -> Path:
    """Write summary.json, report.html and the tables of an assessment; the page's file."""
    account = reckon(folder)
    write_summary(account)
    table_files.write(folder / "tables", tables(account))
    file = folder / "report.html"
    write_text(file, assessment_page(account))
    return file


def assessment_page(account: Account) -> str:
    """The page, as HTML."""
    made = tables(account)
    drawn, swept = trade_offs(account), over_strength(account)
    body = [
        *_doubts(account),
        *_unfinished(account),
        *_sections(made[:1]),
        *([section("What it costs in likeness", *drawn)] if drawn else []),
        *([section("Over the strength of guidance", *swept)] if swept else []),
        *_sections(made[1:]),
        section("Images", *blocks(account)),
        section("The words", terms(WORDS)),
        section("How it came about", terms(_settings(account))),
    ]
    name = str(account.manifest["task"]).removeprefix("assess ")
    return page(f"Assessment: {name}", list(lead(account)), body, [_foot(account)])


def lead(account: Account) -> Iterator[str]:
    """The outcome, for someone who reads nothing else."""
    for group, victims in account.victims.items():
        mine = [one for one in at_home(account) if one.cell.group == group]
        first = next((one for one in account.cells if one.cell.group == group), None)
        if first is None or not mine:
            continue
        victim = first.cell.victim
        of_victim = [c for c in mine if c.cell.victim == victim]
        yield _attacked(victim, victims[victim], of_victim, quality(account, group))
        defences = [left for left in account.defences if left.group == group]
        yield from (comparison(members) for members in alike(defences))
    grave = sum(finding.grave for finding in account.findings)
    if grave:
        yield f"Read this first: {grave} of the checks below say that a figure may mislead."


def _attacked(victim: str, clean: Entry, mine: Sequence[Reckoned], judging: str) -> str:
    """The attack that fools most while the judges still see the class, of those on equal images."""
    bare = _on_equal_images([one for one in mine if one.cell.purification == NONE])
    told = f"{victim} is right on {_part(clean)} images as they are"
    if not bare:
        return f"{told}."
    best = max(bare, key=weight)
    entry = best.figures.get("fooled_and_shown", best.figures["success"])
    sees = f", while the judges still see in them what they show ({judging})"
    unseen = "; whether these still show their class was not checked, as the set has no judge"
    among = f"images {'drawn' if best.cell.task == 'synthesize' else 'that it got right'}"
    return (
        f"{told}; the attack {_words(best)} fools it on {_part(entry)} {among}"
        f"{sees if 'fooled_and_shown' in best.figures else unseen}."
    )


def _on_equal_images(cells: Sequence[Reckoned]) -> list[Reckoned]:
    """Those that were given the largest set of images; images from nothing where that is all."""
    given = [one for one in cells if one.cell.task != "synthesize"] or list(cells)
    ids = [frozenset(one.found.image_ids.tolist()) for one in given]
    most = max(ids, key=len, default=frozenset())
    return [one for one, mine in zip(given, ids, strict=True) if mine == most]


def _words(one: Reckoned) -> str:
    """The attack with what is swept, and with its radius."""
    told = dict(one.cell.swept)
    if "epsilon" not in told and "epsilon" in one.cell.options:
        told["epsilon"] = f"{one.cell.options['epsilon']:.4g}"
    swept = ", ".join(f"{name} {value}" for name, value in told.items())
    return f"{one.cell.attack} ({swept})" if swept else one.cell.attack


def _part(entry: Entry) -> str:
    return f"{entry['count']} of {entry['total']}"


def _doubts(account: Account) -> list[str]:
    if not account.findings:
        return [section("Doubts", paragraph("None of the checks found anything to doubt."))]
    alike: dict[tuple[bool, str, str], list[str]] = {}
    for f in account.findings:
        alike.setdefault((f.grave, f.check, f.says), []).append(label(account, f.cell))
    rows: list[list[Words]] = [
        [("grave" if grave else "note", check), _some(cells), says]
        for (grave, check, says), cells in alike.items()
    ]
    return [section("Doubts", table("What the checks found.", ("", "cell", "what"), rows))]


def _some(cells: Sequence[str]) -> Words:
    """The first of several cells, and how many there are."""
    return (cells[0], f"and {len(cells) - 1} cells more") if len(cells) > 1 else cells[0]


def _unfinished(account: Account) -> list[str]:
    rows = [[one.cell.name, one.state] for one in account.cells if one.state != "done"]
    if not rows:
        return []
    caption = "Cells that are not finished: the same command goes on, and tries failed ones again."
    return [section("Not finished", table(caption, ("cell", "state"), rows))]


def _sections(made: Sequence[Table]) -> Iterator[str]:
    """A section for each title, which may have several tables."""
    for key, title in TITLES.items():
        mine = [one for one in made if one.name == key or one.name.startswith(f"{key}_")]
        if mine:
            yield section(title, *(_html(one) for one in mine))


def _html(one: Table) -> str:
    rows = [[_field(field) for field in row] for row in one.rows]
    return table(one.caption, ["", *one.header[1:]], rows)


def _field(field: table_files.Field) -> Words:
    value, small = table_files.told(field)
    return (value, small) if small else value


def _settings(account: Account) -> list[tuple[str, str]]:
    """The plan, and the digests of what its words meant."""
    plan = [(name, str(value)) for name, value in leaves(account.manifest.get("plan", {}))]
    found: dict[str, str] = {}
    for one in account.cells:
        cell, content = one.cell, one.cell.content
        known = {cell.victim: content.get("victim"), cell.prior: content.get("prior")}
        for word, of in {**known, **content.get("judges", {})}.items():
            if of:
                found[f"sha256 of {word}"] = str(of["sha256"])
        if cell.task == CLEAN:
            found[f"sha256 of {cell.data}"] = str(content.get("data", {}).get("sha256"))
    return [*plan, *found.items()]


def _foot(account: Account) -> str:
    known = dict(leaves(account.manifest))
    told = ", ".join(f"{name.split('.')[-1]} {known[name]}" for name in FOOT if known.get(name))
    return f"{known.get('command') or ''} - {told}"
