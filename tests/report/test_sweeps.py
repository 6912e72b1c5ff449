"""Accuracy over eps: on the page of an assessment, as a figure's file, and in Python."""

import pytest

import scoreag
from assess.made_rows import cell, four
from report.test_assessment import write_cell
from scoreag.assess import runner
from scoreag.io.filesystem import write_json
from scoreag.io.manifest import FORMAT, MANIFEST
from scoreag.plot import read_measurements
from scoreag.report.robustness import write_report


@pytest.fixture
def swept(tmp_path):
    """Four images under PGD at 0.1 and 0.2; the larger eps also fools image 10."""
    clean = cell(name="s/clean", attack="clean", component="clean", options={})
    changes = {"success": False, "success_float": False,
               "is_deterministic": {"net": True, "other": True}}  # fmt: skip
    untouched = [row | changes for row in four()]
    cells = [(clean, untouched)]
    for eps in ("0.2", "0.1"):
        options = {"norm": "Linf", "eps": float(eps)}
        one = cell(name=f"s/net/none/pgd,eps={eps}", options=options, sweep={"eps": eps})
        rows = four()
        if eps == "0.2":
            saved = {"before": 0, "float": 1, "saved": 1}
            rows[0] |= {"predictions": saved, "success": True, "success_float": True}
        cells.append((one, rows))
    for one in cells:
        write_cell(tmp_path, *one)
    write_json(tmp_path / runner.CELLS_FILE, {one.name: one.key for one, _ in cells})
    manifest = {"format": FORMAT, "task": "assess x", "plan": {"images": 4}, "device": "cpu"}
    write_json(tmp_path / MANIFEST, manifest)
    return tmp_path


def test_the_page_has_robust_accuracy_over_eps_and_so_has_a_file(swept):
    page = write_report(swept).read_text()
    assert "robust accuracy and label preservation vs. eps, pixels in [0, 1]" in page
    text = (swept / "figures" / "sweep_01.svg").read_text()
    assert text.startswith("<?xml") and "robust accuracy" in text
    names = {file.name for file in (swept / "figures").iterdir()}
    assert {f"figures/{name}" for name in names} <= {*runner.owned_paths(swept)}
    (swept / "figures" / "mine.svg").write_text("")
    assert "figures/mine.svg" not in {*runner.owned_paths(swept)}


def test_a_curve_of_the_folder_has_its_points_from_small_to_large(swept):
    axes = scoreag.plot.curves(swept).axes[0]
    assert axes.lines[0].get_xdata().tolist() == [0.1, 0.2]
    assert axes.lines[0].get_ydata().tolist() == [0.25, 0.0]  # 1 of 4, then none
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["net, pgd"]


def test_success_counts_the_images_that_were_right_before(swept):
    found = {
        one.options["eps"]: one.metrics["success_of_right"] for one in read_measurements(swept)
    }
    assert (found[0.1]["count"], found[0.1]["total"]) == (2, 3)
    axes = scoreag.plot.tradeoff(swept, x="l2").axes[0]
    assert sorted(axes.containers[0][0].get_ydata()) == pytest.approx([2 / 3, 1.0], abs=5e-5)
