"""The results of an assessment from its rows: metrics of every cell, comparisons, findings."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from torch import Tensor

from scoreag.assess import metrics, runner, sanity_checks
from scoreag.assess.experiments import CLEAN, Cell
from scoreag.assess.metrics import CellResult, Columns, to_columns
from scoreag.assess.sanity_checks import Finding, differing_options
from scoreag.classifiers.checks import CLEAN_IMAGES
from scoreag.core.rng import Stream
from scoreag.io.filesystem import check_regular_file, write_json, write_text
from scoreag.io.manifest import read_manifest
from scoreag.io.records import Row
from scoreag.io.run_dir import refuse_links
from scoreag.metrics.feature_distances import fid_with_jackknife, kid_with_std_error
from scoreag.stats.estimates import MetricEntry, from_estimate, from_proportion
from scoreag.stats.proportion import Proportion

MAX_SHOWN_IMAGES = 12  # images of each outcome of a cell on a page
MIN_IMAGES = 8  # of each set, for a distance between distributions
MAX_KERNEL_ROWS = 5000  # of the kernel matrix; more do not sharpen the estimate
N_BLOCKS = 20


@dataclass(frozen=True, eq=False)
class WorstCase:
    """The accuracy of a classifier with a defense under all attacks on it together.

    Args:
        accuracy: at the first draw; ``randomized``: by the worst of several draws, and by vote.
        attack_signatures: of all attacks; two defenses compare only where these are equal.
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


@dataclass(eq=False)
class AssessmentResults:
    """An assessment, aggregated.

    Args:
        differences: (attack, the attack that it is compared with, difference of success).
        shown_differences: the same of success with the label preserved: the best attack on a
            classifier and defense minus every other one.
        defenses: the worst case of each classifier and defense.
        clean_accuracy: by dataset and classifier, on the clean images.
        judge_accuracy: by dataset and reference classifier; all_judges_accuracy: of all at once.
    """

    folder: Path
    manifest: Mapping[str, Any]
    cells: list[CellResult] = field(default_factory=list)
    differences: Sequence[tuple[str, str, MetricEntry]] = ()
    shown_differences: Sequence[tuple[str, str, MetricEntry]] = ()
    findings: list[Finding] = field(default_factory=list)
    defenses: Sequence[WorstCase] = ()
    clean_accuracy: dict[str, Mapping[str, MetricEntry]] = field(default_factory=dict)
    judge_accuracy: dict[str, Mapping[str, Proportion]] = field(default_factory=dict)
    all_judges_accuracy: dict[str, MetricEntry] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """For summary.json."""
        return {
            "task": self.manifest["task"],
            "cells": {one.cell.name: one.to_dict() for one in self.cells},
            "clean_accuracy": self.clean_accuracy,
            "judges": {
                group: {word: from_proportion(rate) for word, rate in rates.items()}
                for group, rates in self.judge_accuracy.items()
            },
            "differences": [
                {"of": of, "minus": other, "success": entry}
                for of, other, entry in self.differences
            ],
            "shown_differences": [
                {"of": of, "minus": other, "fooled_and_shown": entry}
                for of, other, entry in self.shown_differences
            ],
            "defenses": [one.to_dict() for one in self.defenses],
            "findings": [asdict(finding) for finding in self.findings],
        }


def aggregate(folder: Path) -> AssessmentResults:
    """Read an assessment's rows and compute its results.

    Raises:
        ValueError: the folder holds no assessment.
    """
    manifest = read_manifest(folder)
    if not str(manifest.get("task")).startswith("assess "):
        raise ValueError(f"{folder} holds {manifest.get('task')!r}, no assessment")
    refuse_links(folder, runner.ASSESSMENT_FILES)
    results = AssessmentResults(folder, manifest)
    for group, cells in groupby(runner.list_cells(folder), key=lambda cell: cell.group):
        _add_group(results, group, list(cells))
    results.findings += sanity_checks.check_across_cells(results.cells)
    results.findings.sort(key=lambda finding: not finding.is_error)
    results.differences = list(_compare_attacks(results.cells))
    results.shown_differences = list(_compare_shown(results.cells))
    results.defenses = list(_worst_cases(results.cells))
    return results


def write_summary(results: AssessmentResults) -> None:
    """summary.json of an assessment."""
    write_json(results.folder / "summary.json", results.to_dict())


def _add_group(results: AssessmentResults, group: str, cells: Sequence[Cell]) -> None:
    """Aggregate the cells of a dataset, of which the clean one comes first."""
    real: Tensor | None = None
    n_rows = 0
    for cell in cells:
        stored = runner.read_cell(results.folder, cell)
        if cell.task == CLEAN:
            real = stored.features
        one = _aggregate_cell(results.folder, cell, stored, real)
        if cell.task == CLEAN and len(one.columns):
            results.clean_accuracy[group] = metrics.clean_accuracies(cell, one.columns)
        agree = one.columns.label_preserved_before
        if group not in results.all_judges_accuracy and not cell.is_ood and agree is not None:
            results.judge_accuracy[group] = metrics.judge_baseline(one.columns)
            results.all_judges_accuracy[group] = metrics.rate(agree, CLEAN_IMAGES)
        results.findings += sanity_checks.check_cell(one)
        results.cells.append(replace(one, columns=replace(one.columns, rows=())))
        n_rows += len(one.columns)
    if n_rows:
        results.findings += sanity_checks.check_judges(cells, results.judge_accuracy.get(group, {}))


def _aggregate_cell(
    folder: Path, cell: Cell, stored: runner.StoredCell, real: Tensor | None
) -> CellResult:
    columns = to_columns(stored.rows)
    result = CellResult(cell, columns, state=_cell_state(folder, cell, len(columns)))
    if not len(columns):
        return result
    entries = metrics.compute_metrics(cell, columns)
    if cell.task != CLEAN and stored.features is not None and real is not None:
        entries |= _cached_distances(folder, cell, stored.features, real)
    largest = max(int(columns.labels.max()), int(columns.predictions.max()))
    return replace(
        result,
        metrics=entries,
        transfer=metrics.transfer_success(cell, columns),
        per_class=metrics.per_class_metrics(columns, max(len(cell.classes), 1 + largest)),
        cost=metrics.summarize_cost(columns, stored.seconds, stored.memory_bytes),
        n_features=0 if stored.features is None else stored.features.shape[1],
        sample_rows=_sample_rows(cell, columns),
    )


def _cell_state(folder: Path, cell: Cell, rows: int) -> str:
    if message := runner.read_failure(folder, cell):
        return f"failed: {message}"
    if rows == cell.images:
        return "done"
    return f"{rows} of {cell.images} images" if rows else "not begun"


def _sample_rows(cell: Cell, columns: Columns) -> list[Row]:
    """Some rows of each outcome: not fooled, fooled, misclassified before."""
    if cell.task == CLEAN:
        return []
    eligible, fooled = columns.eligible, columns.adv_misclassified
    outcomes = (eligible & ~fooled, eligible & fooled, ~eligible)
    chosen = [which.nonzero().flatten()[:MAX_SHOWN_IMAGES].tolist() for which in outcomes]
    return [columns.rows[i] for some in chosen for i in some]


def _cached_distances(
    folder: Path, cell: Cell, generated: Tensor, real: Tensor
) -> dict[str, MetricEntry]:
    """Frechet and kernel distance of a cell's images to the data, cached beside the rows."""
    if min(len(generated), len(real)) < MIN_IMAGES:
        return {}
    file = runner.cell_folder(folder, cell) / runner.DISTANCES_FILE
    digest = hashlib.sha256()
    for rows in (generated, real):
        digest.update(rows.contiguous().numpy().tobytes())
    key = digest.hexdigest()[:16]
    with suppress(OSError, ValueError, KeyError, TypeError):
        check_regular_file(file)
        cached: dict[str, Any] = json.loads(file.read_text("utf-8"))
        if cached["features"] == key:
            return dict(cached["metrics"])
    name = str((cell.content.get("feature_extractor") or {}).get("name", cell.feature_extractor))
    generated, real = _shuffle(generated), _shuffle(real)
    fid = fid_with_jackknife(generated, real, name, N_BLOCKS)
    few = generated[:MAX_KERNEL_ROWS]
    kernel = kid_with_std_error(few, real[:MAX_KERNEL_ROWS], N_BLOCKS)
    population = f"saved images, against {len(real)} of the data, in features of {name}"
    entries = {
        "frechet": from_estimate(fid, population, len(generated), "jackknife"),
        "kernel": from_estimate(kernel, population, len(few), "disjoint blocks"),
    }
    write_text(file, json.dumps({"features": key, "metrics": entries}))
    return entries


def _shuffle(rows: Tensor) -> Tensor:
    """In a fixed random order, so that a block of rows is no class."""
    return rows[Stream("blocks", len(rows)).permutation(len(rows))]


def _compare_shown(results: Sequence[CellResult]) -> Iterator[tuple[str, str, MetricEntry]]:
    """The best attack by success with the label preserved, minus every other one.

    For each classifier, defense and seed; generated images have no other attack's images.
    """
    families: dict[tuple[Any, ...], list[CellResult]] = {}
    for one in results:
        cell = one.cell
        if cell.task in (CLEAN, "purify", "synthesize") or "fooled_and_shown" not in one.metrics:
            continue
        key = (cell.group, cell.classifier, cell.purifier_name, cell.data, cell.seed)
        families.setdefault(key, []).append(one)
    for members in families.values():
        best = max(members, key=lambda one: one.metrics["fooled_and_shown"]["value"] or 0)
        for other in members:
            if other is best:
                continue
            entry = metrics.success_difference(best.columns, other.columns, shown=True)
            if entry is not None:
                yield best.cell.name, other.cell.name, entry


def _compare_attacks(results: Sequence[CellResult]) -> Iterator[tuple[str, str, MetricEntry]]:
    """Each attack against the first one on the same defense, images and norm ball.

    Attacks without a ball are compared with their own variants only.
    """
    first: dict[tuple[Any, ...], CellResult] = {}
    for one in results:
        cell = one.cell
        if cell.task in (CLEAN, "purify") or not len(one.columns):
            continue
        ball = sanity_checks.norm_ball(cell)
        family = (
            cell.group, cell.classifier, cell.purifier_name, cell.data, cell.seed,
            cell.task == "synthesize", cell.component if None in ball else ball,
        )  # fmt: skip
        base = first.setdefault(family, one)
        entry = None if base is one else metrics.success_difference(one.columns, base.columns)
        if entry is not None:
            yield cell.name, base.cell.name, entry


def _worst_cases(results: Sequence[CellResult]) -> Iterator[WorstCase]:
    """The worst case of each classifier and defense over all attacks on it.

    Purifiers with equal options are one defense, whatever the options of the attacker's copies.
    """
    families: dict[tuple[str, ...], list[CellResult]] = {}
    for one in results:
        cell = one.cell
        if cell.task in ("attack", "transform") and not cell.is_ood and len(one.columns):
            identity = sanity_checks.defense_identity(cell)
            families.setdefault((cell.group, *identity), []).append(one)
    for (group, classifier, *_), members in families.items():
        parts = [one.columns for one in members]
        cells = [one.cell for one in members]
        aware = [cell for cell in cells if cell.attacker_options == cell.purifier_options]
        randomized = metrics.worst_case_randomized(parts)
        yield WorstCase(
            group, classifier, (aware or cells)[0].purifier_name, len(parts),
            from_proportion(metrics.worst_case_accuracy(parts)),
            {name: from_proportion(rate) for name, rate in randomized.items()},
            frozenset(attack_signature(one) for one in members),
        )  # fmt: skip


def attack_signature(result: CellResult) -> str:
    """What determines an attack apart from its target: options, images, and the attacker's
    knowledge of the defense."""
    cell, content = result.cell, result.cell.content
    knowledge = (
        result.gradient_mode,
        [(name, cell.attacker_options.get(name)) for name in differing_options(cell)],
        cell.shared_draw,
    )
    prior = content.get("prior") if cell.task == "transform" else None
    ids, options = result.columns.image_ids.tolist(), sorted(cell.options.items())
    return repr((cell.component, options, cell.seed, ids, content.get("data"), prior, knowledge))


def group_comparable(defenses: Sequence[WorstCase]) -> list[list[WorstCase]]:
    """Groups of two or more defenses of one dataset that had the same attacks."""
    groups: dict[tuple[str, frozenset[str]], list[WorstCase]] = {}
    for one in defenses:
        groups.setdefault((one.group, one.attack_signatures), []).append(one)
    return [members for members in groups.values() if len(members) > 1]
