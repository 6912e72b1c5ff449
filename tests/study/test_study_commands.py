"""scoreag study build and serve: one line for a mistake, and nothing half-written."""

import hashlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest

import tiny
from scoreag.cli.app import main
from scoreag.study.manifest import read_study
from study.made_studies import CLASSES, images, write_run, write_runs


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    write_runs(folder)
    labels = np.arange(32) % 4
    pixels = (images(32, 9).permute(0, 2, 3, 1).numpy() * 255).round().astype(np.uint8)
    np.savez(folder / "easy.npz", images=pixels, labels=labels, classes=np.array(CLASSES))
    np.savez(folder / "unlabeled.npz", images=pixels)
    np.savez(folder / "other.npz", images=pixels, labels=labels, classes=np.array([*"abcd"]))
    large = np.repeat(np.repeat(pixels, 2, axis=1), 2, axis=2)
    np.savez(folder / "large.npz", images=large, labels=labels, classes=np.array(CLASSES))
    return folder


def build(runs, out, *words, names=("gat", "gas")):
    paths = [str(runs / name) for name in names]
    given = ["--design", "name", "--images-per-condition", "8", "--raters", "6", *words]
    return main(["study", "build", *paths, "--out", str(out), *given])


def test_a_study_is_built_and_says_what_to_do_next(runs, tmp_path, capsys):
    assert build(runs, tmp_path / "study", "--json") == 0
    printed = capsys.readouterr()
    summary = json.loads(printed.out)
    assert summary["images"] == {"clean": 8, "gat": 8, "gas": 8}
    assert "fill the 10 places in [[...]]" in printed.err
    assert read_study(tmp_path / "study")["study"] == summary["study"]


def test_checks_come_from_the_data_that_is_named(runs, tmp_path):
    assert build(runs, tmp_path / "study", "--checks", f"npz:{runs / 'easy.npz'}") == 0
    items = read_study(tmp_path / "study")["items"]
    sources = {i["source"] for i in items if i["purpose"] == "check"}
    assert len(sources) == 10 and all(s.startswith("npz:easy.npz#") for s in sources)


def test_untouched_images_come_from_the_data_that_is_named_where_the_runs_have_none(runs, tmp_path):
    words = ("--design", "real", "--clean", f"npz:{runs / 'easy.npz'}")
    assert build(runs, tmp_path / "study", *words, names=["gas"]) == 0
    items = read_study(tmp_path / "study")["items"]
    clean = [i for i in items if i["condition"] == "clean" and i["purpose"] == "main"]
    assert len(clean) == 8 and clean[0]["source"].startswith("npz:easy.npz#")


def test_data_beside_the_runs_is_recorded_with_its_digest(runs, tmp_path):
    """The digest is that of the shape, the pixels and the labels, here with hashlib."""
    easy = f"npz:{runs / 'easy.npz'}"
    assert build(runs, tmp_path / "a", "--clean", easy, "--checks", easy, names=["gas"]) == 0
    stored = np.load(runs / "easy.npz")
    pixels = np.ascontiguousarray(stored["images"].transpose(0, 3, 1, 2))
    digest = hashlib.sha256(repr(pixels.shape).encode())
    digest.update(pixels.tobytes() + stored["labels"].astype(np.int64).tobytes())
    wanted = {"name": "npz:easy.npz", "sha256": digest.hexdigest()}
    assert read_study(tmp_path / "a")["data"] == {"clean": wanted, "checks": wanted}
    assert build(runs, tmp_path / "b") == 0
    assert read_study(tmp_path / "b")["data"] == {}


@pytest.mark.parametrize("named", ["clean", "clean,gas"])
def test_untouched_images_of_other_data_do_not_bring_other_conditions(runs, tmp_path, named):
    easy = f"npz:{runs / 'easy.npz'}"
    words = ("--conditions", named, "--clean", easy, "--checks", easy)
    assert build(runs, tmp_path / "study", *words, names=["gas"]) == 0
    manifest = read_study(tmp_path / "study")
    assert manifest["conditions"] == named.split(",")
    assert [run["condition"] for run in manifest["runs"]] == named.split(",")[1:]


@pytest.mark.parametrize(
    "words, code, says",
    [
        (["--design", "nmae"], 2, "design is 'nmae'; did you mean 'name'?"),
        (["--enlarge", "nearst"], 2, "did you mean 'nearest'?"),
        (["--raters", "0"], 2, "raters is 0; expected 1 or more"),
        (["--raters", "1"], 1, "--raters 1 people cannot fill 2 lists"),
        (["--images-per-condition", "49"], 1, "condition clean has 48 images that count"),
        (["--images-per-condition", "0"], 2, "expected 1 or more"),
        (["--conditions", "clean,gut"], 1, "no condition 'gut'; they have clean, gat, gas"),
        (["--trials", "1"], 2, "expected 2 or more"),
        (["--checks", "npz:unlabeled.npz"], 1, "has no labels"),
        (["--checks", "npz:other.npz"], 1, "other.npz: no class 'a'; there are: cat, dog"),
        (["--clean", "npz:easy.npz"], 1, "the runs have untouched images already"),
        (["--conditions", "gat", "--clean", "npz:easy.npz"], 2, "write --conditions clean,gat"),
        (["--checks", "npz:large.npz"], 1, "differ in shape: clean 3x8x8, check images 3x16x16"),
        (["--judge", "no-such-judge"], 2, "no-such-judge"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    runs, tmp_path, monkeypatch, capsys, words, code, says
):
    monkeypatch.chdir(runs)
    assert build(runs, tmp_path / "study", *words) == code
    error = capsys.readouterr().err.strip()
    assert error.startswith("scoreag: ") and error.count("\n") == 0 and says in error
    assert len(error) <= 520 and not [*tmp_path.iterdir()]


@pytest.mark.parametrize("make", [lambda f: f.mkdir(), lambda f: None], ids=["empty", "missing"])
def test_a_folder_without_a_run_is_one_line(tmp_path, capsys, make):
    make(tmp_path / "run")
    words = ["study", "build", str(tmp_path / "run"), "--design", "name", "--out"]
    assert main([*words, str(tmp_path / "study")]) == 1
    assert "holds no run" in capsys.readouterr().err
    assert not (tmp_path / "study").exists()


def test_a_folder_in_use_is_found_before_the_runs_are_read(tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    assert main(["study", "build", "nowhere", "--design", "name", "--out", str(tmp_path)]) == 1
    assert "is not empty and holds no study; give another --out" in capsys.readouterr().err


def test_a_run_is_not_overwritten_by_a_study(tmp_path, capsys):
    run = write_run(tmp_path / "gat", "transform")
    assert main(["study", "build", str(run), "--design", "name", "--out", str(run)]) == 1
    assert "holds a run of 'transform', no study" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words, says",
    [
        (["nowhere"], "holds no study"),
        (["study", "--port", "99999"], "--port is 99999; expected at most 65535"),
        (["study", "--host", "no.such.host.invalid"], "cannot be served"),
    ],
)
def test_a_study_that_cannot_be_served_is_one_line(
    runs, tmp_path, monkeypatch, capsys, words, says
):
    build(runs, tmp_path / "study", "--quiet")
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    assert main(["study", "serve", "--quiet", *words]) != 0
    error = capsys.readouterr().err.strip()
    assert says in error and error.count("\n") == 0


@pytest.mark.parametrize("words", [["--json"], ["--quiet"], ["--quiet", "--json"]])
def test_the_address_of_a_served_study_is_printed_as_asked(
    runs, tmp_path, monkeypatch, capsys, words
):
    build(runs, tmp_path / "study", "--quiet")
    monkeypatch.setattr("scoreag.study.serve.StudyServer.serve_forever", lambda self: None)
    capsys.readouterr()
    assert main(["study", "serve", str(tmp_path / "study"), "--port", "0", *words]) == 0
    printed = capsys.readouterr()
    if "--json" in words:
        summary = json.loads(printed.out)
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", summary["address"])
        assert summary["answers"] == str(tmp_path / "study" / "answers")
    else:
        assert printed.out == ""
    assert ("places to fill" in printed.err) == ("--quiet" not in words)


def test_a_study_is_served_until_it_is_interrupted(runs, tmp_path):
    build(runs, tmp_path / "study", "--quiet")
    command = [sys.executable, "-m", "scoreag", "study", "serve", "study", "--port", "0"]
    server = subprocess.Popen(
        command, cwd=tmp_path, env=tiny.ENVIRONMENT, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with server:
        line = server.stdout.readline()
        port = int(re.match(r"http://127\.0\.0\.1:(\d+)/", line)[1])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", "/study")
        assert b"What do you see?" in connection.getresponse().read()
        connection.close()
        os.kill(server.pid, signal.SIGTERM)  # a shell may have SIGINT ignored
        errors = server.stderr.read()
    assert server.returncode == 143 and "Traceback" not in errors
    assert "warning: the texts still have places to fill" in errors
