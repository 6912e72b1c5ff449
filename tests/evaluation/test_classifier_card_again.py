"""Which images a classifier's card speaks of, and that its figures come out again."""

import pytest
import torch

import tiny
from scoreag.attacks.pgd import PGD
from scoreag.data.loading import Dataset
from scoreag.evaluation.classifier import evaluate, plan_evaluation
from scoreag.models.model_cards import Card


def data(count):
    return Dataset(tiny.images(count), tiny.labels(count), tuple(range(count)), tiny.CLASSES, "x")


def card(**figures):
    return Card(
        "net", "classifier", "small_cnn", "f", "MIT", tiny.SHAPE,
        training_config={"data": "cifar10:train[0:45000]"}, metrics=figures,
    )  # fmt: skip


def entry(of):
    return {"value": 0.5, "count": 1, "total": 2, "of": of}


@pytest.mark.parametrize(
    "of, word",
    [
        ("CIFAR-10 training images 45000-45499, not trained on", "cifar10:train[45000:45500]"),
        ("CIFAR-10 test images 0-499", "cifar10:test[0:500]"),
    ],
)
def test_a_part_names_its_images(of, word):
    asked = []
    found, left = plan_evaluation(
        card(held_out={"accuracy": entry(of)}), data(4), "test images",
        lambda word: asked.append(word) or data(4),
    )  # fmt: skip
    assert asked == [word] and set(found) == {"test", "held_out"} and not left
    assert found["held_out"].population == of


def test_a_part_that_names_none_is_left_out_and_told():
    _, left = plan_evaluation(
        card(odd={"accuracy": entry("some images")}), data(4), "test images", data
    )
    assert left == ["metrics.odd: it does not say which images it is of"]


def test_a_figure_of_another_kind_is_told():
    figures = {"accuracy": entry("test images"), "accuracy_square": entry("test images")}
    _, left = plan_evaluation(card(test=figures), data(4), "test images", data)
    assert left == ["metrics.test.accuracy_square: how it is computed is not known"]


def test_an_attack_is_read_from_the_name_of_its_figure():
    figures = {"accuracy": entry("test images"), "accuracy_pgd40_8": entry("test images")}
    found, _ = plan_evaluation(card(test=figures), data(4), "test images", data)
    assert found["test"].attacks == {"pgd40_8": PGD(8 / 255, 40)}


def test_an_attack_may_be_asked_for_and_its_radius_need_not_be_whole():
    found, _ = plan_evaluation(card(), data(4), "test images", data, ["pgd20_25.5"])
    assert found["test"].attacks == {"pgd20_25.5": PGD(0.1, 20)}


def test_accuracy_is_the_share_of_right_answers_and_less_under_attack():
    figures = {"accuracy": entry("test images"), "accuracy_pgd5_60": entry("test images")}
    found, _ = plan_evaluation(card(test=figures), data(9), "test images", data)
    out = evaluate(tiny.victim(), found)["test"]
    with torch.no_grad():
        right = (tiny.victim()(tiny.images(9).float() / 255).argmax(1) == tiny.labels(9)).sum()
    assert out["accuracy"]["count"] == int(right) == 8
    assert out["accuracy_pgd5_60"]["count"] < 8
