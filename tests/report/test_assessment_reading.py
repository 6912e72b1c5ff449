"""The title, the names and the hints of an assessment that is written down by hand."""

import re

from report.test_compared import assessed, attacked, rows
from scoreag.report.robustness import write_report
from scoreag.report.robustness_reading import format_radius, suggest_stronger


def heading(folder):
    return re.search("<h1>(.*?)</h1>", write_report(folder).read_text())[1]


def test_an_assessment_is_titled_by_what_was_attacked(tmp_path):
    assessed(tmp_path, attacked("net", rows(8, 2)), attacked("robust", rows(8, 6)))
    assert heading(tmp_path).startswith("Robustness of net, robust to pgd")


def test_a_model_that_is_named_by_its_path_is_shown_by_the_last_part(tmp_path):
    assessed(tmp_path, attacked("/home/me/nets/mine", rows(8, 2)))
    html = write_report(tmp_path).read_text()
    assert "mine/none/pgd" in html and "/home" not in html


def test_an_attack_that_fools_on_no_image_is_named_with_what_to_try(tmp_path):
    account = assessed(
        tmp_path, attacked("net", rows(8, 8)), attacked("robust", rows(8, 7)),
        attacked("net", rows(8, 8), attack="gat", options={"attack_scale": 1.0}),
    )  # fmt: skip
    pgd, gat = suggest_stronger(account)
    assert pgd.startswith("To try: pgd fools net on 0 of 8 images; write a larger eps or more")
    assert "larger attack_scale or a smaller similarity" in gat
    assert pgd in write_report(tmp_path).read_text()


def test_a_radius_of_whole_levels_is_written_as_in_papers():
    assert [format_radius(eps) for eps in (8 / 255, 0.1)] == ["8/255", "0.1"]
