"""An assessment writes, reads and deletes what is its own; its classifiers are known by answers."""

import json
import os
import re
import shutil
import sys
from pathlib import Path

import pytest
import torch

import tiny
from assess.worlds_of_plans import PLAN
from scoreag.assess import runner
from scoreag.assess.experiments import ModelCache
from scoreag.assess.experiments import classifier_digests as content_of
from scoreag.assess.results import aggregate
from scoreag.classifiers.loading import load_classifier
from scoreag.cli.app import main
from scoreag.io.images import write_png
from scoreag.io.manifest import MANIFEST
from scoreag.report.robustness import write_report

WORDS = ["--only", "*/none/pgd*", "--quiet"]


@pytest.fixture(scope="module")
def finished(plans_folder, tmp_path_factory):
    """Two cells of the plan, with their report."""
    out = tmp_path_factory.mktemp("finished") / "out"
    before, threads = os.getcwd(), torch.get_num_threads()
    os.chdir(plans_folder)
    assert main(["assess", "plan.toml", "--out", str(out), *WORDS]) == 0
    os.chdir(before)
    torch.set_num_threads(threads)
    return out


@pytest.fixture
def out(finished, planned, tmp_path):
    shutil.copytree(finished, tmp_path / "out")
    return tmp_path / "out"


def again(out, *more):
    return main(["assess", "plan.toml", "--out", str(out), *WORDS, *more])


def cell_of(out):
    """The folder of a cell that has rows."""
    return next(out.glob("cells/*/*.jsonl")).parent


def test_what_no_row_names_survives_overwriting(out, planned):
    cell = cell_of(out)
    mine = [
        out / "tables/mine.tex", out / "tables/notes.csv", cell / "images/mine.png",
        cell / "images/999999.png", cell / "notes.jsonl", out / "originals/mine.png",
        next(out.glob("originals/*/")) / "888888.png", out / "cells" / "mine" / "cell.json",
    ]  # fmt: skip
    for file in mine:
        file.parent.mkdir(exist_ok=True)
        file.write_text("mine")
    written = [*out.glob("tables/*.md"), *cell.glob("images/00*.png"), *cell.glob("0*")]
    (planned / "short.toml").write_text(PLAN.replace("images = 6", "images = 4"))
    words = [
        "assess",
        "short.toml",
        "--out",
        str(out),
        "--overwrite",
        "--only",
        "tiny/net/none/gat",
    ]
    assert main([*words, "--quiet"]) == 0
    assert all(file.read_text() == "mine" for file in mine)
    assert {file.parent for file in out.glob("cells/*/*.jsonl")} - {cell}
    assert [file for file in written if file.exists() and file.parent.name != "tables"] == []


def test_every_table_of_the_report_is_one_that_overwriting_knows(finished):
    written = {path.relative_to(finished).as_posix() for path in finished.glob("tables/*")}
    known = {*runner.owned_paths(finished)}
    assert written and written <= known
    assert {p.relative_to(finished).as_posix() for p in finished.rglob("*.png")} <= known


def test_all_tables_there_can_be_are_known():
    """By the name that the report gives each of them, in its source."""
    from scoreag.report import robustness_tables

    text = Path(robustness_tables.__file__).read_text()
    pattern = r'(?:[Tt]able\(\s*(?:assessment,\s*)?|name, title = )f?"(\w+)'
    names = set(re.findall(pattern, text))
    assert len(names) > 8
    assert names - {*runner.REPORT_TABLES} == {"transfer_", "classes_"}


def test_pictures_that_a_killed_worker_left_are_known(out):
    """Its rows were never written, but the cost of them was, before the pictures."""
    cell = cell_of(out)
    next(cell.glob("*.jsonl")).unlink()
    known = {*runner.owned_paths(out)}
    assert {p.relative_to(out).as_posix() for p in cell.glob("images/*.png")} <= known


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["tables", "cells", "originals", "cells/KEY", "cells/KEY/images"])
def test_links_are_refused_and_what_they_lead_to_is_left(out, tmp_path, capsys, name, overwrite):
    path = out / name.replace("KEY", cell_of(out).name)
    path.rename(tmp_path / "aside")
    path.symlink_to(tmp_path / "aside")
    before = tiny.contents(tmp_path)
    assert again(out, *(["--overwrite"] if overwrite else [])) == 1
    err = capsys.readouterr().err
    assert f"{path} is a link, and a run keeps its own files there" in err and err.count("\n") == 1
    with pytest.raises(ValueError, match="is a link"):
        write_report(out)
    assert tiny.contents(tmp_path) == before


@pytest.mark.parametrize("name", ["cells.json", "manifest.json", "cells/KEY/cell.json"])
def test_a_pipe_is_refused_at_once(out, name):
    path = out / name.replace("KEY", cell_of(out).name)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ValueError, match="is a pipe"):
        aggregate(out)


@pytest.mark.parametrize("suffix", ["jsonl", "cost", "features"])
def test_a_pipe_as_rows_is_done_again(out, finished, suffix):
    path = next(cell_of(out).glob(f"*.{suffix}"))
    path.unlink()
    os.mkfifo(path)
    aggregate(out)
    assert again(out) == 0
    for one, other in zip(runner.list_cells(out), runner.list_cells(finished), strict=True):
        assert runner.read_cell(out, one).rows == runner.read_cell(finished, other).rows


def test_the_report_shows_no_picture_outside_the_folder(out, tmp_path):
    secret = tmp_path / "secret.png"
    write_png(secret, torch.zeros(3, 8, 8, dtype=torch.uint8))
    cell = next(c for c in runner.list_cells(out) if runner.read_cell(out, c).rows)
    kept = cell_of(out) if cell.key == cell_of(out).name else out / "cells" / cell.key
    for name in ("../../../secret.png", "../secret.png", str(secret)):
        shutil.rmtree(kept / "crafted", ignore_errors=True)
        found = runner.read_cell(out, cell)
        rows = [row | {"file": name} for row in found.rows]
        for file in kept.glob("0*"):
            file.unlink()
        text = "".join(json.dumps(row) + "\n" for row in rows).encode()
        (kept / f"000000-000006-{runner._digest(text, b'')}.jsonl").write_bytes(text)
        with pytest.raises(ValueError, match="which is outside its folder"):
            write_report(out)


def test_a_link_in_place_of_a_picture_is_not_shown(out, tmp_path):
    for path in out.glob("cells/*/images/*.png"):
        path.rename(tmp_path / path.name)
        path.symlink_to(tmp_path / path.name)
    with pytest.raises(ValueError, match="which is outside its folder"):
        write_report(out)


@pytest.mark.parametrize("key", ["../../etc", "/etc", "0123", 7, None, ["a"]])
def test_keys_that_are_none_are_refused(out, key):
    table = json.loads((out / "cells.json").read_text())
    (out / "cells.json").write_text(json.dumps({name: key for name in table}))
    with pytest.raises(ValueError, match="holds no assessment that was begun, or it is damaged"):
        aggregate(out)


@pytest.mark.parametrize("there", [False, True])
def test_a_start_that_fails_leaves_nothing(planned, tmp_path, monkeypatch, capsys, there):
    def full(folder, cell):
        raise OSError(28, "No space left on device", str(folder))

    if there:
        (tmp_path / "out").mkdir()
    monkeypatch.setattr(runner, "pending_batches", full)
    assert again(tmp_path / "out") == 1
    assert "No space left on device" in capsys.readouterr().err
    assert list((tmp_path / "out").iterdir()) == [] if there else not (tmp_path / "out").exists()


OWN = """
import os
import torch
from scoreag import load_classifier


class Own(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.net, self.shift = load_classifier("net"), float(os.environ["SHIFT"])
        if os.environ["HOW"] == "buffer":
            self.register_buffer("by", torch.tensor(self.shift), persistent=False)
        self.eval()

    def forward(self, images):
        by = self.by if os.environ["HOW"] == "buffer" else self.shift
        drawn = torch.rand(()) if os.environ["HOW"] == "random" else 1
        return self.net(images - by) * drawn
"""


@pytest.fixture
def own(planned, tmp_path, monkeypatch):
    """An assessment of a classifier that subtracts SHIFT, in which the weights do not show it."""
    (planned / "inner_own.py").write_text(OWN)
    monkeypatch.syspath_prepend(planned)
    (planned / "own.toml").write_text(
        PLAN.replace('"net"', '"inner_own:Own"').split("[attacks.gat]")[0]
    )

    def run(how, shift, *more):
        monkeypatch.setenv("HOW", how)
        monkeypatch.setenv("SHIFT", str(shift))
        words = ["--only", "*/none/pgd*", "--quiet", "--trust-code", *more]
        return main(["assess", "own.toml", "--out", str(tmp_path / "out"), *words])

    yield run
    sys.modules.pop("inner_own", None)


def test_a_corrected_classifier_is_refused_though_its_weights_are_the_same(own, capsys):
    assert own("attribute", 0.9) == 0
    assert own("attribute", 0.9) == 0
    capsys.readouterr()
    assert own("attribute", 0.0) == 1
    err = capsys.readouterr().err
    assert "holds rows of another inner_own:Own" in err and err.count("\n") == 1
    assert own("attribute", 0.0, "--overwrite") == 0


def test_a_buffer_that_no_state_dict_holds_makes_other_cells(own, tmp_path):
    assert own("buffer", 0.9) == 0
    before = {cell.key for cell in runner.list_cells(tmp_path / "out")}
    assert own("buffer", 0.0) == 0
    assert before.isdisjoint(cell.key for cell in runner.list_cells(tmp_path / "out"))


def test_a_classifier_that_draws_is_not_refused_against_itself(own):
    assert [own("random", 0.0) for _ in range(3)] == [0, 0, 0]


def test_other_code_under_the_same_name_makes_other_cells(planned, monkeypatch):
    text = "from torch import nn\ndef own():\n    return nn.Sequential(nn.Flatten()).eval()\n"
    monkeypatch.syspath_prepend(planned)
    found = []
    for more in ("", "# no code\n", "SCALE = 2\n"):
        (planned / "inner_code.py").write_text(text + more)
        sys.modules.pop("inner_code", None)
        found.append(content_of(load_classifier("inner_code:own")))
    assert found[0] == found[1] and found[0]["name"] == found[2]["name"] == "inner_code:own"
    assert {n for n in found[0] if found[0][n] != found[2][n]} == {"source"}
    assert "source" not in content_of(ModelCache().classifier("net"))
    sys.modules.pop("inner_code", None)
    assert MANIFEST == "manifest.json"
