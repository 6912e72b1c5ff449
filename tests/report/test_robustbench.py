"""A run as an entry of RobustBench's leaderboards, each figure counted by hand."""

import csv
import json

import pytest
import torch

import scoreag
import tiny
from assess.made_rows import cell, four, row
from report.test_assessment import write_cell
from scoreag import attack, write_robustbench
from scoreag.assess import runner
from scoreag.attacks import FGSM
from scoreag.cli.app import main
from scoreag.io.filesystem import write_json
from scoreag.io.manifest import FORMAT, MANIFEST
from scoreag.report.robustbench import robustbench_entry

# The 188 entries of RobustBench's model_info under Linf and L2: which of them has each field.
ALWAYS = {
    "link": str, "name": str, "authors": str, "additional_data": bool,
    "number_forward_passes": int, "dataset": str, "venue": str, "architecture": str, "eps": str,
    "clean_acc": str, "reported": str,
}  # fmt: skip
SOMETIMES = {"autoattack_acc": str, "external": str, "footnote": str, "unreliable": bool}
PAPER = {
    "link": "https://example.org", "name": "A title", "authors": "A. Name, B. Name",
    "additional_data": False, "number_forward_passes": 1, "venue": "arXiv, Jan 2026",
    "architecture": "WideResNet-28-10", "reported": "60.1",
}  # fmt: skip
DATA = "cifar10:test[0:4]"


def make(folder, *cells):
    for one, rows in cells:
        write_cell(folder, one, rows)
    write_json(folder / runner.CELLS_FILE, {one.name: one.key for one, _ in cells})
    about = {"format": FORMAT, "task": "assess made", "plan": {"images": 4}, "device": "cpu"}
    write_json(folder / MANIFEST, about)
    return folder


def attacked(name="pgd", eps=8 / 255, classifier="net", **changes):
    options = {"norm": "Linf", "eps": eps, **changes.pop("options", {})}
    told = {"data": DATA, "classes": (), "options": options, "attack": name, "component": name}
    return cell(name=f"s/{classifier}/none/{name}", classifier=classifier, **{**told, **changes})


def other_rows():
    """Right before: 0, 1, 2, as in ``four``.  This attack fools 0, and sets 3 right."""
    return [row(0, 0, 0, 1, 0), row(1, 1, 1, 1, 1), row(2, 2, 2, 2, 0), row(3, 1, 0, 1, 1)]


@pytest.fixture
def folder(tmp_path):
    return make(tmp_path / "run", (attacked(options={"steps": 40}), four()))


def test_accuracies_are_those_of_the_rows_in_per_cent(folder):
    entry = robustbench_entry(folder)
    assert entry["clean_acc"] == "75.0" and entry["external"] == "25.0"  # of ``four``: 3, 1 of 4
    assert entry["dataset"] == "cifar10" and entry["eps"] == "8/255"
    assert "autoattack_acc" not in entry
    assert entry["footnote"].startswith("pgd (steps 40); 4 images of cifar10:test[0:4]; ScoreAG")


def test_an_entry_has_the_fields_and_types_of_robustbench_s_own(folder):
    entry = robustbench_entry(folder, info=PAPER)
    assert entry.keys() - SOMETIMES.keys() == ALWAYS.keys()
    assert {name: type(value) for name, value in entry.items()}.items() <= {
        **ALWAYS, **SOMETIMES
    }.items()  # fmt: skip
    assert {name: entry[name] for name in PAPER} == PAPER
    assert json.loads(json.dumps(entry)) == entry


def test_what_no_run_knows_is_blank(folder):
    entry = robustbench_entry(folder)
    blank = {name for name, value in entry.items() if value in ("", None)}
    assert blank == PAPER.keys() - {"number_forward_passes"}


def test_autoattack_has_a_field_of_its_own_and_the_worst_case_is_external(tmp_path):
    theirs = attacked("autoattack", options={"version": "standard"})
    run = make(tmp_path, (theirs, four()), (attacked(), other_rows()))
    entry = robustbench_entry(run)
    # under both: of images 0, 1 and 2, which are right before, none stays so
    assert (entry["autoattack_acc"], entry["external"]) == ("25.0", "0.0")
    alone = robustbench_entry(run, only="*/autoattack")
    assert alone["autoattack_acc"] == "25.0" and "external" not in alone


def test_an_image_that_an_attack_sets_right_is_not_robust(tmp_path):
    run = make(tmp_path, (attacked(), other_rows()))
    assert robustbench_entry(run)["external"] == "50.0"  # 1 and 2; AutoAttack leaves 3 as it is


def test_another_version_of_autoattack_is_no_autoattack_accuracy(tmp_path):
    run = make(tmp_path, (attacked("autoattack", options={"version": "rand"}), four()))
    entry = robustbench_entry(run)
    assert "autoattack_acc" not in entry and entry["external"] == "25.0"


def test_a_purified_classifier_has_an_unknown_number_of_passes(tmp_path):
    run = make(tmp_path, (attacked(purifier="gap", purifier_name="gap"), four()))
    assert robustbench_entry(run)["number_forward_passes"] is None


@pytest.mark.parametrize(
    "cells, words",
    [
        ([attacked(), attacked("apgd", 2 / 255)], "of one .*has 2 .*--only, .*'s/net/none/pgd'"),
        ([attacked(data="fashion-mnist:sample")], "RobustBench has no data set 'fashion-mnist'; "),
        ([attacked("stadv", options={"norm": None})], "no attack within a ball of Linf or L2"),
        ([attacked(classes=("cat", "dog"))], "tells 2 classes apart, and cifar10 has 10"),
        ([attacked(), attacked("apgd", data="cifar10:test[4:8]")], "are of other images"),
        ([attacked(images=9)], "has 4 of its 9 images; finish the run"),
    ],
    ids=["radii", "data", "ball", "classes", "images", "begun"],
)
def test_what_is_no_entry_is_answered_by_what_to_write(cells, words, tmp_path):
    run = make(tmp_path, *((one, four()) for one in cells))
    with pytest.raises(ValueError, match=words):
        robustbench_entry(run)


@pytest.mark.parametrize(
    "info, words",
    [
        ({"author": "me"}, "no 'author'; did you mean 'authors'"),
        ({"clean_acc": "99"}, "clean_acc of an entry is the run's own"),
        ({"additional_data": "no"}, "expected true or false"),
    ],
    ids=["unknown", "measured", "type"],
)
def test_wrong_fields_are_refused(folder, info, words):
    with pytest.raises(ValueError, match=words):
        robustbench_entry(folder, info=info)


@pytest.fixture
def result():
    return attack(FGSM(eps=0.2), tiny.victim(), tiny.images(6), tiny.labels(6), progress=False)


def test_a_result_is_written_where_robustbench_looks(result, tmp_path):
    file = write_robustbench(result, "Me2026Word", tmp_path / "model_info", dataset="cifar10")
    assert file == tmp_path / "model_info" / "cifar10" / "Linf" / "Me2026Word.json"
    entry = json.loads(file.read_text())
    table, labels = result.to_rows(), tiny.labels(6).tolist()
    right = [one["predictions"]["before"] == y for one, y in zip(table, labels, strict=True)]
    robust = [
        was and one["predictions"]["saved"] == y
        for was, one, y in zip(right, table, labels, strict=True)
    ]
    assert sum(right) > 0 and sum(robust) < sum(right)  # else the figures say nothing
    assert float(entry["clean_acc"]) == pytest.approx(100 * sum(right) / 6, abs=0.005)
    assert float(entry["external"]) == pytest.approx(100 * sum(robust) / 6, abs=0.005)
    assert entry["eps"] == "51/255" and "fgsm" in entry["footnote"]


def test_a_saved_result_is_the_same_entry(result, tmp_path):
    saved = result.save(tmp_path / "run")
    expected = robustbench_entry(result, dataset="cifar10")
    assert robustbench_entry(saved, dataset="cifar10") == expected
    assert robustbench_entry(saved, info={"dataset": "cifar10"}) == expected


def test_a_file_keeps_what_the_run_does_not_know(result, tmp_path):
    place = {"model_name": "Me2026Word", "folder": tmp_path, "dataset": "cifar10"}
    file = write_robustbench(result, **place, info={"authors": "Me"})
    write_json(file, {**json.loads(file.read_text()), "autoattack_acc": "1.0", "clean_acc": "0.0"})
    write_robustbench(result, **place)
    entry = json.loads(file.read_text())
    assert entry["authors"] == "Me" and entry["autoattack_acc"] == "1.0"
    assert entry["clean_acc"] != "0.0"


def test_a_result_needs_its_data_set_and_a_name_without_folders(result, tmp_path):
    with pytest.raises(ValueError, match="write dataset='cifar10'"):
        write_robustbench(result, "Me", tmp_path)
    with pytest.raises(ValueError, match="did you mean 'cifar10'"):
        write_robustbench(result, "Me", tmp_path, dataset="cifar-10")
    with pytest.raises(ValueError, match="is no name of a model"):
        write_robustbench(result, "../Me", tmp_path, dataset="cifar10")
    assert not any(tmp_path.iterdir())


def test_the_command_line_prints_the_entry(folder, capsys):
    words = ["report", str(folder), "--quiet", "--format", "robustbench", "--model-info"]
    assert main([*words, "authors=A. Name, B. Name", "--model-info", "reported=60"]) == 0
    expected = robustbench_entry(folder, info={"authors": "A. Name, B. Name", "reported": "60"})
    assert json.loads(capsys.readouterr().out) == expected
    with (folder / "tables" / "cells.csv").open() as file:
        (shown,) = (one for one in csv.DictReader(file) if one["attack"] == "pgd")
    assert float(expected["clean_acc"]) == 100 * float(shown["clean accuracy"])


@pytest.mark.parametrize(
    "words, message",
    [
        (["--model-info", "authors=me"], "--model-info is of --format robustbench"),
        (["--only", "*"], "--only is of --format robustbench"),
        (["--format", "robustbench", "--model-info", "author=me"], "did you mean 'authors'"),
        (["--format", "robustbench", "--json"], "write one of them"),
    ],
)
def test_wrong_words_are_one_line_before_any_work(words, message, tmp_path, capsys):
    assert main(["report", str(tmp_path / "none"), *words]) == 2
    out, err = capsys.readouterr()
    assert out == "" and message in err and err.count("\n") == 1


def test_its_formats_are_of_runs_of_attacks_alone(capsys):
    assert main(["list", "attacks", "--format", "robustbench"]) == 2
    assert "--format is 'robustbench'" in capsys.readouterr().err
    assert scoreag.write_robustbench is write_robustbench and torch.is_tensor(tiny.labels(1))
