"""The three tasks in a world of two classes of 1x4x4 images, where every part is exact."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

import tiny
from scoreag.attacks import pgd
from scoreag.core.rng import Noise
from scoreag.defenses.defend import defend
from scoreag.diffusion.noise_schedules import karras
from scoreag.diffusion.prior import Prior
from scoreag.diffusion.samplers import heun
from scoreag.methods.config import SamplingConfig
from scoreag.methods.guided_sampling import runner_up_class
from scoreag.methods.purification import sample_purification
from scoreag.methods.synthesis import sample_synthesis
from scoreag.methods.transformation import sample_transformation
from scoreag.models.loading import load_prior

IDS = range(40)
NOISE = Noise(seed=0, image_ids=IDS)
LABELS = torch.arange(40) % 2
FROM_NOISE = SamplingConfig(attack_scale=16.0, similarity=50.0, sigma_start=20.0, steps=24)


def classify(images: Tensor) -> Tensor:
    """Looks at one pixel only, so an image can fool it and stay on the right side elsewhere."""
    score = 8 * (images[:, 0, 0, 0] - 0.5)
    return torch.stack([-score, score], dim=1)


@pytest.fixture
def prior(two_classes) -> Prior:
    return Prior(
        two_classes,
        heun.sample,
        karras(24, sigma_max=20.0),
        (1, 4, 4),
        classes=("dark", "bright"),
        dtype=torch.float64,
    )


@pytest.fixture
def natural(prior):
    return prior.sample(NOISE, LABELS)


def wrong_rate(images, labels=LABELS):
    return (classify(images).argmax(1) != labels).double().mean().item()


def semantic_rate(images, labels=LABELS):
    """How many images still lie nearer to the centre of their own class."""
    return ((2 * images - 1).flatten(1).sum(1).sign() == 2 * labels - 1).double().mean().item()


@pytest.mark.parametrize(
    "wrong", [1 - LABELS, "runner_up", None], ids=["given", "runner_up", "any"]
)
@pytest.mark.parametrize("guidance", ["likelihood", "margin"])
def test_gas_fools_the_classifier_and_keeps_the_class(wrong, guidance, prior, natural):
    settings = replace(FROM_NOISE, attack_loss=guidance)
    drawn = sample_synthesis(prior, classify, LABELS, wrong, settings, NOISE)
    assert wrong_rate(natural) < 0.1
    assert wrong_rate(drawn.images) > 0.6
    assert semantic_rate(drawn.images) == 1


def test_strength_zero_is_an_unguided_draw(prior, natural):
    drawn = sample_synthesis(
        prior, classify, LABELS, 1 - LABELS, replace(FROM_NOISE, attack_scale=0.0), NOISE
    )
    assert torch.equal(drawn.images, natural)


def test_second_is_the_likeliest_class_but_the_label():
    logits = torch.tensor([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0], [0.0, 1.0, 5.0]])
    assert runner_up_class(logits, torch.tensor([0, 1, 0])).tolist() == [1, 0, 2]


def classify_three(images: Tensor) -> Tensor:
    return torch.stack([images.mean((1, 2, 3)), images[:, 0, 0, 0], images[:, 0, 1, 1]], 1)


def test_synthesis_settles_its_wrong_class_at_the_first_estimate_below_2(two_classes):
    """Before, it is untargeted; no call of the denoiser is spent on deciding."""
    estimates = []

    def model(x, sigma, labels=None):
        estimates.append((float(sigma), two_classes(x, sigma, labels)))
        return estimates[-1][1]

    prior = Prior(model, heun.sample, karras(8), (1, 4, 4), dtype=torch.float64)
    settings = SamplingConfig(attack_scale=1.0, sigma_start=20.0, steps=8, sampler="euler")
    drawn = sample_synthesis(prior, classify_three, LABELS, "runner_up", settings, NOISE)
    decisive = next(x0 for sigma, x0 in estimates if sigma < 2)
    expected = runner_up_class(classify_three((decisive + 1) / 2), LABELS)
    assert torch.equal(drawn.targets, expected)
    assert drawn.nfe.tolist() == [len(estimates)] * len(LABELS) and len(estimates) == 8


@pytest.mark.parametrize("changes", [{"steps": 1}, {"attack_interval": (3.0, 90.0)}])
def test_synthesis_settles_its_target_at_the_last_guided_level_if_none_is_below_2(changes, prior):
    settings = replace(FROM_NOISE, attack_scale=1.0, **changes)
    drawn = sample_synthesis(prior, classify, LABELS, "runner_up", settings, NOISE)
    assert torch.equal(drawn.targets, 1 - LABELS)


def test_without_an_attack_no_target_is_chosen(prior, natural):
    settings = replace(FROM_NOISE, attack_scale=0.0)
    drawn = sample_synthesis(prior, classify, LABELS, "runner_up", settings, NOISE)
    near = sample_transformation(prior, classify, natural, LABELS, "runner_up", settings, NOISE)
    assert drawn.targets.tolist() == near.targets.tolist() == [-1] * len(LABELS)


@pytest.mark.parametrize(
    "sampler", ["heun", "edm_stochastic", "ancestral", "dpmpp_2m", "euler_maruyama"]
)
def test_an_unguided_draw_does_not_depend_on_what_is_wanted(sampler, prior):
    settings = replace(FROM_NOISE, attack_scale=0.0, sampler=sampler, steps=6)
    second, untargeted = (
        sample_synthesis(prior, classify, LABELS, wrong, settings, NOISE).images
        for wrong in ("runner_up", None)
    )
    assert torch.equal(second, untargeted)


@pytest.mark.parametrize(
    "changes",
    [
        {"jacobian": "identity"},
        {"x0_estimate": "ode_euler"},
        {"attack_interval": (0.5, 2.0)},
        {"normalize_gradient": True},
        {"polyak_step": True},
        {"momentum": 0.5},
        {"tangent_projection": True},
        {"x0_steps": 1},
        {"augmentations": 2},
        {"sampler": "ancestral", "sampler_options": {"recurrence": 2}},
        {"attack_loss": "margin"},
        {"likelihood_variance": "widened", "sigma_start": 0.5},
        {"likelihood_variance": "exact"},
        {"sampler": "dpmpp_2m"},
        {"sampler": "edm_stochastic", "sampler_options": {"s_churn": 5.0}},
    ],
    ids=str,
)
def test_no_setting_is_ignored(changes, prior, natural):
    base = replace(FROM_NOISE, steps=6, sigma_start=changes.get("sigma_start", 5.0))
    plain, changed = (
        sample_transformation(prior, classify, natural, LABELS, "runner_up", settings, NOISE).images
        for settings in (base, replace(base, **changes))
    )
    assert not torch.allclose(plain, changed, atol=1e-4)


def test_the_symmetric_gradient_costs_a_second_call_and_is_the_exact_one_here(prior, natural):
    """The denoiser of an exact world has a symmetric Jacobian."""
    base = replace(FROM_NOISE, steps=6, sigma_start=5.0)
    exact, symmetric = (
        sample_transformation(prior, classify, natural, LABELS, "runner_up", settings, NOISE)
        for settings in (base, replace(base, jacobian="finite_difference"))
    )
    assert torch.equal(symmetric.nfe, 2 * exact.nfe)
    assert torch.allclose(symmetric.images, exact.images, atol=1e-3)


def test_the_exact_variance_costs_no_further_call(prior, natural):
    settings = replace(
        FROM_NOISE, steps=6, sigma_start=5.0, sampler="euler", likelihood_variance="exact"
    )
    drawn = sample_transformation(prior, classify, natural, LABELS, "runner_up", settings, NOISE)
    assert drawn.nfe.tolist() == [6] * len(LABELS)


def test_the_variance_is_of_the_pixels_that_the_card_speaks_of(tmp_path):
    """One Euler step to 0 is D_c itself: D + sigma^2 dD/dx^T (y - D) / v, with sd = 1/4 in v."""
    prior = load_prior(tiny.write_score_model(tmp_path, sigma_data=0.25), "cpu")
    images, noise = torch.full((2, 3, 8, 8), 0.6), Noise(0, [0, 1])
    settings = SamplingConfig(similarity=4.0, sigma_start=1.0, steps=1, sampler="euler")

    y = torch.full((2, 3, 8, 8), 0.2)
    x = (y + noise.fold_in("start").normal_like(y)).requires_grad_()
    denoised = prior.model(x, torch.tensor(1.0))
    v = (1 / 4 + 1 / 17) * (1 + 16)  # r^2 = (1/16) / (1 + 1/16)
    (pull,) = torch.autograd.grad(denoised, x, (y - denoised.detach()) / v)
    expected = ((denoised.detach() + pull + 1) / 2).clamp(0, 1)
    torch.testing.assert_close(sample_purification(prior, images, settings, noise), expected)


def test_gat_stays_nearer_to_its_image_the_higher_the_precision(prior, natural):
    near, far = (
        sample_transformation(
            prior,
            classify,
            natural,
            LABELS,
            1 - LABELS,
            replace(FROM_NOISE, similarity=precision),
            NOISE.fold_in("gat"),
        ).images
        for precision in (100.0, 1.0)
    )
    assert (near - natural).abs().mean() < 0.7 * (far - natural).abs().mean()
    assert wrong_rate(near) > 0.5


@pytest.mark.parametrize("variance", ["damped", "exact"])
def test_gap_undoes_a_small_attack(variance, prior, natural):
    adversarial = pgd.PGD(eps=0.25)(classify, natural, LABELS, image_ids=IDS)
    settings = SamplingConfig(
        similarity=4.0, sigma_start=20.0, steps=24, likelihood_variance=variance
    )
    purified = sample_purification(prior, adversarial, settings, NOISE)
    assert wrong_rate(adversarial) > 0.6
    assert wrong_rate(purified) < wrong_rate(adversarial) / 2


def test_gap_draws_from_the_posterior_where_the_world_is_gaussian(in_double_precision):
    """x0 ~ N(0, 0.25), seen with variance 1/4: the posterior is N(y/2, 1/8), on paper."""

    def model(x, sigma, labels=None):
        return 0.25 * x / (0.25 + sigma**2)

    count = 4000
    prior = Prior(model, heun.sample, karras(40), (1, 2, 2), dtype=torch.float64)
    settings = SamplingConfig(
        similarity=4.0, sigma_start=80.0, steps=60, likelihood_variance="exact"
    )
    images = torch.full((count, 1, 2, 2), 0.6)  # y = 0.2
    states = []

    def watched(x, sigma, labels=None):
        states.append(x)
        return model(x, sigma, labels)

    sample_purification(replace(prior, model=watched), images, settings, Noise(0, range(count)))
    x0 = states[-1]  # before it is cut to [0, 1]; the last level is 0.002
    n = x0.numel()
    assert x0.mean().item() == pytest.approx(0.1, abs=5 * (0.125 / n) ** 0.5)
    assert x0.var().item() == pytest.approx(0.125, abs=5 * 0.125 * (2 / n) ** 0.5)


def test_guidance_rests_where_an_image_is_wrong_enough(prior):
    settings = replace(FROM_NOISE, stop_margin=0.5)
    drawn = sample_synthesis(prior, classify, LABELS, 1 - LABELS, settings, NOISE)
    without = sample_synthesis(prior, classify, LABELS, 1 - LABELS, FROM_NOISE, NOISE)
    assert drawn.guidance_skipped.max() > 0 and without.guidance_skipped.max() == 0
    lead = classify(drawn.images).diff(dim=1).abs().mean()
    assert lead < classify(without.images).diff(dim=1).abs().mean()


def test_white_box_attack_on_gap_is_stronger_than_transfer(prior, natural):
    defended = defend(classify, prior, similarity=4.0, sigma_start=20.0, steps=24).fix_randomness(
        0, IDS
    )
    attack = pgd.PGD(eps=0.25, steps=5)

    def rate(adversarial):
        return (defended(adversarial).argmax(1) != LABELS).double().mean().item()

    transfer = rate(attack(classify, natural, LABELS, image_ids=IDS))
    white_box = rate(attack(defended, natural, LABELS, image_ids=IDS))
    assert white_box > transfer


def test_an_image_does_not_depend_on_its_batch(prior, natural):
    half = Noise(0, IDS[:20])
    settings = replace(FROM_NOISE, sigma_start=5.0)

    def run(images, labels, noise):
        return sample_transformation(
            prior, classify, images, labels, "runner_up", settings, noise
        ).images

    whole = run(natural, LABELS, NOISE)
    assert torch.equal(whole[:20], run(natural[:20], LABELS[:20], half))
