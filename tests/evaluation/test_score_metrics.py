"""The denoising loss, of denoisers whose errors are known on paper."""

from dataclasses import replace

import torch

import tiny
from scoreag.diffusion.parameterizations import edm
from scoreag.evaluation.score_model import SIGMA_LEVELS, measure_denoising_loss

IDS = [3, 8, 5]


def loss(denoise, ids=IDS, **options):
    prior = replace(tiny.prior(), model=denoise)
    return measure_denoising_loss(
        prior, tiny.images(len(ids)), tiny.labels(len(ids)), ids, 0.5, **options
    )


def test_a_denoiser_that_always_says_0_errs_by_the_image():
    """``w |x0|^2`` a pixel, ``w = (s^2 + sd^2) / (s sd)^2 = 1/s^2 + 1/sd^2``."""
    found = loss(lambda x, sigma, labels: torch.zeros_like(x))
    squares = (2 * tiny.images(3).double() / 255 - 1).square().flatten(1).mean(1)
    levels = torch.tensor(SIGMA_LEVELS, dtype=torch.float64)
    expected = squares[:, None] * (1 / levels**2 + 4)
    assert torch.allclose(found.double(), expected, rtol=1e-5)


def test_a_denoiser_that_changes_nothing_errs_by_the_noise():
    """``w s^2 |n|^2`` a pixel is ``1 + s^2 / sd^2`` on average; |n|^2 / d varies by 2 / d."""
    found = loss(lambda x, sigma, labels: x, ids=list(range(40))).double().mean(0)
    levels = torch.tensor(SIGMA_LEVELS, dtype=torch.float64)
    error = 5 * (2 / (40 * 192)) ** 0.5
    assert torch.allclose(found / (1 + 4 * levels**2), torch.ones(8).double(), atol=error)


def test_an_untrained_network_has_a_loss_of_its_target(tmp_path):
    """With F = 0 the denoiser is ``skip x``, and the loss |x0 - skip x|^2 w has a mean of
    ``((1 - skip)^2 |x0|^2 + skip^2 s^2) w``."""
    found = loss(lambda x, sigma, labels: edm(0.5)(sigma).c_skip * x, ids=list(range(40)))
    squares = (2 * tiny.images(40).double() / 255 - 1).square().mean()
    s = torch.tensor(SIGMA_LEVELS, dtype=torch.float64)
    skip, weight = 0.25 / (s**2 + 0.25), (s**2 + 0.25) / (s / 2) ** 2
    expected = weight * ((1 - skip) ** 2 * squares + skip**2 * s**2)
    assert torch.allclose(found.double().mean(0), expected, rtol=0.15)


def test_the_loss_of_an_image_is_its_own():
    """The noise is keyed by the image: not by its place, nor by what stands beside it."""
    model = tiny.prior().model
    whole = loss(model)
    prior = tiny.prior()
    alone = measure_denoising_loss(
        prior, tiny.images(3)[1:2], tiny.labels(3)[1:2], [8], 0.5, pad_to=3
    )
    assert torch.allclose(alone, whole[1:2], rtol=1e-5)


def test_the_label_is_told():
    model = tiny.prior().model
    other = measure_denoising_loss(tiny.prior(), tiny.images(3), (tiny.labels(3) + 1) % 3, IDS, 0.5)
    assert not torch.allclose(other, loss(model))
