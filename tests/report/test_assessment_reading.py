"""The title, the names, the hints and the figures of an assessment that is written down by hand."""

import csv
import re

from report.test_compared import assessed, attacked, rows
from scoreag.report.robustness import format_radius, suggest_stronger, write_report
from scoreag.report.robustness_figures import plot_radii


def heading(folder):
    return re.search("<h1>(.*?)</h1>", write_report(folder).read_text())[1]


def test_an_assessment_is_titled_by_what_was_attacked(tmp_path):
    assessed(tmp_path, attacked("net", rows(8, 2)), attacked("robust", rows(8, 6)))
    assert heading(tmp_path).startswith("Robustness of net, robust to pgd")


def test_a_model_that_is_named_by_its_path_is_shown_by_the_last_part(tmp_path):
    assessed(tmp_path, attacked("/home/me/nets/mine", rows(8, 2)))
    html = write_report(tmp_path).read_text()
    tables = "".join(file.read_text() for file in (tmp_path / "tables").iterdir())
    assert "mine/none/pgd" in html and "mine/none/pgd" in tables
    assert "/home" not in html and "/home" not in tables


def test_an_attack_that_fools_on_no_image_is_named_with_what_to_try(tmp_path):
    account = assessed(
        tmp_path, attacked("net", rows(8, 8)), attacked("robust", rows(8, 7)),
        attacked("net", rows(8, 8), attack="gat", options={"attack_scale": 1.0}),
    )  # fmt: skip
    pgd, gat = suggest_stronger(account)
    assert pgd.startswith("To try: pgd fools net on 0 of 8 images; write a larger eps or more")
    assert "larger attack_scale or a smaller similarity" in gat
    assert pgd in write_report(tmp_path).read_text()


def test_robust_accuracy_is_drawn_over_eps_from_the_clean_accuracy_on(tmp_path):
    account = assessed(
        tmp_path, attacked("net", rows(8, 6), epsilon=0.1), attacked("net", rows(8, 2), epsilon=0.3)
    )
    (chart,) = plot_radii(account)
    (curve,) = chart.lines
    assert list(curve.x) == [0.0, 0.1, 0.3] and list(curve.y) == [1.0, 0.75, 0.25]
    assert chart.is_fraction and curve.name == "net, pgd, 8 images"


def test_figures_lie_beside_the_page_as_files(tmp_path):
    assessed(
        tmp_path, attacked("net", rows(8, 6), epsilon=0.1), attacked("net", rows(8, 2), epsilon=0.3)
    )
    html = write_report(tmp_path).read_text()
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    assert {f"accuracy_vs_eps_01.{form}" for form in ("svg", "pdf", "csv")} <= names
    assert "(figures/accuracy_vs_eps_01.pdf)" in html
    _, first, *_ = csv.reader(
        (tmp_path / "figures/accuracy_vs_eps_01.csv").read_text().splitlines()
    )
    assert first[1:3] == ["0.0", "1.0"]


def test_a_radius_of_whole_levels_is_written_as_in_papers():
    assert [format_radius(eps) for eps in (8 / 255, 0.1)] == ["8/255", "0.1"]
