"""certify --transform on the command line: rows, figures, a page, resumption and mistakes."""

import json
import os
import shutil

import pytest
import torch

import tiny
from scoreag.certify import transform_smoothing
from scoreag.cli.app import main
from scoreag.models.model_cards import load_card, update_card


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
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


PLAIN = ["certify", "--classifier", "net", "--out", "out", "--data", "image-folder:images",
         "--n", "30", "--n0", "10", "--alpha", "0.05"]  # fmt: skip
BLUR = [*PLAIN, "--transform", "blur"]
QUANTITIES = {
    "blur": ["radius"],
    "translation": ["radius"],
    "brightness-contrast": ["radius", "brightness", "contrast"],
}
TRANSFORMS = pytest.mark.parametrize("name", QUANTITIES)


def rows(folder):
    """No digests, which are of the settings as well."""
    lines = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    return [{name: v for name, v in row.items() if name != "digest"} for row in lines]


@TRANSFORMS
def test_a_transform_has_a_row_an_image_and_its_figures(here, capsys, name):
    assert main([*PLAIN, "--transform", name]) == 0
    out, err = capsys.readouterr()
    assert "accuracy" in out and "beyond N" in out and "out/report.html" in err
    assert all(f"largest {quantity}" in out for quantity in QUANTITIES[name])
    found = rows(here / "out")
    assert len(found) == 4 and all(0 <= row["count"] <= 30 for row in found)
    for row in found:
        values = [row[quantity] for quantity in QUANTITIES[name]]
        assert (row["predicted"] is None) == (values == [None] * len(values))
    manifest = json.loads((here / "out" / "manifest.json").read_text())
    assert manifest["task"] == f"certify {name}" and manifest["finished"]
    assert [*manifest["models"]] == ["classifier"] and manifest["config"]["image_size"] == [8, 8]
    page = (here / "out" / "report.html").read_text()
    assert "Limitations" in page and "beyond N" in page


@TRANSFORMS
def test_what_was_stopped_goes_on_and_comes_to_the_same(here, monkeypatch, name):
    words = [*PLAIN, "--transform", name, "--quiet"]
    assert main([*words, "--out", "whole"]) == 0
    work, calls = transform_smoothing.certify_image, []

    def stopped(*given):
        calls.append(given)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return work(*given)

    monkeypatch.setattr(transform_smoothing, "certify_image", stopped)
    assert main(words) == 130
    assert len(rows(here / "out")) == 1 and not (here / "out" / "summary.json").exists()
    assert main(words) == 0
    assert len(calls) == 2 + 3  # the one that was done is not done again
    assert rows(here / "out") == rows(here / "whole")
    one, other = ((here / out / "summary.json").read_text() for out in ("out", "whole"))
    assert one == other


@TRANSFORMS
def test_report_makes_the_page_again(here, name):
    assert main([*PLAIN, "--transform", name, "--quiet"]) == 0
    page = (here / "out" / "report.html").read_text()
    (here / "out" / "report.html").unlink()
    assert main(["report", "out", "--quiet"]) == 0
    assert (here / "out" / "report.html").read_text() == page


def test_other_noise_and_another_transform_are_other_runs(here, capsys):
    assert main([*BLUR, "--quiet"]) == 0
    assert main([*BLUR, "--transform-sigma", "3", "--quiet"]) == 1
    assert "config.sigma was [1.0] and is now [3.0]" in capsys.readouterr().err
    assert main([*PLAIN, "--transform", "translation", "--quiet"]) == 1
    assert "blur" in capsys.readouterr().err


def test_deviations_are_read_in_their_order(here):
    words = [*PLAIN, "--transform", "brightness-contrast", "--transform-sigma", "0.1, 0.3"]
    assert main([*words, "--quiet"]) == 0
    manifest = json.loads((here / "out" / "manifest.json").read_text())
    assert manifest["config"]["sigma"] == [0.1, 0.3]


def refused(capsys, words, code):
    assert main(words) == code
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and not os.path.exists("out")
    return err


@pytest.mark.parametrize(
    "words, told",
    [
        ([*BLUR, "--sigma", "0.5"],
         "with --transform there is no --sigma; write --transform-sigma"),
        ([*BLUR, "--model", "prior"],
         "with --transform there is no --model; the classifier is smoothed without one"),
        ([*BLUR, "--dtype", "bf16"], "with --transform there is no --dtype; leave it out"),
        ([*BLUR, "--compile"], "with --transform there is no --compile; leave it out"),
        ([*BLUR, "--generative"], "with --generative there is no --data"),
        (["certify", "--classifier", "net", "--out", "out", "--generative", "--transform", "blur"],
         "with --generative there is no --transform"),
        ([*BLUR, "--per-class", "3"], "without --generative is no --per-class"),
        ([*PLAIN, "--model", "prior", "--transform-sigma", "2"],
         "--transform-sigma 2 is without --transform; name it, e.g. --transform blur"),
        (PLAIN, "--model is missing; name a score model, e.g. cifar10"),
        ([*BLUR, "--transform-sigma", "1;2"],
         "--transform-sigma '1;2': write a number, or two with a comma, e.g. 0.2,0.2"),
        (["certify", "--classifier", "net", "--out", "out", "--transform", "blur"],
         "--data is missing"),
    ],
)  # fmt: skip
def test_wrong_usage_is_told_in_one_line(here, capsys, words, told):
    assert told in refused(capsys, words, 2)


@pytest.mark.parametrize(
    "words, told",
    [
        ([*PLAIN, "--transform", "blurr"], "no transform 'blurr'; did you mean 'blur'?"),
        ([*BLUR, "--transform-sigma", "1,2"], "the noise of blur is 1,2; expected 1 number"),
        ([*BLUR, "--transform-sigma", "-1"], "the noise of blur is -1; expected 1 number above 0"),
        ([*PLAIN, "--transform", "brightness-contrast", "--transform-sigma", "0.1"],
         "write --transform-sigma 0.2,0.2"),
        ([*BLUR, "--n", "3"], "write n = 5 or more"),
        ([*BLUR, "--size", "4"], "images of image-folder:images are 3 x 4 x 4"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_in_one_line(here, capsys, words, told):
    assert told in refused(capsys, words, 1)


def test_labels_that_the_classifier_does_not_know_are_refused(here, capsys):
    update_card(load_card("net"), classes=())
    cats = next((here / "images").iterdir())
    for name in ("bird", "plane", "truck"):
        shutil.copytree(cats, here / "images" / name)
    assert "tells 3 classes apart" in refused(capsys, BLUR, 1)
