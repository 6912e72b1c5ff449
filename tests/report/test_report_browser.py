"""Reports in Chromium: zoom by keys, sorting, filter, no requests; by the package playwright."""

import os
from pathlib import Path

import pytest

from report.made_up import made_up
from report.test_run_page import ABOUT, result
from scoreag.report.demo import render_demo_page
from scoreag.report.task_run import write_report


@pytest.fixture
def script(browser_benchmark):
    return browser_benchmark("report_browser")


@pytest.mark.browser
@pytest.mark.slow
def test_pages_are_read_on_a_desktop_and_on_a_phone_in_light_and_dark(script, tmp_path):
    """AXE names axe.min.js, for the contrast."""
    run = write_report(result().save(tmp_path / "run", provenance=ABOUT))
    demo = tmp_path / "demo.html"
    demo.write_text(render_demo_page(made_up()), "utf-8")
    axe = Path(os.environ["AXE"]).read_text("utf-8") if "AXE" in os.environ else ""
    n_screens, faults = script.check_reports([run, demo], axe, None)
    assert n_screens == 16 and faults == []  # two pages and their zoom, in each kind of window


@pytest.mark.browser
@pytest.mark.slow
def test_a_page_whose_script_was_changed_does_not_run_it(script, tmp_path):
    """The browser refuses it, so the enlarged image and the sorted columns are missed."""
    page = tmp_path / "demo.html"
    changed = render_demo_page(made_up()).replace('"use strict";', '"use strict"; ')
    page.write_text(changed, "utf-8")
    _, faults = script.check_reports([page], "", None)
    assert any("Content Security Policy" in fault for fault in faults)
    assert any("Enter on a link enlarges nothing" in fault for fault in faults)
