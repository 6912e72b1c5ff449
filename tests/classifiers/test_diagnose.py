"""A classifier of grey levels, whose right answers are plain, and all that can be wrong with it."""

import re

import pytest
import torch
from torch import nn

from scoreag.classifiers.diagnose import _is_significantly_better, diagnose
from scoreag.classifiers.normalized import NormalizedClassifier

LEVELS = (40, 110, 190)  # of 255: the classes
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Grey(nn.Module):
    """The class whose level is nearest to the image's mean, which is normalised as for ImageNet."""

    def forward(self, x):
        seen = x * x.new_tensor(STD).view(3, 1, 1) + x.new_tensor(MEAN).view(3, 1, 1)
        levels = torch.tensor(LEVELS) / 255
        return -((seen.mean((1, 2, 3))[:, None] - levels) ** 2) * 100


class Changed(Grey):
    """The same network with something done to its answers."""

    def __init__(self, change):
        super().__init__()
        self.change = change

    def forward(self, x):
        return self.change(super().forward(x))


def images(count=30):
    source = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % 3
    noise = torch.randint(-30, 31, (count, 3, 8, 8), generator=source)
    return (torch.tensor(LEVELS)[labels].view(-1, 1, 1, 1) + noise).to(torch.uint8), labels


def findings(module, mean=MEAN, std=STD, shown=None, labels=None):
    given, known = images()
    victim = NormalizedClassifier(module, mean, std).eval()
    found = diagnose(victim, given if shown is None else shown, known if labels is None else labels)
    return {finding.check: finding for finding in found}


def wrong(found):
    return {name: f.message for name, f in found.items() if f.ok is False}


def test_a_sound_classifier_is_found_sound():
    found = findings(Grey())
    assert wrong(found) == {}
    assert "30 of 30" in found["accuracy"].message


def test_a_missing_normalization_is_found_and_named():
    found = wrong(findings(Grey(), (0.0,), (1.0,)))
    assert set(found) == {"normalization"}
    assert "with that of ImageNet it is right on 30 instead of 20" in found["normalization"]
    assert "mean=(0.485, 0.456, 0.406)" in found["normalization"]


def test_pixels_up_to_255_may_be_what_it_expects():
    class Bytes(Grey):
        def forward(self, x):
            return super().forward(
                (x / 255 - x.new_tensor(MEAN).view(3, 1, 1)) / x.new_tensor(STD).view(3, 1, 1)
            )

    assert "[0, 255]" in wrong(findings(Bytes(), (0.0,), (1.0,)))["normalization"]


def test_probabilities_are_found():
    found = wrong(findings(Changed(lambda logits: logits.softmax(1))))
    assert found == {"logits": "it returns probabilities; leave out its last softmax"}


def test_randomness_is_found():
    found = wrong(findings(Changed(lambda logits: logits + 0.01 * torch.rand_like(logits))))
    assert "two calls differ" in found["randomness"]


def test_dependence_on_the_batch_is_found():
    found = wrong(findings(Changed(lambda logits: logits - logits.mean(0))))
    assert "an image alone has other logits than in a batch" in found["batch"]


def test_train_mode_is_found():
    given, labels = images()
    victim = NormalizedClassifier(Grey(), MEAN, STD).eval()
    victim.module.train()
    found = {f.check: f for f in diagnose(victim, given, labels)}
    assert found["mode"].ok is False and "Grey is in train mode" in found["mode"].message


@pytest.mark.parametrize(
    "change, told",
    [
        (lambda logits: logits[:, 0], r"it returns (8,); expected a row of logits an image"),
        (lambda logits: logits * torch.nan, "it returns NaN or infinity"),
    ],
)
def test_what_are_no_logits_is_found(change, told):
    assert told in wrong(findings(Changed(change)))["size"]


def test_images_of_another_size_are_found():
    module = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 3)).eval()
    assert "it does not take 3 x 8 x 8 images" in wrong(findings(module))["size"]


def test_labels_that_it_does_not_know_are_found():
    found = wrong(findings(Grey(), labels=torch.full((30,), 5)))
    assert found["labels"] == "up to 5, and the classifier has 3 classes"


def test_guessing_is_found():
    found = findings(Grey(), labels=images()[1].roll(1))
    assert found["accuracy"].ok is False


def test_images_divided_twice_are_found():
    assert "nearly black" in wrong(findings(Grey(), shown=images()[0] // 255))["range"]


@pytest.mark.parametrize("mean, std", [(0.1307, 0.3081), (0.5, 0.5)])
def test_the_advice_for_a_gray_classifier_has_one_number_and_works(mean, std):
    class Gray(nn.Module):
        def forward(self, x):
            levels = torch.tensor(LEVELS) / 255
            return -(((x * std + mean).mean((1, 2, 3))[:, None] - levels) ** 2) * 100

    gray, labels = images()
    gray = gray[:, :1]
    victim = NormalizedClassifier(Gray(), (0.9,), (0.1,)).eval()
    (told,) = [f.message for f in diagnose(victim, gray, labels) if f.check == "normalization"]
    found = re.search(r"mean=\(([\d.]+),\), std=\(([\d.]+),\)", told)
    assert found, told
    follows = NormalizedClassifier(Gray(), (float(found[1]),), (float(found[2]),)).eval()
    (accuracy,) = [f for f in diagnose(follows, gray, labels) if f.check == "accuracy"]
    assert "right on 30 of 30" in accuracy.message


def test_a_difference_that_chance_explains_is_none():
    """McNemar: of n images that two judge otherwise, one must win by more than 3 n^(1/2)."""
    right = torch.zeros(100, dtype=torch.bool)
    nine, ten = right.clone(), right.clone()
    nine[:9], ten[:10] = True, True
    assert (
        not _is_significantly_better(nine, right)
        and _is_significantly_better(ten, right)
        and not _is_significantly_better(right, ten)
    )
    lost = ~right
    lost[:10] = False
    assert not _is_significantly_better(lost, ~right)
