"""Smoothing over transforms in worlds whose classifier reads the parameter off the image."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from scipy import stats

import scoreag
import tiny
from scoreag.certify.transform_smoothing import (
    TRANSFORMS,
    TransformConfig,
    certify_image,
    summarize,
)
from scoreag.certify.transforms.brightness_contrast import scaled_probability

PHI, QUANTILE = stats.norm.cdf, stats.norm.ppf
WAVE = torch.cos(2 * math.pi * torch.arange(8, dtype=torch.float64) / 8).view(1, 1, 8)
SPOT = torch.zeros(1, 1, 41, dtype=torch.float64)
SPOT[..., 20] = 1
PAIR = torch.tensor([[[0.0, 1.0]]], dtype=torch.float64)


def read_variance(images: torch.Tensor) -> torch.Tensor:
    """Of a blurred ``WAVE``, whose amplitude is exp(-a (2 pi / 8)^2 / 2)."""
    amplitude = (2 * (images * WAVE).mean((1, 2, 3))).clamp(min=1e-200)
    return -2 * amplitude.log() / (2 * math.pi / 8) ** 2


def read_column(images: torch.Tensor) -> torch.Tensor:
    """How far the bright pixel of ``SPOT`` moved to the right."""
    return images.flatten(1).argmax(1).double() - 20


def read_brightness(images: torch.Tensor) -> torch.Tensor:
    """Of ``PAIR``, whose pixels become e^k b and e^k (1 + b)."""
    first, second = images.flatten(1).T
    return first / (second - first)


@dataclass(frozen=True)
class World:
    """Class 0 where the parameter that ``read`` finds is below ``end``.

    Args:
        share: of class 0 under the noise, in closed form.
        radius: the true end of the majority of class 0; of whole pixels, the last that keeps it.
        quantity: that of the certificate.
        attack: the parameters of an attack of a size.
        grid: parameters of equal probability under the noise.
        step: of a size, from inside the radius to outside.
    """

    config: TransformConfig
    image: torch.Tensor
    read: Callable
    end: float
    share: float
    radius: float
    quantity: str
    attack: Callable
    grid: torch.Tensor
    step: float

    def classify(self, images: torch.Tensor) -> torch.Tensor:
        below = self.end - self.read(images)
        return torch.stack([below, -below], 1)

    def smoothed_share(self, image: torch.Tensor) -> float:
        """The probability of class 0 for an image, by a sum over the grid."""
        apply = TRANSFORMS[self.config.transform].apply
        copies = apply(image.expand(len(self.grid), *image.shape), self.grid)
        return (self.classify(copies)[:, 0] > 0).double().mean().item()

    def attacked(self, size: float) -> torch.Tensor:
        parameters = torch.tensor([self.attack(size)], dtype=torch.float64)
        return TRANSFORMS[self.config.transform].apply(self.image[None], parameters)[0]


def config(transform: str, image: torch.Tensor, sigma: tuple[float, ...]) -> TransformConfig:
    height, width = image.shape[1:]
    return TransformConfig(
        transform, (height, width), sigma, n0=10, n=100, alpha=0.05, batch_size=64
    )


def columns(*values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.stack(values, 1))


LEVELS = (np.arange(20_001) + 0.5) / 20_001
WORLDS = {
    "blur": World(
        config("blur", WAVE, (2.0,)), WAVE, read_variance, end=4.0, share=1 - math.exp(-2),
        radius=4 - 2 * math.log(2), quantity="radius", attack=lambda a: [a],
        grid=columns(stats.expon(scale=2).ppf(LEVELS)), step=0.01,
    ),
    "translation": World(
        config("translation", SPOT, (2.0,)), SPOT, read_column, end=3.5, share=PHI(3.5 / 2),
        radius=3.0, quantity="radius", attack=lambda d: [0, d],
        grid=columns(0 * LEVELS, (2 * QUANTILE(LEVELS)).round()), step=1.0,
    ),
    "brightness": World(
        config("brightness-contrast", PAIR, (0.2, 0.3)), PAIR, read_brightness, end=0.4,
        share=PHI(4 / 3), radius=0.4, quantity="brightness", attack=lambda b: [0, b],
        grid=columns(0.2 * QUANTILE((7919 * LEVELS) % 1), 0.3 * QUANTILE(LEVELS)), step=0.002,
    ),
}  # fmt: skip


@pytest.fixture(params=WORLDS.values(), ids=WORLDS)
def world(request):
    return request.param


def test_a_certificate_ends_where_the_smoothed_prediction_flips(world):
    """For p as it is: no larger certificate would be right, and this one is."""
    radius = world.config.certify(world.share)[world.quantity]
    assert world.smoothed_share(world.image) == pytest.approx(world.share, abs=1e-3)
    assert radius == pytest.approx(world.radius, abs=1e-9)
    inside = radius if world.step == 1 else radius - world.step
    assert world.smoothed_share(world.attacked(inside)) > 0.5
    assert world.smoothed_share(world.attacked(radius + world.step)) < 0.5


@pytest.mark.parametrize("k", [-0.6, -0.2, 0.2, 0.6])
def test_contrast_scales_the_noise_of_brightness_as_its_lemma_says(k):
    """The worst classes: |b| below an end where contrast falls, above it where contrast rises."""
    end, sign = 0.35, 1 if k < 0 else -1
    world = replace(
        WORLDS["brightness"], read=lambda x: sign * read_brightness(x).abs(), end=sign * end
    )
    within = 2 * PHI(end / 0.3) - 1
    p = within if k < 0 else 1 - within
    assert world.smoothed_share(world.image) == pytest.approx(p, abs=1e-3)
    changed = replace(world, attack=lambda size: [size, 0]).attacked(k)
    (least,) = scaled_probability(p, np.array([k]))
    assert world.smoothed_share(changed) == pytest.approx(least, abs=1e-3)


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_contrast_within_the_certificate_keeps_the_prediction(sign):
    """Class 0 where the contrast moved by less than 0.3 in this direction."""

    def read(images):
        first, second = images.flatten(1).T
        return sign * (second - first).log()

    world = replace(WORLDS["brightness"], read=read, end=0.3, attack=lambda k: [sign * k, 0])
    k = math.log(world.config.certify(PHI(0.3 / 0.2))["contrast"])
    assert world.smoothed_share(world.image) == pytest.approx(PHI(0.3 / 0.2), abs=1e-3)
    assert 0.15 < k < 0.3  # the class flips at 0.3; the scale of the other noise costs the rest
    at_end, beyond = (world.smoothed_share(world.attacked(size)) for size in (k, 0.31))
    assert at_end > 0.5 > beyond


def test_copies_are_counted_as_their_distribution_says(world):
    """Within five standard errors of the closed form."""
    row = certify_image(world.classify, world.image, 0, 0, replace(world.config, n=4000))
    spread = (world.share * (1 - world.share) / 4000) ** 0.5
    assert row["top"] == 0 and row["correct"]
    assert row["count"] / 4000 == pytest.approx(world.share, abs=5 * spread)
    assert row["p_lower"] <= world.share


@pytest.mark.slow
def test_a_certificate_goes_too_far_as_seldom_as_promised(world):
    """300 images, alpha 0.05."""
    rows = [certify_image(world.classify, world.image, i, 0, world.config) for i in range(300)]
    beyond = [row["predicted"] == 0 and row[world.quantity] > world.radius for row in rows]
    wrong = sum(row["predicted"] == 1 for row in rows)
    assert sum(beyond) + wrong <= stats.binom.ppf(0.999, 300, 0.05)
    if world.step < 1:
        assert sum(beyond) >= 5  # else the bound would be wider than it says


def test_nearly_even_votes_are_abstained_from():
    world = replace(WORLDS["brightness"], end=0.0)
    row = certify_image(world.classify, world.image, 3, 0, world.config)
    quantities = ("predicted", "radius", "brightness", "contrast")
    assert [row[name] for name in quantities] == [None] * 4 and row["correct"] is False


@pytest.mark.parametrize("batch", [1, 7, 100])
def test_the_copies_do_not_depend_on_the_batch(world, batch):
    told = []
    plan = replace(world.config, batch_size=batch)
    row = certify_image(world.classify, world.image, 5, 0, plan, told.append)
    assert row == certify_image(world.classify, world.image, 5, 0, world.config)
    assert sum(told) == 110


def test_choosing_and_counting_look_at_different_copies():
    """Else a class that one copy chose would have at least that copy."""
    world = replace(WORLDS["brightness"], end=0.0)
    plan = replace(world.config, n0=1, n=1, alpha=0.6)
    rows = [certify_image(world.classify, world.image, i, 0, plan) for i in range(40)]
    assert {row["count"] for row in rows} == {0, 1}


def test_copies_are_not_clipped():
    seen = []

    def classify(images):
        seen.append(images)
        return WORLDS["brightness"].classify(images)

    certify_image(classify, PAIR, 0, 0, WORLDS["brightness"].config)
    values = torch.cat(seen)
    assert values.min() < -0.3 and values.max() > 1.3


def test_a_defense_takes_copies_outside_of_the_range_of_images():
    defense = scoreag.defend(tiny.victim(), tiny.prior(), "one_step_denoising", sigma_start=0.1)
    plan = TransformConfig("brightness-contrast", (8, 8), (0.5, 0.5), n0=5, n=10, alpha=0.05)
    row = certify_image(defense, tiny.images(1)[0] / 255, 0, 0, plan)
    assert 0 <= row["count"] <= 10


def test_certified_accuracy_counts_all_images_and_what_n_cannot_reach_has_no_figure():
    plan = TransformConfig("blur", (8, 8), (0.51,), n=1000)  # at most -0.51 ln(2 - 2 p) = 2.18556
    rows = [
        {"correct": True, "predicted": 1, "radius": 2.0},
        {"correct": True, "predicted": 1, "radius": 0.3},
        {"correct": False, "predicted": 0, "radius": 2.1},
        {"correct": False, "predicted": None, "radius": None},
    ]
    found = summarize([{"top": 1, "label": 1, "count": 0, **row} for row in rows], plan)
    counts = {far: entry and (entry["count"], entry["total"]) for far, entry in
              found["certified"]["radius"].items()}  # fmt: skip
    assert counts == {"0.25": (2, 4), "1": (1, 4), "2.25": None, "4": None}
    assert found["rates"]["accuracy"]["count"] == 2 and found["rates"]["abstained"]["count"] == 1
    assert found["mean_radius"] == pytest.approx(2.3 / 4)
    largest = -0.51 * math.log(2 - 2 * 0.001 ** (1 / 1000))
    assert found["largest"] == {"radius": 2.1855} and largest == pytest.approx(2.18556, abs=1e-5)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_transform_certifies_what_it_names_and_some_of_each_threshold(name):
    transform = TRANSFORMS[name]
    largest = TransformConfig(name, (32, 32)).largest
    assert [*largest] == [quantity.name for quantity in transform.quantities]
    assert len(transform.sigma) == len(transform.noise)
    assert all(min(q.thresholds) < largest[q.name] for q in transform.quantities)


@pytest.mark.parametrize(
    "given, told",
    [
        ({"transform": "blurr"}, "no transform 'blurr'; did you mean 'blur'?"),
        ({"sigma": (1.0, 2.0)},
         "the noise of blur is 1,2; expected 1 number above 0, the standard deviation of the "
         "variance of the blur, in pixels^2: write --transform-sigma 1"),
        ({"transform": "brightness-contrast", "sigma": (0.1,)},
         "is 0.1; expected 2 numbers above 0"),
        ({"sigma": (0.0,)}, "the noise of blur is 0; expected 1 number above 0"),
        ({"sigma": (math.inf,)}, "the noise of blur is inf"),
        ({"n": 9, "alpha": 0.001}, "no image can be certified; write n = 10 or more"),
        ({"alpha": 1.5}, "alpha is 1.5"),
        ({"n0": 0}, "n0 is 0"),
    ],
)  # fmt: skip
def test_a_plan_that_certifies_nothing_is_refused(given, told):
    with pytest.raises(ValueError) as caught:
        TransformConfig(**{"transform": "blur", "image_size": (8, 8)} | given)
    assert told in str(caught.value)
