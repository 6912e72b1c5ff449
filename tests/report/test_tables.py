"""Tables for papers and machines: one precision a column, labels, and files that a run owns."""

import csv
import io
import json
import re
from xml.etree import ElementTree

import pytest
from markupsafe import Markup

import tiny
from report.made_up import made_up
from scoreag import purify, transform
from scoreag.certify import run as certificates
from scoreag.evaluation import storage
from scoreag.io.run_dir import delete_owned, page_files
from scoreag.methods.result import FIGURES, TABLES, TASK_FILES
from scoreag.report.figure_export import to_svg_file
from scoreag.report.html import Chart, Curve, plot_curves
from scoreag.report.run_tables import (
    certificate_tables,
    demo_table,
    evaluation_tables,
    task_tables,
)
from scoreag.report.study_tables import study_tables
from scoreag.report.table_export import Table, to_csv, to_json, to_latex, to_markdown, to_table
from scoreag.report.task_run import write_report
from scoreag.stats.proportion import Proportion
from scoreag.study.analysis import analyze
from scoreag.study.answers import read_answers
from study.answered_studies import answer, make_manifest, write_json_answers

HALF = {"value": 0.5, "count": 1, "total": 2, "of": "x", "low": 0.0945, "high": 0.9055}
MEASURED = Table(
    "my table_1", "Sizes", "All of it", ["net", "attack", "success", "l2", "kernel", "n", "x", "y"],
    [
        ["a", "pgd", HALF, 0.5, {"value": -0.00123, "low": -0.01, "high": 0.0025}, 8, "", None],
        ["[b]", "gat", {**HALF, "value": 1.0}, 12.3456, {"value": 0.4, "total": 3}, 10, "", None],
    ],
    names=2,
)  # fmt: skip


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.rstrip("\\").split("&")]


def test_a_column_of_a_paper_has_one_unit_and_one_precision():
    lines = to_latex(MEASURED).splitlines()
    top = lines.index(r"\midrule")
    assert cells(lines[top - 1])[2:5] == [r"success (\%)", "l2", "kernel"]
    assert cells(lines[top + 1])[:6] == [
        "a", "pgd", "50.0 [9.4, 90.5]", "0.50", "$-$0.0012 [$-$0.0100, 0.0025]", "8"
    ]  # fmt: skip
    assert cells(lines[top + 2])[:6] == [
        "{}[b]",
        "gat",
        "100.0 [9.4, 90.5]",
        "12.35",
        "0.4000",
        "10",
    ]


def test_a_table_of_a_paper_has_a_caption_a_label_and_names_its_packages():
    text = to_latex(MEASURED)
    assert r"\caption[Sizes]{All of it}" in text and r"\label{tab:my-table-1}" in text
    assert (
        text.startswith("% \\usepackage{booktabs, graphicx}")
        and r"\begin{tabular}{llrrrrll}" in text
    )
    assert text.count("{") == text.count("}")


def test_the_names_of_a_row_are_one_field_on_a_page():
    page = MEASURED.joined()
    assert page.header[:2] == ["net/attack", "success"] and page.rows[1][0] == "[b]/gat"
    assert MEASURED.without_empty_columns().header == MEASURED.header[:-1]


def test_markdown_can_be_read_as_it_is():
    lines = to_markdown(MEASURED).splitlines()[2:]
    assert len({len(line) for line in lines}) == 1 and len(lines) == 4
    assert "-0.0012 (-0.0100 to 0.0025)" in lines[2]


def test_units_that_differ_within_a_column_stand_in_each_field():
    mixed = Table("t", "", "", ["metric", "value"], [["share", HALF], ["d", {"value": 12.5}]])
    text = to_markdown(mixed)
    assert "50.0 % (9.4 to 90.5)" in text and " 12.5 " in text and "value (%)" not in text


def test_a_bound_without_an_interval_has_no_columns_for_its_ends():
    table = Table("t", "", "", ["a"], [[{"value": 0.25, "unit": "share"}]])
    assert [*csv.reader(io.StringIO(to_csv(table)))] == [["a"], ["0.25"]]


def test_what_a_command_found_is_a_table_of_names_and_values_or_of_rows():
    assert to_table({"a": {"b": 1, "c": [2, 3]}, "d": True}).rows == [
        ["a.b", 1], ["a.c", "2, 3"], ["d", "true"],
    ]  # fmt: skip
    assert json.loads(to_json(to_table([{"x": 1}, {"y": "z"}])))["rows"] == [
        {"x": 1, "y": None}, {"x": None, "y": "z"},
    ]  # fmt: skip


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    given = tiny.images(3), tiny.labels(3)
    made = transform(tiny.prior(), tiny.victim(), *given, batch_size=4, progress=False)
    return made.save(tmp_path_factory.mktemp("runs") / "gat"), made


def test_the_tables_of_a_run_hold_what_the_result_counts(saved):
    folder, result = saved
    write_report(folder)
    rows = json.loads((folder / "tables" / "rates.json").read_text())["rows"]
    right = result.clean_predictions == result.labels
    fooled = next(row["value"] for row in rows if row["rate"] == "attack success")
    assert (fooled["count"], fooled["total"]) == (
        int((result.success & right).sum()),
        int(right.sum()),
    )


def test_overwriting_a_run_deletes_its_tables_and_figures_and_no_others(saved):
    folder, _ = saved
    write_report(folder)
    names = {
        p.relative_to(folder).as_posix()
        for kind in ("tables", "figures")
        for p in (folder / kind).iterdir()
    }
    assert names and names <= {*page_files(TABLES, FIGURES)}
    (folder / "tables" / "mine.csv").write_text("1")
    delete_owned(folder, TASK_FILES)
    assert [p.name for p in (folder / "tables").iterdir()] == ["mine.csv"]
    assert not (folder / "figures").exists()


def test_a_purification_without_labels_has_a_cost_and_distances(tmp_path):
    given = tiny.images(2)
    folder = purify(tiny.prior(), given, progress=False, batch_size=4).save(tmp_path / "gap")
    summary = json.loads((folder / "summary.json").read_text())
    assert [table.name for table in task_tables(summary)] == ["distances", "cost"]


RATE = Proportion(3, 4, "images").to_dict()
SMOOTHED = {
    "task": "certify smoothing", "images": 4, "rates": {"accuracy": RATE},
    "certified": {"0.25": RATE, "9": None}, "largest_radius": 1.2,
}  # fmt: skip
TRANSFORMED = {
    "task": "certify translation", "rates": {"accuracy": RATE},
    "certified": {"radius": {"1.0": RATE}},
}  # fmt: skip
BOUNDED = {
    "task": "certify generator", "classes": {"0": {**RATE, "upper": 0.9}}, "upper_mean": 0.8,
    "misclassified": RATE, "alpha": 0.001,
    "steered": {"misread": {"": {"budgets": {"1": {"bound": 0.95, "attack": RATE}}},
                            "0": {"budgets": {"1": {"bound": 0.99}}}}},
}  # fmt: skip


def test_certificates_have_tables_of_what_is_certified():
    main, rates = certificate_tables(SMOOTHED, {})
    assert main.rows == [["0.25", RATE], ["9", "beyond N"]] and rates.rows[0][0] == "accuracy"
    main, _ = certificate_tables(TRANSFORMED, {"config": {"transform": "translation"}})
    assert (main.name, main.rows) == ("certified_radius", [["1.0", RATE]])


def test_bounds_have_a_row_a_class_and_a_budget():
    classes, steered = certificate_tables(BOUNDED, {"classes": ["cat"]})
    assert [row[0] for row in classes.rows] == ["cat", "all classes"]
    assert [row[3]["value"] for row in classes.rows] == [0.9, 0.8]
    assert [row[:2] for row in steered.rows] == [["all classes", "1"], ["cat", "1"]]
    assert "95.0 & 75.0 [" in to_latex(steered)


@pytest.mark.parametrize("summary", [SMOOTHED, TRANSFORMED, BOUNDED], ids=lambda s: s["task"])
def test_a_certificate_owns_the_files_of_its_tables(summary):
    manifest = {"config": {"transform": "translation"}}
    names = {table.name for table in certificate_tables(summary, manifest)}
    assert {*page_files(names)} <= {*certificates.CERTIFICATE_FILES.owned}


def test_an_evaluation_has_its_metrics_by_section_and_beside_the_card():
    one = {"name": "test.accuracy", "card_value": 0.7, "recomputed": 0.75, "low": 0.5, "high": 0.9,
           "reason": "within"}  # fmt: skip
    found = {"model": {"name": "net"}, "metrics": {"test": {"accuracy": RATE}}, "compared": [one]}
    metrics, compared = evaluation_tables(found)
    assert metrics.rows == [["test, accuracy", 4, "images", RATE]]
    assert "0.750 (0.500 to 0.900)" in to_markdown(compared)
    assert {*page_files(("metrics", "comparison"))} <= {*storage.EVALUATION_FILES.owned}


def test_the_demo_counts_what_its_page_counts():
    table = demo_table(made_up())
    rows = {(row[0], row[1]): row for row in table.rows}
    gat, through = rows["GAT", "net <i>"], rows["PGD through GAP", "net <i>"]
    assert (gat[4]["count"], gat[4]["total"]) == (3, 3) and gat[7] == 24.0
    assert rows["GAT", "robust"][2] == 2 and rows["real images", "net <i>"][4] is None
    assert (through[3]["count"], through[3]["total"]) == (1, 2) and through[6] == "8/255"
    assert len(rows) == len(table.rows) == 12 and "GAS/drawn" in to_markdown(table.joined())


def test_a_study_has_a_table_a_question(tmp_path):
    manifest = make_manifest()
    write_json_answers(tmp_path, answer(manifest, "anna", [0, 1, 2], 0))
    write_json_answers(tmp_path, answer(manifest, "cleo", [0, 1, 0], 1))
    summary = analyze(manifest, read_answers(manifest, [tmp_path]), mixed=False).summary
    made = {table.name: table for table in study_tables(summary)}
    assert {"conditions", "agreement", "people"} <= made.keys()
    assert [row[0] for row in made["conditions"].rows] == ["clean", "gat"]


def test_a_figure_is_a_file_that_stands_alone():
    lines = [Curve("a <b>", [1, 2], [0.1, 0.9], [0, 0.8], [0.2, 1]), Curve("c", [1, 2], [1, 0])]
    chart = Chart(plot_curves(lines, "x", "y", alt="two"), "rises & falls <")
    text = to_svg_file(chart)
    root = ElementTree.fromstring(text.encode())
    assert root.tag == "{http://www.w3.org/2000/svg}svg" and root.get("width", "").endswith("pt")
    assert root[0].text == "rises & falls <"
    assert "var(" not in text and "currentColor" not in text and "#0072b2" in text
    assert not re.search(r"https?://(?!www\.w3\.org)", text)
    assert isinstance(chart.svg, Markup)
