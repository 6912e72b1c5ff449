"""show: every entry of a card, for people and as JSON, without running anything of it."""

import json

import pytest
import torch
from safetensors import safe_open

import tiny
from scoreag.cli.app import main
from scoreag.models.model_cards import ZOO, list_cards, load_card


@pytest.mark.parametrize("name", list_cards())
def test_a_bundled_card_is_shown_with_the_count_of_its_numbers(name, capsys):
    assert main(["show", name]) == 0
    text, card = capsys.readouterr().out, load_card(name)
    for words in (card.name, card.kind, card.network, card.license, card.source):
        assert words in text
    count = 0
    for file in card.weight_files or [card.file]:
        with safe_open(ZOO / file, "pt") as weights:
            for key in weights.keys():  # noqa: SIM118
                count += torch.Size(weights.get_slice(key).get_shape()).numel()
    assert f"{count:,} numbers" in text
    assert all(f"defaults, {task}" in text for task in card.defaults)


def test_json_has_all_of_it(capsys):
    assert main(["show", "fashion-cnn", "--json"]) == 0
    found, card = json.loads(capsys.readouterr().out), load_card("fashion-cnn")
    assert found["classes"] == list(card.classes) and found["sha256"] == card.sha256
    assert found["metrics"] == json.loads(json.dumps(card.metrics))


def test_a_folder_is_shown_and_a_wrong_name_has_a_near_one(tmp_path, capsys):
    tiny.write_classifier(tmp_path / "net")
    assert main(["show", str(tmp_path / "net")]) == 0
    assert "3 x 8 x 8, 3 classes: cat, dog, ship" in capsys.readouterr().out
    assert main(["show", "cifra10"]) == 2
    err = capsys.readouterr().err
    assert "cifar10" in err and err.count("\n") == 1


def test_a_network_of_somebody_elses_code_is_shown_and_not_run(tmp_path, capsys):
    tiny.write_classifier(tmp_path / "net")
    file = tmp_path / "net" / "card.toml"
    file.write_text(file.read_text().replace('"small_cnn"', '"evil.module:network"'))
    assert main(["show", str(tmp_path / "net")]) == 0
    assert "evil.module:network" in capsys.readouterr().out
