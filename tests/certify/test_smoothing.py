"""Smoothing in a world whose true radius is known: one pixel, a threshold, a Gaussian prior."""

from statistics import NormalDist

import pytest
import torch
from scipy import stats

from scoreag.certify.smoothing import (
    SmoothingConfig,
    certified_radius,
    certify_image,
    denoised_smoothing,
    summarize,
)
from scoreag.classifiers.loading import load_classifier
from scoreag.diffusion.noise_schedules import karras
from scoreag.diffusion.prior import Prior
from scoreag.diffusion.samplers.heun import sample
from scoreag.models.loading import load_prior
from worlds import Gaussian

PHI = NormalDist().cdf
TOY = SmoothingConfig(sigma=0.25, n0=10, n=100, alpha=0.05, batch_size=64)


def threshold(images: torch.Tensor) -> torch.Tensor:
    """Class 1 where the pixel is above 1/2."""
    above = images.flatten(1).mean(1) - 0.5
    return torch.stack([-above, above], 1)


@pytest.fixture(scope="module")
def base():
    """D is linear and rises through (0, 0): the class of a noisy pixel is the side of 1/2."""
    world = Gaussian(torch.zeros(1), torch.full((1,), 0.25))

    def model(x, sigma, labels=None):
        return world.denoise(x, sigma)

    prior = Prior(model, sample, karras(2), (1, 1, 1))
    return denoised_smoothing(prior, threshold, TOY.sigma)


def pixel(value: float) -> torch.Tensor:
    return torch.full((1, 1, 1), value)


def test_a_radius_worked_out_by_hand():
    """All of 10,000 at alpha 0.001: p = 0.001^(1/10000), Phi^-1(p) = 3.1988; Cohen et al., 4.1."""
    found = certified_radius(10_000, 10_000, 0.001, 0.25)
    assert found == pytest.approx(0.25 * NormalDist().inv_cdf(0.001**1e-4), rel=1e-9)
    assert found == pytest.approx(0.80, abs=0.001)
    assert certified_radius(100_000, 100_000, 0.001, 1.0) == pytest.approx(3.81, abs=0.005)
    assert certified_radius(5_000, 10_000, 0.001, 0.25) is None


@pytest.mark.parametrize("value", [0.4, 0.55, 0.75])
def test_copies_are_counted_as_their_distribution_says(base, value):
    """P(pixel + 0.25 n > 1/2) in closed form, within five standard errors."""
    plan = SmoothingConfig(sigma=0.25, n0=50, n=4000, alpha=0.05)
    row = certify_image(base, pixel(value), 0, 1, plan)
    share = PHI(abs(value - 0.5) / 0.25)
    spread = (share * (1 - share) / 4000) ** 0.5
    assert row["top"] == int(value > 0.5)
    assert row["count"] / 4000 == pytest.approx(share, abs=5 * spread)


@pytest.mark.slow
def test_a_certificate_goes_too_far_as_seldom_as_promised(base):
    """The smoothed pixel turns at 1/2: the true radius is 0.2. 1,000 images, alpha 0.05."""
    rows = [certify_image(base, pixel(0.7), i, 1, TOY) for i in range(1000)]
    beyond = sum(row["radius"] is not None and row["radius"] > 0.2 for row in rows)
    wrong = sum(row["predicted"] == 0 for row in rows)
    assert beyond + wrong <= stats.binom.ppf(0.999, 1000, 0.05)
    assert beyond >= 5  # else the bound would be wider than it says
    assert {row["image_id"] for row in rows} == set(range(1000))


def test_nearly_even_votes_are_abstained_from(base):
    row = certify_image(base, pixel(0.5), 3, 1, TOY)
    assert row["predicted"] is None and row["radius"] is None and row["correct"] is False


@pytest.mark.parametrize("batch", [1, 7, 100])
def test_the_copies_do_not_depend_on_the_batch(base, batch):
    plan = SmoothingConfig(sigma=0.25, n0=10, n=50, alpha=0.05, batch_size=batch)
    told = []
    row = certify_image(base, pixel(0.6), 5, 1, plan, told.append)
    assert row == certify_image(
        base, pixel(0.6), 5, 1, SmoothingConfig(0.25, 10, 50, 0.05, batch_size=13)
    )
    assert sum(told) == 60


def test_choosing_and_counting_look_at_different_copies(base):
    """Of one seed and one image: else the choice would favour the count."""
    plans = [SmoothingConfig(0.25, n0, 100, 0.05) for n0 in (10, 100)]
    assert len({certify_image(base, pixel(0.6), 1, 1, plan)["count"] for plan in plans}) == 1
    tops = [
        certify_image(base, pixel(0.5), i, 1, SmoothingConfig(0.25, 1, 10, 0.5)) for i in range(40)
    ]
    assert any(row["count"] < 5 for row in tops)  # of the same ones, the chosen class would lead


def test_the_denoiser_is_told_twice_the_noise():
    seen = []

    def model(x, sigma, labels=None):
        seen.append((x.clone(), sigma.item()))
        return x

    prior = Prior(model, sample, karras(2), (1, 1, 1))
    denoised_smoothing(prior, threshold, 0.3)(torch.full((1, 1, 1, 1), 0.75))
    assert seen[0][1] == pytest.approx(0.6) and seen[0][0].item() == pytest.approx(0.5)


def test_certified_accuracy_counts_all_images_and_what_n_cannot_reach_has_no_figure():
    plan = SmoothingConfig(sigma=0.25, n=10_000)
    rows = [
        {"correct": True, "predicted": 1, "radius": 0.6},
        {"correct": True, "predicted": 1, "radius": 0.3},
        {"correct": False, "predicted": 0, "radius": 0.7},
        {"correct": False, "predicted": None, "radius": None},
    ]
    found = summarize([{"top": 1, "label": 1, "count": 0, **row} for row in rows], plan)
    counts = {far: entry and (entry["count"], entry["total"]) for far, entry in
              found["certified"].items()}  # fmt: skip
    assert counts == {"0.25": (2, 4), "0.5": (1, 4), "0.75": (0, 4), "1": None}
    assert found["rates"]["accuracy"]["count"] == 2 and found["rates"]["abstained"]["count"] == 1
    assert found["mean_radius"] == pytest.approx(0.9 / 4)


@pytest.mark.parametrize(
    "given, told",
    [
        ({"sigma": 0.0}, "sigma is 0.0; expected more than 0"),
        ({"alpha": 1.5}, "alpha is 1.5"),
        ({"n": 0}, "n is 0"),
        ({"n": 9}, "no image can be certified; write n = 10 or more"),
        ({"n0": 0}, "n0 is 0"),
    ],
)
def test_a_plan_that_certifies_nothing_is_refused(given, told):
    with pytest.raises(ValueError) as caught:
        SmoothingConfig(**given)
    assert told in str(caught.value)


def test_the_smallest_number_of_samples_that_is_named_does_certify():
    assert SmoothingConfig(n=10).max_radius > 0


def test_outputs_that_are_no_numbers_are_refused():
    with pytest.raises(ValueError, match="NaN or infinity on noisy copies of image 4"):
        certify_image(lambda x: x.flatten(1).repeat(1, 2) / 0 * 0, pixel(0.6), 4, 1, TOY)


def test_the_bundled_models_are_certified_of_an_easy_image():
    prior, victim = load_prior("fashion-small", "cpu"), load_classifier("fashion-cnn", "cpu")
    from scoreag import load_data

    images, labels = load_data("fashion-mnist:sample[1:2]")
    plan = SmoothingConfig(sigma=0.1, n0=10, n=30, alpha=0.05)
    image = images[0] if images.is_floating_point() else images[0].float() / 255
    row = certify_image(denoised_smoothing(prior, victim, 0.1), image, 0, int(labels[0]), plan)
    assert row["correct"] and 0 < row["radius"] <= plan.max_radius


def test_bf16_is_a_base_classifier_of_its_own_and_nearly_the_same():
    """Three digits remain: logits differ, by less than a twentieth, and few answers do."""
    prior, victim = load_prior("fashion-small"), load_classifier("fashion-cnn")
    images = torch.rand(32, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole, short = (
            denoised_smoothing(prior, victim, 0.25, precision)(images)
            for precision in ("float32", "bf16")
        )
    assert 0 < (short - whole).abs().max() < 0.05 * whole.abs().max()
    assert (short.argmax(1) == whole.argmax(1)).float().mean() > 0.9
    with pytest.raises(ValueError, match=r"dtype is 'half'; write float32 or bf16"):
        SmoothingConfig(dtype="half")


def test_the_distribution_of_p_counts_images_whose_class_wins():
    rows = [
        {"top": top, "label": 1, "count": count, "predicted": 1, "correct": True, "radius": 0.1}
        for top, count in ((1, 100), (1, 99), (1, 90), (1, 45), (0, 100))
    ]
    found = summarize(rows, TOY)["agreement"]
    assert {share: entry["count"] for share, entry in found.items()} == {
        "0.5": 3, "0.9": 3, "0.99": 2, "1": 1
    }  # fmt: skip
    assert found["1"]["total"] == 5
