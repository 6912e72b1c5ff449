"""Two people take part in a whole study in Chromium; needs Chromium and the package playwright."""

import os
from pathlib import Path

import pytest

from scoreag.study.build import write_study_folder
from study.made_studies import make_study, read_pool


@pytest.fixture
def script(browser_benchmark):
    return browser_benchmark("study_browser")


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.parametrize("design", ["name", "choose", "real"])
def test_a_study_is_taken_from_consent_to_download(script, tmp_path, design):
    """With keys alone and a reload; and on a phone.  AXE names axe.min.js, for the contrast."""
    enlarge = "lanczos" if design == "choose" else "nearest"
    study = make_study(read_pool(tmp_path / "runs"), design, enlarge=enlarge)
    write_study_folder(study, tmp_path / "study")
    axe = Path(os.environ["AXE"]).read_text("utf-8") if "AXE" in os.environ else ""
    lines = script.run_study(tmp_path / "study", axe, None, tmp_path)
    assert len(lines) == 2 and all("0 violations" in line for line in lines)
