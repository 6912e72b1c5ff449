"""The page and the tables of an assessment that is written down row by row."""

import csv
import io
import json

import pytest
import torch

import tiny
from assess.made_rows import cell, four
from report.test_page import checked
from scoreag.assess import runner
from scoreag.assess.results import aggregate
from scoreag.assess.score_batch import ScoredBatch
from scoreag.io.filesystem import write_json
from scoreag.io.images import encode_png
from scoreag.io.manifest import FORMAT, MANIFEST
from scoreag.report.robustness import summary_sentences, write_report
from scoreag.report.robustness_tables import build_tables
from scoreag.report.table_export import Table, to_csv, to_latex, to_markdown


def write_cell(folder, of, rows):
    image = encode_png(torch.zeros(3, 8, 8, dtype=torch.uint8))
    files = {f"cells/{of.key}/images/{row['position']}.png": image for row in rows}
    rows = [
        row | {"file": name, "original_file": name} for row, name in zip(rows, files, strict=True)
    ]
    runner.write_cell(folder, of)
    if rows:
        runner.write_shard(folder, of, ScoredBatch(rows, files, None, 1.0, 2**20))


@pytest.fixture
def folder(tmp_path):
    """The images as they are, PGD, GAT at two strengths, and a cell that failed."""
    clean = cell(name="s/clean", attack="clean", component="clean", options={})
    steady = [row | {"is_deterministic": {"net": True, "other": True}} for row in four()]
    right = [row | {"success": False, "success_float": False} for row in steady]
    cells = [(clean, right), (cell(), four(gradient_norm=0.0))]
    for strength in (1.0, 10.0):
        options = {"attack_scale": strength, "target": "runner_up"}
        gat = cell(
            name=f"s/net/none/gat,attack_scale={strength}", attack="gat", component="gat",
            options=options, sweep={"attack_scale": str(strength)},
        )  # fmt: skip
        cells.append((gat, four(target=2)))
    failed = cell(name="s/net/none/<b>", attack="<b>", component="<b>")
    cells.append((failed, []))
    for one in cells:
        write_cell(tmp_path, *one)
    runner.record_failure(tmp_path, failed, "it broke\ntrace")
    write_json(tmp_path / runner.CELLS_FILE, {one.name: one.key for one, _ in cells})
    write_json(
        tmp_path / MANIFEST,
        {"format": FORMAT, "task": "assess <made up>", "plan": {"images": 4}, "device": "cpu"},
    )
    return tmp_path


def test_the_page_says_it_in_a_sentence_first(folder):
    first, *_ = summary_sentences(aggregate(folder))
    assert first == (
        "net classifies 3 of 4 clean images correctly; pgd (eps 0.1) fools it on 1 of 3 images "
        "that it got right while the label is preserved (reference classifier judge: right on 4 "
        "of 4 untouched images, 51 to 100 %)."
    )


def test_the_page_is_whole_loads_nothing_and_escapes_what_it_is_told(folder):
    html = write_report(folder).read_text()
    loads = checked(html).loads
    assert loads and all(load.startswith(("data:image/png;base64,", "#")) for load in loads)
    assert "http:" not in html and "https:" not in html and html.count("<script") == 1
    assert "<b>" not in html.replace("<body>", "") and "&lt;made up&gt;" in html


def test_the_page_shows_doubts_failures_and_unfinished_cells_before_any_figure(folder):
    html = write_report(folder).read_text()
    assert "gradient that the attacker sees is zero at 4 of 4" in html
    assert "failed: it broke" in html
    headings = ("Sanity checks", "Incomplete experiments", "Attack success and robust accuracy")
    places = [html.index(f"<h2>{heading}</h2>") for heading in headings]
    assert places == sorted(places)
    assert html.index("not fooled") < html.index("misclassified before")


def test_the_summary_holds_every_cell_with_its_state_and_its_entries(folder):
    write_report(folder)
    found = json.loads((folder / "summary.json").read_text())
    pgd = found["cells"]["s/net/none/pgd"]
    assert pgd["state"] == "done" and pgd["rows"] == 4
    told = pgd["metrics"]["success_of_right"]
    assert (told["count"], told["total"], told["of"]) == (2, 3, "images right before")
    assert found["cells"]["s/net/none/<b>"]["state"] == "failed: it broke"
    assert [one["check"] for one in found["findings"] if one["is_error"]] == ["gradients", "judge"]


def test_an_assessment_is_no_run_and_a_run_no_assessment(folder, tmp_path):
    write_json(folder / MANIFEST, {"format": FORMAT, "task": "transform"})
    with pytest.raises(ValueError, match="no assessment"):
        aggregate(folder)


SMALL = Table(
    "t", "Title", "100 % of_it", ["what", "share", "size"],
    [["a|b", {"value": 0.5, "count": 1, "total": 2, "low": 0.1, "high": 0.9, "of": "x"}, 3],
     ["c", None, None]],
)  # fmt: skip


def test_tables_for_papers_are_escaped_and_have_the_interval():
    lines = [[*map(str.strip, line.split(" | "))] for line in to_markdown(SMALL).splitlines()]
    assert lines[2:5] == [
        ["| what", "share (%)", "size |"], ["| :---", "------------------:", "---: |"],
        [r"| a\|b", "50.0 (10.0 to 90.0)", "3 |"],
    ]  # fmt: skip
    latex = to_latex(SMALL)
    assert r"a\textbar{}b & 50.0 [10.0, 90.0] & 3 \\" in latex and r"100 \% of\_it" in latex
    assert r"what & share (\%) & size \\" in latex


NASTY = Table(
    "t", "Title", "of <script>alert(1)</script>", ["=cmd|' /C calc'!A0", "@b", "n"],
    [["<img src=x onerror=alert(1)>", "-2+3", -1.5], ["![x](http://e.x/y)", "+1", 2],
     ["a\nb & c", "\t=1", None], ["-", "\r=2", {"value": -0.5, "total": 3}]],
)  # fmt: skip


def test_a_table_to_be_read_holds_no_html_and_loads_nothing():
    text = to_markdown(NASTY)
    assert "<" not in text and ">" not in text and "](" not in text
    assert "&lt;img src=x onerror=alert(1)&gt;" in text and "a b &amp; c" in text
    assert {line.count(" | ") for line in text.splitlines()[2:] if line} == {2}


def test_words_in_a_table_for_machines_are_no_formulas_and_numbers_stay_numbers():
    header, first, second, third, fourth = csv.reader(io.StringIO(to_csv(NASTY)))
    assert header[:3] == ["'=cmd|' /C calc'!A0", "'@b", "n"]
    assert first[1:3] == ["'-2+3", "-1.5"] and second[1:3] == ["'+1", "2"]
    assert third[1] == "'\t=1" and fourth[1] == "' =2" and fourth[2] == "-0.5"
    assert first[0].startswith("<img")


def test_a_table_for_machines_has_a_column_for_each_end_of_an_interval():
    header, first, second = csv.reader(io.StringIO(to_csv(SMALL)))
    assert header == ["what", "share", "share low", "share high", "share of", "size"]
    assert first == ["a|b", "0.5", "0.1", "0.9", "2", "3"]
    assert second == ["c", "", "", "", "", ""]


def test_all_tables_are_written_in_four_forms(folder):
    write_report(folder)
    suffixes = {path.suffix for path in (folder / "tables").iterdir()}
    assert suffixes == {".csv", ".json", ".md", ".tex"}
    assert tiny.contents(folder / "tables")["cells.md"].count(b"\n| net ") == 3


def drawing(answers, name, attacked, **changes):
    """A cell of a purifier that was judged by so many draws."""
    said = {"before": [0] * answers, "saved": [0] * answers}
    one = cell(
        name=f"s/net/{name}/pgd", purifier_name=name, purifier="gap", attacker_options=attacked,
        eval_draws=answers, **changes,
    )  # fmt: skip
    return one, four(draw_predictions=said) if answers > 1 else four()


def test_cells_of_a_purifier_say_their_gradient_their_draws_and_what_all_attackers_leave(tmp_path):
    """12 draws, 3 draws by BPDA, and a fixed one: two defences, the first with two attackers."""
    cells = [
        drawing(12, "gap", {}),
        drawing(3, "gap_bpda", {"backward": "bpda"}),
        drawing(1, "gap_fixed", {}, shared_draw=True),
    ]
    for one in cells:
        write_cell(tmp_path, *one)
    write_json(tmp_path / runner.CELLS_FILE, {one.name: one.key for one, _ in cells})
    write_json(tmp_path / MANIFEST, {"format": FORMAT, "task": "assess x", "plan": {"images": 4}})
    made = {table.name: table for table in build_tables(aggregate(tmp_path))}
    drawn = made["randomized"]
    told = [["exact", "fresh"], ["bpda", "fresh"], ["exact", "shared"]]
    assert [row[4:6] for row in drawn.rows] == told
    first, second, third = (
        {name for name, field in zip(drawn.header, row, strict=True) if field is not None}
        for row in drawn.rows
    )
    assert {"attacked accuracy worst of 10", "attacked accuracy vote of 12"} <= first
    assert "clean accuracy vote of 3" in second and "clean accuracy vote of 12" not in second
    single = {"clean accuracy single", "attacked accuracy single"}
    assert third - {"classifier", "defense", "attack", "images", "gradient", "draws"} == single
    left = made["worst_case"]
    told = [["net", "gap", 2, "alone", 4], ["net", "gap_fixed", 1, "alone", 4]]
    assert [row[:5] for row in left.rows] == told
    assert left.joined().rows[0][:2] == ["net/gap", 2]
    assert left.header[6:] == ["worst of 3", "vote of 3"]
