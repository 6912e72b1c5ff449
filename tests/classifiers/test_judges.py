"""Who may judge: not the classifier that is attacked, whatever stands around it."""

from dataclasses import replace

import pytest
import torch
from torch import nn

import tiny
from scoreag import defend, synthesize, transform
from scoreag.classifiers.checks import describe_weak_judge, is_same_network, validate_judge
from scoreag.classifiers.networks.small_cnn import build as small_cnn
from scoreag.classifiers.normalized import wrap_classifier
from scoreag.methods.result import Result
from scoreag.stats.proportion import Proportion

pytestmark = pytest.mark.usefixtures("one_thread")
BLANK = torch.full((1, *tiny.SHAPE), 0.5)


def net(seed=10):
    return tiny.filled(small_cnn(**tiny.CNN), seed, 0.4)


def other():
    return wrap_classifier(net(12))


class Shifted(nn.Module):
    """Somebody's own wrapper, with a buffer of its own."""

    def __init__(self, inner):
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1))
        self.inner = inner
        self.eval()

    def forward(self, images):
        return self.inner(images - self.mean)


DISGUISES = {
    "the same object": lambda one: one,
    "another copy": lambda one: wrap_classifier(net()),
    "another normalization": lambda one: wrap_classifier(net(), (0.5,) * 3, (0.5,) * 3),
    "a wrapper": lambda one: wrap_classifier(Shifted(net())),
    "half precision": lambda one: wrap_classifier(net().half().float()),
    "a function around it": lambda one: lambda images: one(images),
    "a defense around it": lambda one: defend(one, tiny.prior(), steps=1),
    "a defense around a copy": lambda one: defend(net(), tiny.prior(), steps=1),
}


@pytest.mark.parametrize("disguise", DISGUISES)
def test_a_classifier_is_known_again_whatever_stands_around_it(disguise):
    one = tiny.victim()
    assert is_same_network(one, DISGUISES[disguise](one), BLANK)
    assert is_same_network(DISGUISES[disguise](one), one, BLANK)


def test_other_weights_are_another_network():
    assert not is_same_network(tiny.victim(), other(), BLANK)
    assert not is_same_network(tiny.victim(), defend(other(), tiny.prior(), steps=1), BLANK)
    assert not is_same_network(tiny.victim(), lambda images: other()(images), BLANK)


def test_untrained_layers_of_ones_and_zeros_make_no_two_networks_the_same():
    first, second = (nn.Sequential(nn.BatchNorm2d(3), net(seed)) for seed in (1, 2))
    assert not is_same_network(nn.BatchNorm2d(3), first) and not is_same_network(first, second)


def given(count=4):
    return tiny.prior(), tiny.victim(), tiny.images(count), tiny.labels(count)


@pytest.mark.parametrize("disguise", ["the same object", "another copy", "a function around it"])
def test_a_judge_that_is_attacked_is_refused_by_both_tasks(disguise):
    prior, victim, images, labels = given()
    judge = DISGUISES[disguise](victim)
    for ask in (
        lambda: transform(prior, victim, images, labels, judge=judge, progress=False),
        lambda: synthesize(prior, victim, [0, 1], judge=judge, progress=False),
    ):
        with pytest.raises(
            ValueError, match="the judge is the classifier that is attacked"
        ) as told:
            ask()
        assert "\n" not in str(told.value) and len(str(told.value)) < 500


def test_the_judge_of_a_defended_classifier_may_not_be_the_one_behind_the_defense():
    prior, victim, images, labels = given()
    guarded = defend(victim, prior, steps=1)
    with pytest.raises(ValueError, match="the judge is the classifier that is attacked"):
        transform(prior, guarded, images, labels, judge=wrap_classifier(net()), progress=False)


@pytest.mark.parametrize(
    "judge, told",
    [
        ("cifar10-judge", r"the judge is 'cifar10-judge'; expected a module"),
        (defend(wrap_classifier(net(12)), tiny.prior(), steps=1), "the judge is a defense"),
        (nn.Sequential(nn.Flatten(), nn.Linear(192, 4)).eval(), "the judge tells 4 classes apart"),
        (nn.Sequential(nn.Flatten(), nn.Linear(7, 3)).eval(), "the judge cannot be asked: .*take"),
        (
            nn.Sequential(net(12), nn.Softmax(1)).eval(),
            "the judge cannot be asked: .*probabilities",
        ),
    ],
)
def test_what_cannot_judge_is_refused_in_a_line(judge, told):
    with pytest.raises(ValueError, match=told) as caught:
        validate_judge(judge, tiny.victim(), BLANK, 3)
    assert "\n" not in str(caught.value)


def test_the_judge_is_asked_about_the_8_bit_images_and_the_originals_and_guides_nothing():
    prior, victim, images, labels = given(5)
    judge = other()
    found = transform(prior, victim, images, labels, judge=judge, batch_size=3, progress=False)
    bare = transform(prior, victim, images, labels, batch_size=3, progress=False)
    assert torch.equal(found.images, bare.images) and bare.judge_predictions is None
    with torch.no_grad():
        eight = found.images.mul(255).round() / 255
        assert torch.equal(found.judge_predictions, judge(eight).argmax(1))
        assert torch.equal(found.judge_clean_predictions, judge(images.float() / 255).argmax(1))
    assert (
        torch.equal(found.label_preserved, found.judge_predictions == labels)
        and bare.label_preserved is None
    )
    assert found.judge["name"] == "PlainCNN"


def test_results_of_two_judges_or_of_none_and_one_are_not_joined():
    prior, victim, images, labels = given(2)
    one = transform(prior, victim, images, labels, judge=other(), progress=False)
    bare = transform(prior, victim, images, labels, progress=False)
    with pytest.raises(ValueError, match="results of different judge are not one result"):
        Result.cat([one, bare])
    with pytest.raises(ValueError, match="results of different judge"):
        Result.cat([one, replace(one, judge={"name": "another"})])
    both = Result.cat([one, one[:1]])
    assert len(both.judge_predictions) == 3 == len(both.judge_clean_predictions)
    assert torch.equal(both[2].judge_predictions, one.judge_predictions[:1])


@pytest.mark.parametrize(
    "count, total, told",
    [
        (95, 100, ""),
        (70, 100, "right on 70 of 100 untouched images (70 %, interval 60-78 %), too few to show"),
        (60, 100, "right on 60 of 100 untouched images (60 %, interval 50-69 %): what it says"),
        (30, 100, "not clearly better than chance (1 of 3)"),
        (4, 4, "too few to show that it is right on 70 % or more"),
        (0, 0, "is not known"),
    ],
)
def test_a_judge_that_is_not_surely_right_on_most_images_is_doubted(count, total, told):
    says = describe_weak_judge("J", Proportion(count, total, "untouched images"), 3)
    assert told in says and bool(says) == bool(told)
