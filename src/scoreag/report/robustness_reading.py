"""What helps a reader of an assessment: its title, its plan, short names, and what to try."""

from collections.abc import Iterator, Mapping
from typing import Any

from scoreag.assess.experiments import CLEAN
from scoreag.assess.metrics import CellResult
from scoreag.assess.plan import NONE
from scoreag.assess.results import AssessmentResults
from scoreag.report.provenance import absolute_only, shorten_text
from scoreag.report.robustness_figures import in_distribution_cells, model_names

MAX_NAMES = 3  # of classifiers, in a title
UNNAMED = ("plan", "attack")  # plans whose name says nothing


def describe_title(assessment: AssessmentResults) -> str:
    """The classifiers; the attack, where there is one; the data, where all are the same."""
    cells = [one.cell for one in assessment.cells]
    classifiers = list(dict.fromkeys(cell.classifier for cell in cells))
    attacks = list(dict.fromkeys(cell.attack for cell in cells if cell.task != CLEAN))
    data = {cell.data for cell in cells if cell.task == CLEAN}
    who = ", ".join(classifiers)
    if len(classifiers) > MAX_NAMES:
        who = f"{len(classifiers)} classifiers"
    title = f"Robustness of {who}" + (f" to {attacks[0]}" if len(attacks) == 1 else "")
    return shorten_text(f"{title} on {data.pop()}" if len(data) == 1 else title)


def describe_plan(manifest: Mapping[str, Any]) -> str:
    """The name of the plan, where it has one of its own, and its description."""
    name = str(manifest["task"]).removeprefix("assess ")
    description = str(manifest.get("plan", {}).get("description") or "")
    return ": ".join(filter(None, ("" if name in UNNAMED else f"Plan {name}", description)))


def shorten_cells(assessment: AssessmentResults) -> dict[str, str]:
    """The models that are named by an absolute path, with the last part of it."""
    return absolute_only(model_names(assessment))


def suggest_stronger(assessment: AssessmentResults) -> Iterator[str]:
    """What to try where none of the variants of an attack fools a classifier."""
    variants: dict[tuple[str, str], list[CellResult]] = {}
    for one in in_distribution_cells(assessment):
        variants.setdefault((_describe_defense(assessment, one), one.cell.attack), []).append(one)
    for (defense, attack), cells in variants.items():
        if any(one.metrics["success"]["count"] for one in cells):
            continue
        total = max(one.metrics["success"]["total"] for one in cells)
        yield (
            f"To try: {attack} fools {defense} on 0 of {total} images; "
            f"{_stronger_options(cells[0])}."
        )


def _stronger_options(one: CellResult) -> str:
    options = one.cell.options
    if "attack_scale" in options:
        return (
            "write a larger attack_scale or a smaller similarity in the plan, or "
            'attack_scale = "auto", and check the classifier by scoreag doctor'
        )
    words = [name for name in ("eps", "steps") if name in options]
    more = f"write a larger {' or more '.join(words)}, or " if words else ""
    return f"{more}check the gradients of the classifier by scoreag doctor"


def format_radius(eps: float) -> str:
    """A whole number of 255ths as such, e.g. 8/255."""
    levels = 255 * eps
    return f"{levels:.0f}/255" if abs(levels - round(levels)) < 1e-6 else f"{eps:.4g}"


def _describe_defense(assessment: AssessmentResults, one: CellResult) -> str:
    cell, groups = one.cell, {other.cell.group for other in assessment.cells}
    behind = "" if cell.purifier_name == NONE else f" behind {cell.purifier_name}"
    place = f" ({cell.group})" if len(groups) > 1 else ""
    return f"{cell.classifier}{behind}{place}"
