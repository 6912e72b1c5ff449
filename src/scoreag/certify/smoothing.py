"""Randomized smoothing with one-shot denoising.  Cohen et al. (2019), Carlini et al. (2023).

The smoothed classifier predicts the class that the base classifier, behind the denoiser, predicts
most often for ``image + sigma n``.  If that class has a probability of at least p > 1/2, no change
of L2 norm below ``sigma Phi^-1(p)`` changes the prediction of the smoothed classifier.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from scipy.special import ndtri
from torch import Tensor
from torch.nn.functional import pad

from scoreag.certify.votes import (
    Progress,
    agreement_rates,
    certificate_row,
    certified_rates,
    check_vote_config,
    count_votes,
    mean_certified,
    summarize_rates,
)
from scoreag.core.rng import Noise
from scoreag.core.types import Classifier, Images, Logits
from scoreag.diffusion.one_shot import denoise_once
from scoreag.diffusion.prior import Prior
from scoreag.io.records import Row
from scoreag.stats.proportion import clopper_pearson_lower

RADII = (0.25, 0.5, 0.75, 1.0)  # L2, pixels in [0, 1]
DTYPES = ("float32", "bf16")


@dataclass(frozen=True)
class SmoothingConfig:
    """How an image is certified.

    Args:
        sigma: standard deviation of the noise, pixels in [0, 1]; in states it is twice that.
        n0: noisy copies that choose the class to certify.
        n: further copies that bound its probability.
        alpha: the probability that the certificate of an image is wrong.
        batch_size: copies per forward pass.
        dtype: "float32", or "bf16": the networks compute in bfloat16.  These are two different base
            classifiers; a certificate holds for the one that it was computed with.
        compiled: whether ``compile_classifier`` compiles both networks.
    """

    sigma: float = 0.25
    n0: int = 100
    n: int = 10_000
    alpha: float = 0.001
    seed: int = 0
    batch_size: int = 100
    dtype: str = "float32"
    compiled: bool = False

    def __post_init__(self) -> None:
        if not (self.sigma > 0 and math.isfinite(self.sigma)):
            raise ValueError(f"sigma is {self.sigma}; expected more than 0, e.g. 0.25")
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype is {self.dtype!r}; write float32 or bf16")
        check_vote_config(self)

    @property
    def max_radius(self) -> float | None:
        """The radius if all copies agree, the largest for N and alpha."""
        return certified_radius(self.n, self.n, self.alpha, self.sigma)


def certified_radius(count: int, n: int, alpha: float, sigma: float) -> float | None:
    """``sigma Phi^-1(p)``, p the lower bound of ``count / n``; None if p is 1/2 or less."""
    p = clopper_pearson_lower(count, n, alpha)
    return sigma * float(ndtri(p)) if p > 0.5 else None


def denoised_smoothing(
    prior: Prior, classifier: Classifier, sigma: float, dtype: str = "float32"
) -> Classifier:
    """Noisy images to logits: ``f(D(x; 2 sigma))``, the base classifier to smooth.

    Raises:
        ValueError: the prior is guided, so that one call of its denoiser estimates nothing.
    """
    denoise = denoise_once(prior, sigma)

    def classify(noisy: Images) -> Logits:
        with torch.autocast(noisy.device.type, torch.bfloat16, enabled=dtype == "bf16"):
            return classifier(denoise(noisy))

    return classify


@torch.no_grad()
def compile_classifier(base: Classifier, images: Images) -> Classifier:
    """``base`` compiled by torch.compile, for batches up to the size of ``images``.

    It equals ``base`` to rounding.  Smaller batches are padded, as each size would be compiled.

    Raises:
        ValueError: torch.compile fails on this machine.
    """
    try:
        compiled = torch.compile(base, dynamic=False)
        compiled(images)
    except RuntimeError as error:  # includes the errors of torch's compiler
        reason = " ".join(str(error).split())[:300]
        raise ValueError(
            f"torch.compile cannot compile these networks here: {reason}; leave --compile out"
        ) from error

    def classify(noisy: Images) -> Logits:
        missing = len(images) - len(noisy)
        return compiled(pad(noisy, (0, 0, 0, 0, 0, 0, 0, missing)))[: len(noisy)]

    return classify


def certify_image(
    base: Classifier,
    image: Float[Tensor, "channels height width"],
    image_id: int,
    label: int,
    config: SmoothingConfig,
    on_progress: Progress = lambda copies: None,
) -> Row:
    """The certificate of one image: Cohen et al. (2019), CERTIFY; ``predicted`` None abstains.

    Args:
        base: noisy images to logits, from ``denoised_smoothing``.
        on_progress: called with the number of copies classified.
    """

    def perturb(copies: Images, noise: Noise) -> Images:
        return copies + config.sigma * noise.normal_like(copies)

    votes = count_votes(base, perturb, image, image_id, config, on_progress)
    return certificate_row(
        image_id, label, votes, config, lambda p: {"radius": config.sigma * float(ndtri(p))}
    )


def summarize(rows: Sequence[Row], config: SmoothingConfig) -> dict[str, Any]:
    """Accuracy of the smoothed classifier at radius 0 and certified at ``RADII``; its abstentions.

    A radius that N and alpha cannot reach has no value: it is "beyond N".
    """
    max_radius = config.max_radius or 0.0
    return {
        "images": len(rows),
        "rates": summarize_rates(rows),
        "agreement": agreement_rates(rows, config.n),
        "certified": certified_rates(rows, "radius", RADII, max_radius),
        "largest_radius": round(max_radius, 4),
        "mean_radius": mean_certified(rows, "radius"),
        "alpha": config.alpha,
    }
