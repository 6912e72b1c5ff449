"""The measure ``semantic`` in an assessment: rows, metrics, tables, and what is refused."""

import json

import pytest
import torch

import tiny
from assess.test_assess import run
from assess.worlds_of_plans import PLAN, write_net, write_world
from scoreag.assess.results import aggregate
from scoreag.assess.runner import list_cells, read_cell
from scoreag.core.rng import Stream
from scoreag.data.humans import HumanAnswers
from scoreag.data.loading import Dataset
from scoreag.io.images import read_png, to_float
from scoreag.metrics.semantic import load_semantic
from scoreag.models.model_cards import load_card
from scoreag.report.robustness import write_report
from scoreag.report.robustness_tables import semantic_table
from scoreag.training.semantic_training import train_semantic

pytestmark = pytest.mark.usefixtures("one_thread")
SHORT = PLAN.partition("[purifiers.gap]")[0].replace('"net", "other"]', '"net"]')
ATTACKS = '[attacks.pgd]\neps = "64/255"\nsteps = 2\n\n[attacks.gas]\nsteps = 2\n'
WITH = SHORT.replace("prior = ", 'semantic = "people"\nprior = ') + ATTACKS
COUNT = 100


def write_measure(folder, names):
    """A measure that mixes some networks."""
    labels = Stream(4).integers(3, (COUNT,))
    data = Dataset(tiny.images(COUNT), labels, tuple(range(COUNT)), tiny.CLASSES, "made")
    counts = 5 * torch.nn.functional.one_hot(labels, 3) + 1
    answers = HumanAnswers(counts, "made", "", "unspecified", "", tiny.CLASSES)
    return train_semantic([load_card(folder / n) for n in names], data, answers, folder / "people")


@pytest.fixture
def here(tmp_path, monkeypatch):
    write_world(tmp_path)
    write_net(tmp_path / "peer", 31)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_rows_have_what_the_measure_says_of_the_saved_image_and_the_one_before(here):
    write_measure(here, ["judge", "peer"])
    run(here / "out", WITH)
    measure = load_semantic("people")
    cells = {cell.attack: cell for cell in list_cells(here / "out")}
    assert {*cells} == {"clean", "pgd", "gas"}
    for name, cell in cells.items():
        for row in read_cell(here / "out", cell).rows:
            kinds = {"saved": row["file"], "before": row.get("original_file")}
            assert {*row["semantic"]} == {kind for kind, file in kinds.items() if file}
            for kind in row["semantic"]:
                image = to_float(read_png(here / "out" / kinds[kind]))[None]
                scores = measure(image, torch.tensor([row["label"]]))
                entry = row["semantic"][kind]
                assert entry["share"] == pytest.approx(float(scores.share), abs=1e-3)
                assert (entry["in_set"], entry["clear"]) == (
                    bool(scores.in_set), bool(scores.clear)
                )  # fmt: skip
        assert name == "gas" or all("before" in row["semantic"] for row in
                                    read_cell(here / "out", cell).rows)  # fmt: skip


def test_summary_and_report_show_it_and_say_what_it_is_calibrated_on(here):
    write_measure(here, ["judge", "peer"])
    run(here / "out", WITH)
    results = aggregate(here / "out")
    one = next(one for one in results.cells if one.cell.attack == "pgd")
    rows = read_cell(here / "out", one.cell).rows
    shares = [row["semantic"]["saved"]["share"] for row in rows]
    assert one.metrics["semantic"]["value"] == pytest.approx(sum(shares) / len(shares))
    in_set = sum(row["semantic"]["saved"]["in_set"] for row in rows)
    assert one.metrics["semantic_in_set"]["count"] == in_set
    assert "semantic_before" in one.metrics
    table = semantic_table(results)
    assert "clean" in table.rows[0][: table.names]
    page = write_report(here / "out").read_text()
    assert "What people would see" in page and "calibrated on real images only" in page
    summary = json.loads((here / "out" / "summary.json").read_text())
    assert any("semantic" in cell["metrics"] for cell in summary["cells"].values())


def test_without_a_measure_nothing_changes(here):
    cells, _ = run(here / "out", SHORT + ATTACKS)
    assert "semantic" not in cells[0].content
    assert all("semantic" not in row for row in read_cell(here / "out", cells[0]).rows)
    assert not semantic_table(aggregate(here / "out")).rows


def test_a_measure_that_mixes_the_attacked_classifier_is_refused(here):
    write_measure(here, ["judge", "net"])
    with pytest.raises(ValueError, match=r"line 8: .*mixes net, which is attacked as net"):
        run(here / "out", WITH)


def test_a_classifier_in_its_place_is_refused(here):
    with pytest.raises(ValueError, match=r"line 8: judge is a small_cnn and no measure"):
        run(here / "out", WITH.replace('"people"', '"judge"'))
