"""The tables of an analyzed study."""

from collections.abc import Iterator, Mapping
from typing import Any

from scoreag.report.table_export import Rows, Table
from scoreag.study.analysis import SCORES
from scoreag.study.exclusions import RULES

QUESTIONS = {  # by design, what the share is of
    "name": "sees the label",
    "choose": "chosen over the untouched image",
    "real": "taken for a photograph",
}
PROXY_FIGURES = {
    "spearman": "rank correlation",
    "auc_below_80": "AUC, below 80 %",
    "calibration_slope": "calibration slope",
}
AGREEMENT = {"krippendorff_alpha": "Krippendorff's alpha", "gwet_ac1": "Gwet's AC1"}
SUCCESS = ("seen_success", "ceiling", "validity_corrected_success")


def study_tables(summary: Mapping[str, Any]) -> list[Table]:
    """Shares by condition, validity-corrected success, agreement, proxies, odds and people."""
    tables = [_shares(summary), *_comparisons(summary), _people(summary["people"])]
    return [table.without_empty_columns() for table in tables if table.rows]


def _shares(summary: Mapping[str, Any]) -> Table:
    design = summary["study"]["design"]
    names = (SCORES[design], "unsure", "difference", "d_prime", "median_ms")
    rows: Rows = [
        [name, found["images"], *map(found.get, names)]
        for name, found in summary["conditions"].items()
    ]
    header = ["condition", "images", QUESTIONS[design], "cannot tell", "less the untouched images",
              "d'", "median time, ms"]  # fmt: skip
    caption = "Shares of answers, with 95 % intervals over people and images."
    return Table("conditions", "What people see", caption, header, rows)


def _comparisons(summary: Mapping[str, Any]) -> Iterator[Table]:
    conditions = summary["conditions"]
    validity: Rows = [
        [name, k, *map(found.get, SUCCESS)]
        for name, condition in conditions.items()
        for k, found in condition.get("validity", {}).items()
    ]
    header = ["condition", "k", "fooled and seen", "seen, untouched", "validity-corrected success"]
    caption = (
        "Images that fool the classifier and whose label is seen by k of k people, over the share "
        "of untouched images of which that holds."
    )
    yield Table("validity", "Validity-corrected success", caption, header, validity, names=2)
    agreement: Rows = [
        [name, *map(found.get, AGREEMENT)]
        for name, found in {"all images": summary["agreement"], **conditions}.items()
        if all(key in found for key in AGREEMENT)
    ]
    header, caption = ["images", *AGREEMENT.values()], "Agreement beyond chance."
    yield Table("agreement", "Agreement of people", caption, header, agreement)
    repeats: Rows = [["repeated images answered alike", summary["repeats_equal"]]]
    header, caption = ["answers", "share"], "The same person, asked twice."
    yield Table("repeats", "Agreement of a person", caption, header, repeats)
    proxies: Rows = [
        [name, "all images" if part == "all" else part, found["spearman"]["total"],
         *map(found.get, PROXY_FIGURES)]
        for name, parts in summary["proxies"].items()
        for part, found in parts.items()
    ]  # fmt: skip
    header = ["network", "condition", "images", *PROXY_FIGURES.values()]
    caption = "Numbers of networks against the share of people who see the label."
    yield Table("proxies", "What stands for people", caption, header, proxies, names=2)
    model = summary["mixed_model"]
    odds: Rows = [[name, one] for name, one in model.get("odds_ratios", {}).items()]
    caption = f"Odds of seeing the label, over those of {model.get('reference', '')}."
    yield Table("odds", "Mixed logistic model", caption, ["condition", "odds ratio"], odds)


def _people(people: Mapping[str, Any]) -> Table:
    rows: Rows = [
        ["read", people["read"]],
        *([RULES[rule], count] for rule, count in people["excluded"].items()),
        ["analyzed", people["analyzed"]],
    ]
    caption = "Rules of exclusion were fixed in the manifest before answers existed."
    return Table("people", "People", caption, ["rule", "people"], rows)
