"""Guidance of the prior, in a world of two classes where every denoiser is known on paper."""

import copy
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from scoreag.core.rng import Noise
from scoreag.diffusion.noise_schedules import karras
from scoreag.diffusion.parameterizations import Preconditioned, edm, with_labels
from scoreag.diffusion.prior_guidance import HEAD, GuidedModel, evaluations_at, null_label
from scoreag.diffusion.samplers import ancestral
from worlds import TwoClasses

pytestmark = pytest.mark.usefixtures("in_double_precision")

NULL = 2
SIGMA = torch.tensor(0.7, dtype=torch.float64)


class World(torch.nn.Module):
    """Two classes, and a null label for both; it counts its calls and the rows of each.

    Its head is the denoiser of all classes together, whatever the labels.
    """

    null_label = NULL
    has_head = True

    def __init__(self, world: TwoClasses) -> None:
        super().__init__()
        self.world, self.rows = world, []

    def forward(self, x, sigma, labels=None, head=False):
        self.rows.append(len(x))
        if head:
            return torch.cat([self.world(x, sigma, labels), self.world(x, sigma)])
        if labels is None:
            return self.world(x, sigma)
        known = self.world(x, sigma, labels.clamp(max=1))
        return torch.where((labels == NULL).view(-1, 1, 1, 1), self.world(x, sigma), known)


@pytest.fixture
def model(two_classes):
    return World(two_classes)


def states(count=4):
    return Noise(3, range(count)).fold_in("x").normal_like(torch.zeros(count, 1, 4, 4))


def test_it_extrapolates_from_the_guide_through_the_model(model, two_classes):
    x, labels = states(), torch.tensor([0, 1, 1, 0])
    with_label, without = two_classes(x, SIGMA, labels), two_classes(x, SIGMA)
    for scale in (0.0, 0.5, 1.0, 3.0):
        found = GuidedModel(model, scale)(x, SIGMA, labels)
        assert torch.allclose(found, (1 - scale) * without + scale * with_label)


def test_the_score_is_that_of_the_tempered_classifier(model, two_classes):
    """``score_w = score + w grad log p(y | x)``: Ho and Salimans (2022), eq. 5."""
    x, labels, scale = states().requires_grad_(), torch.tensor([0, 1, 1, 0]), 2.5
    total = two_classes.var + SIGMA**2
    logits = (x * two_classes.centre).flatten(1).sum(1) * 2 / total  # of class 1 against class 0
    log_p = torch.nn.functional.logsigmoid((2.0 * labels - 1) * logits).sum()
    (pull,) = torch.autograd.grad(log_p, x)
    with torch.no_grad():
        unconditional = (two_classes(x, SIGMA) - x) / SIGMA**2
        score = (GuidedModel(model, scale)(x, SIGMA, labels) - x) / SIGMA**2
    assert torch.allclose(score, unconditional + scale * pull)


def test_both_answers_come_from_one_batch(model):
    GuidedModel(model, 2.0)(states(), SIGMA, torch.tensor([0, 1, 1, 0]))
    assert model.rows == [8]


def test_a_weaker_model_guides_with_the_same_labels_and_without_any(model, two_classes):
    weaker = replace(two_classes, var=0.5)
    x, guided = states(), GuidedModel(model, 2.0, weaker)
    for labels in (None, torch.tensor([0, 1, 1, 0])):
        strong, weak = two_classes(x, SIGMA, labels), weaker(x, SIGMA, labels)
        assert torch.allclose(guided(x, SIGMA, labels), 2 * strong - weak)


def test_a_head_guides_at_the_cost_of_one_evaluation(model, two_classes):
    guided, x = GuidedModel(model, 3.0, HEAD), states()
    for labels in (None, torch.tensor([0, 1, 1, 0])):
        strong, weak = two_classes(x, SIGMA, labels), two_classes(x, SIGMA)
        assert torch.allclose(guided(x, SIGMA, labels), 3 * strong - 2 * weak)
    assert model.rows == [4, 4] and evaluations_at(guided, SIGMA) == 1


def test_outside_of_its_interval_it_is_the_model_at_the_cost_of_one_call(model):
    guided, labels = GuidedModel(model, 3.0, interval=(0.5, 1.0)), torch.tensor([0, 1, 1, 0])
    for level, rows in ((0.5, 8), (1.0, 8), (0.49, 4), (1.01, 4)):
        model.rows.clear()
        sigma = torch.tensor(level)
        found, plain = guided(states(), sigma, labels), model.world(states(), sigma, labels)
        assert model.rows == [rows] and evaluations_at(guided, sigma) == rows // 4
        assert torch.equal(found, plain) == (rows == 4)
    assert evaluations_at(model, SIGMA) == 1


def test_samples_show_their_class_more_often(model, two_classes):
    """The two classes overlap at a var of 1: of samples of a class some lie on the other's side."""
    wide = World(replace(two_classes, centre=two_classes.centre / 4, var=1.0))
    noise, grid = Noise(0, range(800)), karras(100, sigma_max=20.0)
    labels = torch.arange(800) % 2
    start = 20 * noise.fold_in("start").normal_like(torch.zeros(800, 1, 4, 4))

    def shown(scale):
        denoise = with_labels(GuidedModel(wide, scale), labels)
        side = (ancestral.sample(denoise, start, grid, noise) * wide.world.centre).sum((1, 2, 3))
        return ((side > 0) == (labels == 1)).double().mean().item()

    # the mean along the centre of length 0.4 is 0.4 deviations from the border
    assert shown(1.0) == pytest.approx(0.655, abs=0.06)
    assert shown(4.0) > shown(1.0) + 0.1


def test_gradients_are_those_of_plain_autograd_through_the_chain(model):
    noise, grid, labels = Noise(0, [0, 1]), karras(3, sigma_max=2.0), torch.tensor([0, 1])
    denoise = with_labels(GuidedModel(model, 3.0, interval=(0.01, 1.9)), labels)
    x = states(2).requires_grad_()
    (found,) = torch.autograd.grad(ancestral.sample(denoise, x, grid, noise).cos().sum(), x)
    state = x
    for i, (sigma, lower) in enumerate(pairwise(grid)):
        state = ancestral.step(denoise, state, sigma, lower, noise.fold_in("step", i))
    (expected,) = torch.autograd.grad(state.cos().sum(), x)
    assert torch.allclose(found, expected, rtol=1e-12)
    assert torch.autograd.gradcheck(lambda x: ancestral.sample(denoise, x, grid, noise), x)


def test_what_has_no_null_label_is_answered(model, two_classes):
    with pytest.raises(ValueError, match="needs labels; give another guide"):
        GuidedModel(model, 2.0)(states(), SIGMA)
    with pytest.raises(ValueError, match="needs a model with a null label; give another guide"):
        GuidedModel(two_classes, 2.0)(states(), SIGMA, torch.tensor([0, 1, 1, 0]))
    with pytest.raises(ValueError, match="needs a network with one; give another guide"):
        GuidedModel(two_classes, 2.0, HEAD)(states(), SIGMA)


class Network(torch.nn.Module):
    """Whatever it says, it has three classes."""

    classes = 3


@pytest.mark.parametrize("trained, label", [(True, 3), (False, None)])
def test_a_network_says_whether_it_was_trained_without_labels(trained, label):
    network = Network()
    network.null_label = trained
    model = Preconditioned(network, edm())
    assert null_label(model) == label
    assert copy.deepcopy(model).null_label == label
