import math

import pytest
import torch
from torch import nn

from scoreag.core.rng import Stream
from scoreag.training.losses import build_denoising_loss, edm

NULL = 3
PIXEL = (20_000, 1, 1, 1)


class Oracle(nn.Module):
    """Answers ``x0 + error(sigma)`` whatever it sees, and remembers what it was asked."""

    def __init__(self, x0, error=torch.zeros_like):
        super().__init__()
        self.x0, self.std_error = x0, error

    def forward(self, x, sigma, labels):
        self.x, self.sigma, self.labels = x, sigma, labels
        return self.x0 + self.std_error(sigma)[:, None, None, None]


def loss(model, images, labels=None, seed=0, dropped=0.1, sigma_data=0.5):
    told = torch.zeros(len(images), dtype=torch.int64) if labels is None else labels
    return build_denoising_loss(edm(sigma_data), NULL, dropped)(model, images, told, Stream(seed))


def asked(shape=PIXEL, labels=None, **options):
    """What a model is asked about images of pixels 3/4, whose x0 is 1/2."""
    model = Oracle(0.5)
    loss(model, torch.full(shape, 0.75), labels, **options)
    return model


def test_knowing_the_image_costs_nothing():
    """Pixels 3/4 in [0, 1] are 1/2 in [-1, 1]."""
    assert loss(Oracle(0.5), torch.full((9, 3, 4, 4), 0.75)) == 0


@pytest.mark.parametrize("sigma_data", [0.5, 0.25])
def test_an_error_of_one_costs_the_mean_weight(sigma_data):
    """(sigma^2 + sd^2) / (sigma sd)^2 = 1 / sd^2 + 1 / sigma^2."""
    model = Oracle(0.5, torch.ones_like)
    found = loss(model, torch.full((50, 3, 4, 4), 0.75), sigma_data=sigma_data)
    torch.testing.assert_close(found, (1 / sigma_data**2 + 1 / model.sigma**2).mean())


def test_the_weight_is_8_where_both_deviations_are_one_half():
    """Where sigma = sd it is 2 / sd^2; in units in which sd is 1/2, the error 1 is 2 sd."""
    sigma = asked((1, 3, 4, 4)).sigma.item()
    model = Oracle(0.5, lambda sigma: 2 * sigma)
    found = loss(model, torch.full((1, 3, 4, 4), 0.75), sigma_data=sigma)
    assert model.sigma.item() == sigma
    assert found.item() == pytest.approx(8)


def test_log_sigma_is_about_minus_1_2():
    logs = asked().sigma.log()
    assert logs.mean().item() == pytest.approx(-1.2, abs=5 * 1.2 / math.sqrt(len(logs)))


def test_log_sigma_deviates_by_1_2():
    logs = asked().sigma.log()
    assert logs.std().item() == pytest.approx(1.2, abs=5 * 1.2 / math.sqrt(2 * len(logs)))


def test_the_model_sees_the_image_and_sigma_times_standard_noise():
    model = asked()
    noise = (model.x.flatten() - 0.5) / model.sigma
    few = math.sqrt(len(noise))
    assert noise.mean().item() == pytest.approx(0, abs=5 / few)
    assert noise.square().mean().item() == pytest.approx(1, abs=5 * math.sqrt(2) / few)


def test_noise_and_its_level_are_independent():
    model = asked()
    noise, logs = (model.x.flatten() - 0.5) / model.sigma, model.sigma.log()
    correlation = torch.corrcoef(torch.stack([noise, logs]))[0, 1].item()
    assert correlation == pytest.approx(0, abs=5 / math.sqrt(len(noise)))


@pytest.mark.parametrize("dropped", [0.0, 0.1, 1.0])
def test_a_share_of_the_labels_is_withheld(dropped):
    labels = torch.arange(PIXEL[0]) % NULL
    share = (asked(labels=labels, dropped=dropped).labels == NULL).float().mean().item()
    assert share == pytest.approx(dropped, abs=5 * math.sqrt(dropped * (1 - dropped) / PIXEL[0]))


def test_a_tenth_of_the_labels_is_withheld_unless_asked_otherwise():
    share = (asked().labels == NULL).float().mean().item()
    assert share == pytest.approx(0.1, abs=5 * math.sqrt(0.09 / PIXEL[0]))


def test_labels_that_are_told_are_the_right_ones():
    labels = torch.arange(PIXEL[0]) % NULL
    told = asked(labels=labels).labels
    assert torch.equal(told[told != NULL], labels[told != NULL])


def test_half_of_the_images_are_mirrored():
    """The loss of the unmirrored image has a gradient where the image was mirrored."""
    images = torch.tensor([0.0, 1.0]).expand(2000, 1, 1, 2)
    x0 = (2 * images - 1).requires_grad_()
    loss(Oracle(x0), images).backward()
    mirrored = x0.grad.flatten(1).any(1).float().mean().item()
    assert mirrored == pytest.approx(0.5, abs=5 * math.sqrt(0.25 / 2000))


def test_the_same_source_gives_the_same_question():
    first, again, other = (asked((4, 3, 2, 2), seed=seed).x for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


class TwoOutputs(nn.Module):
    """The first output is off by an error, the second by twice as much."""

    has_head = True

    def __init__(self):
        super().__init__()
        self.error = nn.Parameter(torch.ones(()))

    def forward(self, x, sigma, labels, head=False):
        first = torch.full_like(x, 0.5)
        return torch.cat([first + self.error, first + 2 * self.error][: 1 + head])


def test_the_gradient_of_a_head_is_added_and_the_value_is_that_of_the_first_output():
    """Errors e and 2 e cost e^2 and 4 e^2, whose derivatives at e = 1 are 2 and 8."""
    images, labels = torch.full((6, 3, 4, 4), 0.75), torch.zeros(6, dtype=torch.int64)
    found = []
    for weight in (0.0, 0.25):
        model = TwoOutputs()
        loss = build_denoising_loss(edm(), NULL, head_weight=weight)
        value = loss(model, images, labels, Stream(0))
        found.append((value.item(), torch.autograd.grad(value, model.error)[0].item()))
    (value, slope), (same, steeper) = found
    assert same == value and slope == pytest.approx(2 * value)
    assert steeper == pytest.approx(2 * value + 0.25 * 8 * value)
