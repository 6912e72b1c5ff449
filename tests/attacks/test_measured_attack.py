"""scoreag.attack: the images are those of the attack, and others measure them."""

import json
from dataclasses import dataclass

import pytest
import torch

import scoreag
import tiny
from scoreag.attacks import FGSM, GAT, PGD
from scoreag.core.batching import PADDING_ID, reset_draws
from scoreag.io.images import to_float
from scoreag.report.task_run import write_report

QUIET = {"batch_size": 4, "progress": False}
PGD_3 = PGD(eps=0.1, steps=3)


@pytest.fixture(scope="module")
def given():
    return tiny.images(5), tiny.labels(5)


def test_its_images_are_those_that_the_attack_returns(given):
    result = scoreag.attack(PGD_3, tiny.victim(), *given, seed=3, **QUIET)
    images, labels = given
    alone = PGD_3(tiny.victim(), images[:4], labels[:4], seed=3)
    assert torch.equal(result.images[:4], alone)
    assert result.config["attack"] == "pgd" and result.config["eps"] == 0.1


def test_an_image_does_not_depend_on_the_others(given):
    images, labels = given
    whole = scoreag.attack(PGD_3, tiny.victim(), *given, **QUIET)
    part = scoreag.attack(
        PGD_3, tiny.victim(), images[2:], labels[2:], image_ids=[2, 3, 4], **QUIET
    )
    assert torch.equal(whole[2:].images, part.images)


def test_success_is_counted_on_the_8_bit_images(given):
    images, labels = given
    judge = tiny.other_classifier()
    result = scoreag.attack(FGSM(eps=0.3), tiny.victim(), *given, judge=judge, **QUIET)
    saved = (result.images * 255).round() / 255
    said = tiny.victim()(saved).argmax(1)
    before = tiny.victim()(to_float(images)).argmax(1)
    assert torch.equal(result.predictions, said) and torch.equal(result.success, said != labels)
    assert torch.equal(result.clean_predictions, before)
    assert torch.equal(result.judge_predictions, judge(saved).argmax(1))
    rate = result.summarize()["rates"]["success"]
    right = before == labels
    assert (rate["count"], rate["total"]) == (int((said != labels)[right].sum()), int(right.sum()))
    assert f"{int((said != labels).sum())} of 5 fooled the classifier" in repr(result)


def test_a_saved_attack_has_a_report(given, tmp_path):
    folder = scoreag.attack("fgsm", tiny.victim(), *given, **QUIET).save(tmp_path / "run")
    page = write_report(folder).read_text()
    assert "<h1>Adversarial attack</h1>" in page and "after the attack" in page
    assert json.loads((folder / "manifest.json").read_text())["config"]["attack"] == "fgsm"


def test_a_defense_is_judged_by_draws_that_the_attack_did_not_see(given):
    images, labels = given
    defense = scoreag.defend(tiny.victim(), tiny.prior(), "gap", sigma_start=2.0, steps=1)
    seen = []

    @dataclass(frozen=True)
    class Spy(FGSM):
        def run(self, classifier, x, y, noise):
            seen.append(classifier(x))
            return x

    quiet = {"batch_size": 2, "progress": False}
    one = scoreag.attack(Spy(), defense, images[:3], labels[:3], **quiet)
    other = scoreag.attack(Spy(), defense, images[:1], labels[:1], **quiet)
    assert torch.equal(seen[0][0], seen[2][0])  # other images, or earlier calls, change nothing
    assert torch.equal(one[:1].predictions, other.predictions)
    fresh = reset_draws(defense, [0, PADDING_ID - 1], "saved")(one.images[[0, 0]])
    assert not torch.equal(fresh[0], seen[0][0]) and fresh[0].argmax() == one.predictions[0]


@pytest.mark.parametrize(
    "wrong, message",
    [
        ("pdg", "did you mean 'pgd'"),
        (PGD, "expected one with its options"),
        (GAT(prior=tiny.prior()), "write scoreag.transform"),
    ],
    ids=["name", "class", "task"],
)
def test_what_is_no_attack_is_answered_with_what_to_write(wrong, message, given):
    with pytest.raises(ValueError, match=message):
        scoreag.attack(wrong, tiny.victim(), *given, **QUIET)


def test_images_may_be_named_by_their_data_set(tmp_path):
    tiny.write_images(tmp_path / "images", 5)
    word = f"image-folder:{tmp_path / 'images'}"
    loaded = scoreag.load_data(word)
    named = scoreag.attack(PGD_3, tiny.victim(), word, seed=3, **QUIET)
    ids = loaded.dataset.image_ids
    same = scoreag.attack(PGD_3, tiny.victim(), *loaded, seed=3, image_ids=ids, **QUIET)
    assert torch.equal(named.images, same.images) and torch.equal(named.labels, loaded[1])
    assert named.config == {**same.config, "data": loaded.dataset.name}


def test_a_named_data_set_has_the_labels(given, tmp_path):
    tiny.write_images(tmp_path / "images", 2)
    with pytest.raises(ValueError, match="has labels of its own; leave out labels"):
        scoreag.attack(PGD_3, tiny.victim(), f"image-folder:{tmp_path / 'images'}", given[1])
    unlabeled = next((tmp_path / "images").rglob("*.png"))
    with pytest.raises(ValueError, match="has no labels, and success depends on them"):
        scoreag.attack(PGD_3, tiny.victim(), unlabeled, progress=False)
