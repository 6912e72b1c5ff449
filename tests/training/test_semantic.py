"""The measure ``semantic``: its card, its scores, and what it refuses; and training on answers."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import tiny
from assess.worlds_of_plans import write_net
from scoreag.classifiers.loading import load_classifier
from scoreag.cli.app import main
from scoreag.core.rng import Stream
from scoreag.data.humans import HumanAnswers
from scoreag.data.loading import Dataset
from scoreag.metrics.semantic import load_semantic
from scoreag.models.model_cards import Card, load_card
from scoreag.training.semantic_training import build_ensemble, train_semantic

COUNT = 120
LABELS = Stream(4).integers(3, (COUNT,))
pytestmark = pytest.mark.usefixtures("one_thread")


def dataset() -> Dataset:
    return Dataset(tiny.images(COUNT), LABELS, tuple(range(COUNT)), tiny.CLASSES, "made")


def answers() -> HumanAnswers:
    """Eight of ten people name the label of any image, and one each of the others."""
    counts = 1 + 7 * torch.nn.functional.one_hot(LABELS, 3)
    return HumanAnswers(counts, "made", "", "CC BY-NC 4.0", "0" * 64, tiny.CLASSES)


@pytest.fixture(scope="module")
def cards(tmp_path_factory: pytest.TempPathFactory) -> list[Card]:
    folder = tmp_path_factory.mktemp("networks")
    for name, seed in (("first", 10), ("second", 21)):
        write_net(folder / name, seed)
    return [load_card(folder / name) for name in ("first", "second")]


@pytest.fixture(scope="module")
def trained(cards: list[Card], tmp_path_factory: pytest.TempPathFactory) -> Card:
    return train_semantic(cards, dataset(), answers(), tmp_path_factory.mktemp("m") / "semantic")


def test_the_card_says_what_it_was_calibrated_on(trained: Card, cards: list[Card]) -> None:
    card = load_card(trained.folder)
    config = card.training_config
    assert (config["humans"], config["humans_license"]) == ("made", "CC BY-NC 4.0")
    assert (config["images"], config["answers"]) == (COUNT, 10 * COUNT)
    assert [one["sha256"] for one in config["networks"]] == [card.sha256 for card in cards]
    assert card.license.startswith("CC BY-NC 4.0 (of the answers made)")
    assert "calibrated on real images only" in card.source
    figures = card.metrics["people"]
    assert {"spearman", "slope", "coverage_90", "clear_90"} <= figures.keys()
    assert all(entry["total"] == COUNT for entry in figures.values())


def test_the_networks_within_are_those_of_the_cards(cards: list[Card]) -> None:
    images = tiny.images(5).float() / 255
    views = build_ensemble(cards).log_shares(images)
    for i, card in enumerate(cards):
        classifier = load_classifier(card.folder)
        both = [classifier(x).log_softmax(1) for x in (images, images.flip(3))]
        torch.testing.assert_close(views[:, i], (both[0] + both[1]) / 2)


def test_scores_are_those_of_the_card_worked_out_again(trained: Card) -> None:
    measure, images, labels = load_semantic(trained.folder), tiny.images(9), LABELS[:9]
    scores = measure(images.float() / 255, labels)
    shares = load_classifier(trained.folder)(images.float() / 255).softmax(1)
    torch.testing.assert_close(scores.shares, shares)
    threshold = trained.training_config["set_threshold"]
    for row, label in enumerate(labels.tolist()):
        members = [c for c in range(3) if shares[row, c] >= threshold]
        assert bool(scores.in_set[row]) == (label in members)
        assert bool(scores.clear[row]) == (members == [label])
        assert int(scores.set_size[row]) == len(members)


def test_people_who_name_the_label_are_predicted(trained: Card) -> None:
    scores = load_semantic(trained.folder)(tiny.images(COUNT).float() / 255, LABELS)
    assert scores.share.tolist() == pytest.approx([0.8] * COUNT, abs=1e-3)


def test_another_classifier_is_no_measure(cards: list[Card]) -> None:
    with pytest.raises(ValueError, match=r"is a small_cnn and no measure.*train semantic"):
        load_semantic(cards[0].folder)


def test_networks_of_other_classes_are_not_mixed(cards: list[Card]) -> None:
    with pytest.raises(ValueError, match="different classes"):
        build_ensemble([cards[0], replace(cards[1], classes=("a", "b", "c"))])


def test_a_measure_is_no_member_of_a_measure(trained: Card) -> None:
    with pytest.raises(ValueError, match=r"is a people_ensemble; a member .* is a bundled network"):
        build_ensemble([trained])


def test_a_member_that_is_code_is_not_run(trained: Card, tmp_path: Path) -> None:
    text = trained.path.read_text().replace('network = "small_cnn"', 'network = "os:system"')
    assert text.count("os:system") == 2
    (tmp_path / "card.toml").write_text(text)
    (tmp_path / trained.file).write_bytes((trained.folder / trained.file).read_bytes())
    with pytest.raises(ValueError, match="a member is made by code, 'os:system'"):
        load_semantic(tmp_path)


def test_too_few_images_are_refused(cards: list[Card], tmp_path: Path) -> None:
    few = dataset()[:9]
    with pytest.raises(ValueError, match="there are 9 images; expected 100 or more"):
        train_semantic(cards, few, replace(answers(), counts=answers().counts[:9]), tmp_path)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with images, counts of answers, and a network."""
    np.savez(
        tmp_path / "data.npz", images=tiny.images(COUNT).numpy(), labels=LABELS.numpy(),
        classes=np.array(tiny.CLASSES),
    )  # fmt: skip
    np.save(tmp_path / "counts.npy", answers().counts.numpy())
    write_net(tmp_path / "net", 10)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_command_writes_the_measure(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--networks", "net", "--data", "npz:data.npz", "--humans", "counts.npy"]
    assert main(["train", "semantic", *words, "--out", "people", "--device", "cpu"]) == 0
    assert "spearman" in capsys.readouterr().out
    assert load_card("people").metrics["people"]["coverage_90"]["total"] == COUNT
    assert load_semantic("people").metadata["humans"] == "counts.npy"


def test_answers_in_another_order_are_refused_and_nothing_is_left(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rolled = answers().counts.roll(1, 1)
    np.save(files / "counts.npy", rolled.numpy())
    words = ["--networks", "net", "--data", "npz:data.npz", "--humans", "counts.npy"]
    assert main(["train", "semantic", *words, "--out", "people"]) == 1
    error = capsys.readouterr().err
    assert "different orders" in error and error.count("\n") == 1
    assert not (files / "people").exists()


def test_a_classifier_learns_the_shares_of_people(files: Path) -> None:
    """Four of ten people name the label of any image, and three each of the others."""
    one_hot, images = torch.nn.functional.one_hot, torch.full((COUNT, *tiny.SHAPE), 99).byte()
    np.savez(files / "gray.npz", images=images.numpy(), labels=np.zeros(COUNT, np.int64),
             classes=np.array(tiny.CLASSES))  # fmt: skip
    np.save(files / "counts.npy", (3 + one_hot(torch.zeros(COUNT).long(), 3)).numpy())
    words = ["--preset", "fashion-cnn", "--data", "npz:gray.npz", "--train-images", "3600"]
    words += ["--batch-size", "60", "--lr", "0.1", "--init", "net", "--dtype", "float32"]
    options = ["--humans", "counts.npy", "--out", "taught", "--device", "cpu"]
    assert main(["train", "classifier", *words, *options]) == 0
    card = load_card("taught")
    assert card.training_config["humans"] == "counts.npy"
    assert "counts.npy: unspecified" in card.license
    said = load_classifier("taught")(images[:1].float() / 255).softmax(1)[0]
    assert said.tolist() == pytest.approx([0.4, 0.3, 0.3], abs=0.01)


@pytest.mark.parametrize("option", ["--extra-data", "--denoised"])
def test_people_and_other_sources_of_labels_exclude_each_other(
    files: Path, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    words = ["--preset", "fashion-cnn", "--data", "npz:data.npz", "--batch-size", "60"]
    more = {"--extra-data": ["npz:data.npz", "--extra-fraction", "0.5"],
            "--denoised": ["cifar10", "--noise", "0.1"]}[option]  # fmt: skip
    options = ["--humans", "counts.npy", "--out", "taught", option, *more]
    assert main(["train", "classifier", *words, *options]) == 2
    assert f"{option} learns from labels" in capsys.readouterr().err
