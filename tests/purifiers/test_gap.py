"""A defended classifier: what it draws, what it answers, and which gradient an attacker gets."""

import pytest
import torch
from torch import nn

import scoreag
from scoreag.core.prior import Prior
from scoreag.core.schedule import karras
from scoreag.samplers import heun

SETTINGS = {"precision": 20.0, "start": 1.0, "steps": 4}


class Linear(nn.Module):
    """Logits that are linear in the pixels."""

    def __init__(self):
        super().__init__()
        weight = torch.linspace(-1, 1, 48).view(3, 16)
        self.weight = nn.Parameter(weight)

    def forward(self, images):
        return images.flatten(1) @ self.weight.to(images).T


@pytest.fixture
def victim():
    return Linear().eval()


@pytest.fixture
def prior(two_classes):
    return Prior(two_classes, heun.sample, karras(4), (1, 4, 4), dtype=torch.float64)


@pytest.fixture
def images(in_double_precision):
    return torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))


def test_each_call_draws_afresh_and_a_replay_does_not(victim, prior, images):
    defended = scoreag.defend(victim, prior, **SETTINGS)
    first, second = defended(images), defended(images)
    assert not torch.isclose(first, second).all(1).any()
    replayed = defended.replay(1)
    assert torch.equal(replayed(images), second) and torch.equal(replayed(images), second)


def test_two_defences_of_one_seed_draw_alike(victim, prior, images):
    a, b = (scoreag.defend(victim, prior, seed=5, **SETTINGS) for _ in range(2))
    assert torch.equal(a(images), b(images)) and torch.equal(a(images), b(images))


def test_a_replayed_row_is_its_image(victim, prior, images):
    defended = scoreag.defend(victim, prior, **SETTINGS)
    whole = defended.replay(2, image_ids=[10, 11, 12])(images)
    assert torch.equal(defended.replay(2, image_ids=[12])(images[2:]), whole[2:])


def test_mean_of_draws_is_the_mean_of_single_answers(victim, prior, images):
    """Draw j of call 0 is seen alone through a classifier that remembers what it saw."""
    seen = []

    def remember(purified):
        seen.append(victim(purified))
        return seen[-1]

    got = scoreag.defend(remember, prior, draws=3, **SETTINGS)(images)
    assert len(seen) == 3 and not torch.isclose(seen[0], seen[1]).all()
    assert torch.allclose(got, (seen[0] + seen[1] + seen[2]) / 3)


def test_majority_counts_the_draws(prior, images):
    answers = iter([[0, 1, 2], [0, 1, 1], [2, 1, 1]])

    def say(purified):
        chosen = torch.tensor(next(answers))
        return torch.nn.functional.one_hot(chosen, 3).double() + 0 * purified.sum()

    got = scoreag.defend(say, prior, draws=3, vote="majority", **SETTINGS)(images)
    expected = torch.tensor([[2.0, 0, 1], [0, 3, 0], [0, 2, 1]]) / 3
    assert torch.allclose(got, (expected + 1e-3).log())


def test_exact_gradient_is_that_of_the_function(victim, prior, images):
    defended = scoreag.defend(victim, prior, **SETTINGS).replay(0)
    assert torch.autograd.gradcheck(defended, images[:1].clone().requires_grad_())


def test_bpda_takes_purification_for_the_identity(victim, prior, images):
    leaf = images.clone().requires_grad_()
    scoreag.defend(victim, prior, backward="bpda", **SETTINGS)(leaf)[:, 2].sum().backward()
    expected = victim.weight[2].detach().view(1, 4, 4).expand_as(leaf)
    assert torch.allclose(leaf.grad, expected.to(leaf))


def test_blind_differentiates_the_undefended_classifier_and_answers_as_the_defended(prior, images):
    def square(x):
        return torch.stack([x.square().flatten(1).sum(1), x.flatten(1).sum(1)], 1)

    leaf = images.clone().requires_grad_()
    defended = scoreag.defend(square, prior, backward="blind", **SETTINGS).replay(0)
    logits = defended(leaf)
    logits[:, 0].sum().backward()
    assert torch.allclose(leaf.grad, 2 * images)
    exact = scoreag.defend(square, prior, **SETTINGS).replay(0)(images)
    assert torch.allclose(logits, exact)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"backward": "exakt"}, "no backward 'exakt'; did you mean 'exact'?"),
        ({"vote": "median"}, "no vote 'median'"),
        ({"draws": 0}, "draws is 0; expected at least 1"),
    ],
)
def test_a_slip_is_refused(options, message, victim, prior):
    with pytest.raises(ValueError) as caught:
        scoreag.defend(victim, prior, **options)
    assert message in str(caught.value)


def test_a_classifier_in_train_mode_is_refused(prior):
    with pytest.raises(ValueError, match=r"call its \.eval\(\) first"):
        scoreag.defend(Linear().train(), prior)
