"""Which cells a page speaks of where, and what it calls them."""

from scoreag.assess.experiments import CLEAN
from scoreag.assess.plan import NONE
from scoreag.assess.results import AssessmentResults, CellResult
from scoreag.assess.sanity_checks import digests_known
from scoreag.assess.sanity_checks import find_attacked_judges as judges_attacked
from scoreag.stats.estimates import MetricEntry
from scoreag.stats.proportion import Proportion


def cell_title(one: CellResult) -> str:
    """A cell without its set, which stands above it."""
    return one.cell.name.partition("/")[2]


def cell_label(assessment: AssessmentResults, name: str) -> str:
    """A cell's name, without its set where there is but one."""
    sets = {one.cell.group for one in assessment.cells}
    return name if len(sets) > 1 else name.partition("/")[2]


def attacked_cells(assessment: AssessmentResults) -> list[CellResult]:
    """The cells that have rows, but those whose images nothing is done to."""
    return [one for one in assessment.cells if one.cell.task != CLEAN and len(one.columns)]


def in_distribution_cells(assessment: AssessmentResults) -> list[CellResult]:
    """Of these, all but purifications and images of other data sets."""
    return [c for c in attacked_cells(assessment) if not c.cell.is_ood and c.cell.task != "purify"]


def strongest_variants(assessment: AssessmentResults) -> list[CellResult]:
    """Of each attack on a bare classifier the variant that fools most while judges agree."""
    best: dict[tuple[str, str, str], CellResult] = {}
    for one in in_distribution_cells(assessment):
        if one.cell.purifier_name != NONE:
            continue
        which = (one.cell.group, one.cell.classifier, one.cell.attack)
        if which not in best or success_key(one) > success_key(best[which]):
            best[which] = one
    return list(best.values())


def success_key(one: CellResult) -> float:
    """The share that is fooled while the judges agree; without judges, that is fooled."""
    entry = one.metrics.get("fooled_and_shown", one.metrics["success"])
    return float(entry["value"] or 0)


def judge_baseline(assessment: AssessmentResults, one: CellResult) -> MetricEntry | None:
    """How often the judges are right on images that nobody changed: the cell's own, or its set's.

    None where the cell has no judges, or nobody asked them.
    """
    if "judge_agreement" not in one.metrics:
        return None
    return one.metrics.get(
        "judge_agreement_before", assessment.all_judges_accuracy.get(one.cell.group)
    )


def describe_judges(assessment: AssessmentResults, group: str) -> str:
    """How good the judges of a set are, in words; "" where it has none."""
    words = next(
        (one.cell.reference_classifiers for one in assessment.cells if one.cell.group == group), ()
    )
    rates = assessment.judge_accuracy.get(group, {})
    return "; ".join(f"{word}: {_describe_proportion(rates.get(word))}" for word in words)


def _describe_proportion(proportion: Proportion | None) -> str:
    if proportion is None:
        return "how often it is right on untouched images is not known"
    low, high = (f"{100 * end:.0f}" for end in proportion.interval)
    return f"right on {proportion.count} of {proportion.total} {proportion.population}, {low} to {high} %"


def describe_independence(assessment: AssessmentResults) -> str:
    """What is known of whether the judges were attacked, in words."""
    cells = [one.cell for one in assessment.cells]
    if any(judges_attacked(cell) for cell in cells):
        return "a judge is attacked itself, see the doubts"
    if not digests_known(cells):
        return "whether a judge is one of the classifiers attacked was not checked"
    return "by the digests of their weights, no judge is one of the classifiers attacked"
