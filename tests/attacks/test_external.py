"""Attacks of other libraries, with stand-ins for the packages that may be missing."""

import random
import sys
from types import ModuleType

import numpy as np
import pytest
import torch

import scoreag
from scoreag.attacks.external import (
    ClassifierModule,
    art,
    autoattack,
    run_per_image,
    temporary_seed,
    torchattacks,
)
from scoreag.core.rng import Noise
from scoreag.registry import load_attack

IMAGES = torch.full((3, 1, 2, 2), 0.5)
LABELS = torch.tensor([0, 1, 0])


def classify(images):
    score = images.mean((1, 2, 3)) - 0.5
    return torch.stack([-score, score], 1)


def put(monkeypatch, name, **contents):
    """A module of that name, and the packages that it is in."""
    module = ModuleType(name)
    vars(module).update(contents)
    for end in range(1, name.count(".") + 1):
        monkeypatch.setitem(sys.modules, ".".join(name.split(".")[:end]), ModuleType("package"))
    monkeypatch.setitem(sys.modules, name, module)


class Noisy:
    """An attack with global random numbers."""

    def __init__(self, model, eps=0.1):
        self.model, self.eps = model, eps

    def __call__(self, images, labels):
        assert images.shape[0] == 1 and not self.model.training
        assert self.model(images).shape == (1, 2)
        return (
            images + self.eps * (torch.rand_like(images) + np.random.rand() + random.random()) / 3
        )


@pytest.fixture
def noisy(monkeypatch):
    put(monkeypatch, "torchattacks", Noisy=Noisy)
    return torchattacks.TorchAttacks("Noisy", {"eps": 0.2})


def test_random_numbers_depend_on_the_image_id_and_the_global_state_is_restored(noisy):
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    whole = noisy(classify, IMAGES, LABELS, image_ids=[4, 5, 6])
    last = noisy(classify, IMAGES[2:], LABELS[2:], image_ids=[6])
    assert torch.equal(whole[2:], last) and not torch.equal(whole[:1], whole[1:2])
    assert not torch.equal(whole, noisy(classify, IMAGES, LABELS, seed=1, image_ids=[4, 5, 6]))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()
    assert (whole - IMAGES).max() <= 0.2 and (whole - IMAGES).min() >= 0


def test_the_random_state_of_python_is_restored_too():
    words = torch.tensor([5, 6, 7, 2**32 - 1])
    expected = random.Random(repr(words.tolist())).random()
    random.seed(9)
    kept = random.Random(9).random()
    with temporary_seed(words):
        assert random.random() == expected
        first = torch.rand(3), np.random.rand(3)
    with temporary_seed(torch.tensor([5, 0, 0, 0])):  # another key, which agrees in 32 bits
        assert not torch.equal(torch.rand(3), first[0])
    assert random.random() == kept


def test_art_receives_arrays_and_one_hot_labels(monkeypatch):
    class Evasion:
        def __init__(self, estimator, eps):
            self.estimator, self.eps = estimator, eps

        def generate(self, x, y):
            assert x.dtype == y.dtype == np.float32 and y.tolist() in ([[1, 0]], [[0, 1]])
            return x + self.eps * (2 * y[0, 0] - 1)

    def estimator(model, loss, input_shape, nb_classes, clip_values, device_type):
        made = ModuleType("estimator")
        made.nb_classes = nb_classes
        assert input_shape == (1, 2, 2) and nb_classes == 2 and clip_values == (0.0, 1.0)
        return made

    put(monkeypatch, "art.attacks.evasion", Evasion=Evasion)
    put(monkeypatch, "art.estimators.classification", PyTorchClassifier=estimator)
    found = art.ART("Evasion", {"eps": 0.25})(
        classify, IMAGES.double(), LABELS, image_ids=[0, 1, 2]
    )
    assert found.dtype == torch.float64
    assert found[:, 0, 0, 0].tolist() == pytest.approx([0.75, 0.25, 0.75])


class Estimator:
    """What is read of ART's PyTorchClassifier."""

    clip_values = np.array([0.0, 1.0])  # as the real one has them

    def __init__(self, **changes):
        self.model = torch.nn.Flatten().eval()
        self.preprocessing_operations = []
        vars(self).update(changes)


class EvasionAttack:
    def __init__(self, estimator):
        self.estimator = estimator


class Standardization:
    mean, std = np.full((1, 1, 1), 0.5, np.float32), np.full((1, 1, 1), 0.25, np.float32)


def test_an_attack_of_ours_is_one_of_art_s(monkeypatch):
    put(monkeypatch, "art.attacks.attack", EvasionAttack=EvasionAttack)
    ours = load_attack("pgd")(eps=0.1, steps=3)
    estimator = Estimator(preprocessing_operations=[Standardization()])
    evasion = art.evasion_attack(ours, estimator, seed=3, batch_size=2)
    assert isinstance(evasion, EvasionAttack) and evasion.estimator is estimator
    images = np.random.default_rng(0).random((3, 1, 1, 2), dtype=np.float32)
    classifier = scoreag.wrap_classifier(estimator.model, (0.5,), (0.25,))
    found = torch.as_tensor(images).flatten(1).argmax(1)  # what the estimator predicts
    expected = ours(classifier, torch.as_tensor(images), found, seed=3)
    for labels in (None, found.numpy(), np.eye(2)[found]):
        np.testing.assert_allclose(evasion.generate(images, labels), expected.numpy(), atol=1e-6)
    assert np.abs(expected.numpy() - images).max() == pytest.approx(0.1, abs=1e-6)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"model": None}, "has no torch model; give a PyTorchClassifier"),
        ({"clip_values": (0, 255)}, r"lie in \[0\.0, 255\.0\]; expected clip_values=\(0, 1\)"),
        ({"clip_values": None}, r"lie in \[None, None\]"),
        ({"channels_first": False}, "the channels first"),
        ({"preprocessing_operations": [Standardization(), Noisy(None)]},
         "preprocesses by Standardization, Noisy; only a mean"),
    ],
)  # fmt: skip
def test_an_estimator_that_cannot_be_read_is_refused(monkeypatch, changes, message):
    put(monkeypatch, "art.attacks.attack", EvasionAttack=EvasionAttack)
    with pytest.raises(ValueError, match=message):
        art.evasion_attack(load_attack("pgd")(), Estimator(**changes))


@pytest.mark.parametrize("package", ["autoattack", "pyautoattack"])
def test_autoattack_receives_norm_radius_and_version(monkeypatch, package):
    told = []

    def four(images):
        return torch.cat([classify(images), classify(images) - 1], 1)

    class AutoAttack:
        def __init__(self, model, **options):
            told.append(options)
            self.apgd_targeted, self.fab = ModuleType("apgd"), ModuleType("fab")
            self.apgd_targeted.n_target_classes = self.fab.n_target_classes = 9

        def run_standard_evaluation(self, images, labels):
            assert self.apgd_targeted.n_target_classes == self.fab.n_target_classes == 3
            return images + 0.1 if package == "autoattack" else (images + 0.1, labels)

    monkeypatch.setitem(sys.modules, "autoattack", None)
    monkeypatch.setitem(sys.modules, "pyautoattack", None)
    put(monkeypatch, package, AutoAttack=AutoAttack)
    attack = autoattack.AutoAttack(eps=0.1, norm="L2", version="rand")
    assert torch.allclose(attack(four, IMAGES, LABELS, image_ids=[0, 1, 2]), IMAGES + 0.1)
    assert [(t["norm"], t["eps"], t["version"]) for t in told] == [("L2", 0.1, "rand")] * 3
    assert len({t["seed"] for t in told}) == 3
    with pytest.raises(ValueError, match="autoattack needs 4 classes, and the classifier knows 2"):
        attack(classify, IMAGES, LABELS, image_ids=[0, 1, 2])


@pytest.mark.parametrize(
    "attack, package",
    [(torchattacks, "torchattacks"), (art, "adversarial-robustness-toolbox"),
     (autoattack, r"pyautoattack, or git\+https")],
    ids=["torchattacks", "art", "autoattack"],
)  # fmt: skip
def test_a_missing_package_is_reported(attack, package, monkeypatch):
    name = attack.__name__.rpartition(".")[2]
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "pyautoattack", None)
    for part in ("art.attacks.evasion",):
        monkeypatch.setitem(sys.modules, part, None)
    with pytest.raises(ValueError, match=f"cannot be imported .*pip install {package}"):
        load_attack(name)()(classify, IMAGES, LABELS, image_ids=[0, 1, 2])


def test_unknown_names_and_options_are_reported(noisy):
    with pytest.raises(ValueError, match="no 'Noisi' in torchattacks; did you mean 'Noisy'"):
        torchattacks.TorchAttacks("Noisi")(classify, IMAGES, LABELS, image_ids=[0, 1, 2])
    with pytest.raises(ValueError, match=r"torchattacks: Noisy: .*'epsilon'"):
        torchattacks.TorchAttacks("Noisy", {"epsilon": 1})(
            classify, IMAGES, LABELS, image_ids=[0, 1, 2]
        )


def test_changes_to_the_module_do_not_reach_the_classifier():
    inner = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2)).eval()

    def train(module, image, label, seed):
        module.train()
        module.requires_grad_(False)
        return image

    run_per_image(train, inner, IMAGES, LABELS, Noise(0, [0, 1, 2]))
    assert not inner.training and inner[1].weight.requires_grad
    assert next(ClassifierModule(inner, IMAGES).parameters()).device == IMAGES.device
