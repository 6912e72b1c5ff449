"""What came of an assessment: every cell's figures, differences, doubts; computed from its rows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from torch import Tensor

from scoreag.assess import distribution_metrics, metrics, sanity_checks, storage
from scoreag.assess.experiments import CLEAN, Cell
from scoreag.assess.sanity_checks import CheckInput, Finding, differing_options
from scoreag.assess.table import Columns, to_columns
from scoreag.classifiers.judges import CLEAN_IMAGES
from scoreag.io.filesystem import write_json
from scoreag.io.manifest import read_manifest
from scoreag.io.records import Row
from scoreag.io.run_dir import refuse_links
from scoreag.stats.estimates import MetricEntry, from_proportion
from scoreag.stats.proportion import Proportion, compute_proportion

MAX_SHOWN_IMAGES = 12  # images of a cell that a page shows, of each outcome


@dataclass(frozen=True, eq=False)
class CellResult:
    """A cell with what came of it; ``shown`` are some of its rows, of every outcome.

    Args:
        state: "done", "N of M images", "not begun", or "failed: why".
    """

    cell: Cell
    columns: Columns
    metrics: Mapping[str, MetricEntry]
    transfer: Mapping[str, MetricEntry]
    per_class: Sequence[Mapping[str, Any]]
    cost: Mapping[str, float]
    state: str
    sample_rows: Sequence[Row] = ()

    @property
    def gradient_mode(self) -> str:
        """Of which kind the attacker's were: exact, bpda or none; "" where he took none."""
        kind = self.cell.attacker_options.get("backward", "exact")
        return str(kind) if self.columns.uses_gradients else ""

    def to_dict(self) -> dict[str, Any]:
        cell = self.cell
        named = (
            "name",
            "group",
            "classifier",
            "purifier_name",
            "attack",
            "component",
            "seed",
            "images",
        )
        return {
            "key": cell.key,
            **{name: getattr(cell, name) for name in named},
            "sweep": dict(cell.sweep),
            "gradient_mode": self.gradient_mode,
            "shared_draw": cell.shared_draw,
            "state": self.state,
            "rows": len(self.columns),
            "metrics": dict(self.metrics),
            "transfer": dict(self.transfer),
            "per_class": list(self.per_class),
            "cost": dict(self.cost),
        }


@dataclass(frozen=True, eq=False)
class WorstCase:
    """What is left of a classifier behind a defence, when every image gets its worst attack.

    Args:
        accuracy: right at the first draw; ``drawn``: by the worst of several, and by vote.
        challenges: all that was done to it; two defences compare only where these are equal.
    """

    group: str
    classifier: str
    purifier: str
    n_attacks: int
    accuracy: MetricEntry
    randomized: Mapping[str, MetricEntry] = field(default_factory=dict)
    attack_signatures: frozenset[str] = frozenset()

    def to_dict(self) -> dict[str, Any]:
        return {
            "group": self.group, "classifier": self.classifier, "purifier": self.purifier,
            "attacks": self.n_attacks, "accuracy_under_all": self.accuracy,
            **{f"{name}_under_all": entry for name, entry in self.randomized.items()},
        }  # fmt: skip


@dataclass(frozen=True, eq=False)
class AssessmentResults:
    """An assessment, reckoned up.

    Args:
        differences: (attack, the one that it is held against, success minus success).
        defences: of each classifier and defence what all attacks together leave.
        victims: by set and victim, how often it is right on the images as they are.
        judges: by set and judge, the same; ``untouched``: by set, how often all of them are.
    """

    folder: Path
    manifest: Mapping[str, Any]
    cells: Sequence[CellResult]
    differences: Sequence[tuple[str, str, MetricEntry]]
    findings: Sequence[Finding]
    defenses: Sequence[WorstCase] = ()
    clean_accuracy: Mapping[str, Mapping[str, MetricEntry]] = field(default_factory=dict)
    judge_accuracy: Mapping[str, Mapping[str, Proportion]] = field(default_factory=dict)
    all_judges_accuracy: Mapping[str, MetricEntry] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """For summary.json."""
        return {
            "task": self.manifest["task"],
            "cells": {one.cell.name: one.to_dict() for one in self.cells},
            "clean_accuracy": {group: dict(found) for group, found in self.clean_accuracy.items()},
            "judges": {
                group: {word: from_proportion(rate) for word, rate in found.items()}
                for group, found in self.judge_accuracy.items()
            },
            "differences": [
                {"of": of, "minus": other, "success": entry}
                for of, other, entry in self.differences
            ],
            "defenses": [left.to_dict() for left in self.defenses],
            "findings": [finding.to_dict() for finding in self.findings],
        }


def aggregate(folder: Path) -> AssessmentResults:
    """Read an assessment's rows and compute all that is said of them.

    Raises:
        ValueError: the folder holds no assessment.
    """
    manifest = read_manifest(folder)
    if not str(manifest.get("task")).startswith("assess "):
        raise ValueError(f"{folder} holds {manifest.get('task')!r}, no assessment")
    refuse_links(folder, storage.ASSESSMENT_FILES)
    found: list[CellResult] = []
    doubts: list[Finding] = []
    victims: dict[str, dict[str, MetricEntry]] = {}
    judges: dict[str, Mapping[str, Proportion]] = {}
    untouched: dict[str, MetricEntry] = {}
    for group, members in groupby(storage.list_cells(folder), key=lambda cell: cell.group):
        real: Tensor | None = None
        for cell in members:
            kept = storage.read_cell(folder, cell)
            if cell.task == CLEAN:
                real = kept.features
            one, part = _aggregate_cell(folder, cell, kept, real)
            if cell.task == CLEAN and len(one.columns):
                victims[group] = _clean_accuracies(cell, one.columns)
            if (
                group not in judges
                and not cell.is_ood
                and one.columns.label_preserved_before is not None
            ):
                judges[group] = metrics.judge_baseline(one.columns)
                untouched[group] = from_proportion(
                    compute_proportion(one.columns.label_preserved_before, CLEAN_IMAGES)
                )
            doubts += sanity_checks.check_cell(part)
            found.append(replace(one, columns=replace(one.columns, rows=())))
        mine = [one.cell for one in found if one.cell.group == group]
        if any(len(one.columns) for one in found if one.cell.group == group):
            doubts += sanity_checks.check_judges(mine, judges.get(group, {}))
    doubts += sanity_checks.check_across_cells(
        [CheckInput(one.cell, one.columns, transfer=one.transfer) for one in found]
    )
    doubts.sort(key=lambda finding: not finding.is_error)
    differences, defences = list(_compare_attacks(found)), list(_worst_cases(found))
    return AssessmentResults(
        folder, manifest, found, differences, doubts, defences, victims, judges, untouched
    )


def write_summary(results: AssessmentResults) -> None:
    """summary.json of an assessment."""
    write_json(results.folder / "summary.json", results.to_dict())


def _aggregate_cell(
    folder: Path, cell: Cell, stored: storage.StoredCell, real: Tensor | None
) -> tuple[CellResult, CheckInput]:
    found = to_columns(stored.rows)
    if not len(found):
        state = _cell_state(folder, cell, 0)
        return CellResult(cell, found, {}, {}, [], {}, state), CheckInput(cell, found)
    figures = metrics.compute_metrics(cell, found)
    if cell.task != CLEAN and stored.features is not None and real is not None:
        of = f"saved images, against {len(real)} of the data"
        figures |= distribution_metrics.cached_distances(folder, cell, stored.features, real, of)
    width = 0 if stored.features is None else stored.features.shape[1]
    classes = max(len(cell.classes), 1 + int(found.labels.max()), 1 + int(found.predictions.max()))
    one = CellResult(
        cell=cell,
        columns=found,
        metrics=figures,
        transfer=metrics.transfer_success(cell, found),
        per_class=metrics.per_class_metrics(found, classes),
        cost=metrics.summarize_cost(found, stored.seconds, stored.memory_bytes),
        state=_cell_state(folder, cell, len(found)),
        sample_rows=_sample_rows(cell, found),
    )
    return one, CheckInput(cell, found, width, figures)


def _cell_state(folder: Path, cell: Cell, rows: int) -> str:
    if told := storage.read_failure(folder, cell):
        return f"failed: {told}"
    if rows == cell.images:
        return "done"
    return f"{rows} of {cell.images} images" if rows else "not begun"


def _sample_rows(cell: Cell, columns: Columns) -> list[Row]:
    """Some rows of each outcome: not fooled, fooled, wrong before."""
    if cell.task == CLEAN:
        return []
    outcomes = (
        columns.eligible & ~columns.adv_misclassified,
        columns.eligible & columns.adv_misclassified,
        ~columns.eligible,
    )
    chosen = [which.nonzero().flatten()[:MAX_SHOWN_IMAGES].tolist() for which in outcomes]
    return [columns.rows[i] for some in chosen for i in some]


def _clean_accuracies(cell: Cell, columns: Columns) -> dict[str, MetricEntry]:
    rates = {
        word: metrics.clean_accuracy(columns, word, cell)
        for word in (cell.classifier, *cell.transfer_targets)
    }
    return {
        word: from_proportion(rate)
        for word, rate in {**rates, **metrics.judge_baseline(columns)}.items()
    }


def _compare_attacks(results: Sequence[CellResult]) -> Iterator[tuple[str, str, MetricEntry]]:
    """Each attack against the first of its classifier, defence and ball, on the same images.

    Attacks that know of no ball are held against variants of their own only.
    """
    first: dict[tuple[Any, ...], CellResult] = {}
    for one in results:
        cell = one.cell
        if cell.task in (CLEAN, "purify") or not len(one.columns):
            continue
        nothing = cell.task == "synthesize"
        known = sanity_checks.norm_ball(cell)
        near = cell.component if None in known else known  # only equal radii are compared
        which = (
            cell.group,
            cell.classifier,
            cell.purifier_name,
            cell.data,
            cell.seed,
            nothing,
            near,
        )
        base = first.setdefault(which, one)
        entry = None if base is one else metrics.success_difference(one.columns, base.columns)
        if entry is not None:
            yield cell.name, base.cell.name, entry


def _worst_cases(results: Sequence[CellResult]) -> Iterator[WorstCase]:
    """For each classifier and defence, the images that stay right whatever attack is used.

    Purifiers that are judged alike are one defence, however the attacker's copies differ.
    """
    grouped: dict[tuple[str, ...], list[CellResult]] = {}
    for one in results:
        cell = one.cell
        if cell.task in ("attack", "transform") and not cell.is_ood and len(one.columns):
            judged = (cell.purifier, repr(dict(cell.purifier_options)), str(cell.shared_draw))
            grouped.setdefault((cell.group, cell.classifier, *judged), []).append(one)
    for (group, victim, *_), members in grouped.items():
        parts = [one.columns for one in members]
        plain = [c for c in (m.cell for m in members) if c.attacker_options == c.purifier_options]
        name = (plain or [members[0].cell])[0].purifier_name
        drawn = {
            n: from_proportion(rate) for n, rate in metrics.worst_case_randomized(parts).items()
        }
        rate = from_proportion(metrics.worst_case_accuracy(parts))
        done = frozenset(attack_signature(one) for one in members)
        yield WorstCase(group, victim, name, len(parts), rate, drawn, done)


def attack_signature(result: CellResult) -> str:
    """All that decides how hard an attack is, but whom it is made against: its settings, its
    images, and what the attacker knows of the defence."""
    cell = result.cell
    ids, content = result.columns.image_ids.tolist(), cell.content
    knows = (
        result.gradient_mode,
        [(n, cell.attacker_options.get(n)) for n in differing_options(cell)],
        cell.shared_draw,
    )
    data, prior = content.get("data"), content.get("prior") if cell.task == "transform" else None
    return repr((cell.component, sorted(cell.options.items()), cell.seed, ids, data, prior, knows))


def group_comparable(defenses: Sequence[WorstCase]) -> list[list[WorstCase]]:
    """The defences of one set that were given equal challenges, two or more together."""
    grouped: dict[tuple[str, frozenset[str]], list[WorstCase]] = {}
    for left in defenses:
        grouped.setdefault((left.group, left.attack_signatures), []).append(left)
    return [members for members in grouped.values() if len(members) > 1]
