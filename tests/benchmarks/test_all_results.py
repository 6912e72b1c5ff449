"""The list of results that are kept true: each can be made, and what is outdated is made again."""

import json
import re
import shlex
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def page(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return import_module("all_results")


def test_every_table_of_the_page_of_results_is_listed(page):
    sections = import_module("render").SECTIONS
    shown = {file for place, file, *_ in sections if place == "results"}
    by_hand = {"certificates", "everyday"}  # of many runs, and of another environment
    assert shown - by_hand <= {one.name for one in page.read_list()}
    assert {one.name for one in page.read_list()} <= {file for _, file, *_ in sections}


def test_every_command_names_a_script_and_options_that_it_has(page):
    shared = (ROOT / "benchmarks" / "common.py").read_text()
    for one in page.read_list():
        for command in one.commands:
            program, script, *words = shlex.split(command)
            if program == "scoreag":
                assert (ROOT / words[0]).is_file()
                continue
            text = (ROOT / script).read_text() + shared
            for flag in (word for word in words if word.startswith("--")):
                assert f'"{flag}"' in text, f"{one.name}: {flag}"
        name = re.search(r"--name (\w+)", one.commands[-1])
        recorded = name[1] if name else Path(shlex.split(one.commands[-1])[1]).stem
        assert recorded == one.name


@pytest.fixture
def recorded(page, tmp_path, monkeypatch):
    """Three results: of an earlier algorithm, never measured, and true."""
    listed = {name: [f"python benchmarks/{name}.py"] for name in ("old", "new", "true")}
    listed["old"].append("scoreag assess plan.toml --lpips-weights {lpips,} --out runs/old")
    text = "".join(f"[{n}]\ncommands = {json.dumps(c)}\n" for n, c in listed.items())
    (tmp_path / "list.toml").write_text(text)
    algorithm = page.ALGORITHM
    for name, of, seconds in (("old", algorithm - 1, 7200.0), ("true", algorithm, 9.0)):
        about = {"algorithm": of, "finished": "2026-11-28", "cpu_seconds": seconds}
        (tmp_path / f"{name}.json").write_text(json.dumps({"about": about}))
    read = page.read_list
    monkeypatch.setattr(page, "read_list", lambda: read(tmp_path / "list.toml", tmp_path))
    return tmp_path


def test_what_is_outdated_is_told_with_its_time(page, recorded, capsys):
    assert page.main(["--dry-run"], run=None) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["old", "new", "2"]
    assert lines[-1] == "2 results: 2.0 hours of one core, and 1 of unknown length"
    assert page.main(["--dry-run", "--since", "2026-11-29"], run=None) == 0
    assert "true" in capsys.readouterr().out


def test_commands_are_run_in_turn_and_a_failure_stops_only_its_own(page, recorded, capsys):
    calls = []

    def run(words, **options):
        calls.append(words[1:])
        return SimpleNamespace(returncode=int(words[1] == "benchmarks/old.py"))

    assert page.main(["--weights", "w"], run=run) == 1
    assert calls == [["benchmarks/old.py"], ["benchmarks/new.py"]]
    assert "failed: old" in capsys.readouterr().err
    calls.clear()
    assert page.main(["--weights", "w", "--only", "old"], run=lambda words, **_: calls.append(words)
                     or SimpleNamespace(returncode=0)) == 0  # fmt: skip
    files = ",".join(f"w/{name}" for name in page.LPIPS)
    assert calls[1][1:] == ["-m", "scoreag", "assess", "plan.toml", "--lpips-weights", files,
                            "--out", "runs/old"]  # fmt: skip


def test_weights_that_are_needed_are_asked_for_before_anything_runs(page, recorded):
    with pytest.raises(SystemExit, match="--weights is missing"):
        page.main([], run=None)
