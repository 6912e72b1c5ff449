from contextlib import nullcontext
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn
from torch.distributions import Categorical, kl_divergence
from torch.nn.functional import cross_entropy

from scoreag.attacks.pgd import PGD
from scoreag.classifiers.normalized import wrap_classifier
from scoreag.core.rng import Stream
from scoreag.training.classifier_training import train
from scoreag.training.losses import (
    adversarial_loss,
    classification_loss,
    compute_logits,
    frozen_batchnorm,
    mean_kl_divergence,
    n_fgsm,
    pgd,
    trades_loss,
)
from scoreag.training.outputs import measure_accuracy
from scoreag.training.recipes import Recipe
from scoreag.training.schedule import TrainingSchedule

AS_IT_IS = {"mean": (0.0,), "std": (1.0,)}
PLAIN = partial(classification_loss, **AS_IT_IS)
SEEN = partial(compute_logits, **AS_IT_IS)


class Linear(nn.Module):
    """Two classes: the logits are 0 and ``w . x``."""

    def __init__(self, w):
        super().__init__()
        self.w = nn.Parameter(w)

    def forward(self, x):
        said = (self.w * x).flatten(1).sum(1)
        return torch.stack([torch.zeros_like(said), said], 1)


def normalised():
    """A network whose answers depend on how its normalisation works."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2)
        return nn.Sequential(*layers)


def test_n_fgsm_takes_one_step_from_twice_the_radius_and_may_leave_the_ball():
    """Of a linear loss: every pixel ends step_size above its start, within [0, 1]."""
    images = torch.full((50, 3, 4, 4), 0.5)
    found = n_fgsm(lambda x: x.sum(), images, Stream(0), eps=0.1, step_size=0.1)
    start = found - 0.1 - images
    assert start.min() >= -0.2 - 1e-6 and start.max() <= 0.2 + 1e-6
    assert start.min() < -0.19 and start.max() > 0.19 and abs(start.mean()) < 0.01
    white = n_fgsm(lambda x: x.sum(), torch.ones(4, 3, 4, 4), Stream(0), eps=0.1, step_size=0.1)
    assert white.min() >= 0.9 and white.max() == 1


@pytest.mark.parametrize("steps, stride", [(1, 0.2), (10, 0.025)], ids=["fgsm", "pgd"])
def test_the_worst_image_for_a_linear_classifier_is_a_corner_of_the_ball(steps, stride):
    """``x + eps sign(w)`` where the label is 0: a way of 2 eps leads there from anywhere."""
    w = torch.tensor([[2.0, -0.1], [-3.0, 0.5]]).expand(1, 2, 2)
    images = torch.tensor([[0.5, 0.5], [0.05, 0.95]]).view(1, 1, 2, 2)
    network, labels = Linear(w), torch.tensor([0])
    loss = lambda x: PLAIN(network, x, labels, Stream(0))  # noqa: E731
    found = pgd(loss, images, Stream(1), 0.1, stride, steps)
    expected = torch.tensor([[0.6, 0.4], [0.0, 1.0]])  # the lower row stops at the range
    torch.testing.assert_close(found[0, 0], expected)


@pytest.mark.parametrize("radius, stride, steps", [(0.1, 0.125, 1), (0.3, 0.5, 3), (0.03, 0.01, 9)])
def test_the_adversary_stays_in_the_ball_and_in_the_range(radius, stride, steps):
    images = Stream("images").uniform((20, 3, 4, 4))
    loss = lambda x: (x * torch.linspace(-1, 1, 4)).square().sum()  # noqa: E731
    moved = pgd(loss, images, Stream(0), radius, stride, steps)
    assert (moved - images).abs().max() <= radius + 1e-6
    assert moved.min() >= 0 and moved.max() <= 1
    assert (moved - images).abs().max() > 0.9 * radius


def test_the_adversary_climbs_by_its_stride_from_a_random_place():
    """Grey images, gradient +1: d + 0.125 within the ball of 0.1, d uniform in it."""
    images = torch.full((200, 3, 4, 4), 0.5)
    change = pgd(lambda x: x.sum(), images, Stream(0), 0.1, 0.125) - 0.5
    assert change.min() >= 0.025 - 1e-6
    at_the_border = (change > 0.1 - 1e-6).float().mean().item()  # where d > -0.025
    assert at_the_border == pytest.approx(0.625, abs=5 * (0.625 * 0.375 / change.numel()) ** 0.5)


def test_the_adversarial_loss_is_the_plain_one_at_the_corner():
    w, images = torch.tensor([[[1.0, -2.0]]]), torch.full((1, 1, 1, 2), 0.5)
    search = partial(pgd, eps=0.1, step_size=0.2)
    found = adversarial_loss(Linear(w), images, torch.tensor([0]), Stream(0), PLAIN, search)
    said = torch.tensor(1.0 * 0.6 - 2.0 * 0.4)  # -log p(0) = log(1 + e^said)
    torch.testing.assert_close(found, (1 + said.exp()).log())


def test_the_divergence_of_two_classes_by_hand():
    p, q = torch.tensor([0.8, 0.5]), torch.tensor([0.6, 0.9])
    first, second = (torch.stack([v.log(), (1 - v).log()], 1) for v in (p, q))
    by_hand = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
    torch.testing.assert_close(mean_kl_divergence(first, second), by_hand.mean())


def test_the_divergence_is_that_of_torch():
    first, second = (3 * Stream(k).normal((6, 7)) for k in range(2))
    expected = kl_divergence(Categorical(logits=first), Categorical(logits=second)).mean()
    torch.testing.assert_close(mean_kl_divergence(first, second), expected)


def trades(network, images, labels, beta, radius=0.1):
    search = partial(pgd, eps=radius, step_size=radius / 2, steps=5)
    return trades_loss(network, images, labels, Stream(0), SEEN, cross_entropy, search, beta)


def test_trades_adds_the_divergence_at_one_of_the_two_corners():
    """For ``p = sigmoid(w . x)`` it grows to either side, to ``x +- eps sign(w)``."""
    w, x = torch.tensor([[[1.0, -2.0]]]), torch.tensor([0.7, 0.4]).view(1, 1, 1, 2)
    found = trades(Linear(w), x, torch.tensor([1]), beta=3.0)
    said, moved = torch.tensor(0.7 - 0.8), torch.tensor([-0.1 + 0.3, -0.1 - 0.3])
    p, q = said.sigmoid(), moved.sigmoid()
    apart = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
    assert (found - (-p.log() + 3 * apart)).abs().min() < 1e-6


def test_trades_without_beta_is_plain_training():
    images, labels = torch.rand(8, 3, 4, 4), torch.arange(8) % 2
    network, other = normalised(), normalised()
    trades(network, images, labels, beta=0.0).backward()
    cross_entropy(other(images), labels).backward()
    pairs = zip(network.parameters(), other.parameters(), strict=True)
    assert all(torch.equal(one.grad, two.grad) for one, two in pairs)


def test_the_gradient_of_trades_runs_through_both_sides():
    """Against central differences of the whole loss; the corner that is found stays the same."""
    x, labels = torch.tensor([0.7, 0.4]).view(1, 1, 1, 2), torch.tensor([1])
    loss = lambda w: trades(Linear(w), x, labels, beta=3.0)  # noqa: E731
    network = Linear(torch.tensor([[[1.0, -2.0]]]))
    trades(network, x, labels, beta=3.0).backward()
    steps = [torch.tensor([[[0.01, 0.0]]]), torch.tensor([[[0.0, 0.01]]])]
    w = network.w.detach()
    slopes = torch.stack([(loss(w + step) - loss(w - step)) / 0.02 for step in steps])
    torch.testing.assert_close(network.w.grad.flatten(), slopes.detach(), atol=1e-3, rtol=0)


def test_a_settled_network_is_as_in_use_and_learns_no_statistics():
    network, x = normalised().train(), torch.rand(8, 3, 4, 4)
    network(x)
    kept = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with frozen_batchnorm(network):
        inside = network(x)
    assert all(torch.equal(kept[name], value) for name, value in network.state_dict().items())
    assert network[1].training
    assert torch.equal(inside, network.eval()(x))


@pytest.mark.parametrize(
    "during, passes", [(nullcontext, 1 + 4), (frozen_batchnorm, 1)], ids=["fgsm-rs", "pgd"]
)
def test_the_statistics_follow_the_passes_that_the_search_is_to_leave(during, passes):
    network, images = normalised(), torch.rand(8, 3, 4, 4)
    search = partial(pgd, eps=0.1, step_size=0.05, steps=4)
    labels = torch.arange(8) % 2
    adversarial_loss(network, images, labels, Stream(0), PLAIN, search, during)
    assert network[1].num_batches_tracked == passes


def test_trades_follows_the_clean_and_the_adversarial_pass():
    network = normalised()
    trades(network, torch.rand(8, 3, 4, 4), torch.arange(8) % 2, beta=1.0)
    assert network[1].num_batches_tracked == 2


@pytest.fixture(scope="module")
def strong_and_weak():
    """One bright or dark bar, right nine times in ten; and a faint pattern that is always right.

    The faint one (0.02 a pixel, noise 0.05, 56 pixels) tells all, but 0.05 turn it around.
    """
    labels = torch.arange(512) % 2
    sign = 2.0 * labels - 1
    told = torch.where(Stream("bar").uniform((512,)) < 0.9, sign, -sign)
    faint = 0.5 + 0.02 * sign.view(-1, 1, 1, 1).expand(-1, 1, 7, 8)
    faint = faint + 0.05 * Stream("noise").normal(faint.shape)
    bar = 0.5 + 0.3 * told.view(-1, 1, 1, 1).expand(-1, 1, 1, 8)
    return (255 * torch.cat([bar, faint], 2)).round().clamp(0, 255).to(torch.uint8), labels


TWO_WORLDS = Recipe(
    network="small_cnn",
    options={"image_shape": [1, 8, 8], "classes": 2, "convolutions": [[4, 4, 2]], "hidden": 8},
    schedule=TrainingSchedule(total_images=3840, batch_size=32),
    lr=0.05,
    random_shift=0,
    hflip=False,
    mean=(0.5,),
    std=(0.25,),
)


def accuracies(recipe, data, folder):
    images, labels = data
    network = train(recipe, images, labels, folder / "state.pt").average.eval()
    victim = wrap_classifier(network, recipe.mean, recipe.std)
    found = measure_accuracy(victim, images, labels, "", {"pgd": PGD(0.06, 10)})
    return found["accuracy"]["value"], found["accuracy_pgd"]["value"]


def test_plain_training_trusts_the_faint_pattern(strong_and_weak, tmp_path):
    clean, attacked = accuracies(TWO_WORLDS, strong_and_weak, tmp_path)
    assert clean > 0.95 and attacked < 0.5


@pytest.mark.parametrize(
    "how",
    [
        {"adversarial": "fgsm-rs"},
        {"adversarial": "n-fgsm", "step_size": 1.0},
        {"adversarial": "pgd", "step_size": 0.6, "attack_steps": 3},
        {"adversarial": "trades", "step_size": 0.6, "attack_steps": 3},
    ],
    ids=lambda how: how["adversarial"],
)
def test_training_against_an_adversary_trusts_the_bar(strong_and_weak, tmp_path, how):
    recipe = replace(TWO_WORLDS, eps=0.06, **how)
    clean, attacked = accuracies(recipe, strong_and_weak, tmp_path)
    assert clean > 0.8 and attacked > 0.75
