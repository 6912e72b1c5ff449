"""certify on the command line: two forms, each of which goes on where it was stopped."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch

import tiny
from scoreag.certify import generator_risk, smoothing
from scoreag.cli.app import main


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    tiny.write_score_model(folder / "prior")
    tiny.write_classifier(folder / "net")
    tiny.write_images(folder / "images", 4)
    return folder


@pytest.fixture
def here(made, tmp_path, monkeypatch):
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield tmp_path
    torch.set_num_threads(before)


BOTH = ["certify", "--model", "prior", "--classifier", "net", "--out", "out"]
SMOOTH = [*BOTH, "--data", "image-folder:images", "--n", "30", "--n0", "10", "--alpha", "0.05"]
DRAWS = [*BOTH, "--generative", "--per-class", "4", "--steps", "2", "--batch-size", "5"]


def files(folder):
    """The rows and the figures; no digests, which are of the settings as well."""
    told = {"summary.json": (folder / "summary.json").read_text()}
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    return told | {"rows": [{n: v for n, v in row.items() if n != "digest"} for row in rows]}


def test_smoothing_writes_a_row_an_image_and_its_figures(here, capsys):
    assert main(SMOOTH) == 0
    out, err = capsys.readouterr()
    assert "certified at 0.25" in out and "beyond N" in out and "out/report.html" in err
    rows = [json.loads(line) for line in (here / "out" / "rows.jsonl").read_text().splitlines()]
    assert len(rows) == 4 and all(0 <= row["count"] <= 30 for row in rows)
    manifest = json.loads((here / "out" / "manifest.json").read_text())
    assert manifest["config"]["sigma"] == 0.25 and manifest["finished"]
    page = (here / "out" / "report.html").read_text()
    assert "Limitations" in page and "beyond N" in page


def test_a_generator_has_a_bound_a_class(here, capsys):
    assert main([*DRAWS, "--purifier", "one_step_denoising", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert set(figures["classes"]) == {"0", "1", "2"} and figures["images"] == 12
    assert all(entry["value"] <= entry["upper"] <= 1 for entry in figures["classes"].values())
    settings = json.loads((here / "out" / "manifest.json").read_text())["config"]
    assert settings["attack_scale"] == 0.0 and settings["purifier"]["name"] == "one_step_denoising"
    assert "Limitations" in (here / "out" / "report.html").read_text()


@pytest.mark.parametrize(
    "words, module, name",
    [(SMOOTH, smoothing, "certify_image"), (DRAWS, generator_risk, "classify_draws")],
    ids=["smoothing", "generator"],
)
def test_what_was_stopped_goes_on_and_comes_to_the_same(here, monkeypatch, words, module, name):
    assert main([*words[:6], "whole", *words[7:], "--quiet"]) == 0
    work, calls = getattr(module, name), []

    def stopped(*given):
        calls.append(given)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return work(*given)

    monkeypatch.setattr(module, name, stopped)
    assert main([*words, "--quiet"]) == 130
    done = (here / "out" / "rows.jsonl").read_text().splitlines()
    assert done and not (here / "out" / "summary.json").exists()
    with (here / "out" / "rows.jsonl").open("a") as file:
        file.write(done[0][:20])  # as a process that was killed while it wrote leaves it
    assert main([*words, "--quiet"]) == 0
    pieces = {"certify_image": 4, "classify_draws": 3}[name]
    assert len(calls) == 2 + pieces - 1  # the one that was done is not done again
    assert files(here / "out") == files(here / "whole")


def test_report_makes_the_page_again(here, capsys):
    assert main([*SMOOTH, "--quiet"]) == 0
    page = (here / "out" / "report.html").read_text()
    (here / "out" / "report.html").unlink()
    assert main(["report", "out", "--quiet"]) == 0
    assert (here / "out" / "report.html").read_text() == page


def alone(words, **environment):
    """In a process of its own: torch.compile cannot see through the types that tests check."""
    return subprocess.run(
        [sys.executable, "-m", "scoreag", *words], env={**tiny.ENVIRONMENT, **environment},
        capture_output=True, text=True,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="torch makes programs with g++")
def test_a_program_counts_what_the_networks_count(here):
    """Of 7 copies at once, and of the 3 and 2 that are left over, which are filled up."""
    words = [*SMOOTH, "--batch-size", "7"]
    assert main([*words[:6], "whole", *words[7:], "--quiet"]) == 0
    done = alone([*words, "--compile"], TORCHINDUCTOR_CACHE_DIR=str(here / "programs"))
    assert done.returncode == 0 and "torch.compile compiles the networks" in done.stderr
    assert files(here / "out") == files(here / "whole")
    assert any((here / "programs").rglob("*.so"))  # it was one that computed


def test_a_program_that_cannot_be_made_is_told_with_its_remedy(here):
    done = alone([*SMOOTH, "--compile", "--quiet"], CXX="no-such-compiler")
    assert done.returncode == 1 and done.stdout == "" and done.stderr.count("\n") == 1
    assert "no-such-compiler" in done.stderr and "leave --compile out" in done.stderr
    assert not os.path.exists("out")


def refused(capsys, words, code):
    assert main(words) == code
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and not os.path.exists("out")
    return err


@pytest.mark.parametrize(
    "words, told",
    [
        (BOTH, "--data is missing"),
        ([*SMOOTH, "--per-class", "3"], "without --generative is no --per-class"),
        ([*SMOOTH, "--attack-scale", "0"], "without --generative is no --attack-scale"),
        ([*DRAWS, "--sigma", "0.5"], "with --generative there is no --sigma"),
        ([*DRAWS, "--per-class", "0"], "--per-class is 0; expected 1 or more"),
        ([*DRAWS, "--purifier-draws", "0"], "--purifier-draws is 0; expected 1 or more"),
        ([*SMOOTH, "--batch-size", "0"], "--batch-size is 0; expected 1 or more"),
        ([*DRAWS, "--compile"], "with --generative there is no --compile"),
        ([*DRAWS, "--purifier-draws", "3"], "name --purifier"),
        ([*DRAWS, "--classes", "horse"], "no class 'horse'"),
    ],
)
def test_wrong_usage_is_told_in_one_line(here, capsys, words, told):
    assert told in refused(capsys, words, 2)


@pytest.mark.parametrize(
    "words, told",
    [
        ([*SMOOTH[:-4], "--n", "9"], "write n = 10 or more"),
        ([*SMOOTH, "--sigma", "-1"], "sigma is -1.0"),
        ([*DRAWS, "--alpha", "3"], "alpha is 3.0"),
        ([*DRAWS, "--purifier", "gab"], "did you mean 'gap'?"),
    ],
)
def test_a_mistake_is_told_in_one_line(here, capsys, words, told):
    assert told in refused(capsys, words, 1)


def test_another_noise_is_another_run(here, capsys):
    assert main([*SMOOTH, "--quiet"]) == 0
    assert main([*SMOOTH, "--sigma", "0.5", "--quiet"]) == 1
    assert "config.sigma was 0.25 and is now 0.5" in capsys.readouterr().err
