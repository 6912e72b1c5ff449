"""Changed gradients of an attack: against formulas and worlds where the right step is known."""

import pytest
import torch
from torch.func import jacrev

from scoreag.diffusion.gradient_fields import (
    ascend_x0,
    polyak_step,
    remove_radial,
    with_momentum,
)
from scoreag.diffusion.guidance import guide

pytestmark = pytest.mark.usefixtures("in_double_precision")
LEVEL = torch.tensor(1.0)


def toward(y):
    """A log-likelihood that is largest, 0, at y."""
    return lambda x0, sigma: -0.5 * (x0 - y).flatten(1).square().sum(1)


def moved_by(term, x, sigma=LEVEL):
    """With D the identity and sigma 1 the correction is the gradient itself."""
    return guide(lambda x, sigma: x, term)(x, sigma) - x


@pytest.fixture
def x():
    return torch.randn(4, 3, 2, generator=torch.Generator().manual_seed(1))


def test_a_polyak_step_reaches_the_goal_of_a_linear_likelihood(x):
    """``f = b.x - c`` has the value ``best`` after one step, whatever ``b`` and ``c``."""
    b = torch.randn(3, 2, generator=torch.Generator().manual_seed(2))

    def linear(x0, sigma):
        return (x0 * b).flatten(1).sum(1) - 50

    step = moved_by(polyak_step(linear, scale=1.0, best=2.0), x)
    torch.testing.assert_close(linear(x + step, LEVEL), torch.full((4,), 2.0))
    half = moved_by(polyak_step(linear, scale=0.5, best=2.0), x)
    torch.testing.assert_close(half, step / 2)


def test_a_polyak_step_beyond_the_goal_is_none(x):
    reached = polyak_step(lambda x0, sigma: 1 + 0 * x0.flatten(1).sum(1), 1.0)
    assert moved_by(reached, x).abs().max() == 0


def test_a_polyak_step_of_a_reached_goal_does_not_vanish(x):
    """``log sigmoid(b.x + c)`` tends to 0, and the step to ``1 / |b|``: only a pause ends it."""
    b = torch.randn(3, 2, generator=torch.Generator().manual_seed(2))

    def reached(x0, sigma):
        return torch.nn.functional.logsigmoid((x0 * b).flatten(1).sum(1) + 25)

    length = moved_by(polyak_step(reached, 1.0), x).flatten(1).norm(dim=1)
    torch.testing.assert_close(length, (1 / b.norm()).expand(4), rtol=1e-3, atol=0)


def test_a_polyak_step_can_be_differentiated_twice(x):
    def step(x):
        return moved_by(polyak_step(toward(torch.ones(3, 2)), 0.7), x)

    assert torch.autograd.gradcheck(step, x.requires_grad_())


def test_momentum_adds_up_what_was_seen_before(x):
    """The gradients of the linear ``f_k = k x`` are 1, 2, 3."""
    calls = iter((1.0, 2.0, 3.0))
    term = with_momentum(lambda x0, sigma: next(calls) * x0.flatten(1).sum(1), 0.5)
    expected = (1.0, 2 + 0.5 * 1, 3 + 0.5 * 2 + 0.25 * 1)
    for value in expected:
        torch.testing.assert_close(moved_by(term, x), torch.full_like(x, value))


def test_what_is_left_beside_the_radial_part_is_orthogonal_and_shortest(x):
    denoised = 0.3 * x.flip(0) + 1
    gradient = x.roll(1, 0)
    left = remove_radial(gradient, x, denoised)
    radial = denoised - x
    torch.testing.assert_close((left * radial).flatten(1).sum(1), torch.zeros(4))
    removed = gradient - left
    for row, direction in zip(removed.flatten(1), radial.flatten(1), strict=True):
        assert torch.linalg.matrix_rank(torch.stack([row, direction])) == 1
    torch.testing.assert_close(remove_radial(left, x, denoised), left)


def test_x0_steps_climb_by_the_posterior_variance(x):
    """``x0 <- x0 + r^2 (y - x0)``: what is left to y shrinks by ``1 - r^2`` a step."""
    y, sigma, sd = torch.ones(3, 2), torch.tensor(0.8), 0.6
    shrink = 1 - sigma**2 * sd**2 / (sigma**2 + sd**2)
    plain = ascend_x0(lambda x, sigma: 2 * x, toward(y), 0, sigma_data=sd)(x, sigma)
    assert torch.equal(plain, 2 * x)
    thrice = ascend_x0(lambda x, sigma: 2 * x, toward(y), 3, sigma_data=sd)(x, sigma)
    torch.testing.assert_close(thrice - y, shrink**3 * (2 * x - y))


def test_x0_steps_keep_to_their_interval(x):
    term = toward(torch.ones(3, 2))
    ascended = ascend_x0(lambda x, sigma: x, term, 2, interval=(0.1, 0.5))
    assert torch.equal(ascended(x, torch.tensor(0.6)), x)
    assert not torch.equal(ascended(x, torch.tensor(0.5)), x)


def test_a_projected_correction_is_orthogonal_to_the_score(x):
    def denoise(x, sigma):
        return 0.5 * x + 0.1

    guided = guide(denoise, toward(torch.ones(3, 2)), project=remove_radial)(x, LEVEL)
    correction, score = guided - denoise(x, LEVEL), denoise(x, LEVEL) - x
    torch.testing.assert_close((correction * score).flatten(1).sum(1), torch.zeros(4))
    assert correction.abs().max() > 0.01
    plain = guide(denoise, toward(torch.ones(3, 2)))(x, LEVEL)
    assert not torch.allclose(guided, plain)


def test_the_identity_and_the_jacobian_agree_with_autograd(x):
    """A second route: the correction of ``guide`` from the full Jacobian of the denoiser."""
    row = x[:1]

    def denoise(x, sigma):
        return torch.tanh(x) + 0.2 * x.roll(1, 1)

    y = torch.ones(3, 2)
    full = jacrev(lambda v: denoise(v, LEVEL))(row)
    by_hand = torch.einsum("aijbkl,aij->bkl", full, (y - denoise(row, LEVEL)))
    torch.testing.assert_close(guide(denoise, toward(y))(row, LEVEL) - denoise(row, LEVEL), by_hand)
