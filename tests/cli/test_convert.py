"""convert: what is told, what is written, and what is refused."""

import json

import pytest

import made_edm
from scoreag.cli.app import main
from scoreag.models.model_cards import load_card


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made_edm.write(tmp_path / "edm.pkl")
    return tmp_path


def line(capsys, words, code):
    """The only line on stderr."""
    assert main(words) == code
    err = capsys.readouterr().err
    assert err.startswith("scoreag: ") and err.count("\n") == 1, err
    return err


def test_a_checkpoint_becomes_a_card_and_the_report_says_what_it_was(here, capsys):
    words = ["convert", "edm.pkl", "mine", "--class-names", "cat,dog,ship", "--license", "MIT"]
    assert main([*words, "--json", "--quiet"]) == 0
    told, made = json.loads(capsys.readouterr().out), load_card(here / "mine")
    assert (told["format"], told["family"], told["network"]) == (
        "EDM, EDMPrecond",
        "edm",
        "song_unet",
    )
    assert told["parameters"] == sum(t.numel() for t in made_edm.network().state_dict().values())
    assert told["sha256"] == made.sha256 and told["license"] == made.license == "MIT"
    assert made.classes == ("cat", "dog", "ship") and made.image_shape == (3, 8, 8)
    assert sorted(path.name for path in (here / "mine").iterdir()) == [
        "card.toml",
        "model.safetensors",
    ]


@pytest.mark.parametrize(
    "words, code, told",
    [
        (["nowhere.pkl", "new"], 1, "there is no file nowhere.pkl"),
        (["edm.pkl", "new", "--class-names", "cifar10"], 1, "knows 3 classes, and 10 names came"),
        (
            ["edm.pkl", "new", "--class-names", "cifra10"],
            2,
            "no such data set; did you mean 'cifar10'",
        ),
        (["text.pkl", "new"], 1, "text.pkl is no checkpoint of a kind that is read"),
    ],
)
def test_a_mistake_gets_one_line_and_leaves_nothing(here, capsys, words, code, told):
    (here / "text.pkl").write_text("hello")
    assert told in line(capsys, ["convert", *words], code)
    assert not (here / "new").exists()


def test_a_card_that_is_there_is_left_alone(here, capsys):
    assert main(["convert", "edm.pkl", "mine", "--quiet"]) == 0
    before = (here / "mine" / "card.toml").read_text()
    again = ["convert", "edm.pkl", "mine", "--license", "other"]
    assert "mine has a card; give another folder, or --overwrite" in line(capsys, again, 1)
    assert (here / "mine" / "card.toml").read_text() == before
    assert (
        main([*again, "--overwrite", "--quiet"]) == 0
        and load_card(here / "mine").license == "other"
    )
