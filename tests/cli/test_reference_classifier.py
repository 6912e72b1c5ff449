"""--reference-classifier: who judges by default, what is refused, what the headline says."""

import json

import pytest

import tiny
from assess.worlds_of_plans import write_net
from scoreag.classifiers.loading import load_classifier
from scoreag.cli.app import main
from scoreag.cli.runs import find_judge
from scoreag.data.loading import load_data
from scoreag.io.records import read_rows
from scoreag.methods.summary import NO_JUDGE_NOTE
from scoreag.models.loading import load_prior
from scoreag.models.model_cards import list_cards, load_card

pytestmark = pytest.mark.usefixtures("one_thread")
MODELS = ["--model", "prior", "--classifier", "net", "--out", "out"]
TRANSFORM = ["transform", *MODELS, "--data", "image-folder:images"]
SYNTHESIZE = ["synthesize", *MODELS, "--per-class", "2"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    tiny.write_score_model(tmp_path / "prior")
    tiny.write_classifier(tmp_path / "net")
    write_net(tmp_path / "judge", 12)
    tiny.write_images(tmp_path / "images", 6)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(capsys, words):
    assert main([*words, "--json", "--quiet"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys, words):
    assert main(words) in (1, 2)
    err = capsys.readouterr().err.strip()
    assert "\n" not in err and len(err) < 500
    return err


@pytest.mark.parametrize("words", [TRANSFORM, SYNTHESIZE], ids=lambda words: words[0])
def test_the_headline_is_fooled_and_shown(here, capsys, words):
    found = said(capsys, [*words, "--reference-classifier", "judge"])
    rows = read_rows(here / "out")
    right = [r for r in rows if r["predictions"]["before"] in (None, r["label"])]
    both = [r for r in right if r["predictions"]["saved"] != r["label"] == r["judge"]["saved"]]
    head = found["headline"]
    assert (head["name"], head["count"], head["total"]) == (
        "fooled_and_shown", len(both), len(right)
    )  # fmt: skip
    kept = json.loads((here / "out" / "manifest.json").read_text())["models"]["judge"]
    assert kept["name"] == "judge" and len(kept["sha256"]) == 64
    assert "reference classifier judge" in (here / "out" / "report.html").read_text().lower()


@pytest.mark.parametrize("more", [[], ["--reference-classifier", "none"]])
def test_without_a_judge_nothing_is_said_to_be_shown(here, capsys, more):
    assert main([*TRANSFORM, *more]) == 0
    assert (
        "not checked whether the class is still shown: give --reference-classifier"
        in capsys.readouterr().out
    )
    assert (
        json.loads((here / "out" / "summary.json").read_text())["headline"]["says"] == NO_JUDGE_NOTE
    )
    assert all("judge" not in row for row in read_rows(here / "out"))


def test_the_models_card_names_the_judge(here, capsys):
    tiny.write_score_model(here / "models" / "prior", judge="judge")
    write_net(here / "models" / "prior" / "judge", 12)
    words = ["models/prior" if word == "prior" else word for word in TRANSFORM]
    assert said(capsys, words)["headline"]["name"] == "fooled_and_shown"


@pytest.mark.parametrize(
    "judge, fault",
    [
        ("evil:module", "judge names code, 'evil:module'"),
        ("nowhere", "names the judge"),
        ("../net.pt2", "names the judge"),
    ],
)
def test_a_card_may_name_no_code_and_no_file_as_its_judge(here, capsys, judge, fault):
    tiny.write_score_model(here / "prior", judge=judge)
    assert fault in refused(capsys, TRANSFORM)
    assert not (here / "out").exists()


def test_the_victim_itself_may_not_judge_and_nothing_is_left_behind(here, capsys):
    tiny.write_classifier(here / "copy")
    for word in ("net", "copy", "bpda:net"):
        for words in (TRANSFORM, SYNTHESIZE):
            told = refused(capsys, [*words, "--reference-classifier", word])
            assert "the judge is the classifier that is attacked" in told
    assert not (here / "out").exists()


def test_a_judge_of_other_classes_is_refused(here, capsys):
    write_net(here / "other", 3, ("dog", "cat", "shop"))
    err = refused(capsys, [*TRANSFORM, "--reference-classifier", "other"])
    assert "judge is of other classes" in err and "did you mean 'shop'?" in err


def test_a_judge_of_more_classes_in_another_order_is_read_by_name(here, capsys):
    write_net(here / "four", 3, ("tree", *reversed(tiny.CLASSES)))
    assert main([*TRANSFORM, "--reference-classifier", "four"]) == 0
    logits = load_classifier("four", "cpu")(load_data("run-dir:out")[0])[:, [3, 2, 1]]
    rows = read_rows(here / "out")
    assert [row["judge"]["saved"] for row in rows] == logits.argmax(1).tolist()


def test_a_failure_of_all_says_what_to_try(here, capsys):
    weak = ["--attack-scale", "0.0001", "--no-normalize-gradient", "--max-restarts", "0"]
    assert main([*TRANSFORM, *weak, "--similarity", "1e6"]) == 0
    out = capsys.readouterr().out
    assert "hint" in out and "write a larger --attack-scale (now 0.0001)" in out
    html = (here / "out" / "report.html").read_text()
    assert "To try: no image fools the classifier" in html


JUDGED = [name for name in list_cards("score-model") if load_card(name).judge]


def test_only_the_images_of_imagenet_have_no_bundled_judge():
    """EfficientNet-Lite0 sees these, which is a package."""
    assert {*list_cards("score-model")} - {*JUDGED} == {"tiny-imagenet-small"}


@pytest.mark.parametrize("name", JUDGED)
def test_every_bundled_score_model_has_a_judge_of_its_classes(name):
    prior = load_prior(name, "cpu")
    judge = load_card(prior.judge)
    assert (judge.classes, judge.image_shape) == (prior.classes, prior.image_shape)
    assert find_judge(prior.image_shape, prior.classes) == prior.judge
    assert judge.metrics["test"]["accuracy"]["value"] > (0.9 if len(prior.classes) == 10 else 0.6)


def test_no_bundled_judge_is_taken_for_images_without_known_classes():
    assert find_judge((3, 32, 32), ()) == "" and find_judge((3, 32, 32), ("a", "b")) == ""
