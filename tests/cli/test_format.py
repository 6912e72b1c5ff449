"""--format: the main table of a command as CSV, JSON, LaTeX or Markdown on stdout."""

import csv
import io
import json
import shutil

import pytest

import tiny
from scoreag import attack, plot
from scoreag.attacks import FGSM
from scoreag.cli.app import COMMANDS, main
from scoreag.cli.options import TABLE_FORMATS
from scoreag.registry import component_names
from scoreag.report.table_export import FORMATS

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def run(tmp_path):
    given = tiny.images(5), tiny.labels(5)
    return attack(FGSM(eps=0.2), tiny.victim(), *given, progress=False).save(tmp_path / "run")


def test_the_report_of_a_run_prints_the_file_of_its_main_table(run, capsys):
    for name, (suffix, _) in FORMATS.items():
        assert main(["report", str(run), "--format", name, "--quiet"]) == 0
        printed = capsys.readouterr().out
        assert printed == (run / "tables" / f"rates.{suffix}").read_text()
        assert "attack success" in printed


def test_an_assessment_prints_its_experiments(planned, tmp_path, capsys):
    words = ["attack", "fgsm", "--classifier", "net", "--data", "image-folder:images", "--quiet"]
    words += ["--eps", "32/255", "--out", str(tmp_path / "out"), "--format", "csv"]
    assert main(words) == 0
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert (row["classifier"], row["defense"], row["attack"]) == ("net", "none", "fgsm")
    assert 0 <= float(row["robust accuracy low"]) <= float(row["robust accuracy"]) <= 1


def test_a_certificate_prints_what_is_certified(tmp_path, monkeypatch, capsys):
    tiny.write_score_model(tmp_path / "prior")
    tiny.write_classifier(tmp_path / "net")
    tiny.write_images(tmp_path / "images", 2)
    monkeypatch.chdir(tmp_path)
    words = ["certify", "--model", "prior", "--classifier", "net", "--out", "out", "--alpha", "0.1"]
    words += ["--data", "image-folder:images", "--n", "20", "--n0", "5", "--format", "markdown"]
    assert main([*words, "--quiet"]) == 0
    assert "| L2 radius | certified accuracy" in capsys.readouterr().out
    assert (tmp_path / "out" / "figures" / "certified.svg").is_file()
    rows = [json.loads(line) for line in (tmp_path / "out" / "rows.jsonl").read_text().splitlines()]
    figure = plot.curves("out", x="radius", y="certified_accuracy")
    line = figure.axes[0].lines[0]
    right = [row["radius"] for row in rows if row["correct"]]
    assert line.get_xdata().tolist() == sorted({0.0, *right})
    assert line.get_ydata()[0] == len(right) / 2
    shutil.rmtree(tmp_path / "out" / "tables")
    assert main(["report", "out", "--quiet"]) == 0
    assert (tmp_path / "out" / "tables" / "certified.tex").is_file()


def test_what_has_no_table_of_its_own_is_a_table_of_what_was_found(capsys):
    assert main(["list", "attacks", "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert {row["name"] for row in rows} == {f"attacks.{n}" for n in component_names("attacks")}
    assert main(["study", "power", "--format", "latex"]) == 0
    assert r"\toprule" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words, message",
    [(["--format", "html"], "--format is 'html'"), (["--json", "--format", "csv"], "write one")],
    ids=["unknown", "twice"],
)
def test_a_wrong_format_is_one_line_before_any_work(words, message, tmp_path, capsys):
    assert main(["report", str(tmp_path / "none"), *words]) == 2
    out, err = capsys.readouterr()
    assert out == "" and message in err and err.count("\n") == 1


def test_every_format_of_the_command_line_has_a_writer():
    assert {*TABLE_FORMATS} == {"table", *FORMATS} and "report" in COMMANDS


@pytest.mark.parametrize(
    "words, says",
    [(["study", "analyze"], "Print the main table as"), (["transform"], "Pictures: png")],
)
def test_help_says_what_a_format_is_of(words, says, capsys):
    assert main([*words, "--help"]) == 0
    assert says in " ".join(capsys.readouterr().out.split())
