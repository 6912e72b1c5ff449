"""Rows that were changed from outside: refused in a line by readers, made again by the command."""

import contextlib
import hashlib
import json

import pytest

import tiny
from scoreag.cli.app import main
from scoreag.io.records import read_rows
from scoreag.io.records import replace_rows as replace_rows
from scoreag.methods.run_task import run_task
from scoreag.methods.summary import summarize_rows
from scoreag.report.task_run import render_run_page


def of_line(number, change):
    """A change of one line of rows.jsonl."""

    def changed(lines):
        return [*lines[:number], change(lines[number]), *lines[number + 1 :]]

    return changed


def text(old, new, number=4):
    def change(line):
        assert old in line
        return line.replace(old, new, 1)

    return of_line(number, change)


def value(name, new, number=4):
    """Another value, at the place of the old one; the digest as it was."""
    return of_line(number, lambda line: json.dumps(json.loads(line) | {name: new}) + "\n")


def without(name, number=4):
    def change(line):
        return json.dumps({n: v for n, v in json.loads(line).items() if n != name}) + "\n"

    return of_line(number, change)


def with_own_digest(line):
    """Digests of rows alone would hold; these hold of this run only."""
    row = {n: v for n, v in json.loads(line).items() if n != "digest"}
    row["label"] = (row["label"] + 1) % 3
    return json.dumps(row | {"digest": hashlib.sha256(json.dumps(row).encode()).hexdigest()[:16]})


MUTATIONS = {
    "another label": value("label", 2),
    "a label that is text": value("label", "2"),
    "a label that is a fraction": value("label", 1.0),
    "a label that is true": value("label", True),
    "no label": without("label"),
    "another wrong class": value("target", 0),
    "other predictions": value("predictions", {"before": 2, "float": 1, "saved": 0}),
    "no prediction": value("predictions", {}),
    "predictions as a list": value("predictions", [0, 0, 0]),
    "success": text('"success_float": false', '"success_float": true'),
    "success of the saved image": text('"success": false', '"success": true'),
    "as wanted": text('"targeted_success": false', '"targeted_success": true'),
    "restarts below none": value("restarts", -1),
    "restarts as text": value("restarts", "many"),
    "no calls": without("nfe"),
    "calls beyond number": value("nfe", 10**400),
    "a strength that is none": value("attack_scale", None),
    "another seed": value("seed", 5),
    "distances that are nothing": value("distances", {}),
    "another distance": value("distances", {"l0": 0, "l1": 0, "l2": 0, "linf": 0}),
    "another picture": value("file", "images/000020.png"),
    "a picture elsewhere": value("file", "../secret.png"),
    "an absolute picture": value("file", "/etc/hostname"),
    "no original": without("original_file"),
    "another digest of the picture": value("sha256", "0" * 64),
    "a picture that is a number": value("file", 3),
    "another id": value("image_id", 99),
    "an id that is text": value("image_id", "24"),
    "an id that is no number": value("image_id", None),
    "no id": without("image_id"),
    "no digest": without("digest"),
    "a digest of its own": of_line(4, lambda line: with_own_digest(line) + "\n"),
    "a name more": value("note", "mine"),
    "a name twice": text('"image_id"', '"label": 0, "image_id"'),
    "spaces": text(": ", ":  "),
    "a list": of_line(4, lambda line: "[1, 2]\n"),
    "a number": of_line(4, lambda line: "3\n"),
    "half a line": of_line(4, lambda line: line[: len(line) // 2] + "\n"),
    "deep": of_line(4, lambda line: "[" * 100_000 + "\n"),
    "a blank line": of_line(4, lambda line: "\n"),
    "no text": of_line(4, lambda line: "\udcff\udcfe\n"),
    "a line twice": of_line(4, lambda line: line + line),
    "a line less": lambda lines: lines[:4] + lines[5:],
    "a line of another": lambda lines: [*lines[:4], lines[5], *lines[5:]],
    "half of them": lambda lines: lines[:5],
    "nothing": lambda lines: [],
    "torn": of_line(9, lambda line: line[:-20]),
}  # fmt: skip


@pytest.fixture(params=MUTATIONS.values(), ids=[name.replace(" ", "-") for name in MUTATIONS])
def harmed(request, run):
    file = run / "rows.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(request.param(lines)), errors="surrogateescape")
    assert file.read_text(errors="surrogateescape") != "".join(lines)
    return run


def test_the_command_makes_harmed_rows_anew(job, finished, harmed):
    run_task(job, harmed, write_every=4, batch_size=4)
    assert tiny.contents(harmed) == tiny.contents(finished)


def test_the_report_refuses_harmed_rows_and_says_where(harmed):
    with pytest.raises(ValueError, match=r"rows\.jsonl(, line \d+:| has \d+ rows of 10)") as told:
        render_run_page(harmed)
    assert len(str(told.value)) < 500 and "\n" not in str(told.value)


def test_rows_of_another_run_are_not_taken(job, run, finished, tmp_path):
    """The same images under another seed: each of its rows is whole, but not of this run."""
    from dataclasses import replace

    run_task(replace(job, seed=1), tmp_path / "other", write_every=4, batch_size=4)
    for part in ("rows.jsonl", "images"):
        (run / part).rename(tmp_path / f"old {part}")
        (tmp_path / "other" / part).rename(run / part)
    with pytest.raises(ValueError, match=r"rows\.jsonl, line 1: it is not as the run wrote it"):
        render_run_page(run)
    run_task(job, run, write_every=4, batch_size=4)
    assert tiny.contents(run) == tiny.contents(finished)


@pytest.mark.parametrize(
    "change, told",
    [
        ({"seed": 1}, "manifest.json is not as the run wrote it"),
        ({"images": 3}, "manifest.json is not as the run wrote it"),
        ({"seal": "0" * 64}, "manifest.json is not as the run wrote it"),
        ({"seal": None}, "was written by an earlier version"),
    ],
)
def test_a_changed_manifest_is_refused(run, change, told):
    file = run / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(ValueError, match=told):
        render_run_page(run)


def test_a_run_of_an_earlier_version_is_told_and_can_be_started_afresh(job, run, finished):
    file = run / "manifest.json"
    kept = json.loads(file.read_text())
    file.write_text(json.dumps({n: v for n, v in kept.items() if n not in ("seal", "image_ids")}))
    with pytest.raises(ValueError, match=r"was written by an earlier version, .* --overwrite"):
        run_task(job, run, write_every=4, batch_size=4)
    run_task(job, run, write_every=4, batch_size=4, overwrite=True)
    assert tiny.contents(run) == tiny.contents(finished)


def test_figures_that_do_not_follow_from_the_rows_are_refused_and_mended(job, run, finished):
    file = run / "summary.json"
    figures = json.loads(file.read_text())
    figures["rates"]["success"]["count"] += 1
    file.write_text(json.dumps(figures))
    with pytest.raises(ValueError, match=r"summary\.json does not say what the rows of the run"):
        render_run_page(run)
    run_task(job, run, write_every=4, batch_size=4)
    assert tiny.contents(run) == tiny.contents(finished)


@pytest.mark.parametrize(
    "change, told",
    [
        ({"predictions": {}}, "has contents that this version does not write (KeyError"),
        ({"distances": {"l7": 1.0}}, "has contents that this version does not write (KeyError"),
        ({"distances": 3}, "line 5: distances is 3; expected dict"),
        ({"nfe": "many"}, "line 5: nfe is 'many'; expected int"),
        ({"label": True}, "line 5: label is True; expected int or NoneType"),
        ({"original_file": None}, "line 5: original_file is None; expected str"),
    ],
)
def test_crafted_rows_whose_digests_hold_end_in_one_line(run, capsys, change, told):
    rows = read_rows(run)
    rows[4] |= change
    replace_rows(run, rows)
    with contextlib.suppress(Exception):
        (run / "summary.json").write_text(json.dumps(summarize_rows("transform", rows)))
    assert main(["report", str(run)]) == 1
    err = capsys.readouterr().err
    assert told in err and err.count("\n") == 1 and len(err) < 500
