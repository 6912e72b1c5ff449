"""Training that goes on from a card: its weights, network and normalisation."""

import json
from dataclasses import replace

import pytest
import torch

import tiny
from scoreag.cli.app import main
from scoreag.models.model_cards import load_card, read_weights
from scoreag.training.classifier_training import build_state, complete_recipe, train_classifier
from scoreag.training.recipes import Recipe
from scoreag.training.schedule import TrainingSchedule

RECIPE = Recipe(
    network="cifar_resnet",
    schedule=TrainingSchedule(total_images=20, batch_size=10),
    lr=1e-9,
    weight_decay=0.0,
    random_shift=1,
)
LABELS = torch.arange(20) % 3


@pytest.fixture
def net(tmp_path):
    tiny.write_classifier(tmp_path / "net")
    return load_card(str(tmp_path / "net"))


def test_it_begins_with_the_weights_of_the_card_in_its_network(net):
    recipe = complete_recipe(RECIPE, tiny.images(20), tiny.CLASSES, net)
    assert (recipe.network, dict(recipe.options)) == (net.network, dict(net.options))
    assert (recipe.mean, recipe.std) == (3 * net.mean, 3 * net.std)
    for seed in (0, 1):
        seeded = replace(recipe, schedule=replace(recipe.schedule, seed=seed))
        found = build_state(seeded, tiny.images(20), init=net).network.state_dict()
        assert all(torch.equal(found[name], value) for name, value in read_weights(net).items())


def test_the_new_card_says_where_it_began_and_has_hardly_moved_at_hardly_any_rate(net, tmp_path):
    (tmp_path / "out").mkdir()
    made = train_classifier(
        RECIPE, tiny.images(20), LABELS, tiny.CLASSES, tmp_path / "out", progress=False, init=net
    )
    assert (made.training_config["init"], made.training_config["init_sha256"]) == (
        net.name,
        net.sha256,
    )
    assert made.source == f"trained as a classifier, from {net.name}"
    before, after = read_weights(net), read_weights(made)
    for name, _ in tiny_parameters(net):
        assert torch.allclose(after[name], before[name], atol=1e-2, rtol=1e-2)


def tiny_parameters(net):
    from scoreag.models.model_cards import build_network

    return build_network(net).named_parameters()


def test_a_score_model_is_refused(tmp_path):
    tiny.write_score_model(tmp_path / "prior")
    other = replace(load_card(str(tmp_path / "prior")), name="prior")
    with pytest.raises(ValueError, match=r"prior is a score-model; start from a classifier"):
        complete_recipe(RECIPE, tiny.images(20), tiny.CLASSES, other)


def test_the_command_takes_it_and_another_one_is_another_training(
    net, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    for i, image in enumerate(tiny.images(20)):
        (tmp_path / "images" / tiny.CLASSES[i % 3]).mkdir(parents=True, exist_ok=True)
        tiny.write_png(tmp_path / "images" / tiny.CLASSES[i % 3] / f"{i}.png", image)
    words = ["train", "classifier", "--preset", "fashion-robust", "--data", "image-folder:images",
             "--out", "out", "--train-images", "20", "--batch-size", "10", "--quiet"]  # fmt: skip
    assert main([*words, "--init", "net"]) == 0
    made = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert made["init"]["sha256"] == net.sha256
    assert main(words) == 1 and "init" in capsys.readouterr().err
