"""The page of an analyzed study, its files, and its figures as text for the terminal."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scoreag.io.bounded import parse_json, read_text
from scoreag.io.filesystem import write_json, write_text
from scoreag.io.manifest import MANIFEST
from scoreag.report.html import list_config, render_page
from scoreag.report.provenance import describe_reproduction
from scoreag.report.study_tables import AGREEMENT, PROXY_FIGURES, QUESTIONS, study_tables
from scoreag.report.table_export import Table, format_value, to_csv, write_tables
from scoreag.stats.estimates import MetricEntry
from scoreag.study.analysis import SCORES, TASK, Analysis
from scoreag.study.exclusions import RULES
from scoreag.study.manifest import CLEAN

Cell = str | tuple[str, str]


def check_out(folder: Path) -> None:
    """Refuse a folder that holds anything but an analysis."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; give another --out")
    if (folder / MANIFEST).exists():
        raise ValueError(f"{folder} holds a run or a study, no analysis; give another --out")
    if folder.is_dir() and any(folder.iterdir()) and not _is_analysis(folder):
        raise ValueError(f"{folder} is not empty and holds no analysis; give another --out")


def _is_analysis(folder: Path) -> bool:
    try:
        summary = parse_json(read_text(folder / "summary.json"))
    except (OSError, ValueError):
        return False
    return isinstance(summary, dict) and summary.get("task") == TASK


def write_analysis(analysis: Analysis, provenance: Mapping[str, Any], folder: Path) -> None:
    """Write ``report.html``, ``summary.json``, tables, ``items.csv`` and ``people.csv``.

    The last one names people: it is not for publication.
    """
    folder.mkdir(parents=True, exist_ok=True)
    summary = {**analysis.summary, "provenance": dict(provenance)}
    write_json(folder / "summary.json", summary)  # first: it tells that this is an analysis
    for name, rows in (("items", analysis.items), ("people", analysis.people)):
        write_text(folder / f"{name}.csv", to_csv(_to_table(name, rows)))
    write_tables(folder, study_tables(summary))
    write_text(folder / "report.html", render_study_page(summary))


def _to_table(name: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    header = list(dict.fromkeys(key for row in rows for key in row))
    fields = [[_to_field(row.get(key)) for key in header] for row in rows]
    return Table(name, name, "", header, fields)


def _to_field(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value


def render_study_page(summary: Mapping[str, Any]) -> str:
    """The page of a study's analysis."""
    study, people = summary["study"], summary["people"]
    return render_page(
        "study",
        title=f"Human study: {study['title']}",
        lead=[describe_result(summary)],
        question=QUESTIONS[study["design"]],
        score=SCORES[study["design"]],
        summary=summary,
        shares=_share_rows(summary),
        validity=_validity_rows(summary),
        agreement=_agreement_rows(summary),
        proxies=_proxy_rows(summary),
        proxy_header=("", "images", *PROXY_FIGURES.values()),
        odds=_odds_rows(summary["mixed_model"]),
        people=[
            ("read", str(people["read"])),
            *((RULES[rule], str(count)) for rule, count in people["excluded"].items()),
            ("analyzed", str(people["analyzed"])),
        ],
        config=list_config({**study, **summary.get("provenance", {})}),
        reproduction=_reproduction(summary.get("provenance", {})),
        footer=[f"Analyzed by scoreag {summary.get('provenance', {}).get('scoreag', '')}".strip()],
    )


def _reproduction(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """The command of the analysis, with the answers that it needs."""
    version = {"versions": {"scoreag": provenance.get("scoreag")}}
    return describe_reproduction({**provenance, **version})


def describe_result(summary: Mapping[str, Any]) -> str:
    """The first sentence of a page: how many answers, and the smallest share."""
    score = SCORES[summary["study"]["design"]]
    people, conditions = summary["people"], summary["conditions"]
    known = {n: c[score]["value"] for n, c in conditions.items() if c[score]["value"] is not None}
    least = min(known, key=lambda name: known[name])
    has_ceiling = CLEAN in known and least != CLEAN
    ceiling = f", and {100 * known[CLEAN]:.0f} % untouched" if has_ceiling else ""
    return (
        f"{people['analyzed']} of {people['read']} people gave {summary['answers']} answers. "
        f"{QUESTIONS[summary['study']['design']].capitalize()}: "
        f"{100 * known[least]:.0f} % of {least}{ceiling}."
    )


def _cell(entry: MetricEntry | None) -> Cell:
    """A metric, or why it has no value."""
    if entry is None:
        return ""
    if entry.get("value") is None:
        return ("none", str(entry.get("interval", "")))
    value, small = format_value(entry)
    return (value, small) if small else value


def _milliseconds(entry: MetricEntry) -> Cell:
    """A time in whole milliseconds."""
    if entry.get("value") is None or "low" not in entry:
        return _cell(entry)
    value, low, high = (f"{entry[name]:,.0f}" for name in ("value", "low", "high"))
    return value, f"{low} to {high}"


def _share_rows(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    score = SCORES[summary["study"]["design"]]
    return [
        {
            "name": name,
            "images": str(found["images"]),
            "share": found[score],
            "difference": _cell(found.get("difference")),
            "d_prime": _cell(found.get("d_prime")),
            "unsure": _cell(found["unsure"]),
            "median_ms": _milliseconds(found["median_ms"]),
        }
        for name, found in summary["conditions"].items()
    ]


def _validity_rows(summary: Mapping[str, Any]) -> list[tuple[Cell, ...]]:
    return [
        (
            f"{name}, {k} of {k} people",
            _cell(found["seen_success"]),
            _cell(found["ceiling"]),
            _cell(found["validity_corrected_success"]),
        )
        for name, condition in summary["conditions"].items()
        for k, found in condition.get("validity", {}).items()
    ]


def _agreement_rows(summary: Mapping[str, Any]) -> list[tuple[Cell, ...]]:
    parts = {"all images": summary["agreement"], **summary["conditions"]}
    return [
        (name, *(_cell(found[key]) for key in AGREEMENT))
        for name, found in parts.items()
        if all(key in found for key in AGREEMENT)
    ]


def _proxy_rows(summary: Mapping[str, Any]) -> list[tuple[Cell, ...]]:
    rows: list[tuple[Cell, ...]] = []
    for name, parts in summary["proxies"].items():
        for part, found in parts.items():
            images = str(found["spearman"]["total"])
            cells = (_cell(found.get(key)) for key in PROXY_FIGURES)
            rows.append((f"{name}, {'all images' if part == 'all' else part}", images, *cells))
    return rows


def _odds_rows(model: Mapping[str, Any]) -> list[tuple[Cell, ...]]:
    return [
        (name, (f"{one['value']:.2f}", f"{one['low']:.2f} to {one['high']:.2f}"))
        for name, one in model.get("odds_ratios", {}).items()
    ]


def format_study(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The main figures as lines."""
    score, people = SCORES[summary["study"]["design"]], summary["people"]
    lines = [("people", f"{people['analyzed']} of {people['read']} analyzed")]
    left_out = [(n, c) for n, c in people["excluded"].items() if c]
    lines += [(f"  {RULES[name]}", str(count)) for name, count in left_out]
    lines.append(("answers", str(summary["answers"])))
    words = QUESTIONS[summary["study"]["design"]]
    for name, found in summary["conditions"].items():
        lines.append((f"{name}: {words}", _line(found[score])))
        if (success := found.get("validity", {}).get("1")) is not None:
            entry = success["validity_corrected_success"]
            lines.append((f"{name}: validity-corrected success", _line(entry)))
        if "d_prime" in found:
            lines.append((f"{name}: d' of real and fake", _line(found["d_prime"])))
    for key, label in AGREEMENT.items():
        lines.append((label, _line(summary["agreement"][key])))
    lines.append(("repeats answered alike", _line(summary["repeats_equal"])))
    for name, parts in summary["proxies"].items():
        lines.append((f"{name}: rank correlation with people", _line(parts["all"]["spearman"])))
    if "missing" in summary["mixed_model"]:
        lines.append(("left out", summary["mixed_model"]["missing"]))
    return lines


def _line(entry: MetricEntry) -> str:
    cell = _cell(entry)
    return cell if isinstance(cell, str) else f"{cell[0]} ({cell[1]})"
