"""attack: in one line what a plan of one attack does, for every attack."""

import json

import pytest

from scoreag.assess import runner
from scoreag.cli import attack
from scoreag.cli.app import main
from scoreag.registry import component_names

pytestmark = pytest.mark.usefixtures("one_thread")

BASE = ["--classifier", "net", "--data", "image-folder:images", "--quiet"]
QUICK = {  # few steps of each, and the least that each needs
    "advad": ["--steps", "2"],
    "apgd": ["--steps", "3"],
    "auto_ensemble": ["--steps", "3", "--option", "n_queries=3"],
    "di_fgsm": ["--steps", "2"],
    "gat": ["--steps", "2", "--model", "prior", "--option", "attack_scale=3.5"],
    "low_frequency": ["--steps", "2"],
    "pgd": ["--steps", "2"],
    "si_ni_fgsm": ["--steps", "2"],
    "square": ["--option", "n_queries=3"],
    "stadv": ["--steps", "2"],
}
NEED_MORE = {"lpa", "ppgd", "art", "autoattack", "foolbox", "torchattacks"}  # weights, packages


def rows(folder):
    (cell,) = (c for c in runner.list_cells(folder) if c.component != "clean")
    return runner.read_cell(folder, cell).rows


def test_each_attack_is_tried_or_needs_more_than_a_test_has():
    assert {*component_names("attacks")} == {*QUICK, *NEED_MORE, "fgsm"}


@pytest.mark.parametrize("name", QUICK)
def test_each_attack_has_a_run_folder(planned, tmp_path, name):
    out = tmp_path / "out"
    assert main(["attack", name, *BASE, *QUICK[name], "--out", str(out)]) == 0
    found = rows(out)
    assert len(found) == 6 and all((out / row["file"]).is_file() for row in found)
    assert (out / "report.html").is_file() and (out / "summary.json").is_file()


def test_it_is_the_cell_of_a_plan(planned, tmp_path, capsys):
    """Another route: the same attack written as a TOML file."""
    words = ["--eps", "64/255", "--steps", "3", "--option", "norm=L2", "--seed", "4",
             "--reference-classifier", "judge", "--transfer", "other"]  # fmt: skip
    assert main(["attack", "pgd", *BASE, *words, "--out", str(tmp_path / "one")]) == 0
    (tmp_path / "plan.toml").write_text(
        'seeds = [4]\n[datasets.data]\ndata = "image-folder:images"\n'
        'reference_classifier = "judge"\nclassifiers = ["net", "other"]\n'
        '[attacks.pgd]\neps = "64/255"\nsteps = 3\nnorm = "L2"\nclassifiers = "net"\n'
        "purifiers = []\n"
    )
    plan = ["assess", str(tmp_path / "plan.toml"), "--out", str(tmp_path / "two"), "--quiet"]
    assert main(plan) == 0
    assert rows(tmp_path / "one") == rows(tmp_path / "two")
    assert rows(tmp_path / "one")[0]["transfer"].keys() == {"other"}


def test_the_classifier_behind_a_purifier_is_attacked(planned, tmp_path):
    out = tmp_path / "out"
    words = ["--model", "prior", "--purifier", "gap", "--steps", "2", "--eval-draws", "2"]
    assert main(["attack", "pgd", *BASE, *words, "--out", str(out)]) == 0
    (cell,) = (c for c in runner.list_cells(out) if c.task == "attack")
    assert cell.purifier == "gap" and cell.eval_draws == 2


def test_it_resumes_and_starts_over(planned, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["attack", "pgd", *BASE, "--steps", "2", "--out", str(out)]
    assert main(words) == 0
    before = {file: file.stat().st_mtime_ns for file in out.rglob("*.png")}
    assert main(words) == 0
    assert {file: file.stat().st_mtime_ns for file in out.rglob("*.png")} == before
    capsys.readouterr()
    assert main([*words[:-4], "--steps", "3", "--out", str(out)]) != 0
    assert "--overwrite" in capsys.readouterr().err
    assert main([*words[:-4], "--steps", "3", "--out", str(out), "--overwrite"]) == 0


def test_a_dry_run_needs_no_folder(planned, capsys):
    words = [word for word in BASE if word != "--quiet"]
    assert main(["attack", "pgd", *words, "--steps", "2", "--dry-run", "--json"]) == 0
    assert {row["images"] for row in json.loads(capsys.readouterr().out)} == {6}


@pytest.mark.parametrize(
    "words, said",
    [
        (["pdg"], "did you mean 'pgd'"),
        (["gas"], "write: scoreag synthesize"),
        (["pgd", "--option", "stepz=3"], "did you mean 'steps'"),
        (["pgd", "--option", "steps"], "--option 'steps': write NAME=VALUE"),
        (
            ["pgd", "--steps", "2", "--option", "steps=3"],
            "--steps and --option steps= say the same",
        ),
        (["pgd", "--option", "images=3"], "--option images= is no option of an attack"),
        (["pgd", "--eps", "huge"], "--eps 'huge': write a number or a fraction"),
        (["pgd", "--purifier", "gap"], "--purifier gap needs a score model; name --model"),
        (["gat"], "gat"),
        (["square", "--steps", "3"], "square takes no option 'steps'"),
    ],
)
def test_wrong_words_are_refused_in_a_line(planned, tmp_path, capsys, words, said):
    out = tmp_path / "out"
    assert main(["attack", *words, *BASE, "--out", str(out)]) in (1, 2)
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1 and "line 1" not in err
    assert not out.exists()


def test_a_missing_folder_is_named(planned, capsys):
    assert main(["attack", "pgd", *BASE]) == 2
    assert "--out is missing" in capsys.readouterr().err


@pytest.mark.parametrize("text, value", [("0.1", 0.1), ("8/255", 8 / 255), ("1e-2", 0.01)])
def test_a_radius_is_a_number_or_a_fraction(text, value):
    assert attack._read_eps(text) == value


@pytest.mark.parametrize("text", ["8/0", "eight", "", "8/255/2"])
def test_another_radius_is_refused_in_one_line(text, capsys):
    words = ["attack", "pgd", "--classifier", "fashion-cnn", "--data", "fashion-mnist:sample"]
    assert main([*words, "--eps", text, "--out", "out"]) == 2
    err = capsys.readouterr().err
    assert "write a number or a fraction: 8/255" in err and err.count("\n") == 1


CODE = """
import torch
from torch import nn

def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 3)).eval()

def judge():
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 3)).eval()
"""


def test_functions_that_the_user_types_need_no_flag_and_a_judge_no_features(
    planned, tmp_path, monkeypatch, capsys
):
    (tmp_path / "own_net.py").write_text(CODE)
    own, out = str(tmp_path / "own_net.py"), str(tmp_path / "out")
    words = ["attack", "pgd", "--steps", "2", "--data", "image-folder:images", "--quiet"]
    judged = ["--classifier", f"{own}:net", "--reference-classifier", f"{own}:judge"]
    assert main([*words, *judged, "--out", out]) == 0
    assert len(rows(tmp_path / "out")) == 6
    capsys.readouterr()
    assert main([*words, "--classifier", f"{own}:nett", "--out", str(tmp_path / "b")]) == 1
    told = capsys.readouterr().err
    assert f"{own}:nett does not exist; did you mean 'net'?" in told and told.count("\n") == 1
    assert not (tmp_path / "b").exists()


def test_gat_without_a_score_model_asks_for_the_option(planned, tmp_path, capsys):
    assert main(["attack", "gat", *BASE, "--out", str(tmp_path / "out")]) == 2
    assert "attack gat draws from a score model; name --model" in capsys.readouterr().err
