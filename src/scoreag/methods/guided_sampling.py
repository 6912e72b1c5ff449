"""What the three tasks share: the attack likelihood, the guided denoiser, and the cost counter."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from scoreag.core.types import (
    BatchScalar,
    Classifier,
    Denoise,
    Images,
    Labels,
    LogLikelihood,
    Sigma,
    State,
)
from scoreag.diffusion.guidance import (
    guide,
    normalize_gradient,
    restrict_to_interval,
    sum_conditions,
    sum_log_likelihoods,
)
from scoreag.diffusion.likelihoods import (
    EXACT_VARIANCE,
    margin,
    mmps_denoiser,
    reconstruction,
    targeted,
    untargeted,
)
from scoreag.diffusion.prior import Prior
from scoreag.methods.config import SamplingConfig
from scoreag.registry import load_component

RUNNER_UP = "runner_up"  # as a target: the most likely class but the label


@dataclass(frozen=True, eq=False)
class SampleBatch:
    """Sampled images, their target classes (-1: any wrong one), and their cost."""

    images: Images
    targets: Labels | None
    nfe: int
    guidance_skipped: BatchScalar


@dataclass
class CallCounter:
    """Counts the denoiser calls of a chain, and per image the likelihoods that were paused."""

    nfe: int = 0
    guidance_skipped: BatchScalar | None = None

    def wrap(self, denoise: Denoise) -> Denoise:
        """``denoise`` that counts its calls."""

        def counted(x: State, sigma: Sigma) -> State:
            self.nfe += 1
            return denoise(x, sigma)

        return counted

    def record_skipped(self, skipped: BatchScalar) -> None:
        before = self.guidance_skipped
        self.guidance_skipped = skipped if before is None else before + skipped

    def to_batch(self, images: Images, targets: Labels | None) -> SampleBatch:
        """The images of the chain, with its cost."""
        skipped = self.guidance_skipped
        if skipped is None:
            skipped = torch.zeros(len(images), dtype=images.dtype, device=images.device)
        return SampleBatch(images.detach(), targets, self.nfe, skipped)


def configure_prior(prior: Prior, config: SamplingConfig) -> Prior:
    """The prior with the sampler and the noise levels of ``config``."""
    sample = load_component("samplers", config.sampler).sample
    sigmas, device = config.sigmas(), prior.sigmas.device
    sigmas = sigmas.to(prior.sigmas) if device.type == "mps" else sigmas.to(device)  # no float64
    return replace(prior, sampler=partial(sample, **config.sampler_options), sigmas=sigmas)


def runner_up_class(logits: Tensor, labels: Labels) -> Labels:
    """The most likely class that is not the label."""
    return logits.scatter(1, labels[:, None], -torch.inf).argmax(1)


def attack_likelihood(
    classifier: Classifier,
    labels: Labels,
    targets: Labels | None,
    config: SamplingConfig,
    counter: CallCounter,
) -> LogLikelihood | None:
    """``log p(classifier errs | x0)``, toward ``targets`` unless None; None at attack scale 0."""
    scale = config.attack_scale
    if not scale:
        return None
    options: dict[str, Any] = {"stop_margin": config.stop_margin, "on_skip": counter.record_skipped}
    if config.attack_loss == "margin":
        term = margin(classifier, labels, scale, targets=targets, **options)
    elif targets is None:
        term = untargeted(classifier, labels, scale, **options)
    else:
        term = targeted(classifier, targets, scale, **options)
    return normalize_gradient(term, scale) if config.normalize_gradient else term


def guided_denoiser(
    config: SamplingConfig,
    sigma_data: float,
    denoise: Denoise,
    attack_term: LogLikelihood | None,
    reference: State | None = None,
) -> Denoise:
    """``denoise``, conditioned on a classifier error and on an x0 close to ``reference``.

    Args:
        sigma_data: standard deviation of a pixel, in [-1, 1].
        reference: the image to stay close to, in [-1, 1], or None.
    """
    condition: Callable[..., Denoise] = partial(
        guide, jacobian=config.jacobian, x0_estimate=config.x0_estimate, sigma_data=sigma_data
    )
    attacked = partial(condition, log_likelihood=attack_term, interval=config.attack_interval)
    if reference is None:
        return attacked(denoise) if attack_term else denoise
    if config.likelihood_variance == EXACT_VARIANCE:
        near = partial(mmps_denoiser, reference=reference, similarity=config.similarity)
        return sum_conditions(denoise, near, attacked) if attack_term else near(denoise)
    term = reconstruction(reference, config.similarity, config.likelihood_variance, sigma_data)
    if attack_term:
        attack_term = restrict_to_interval(config.attack_interval, attack_term)
        term = sum_log_likelihoods(term, attack_term)
    return condition(denoise, term)
