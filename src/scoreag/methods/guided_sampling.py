"""What the three tasks share: the attack likelihood, the guided denoiser, and the cost counter."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from scoreag.classifiers.augmented import average_views
from scoreag.core.rng import Noise
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
from scoreag.diffusion.gradient_fields import (
    ascend_x0,
    normalize_gradient,
    polyak_step,
    remove_radial,
    with_momentum,
)
from scoreag.diffusion.guidance import (
    guide,
    restrict_to_interval,
    sum_conditions,
    sum_log_likelihoods,
)
from scoreag.diffusion.likelihoods import (
    EXACT_VARIANCE,
    MAX_MARGIN,
    margin,
    mmps_denoiser,
    reconstruction,
    targeted,
    untargeted,
)
from scoreag.diffusion.parameterizations import ScoreModel
from scoreag.diffusion.prior import Prior
from scoreag.diffusion.prior_guidance import WEAKER, GuidedModel, evaluations_at
from scoreag.diffusion.steering import Steering
from scoreag.methods.config import SamplingConfig, draw_levels, guided_draws
from scoreag.models.identity import score_model_identity
from scoreag.models.loading import load_prior
from scoreag.registry import load_component

ONE_CALL_SAMPLERS = ("ancestral", "dpmpp_2m", "euler_maruyama")
RUNNER_UP = "runner_up"  # as a target: the most likely class but the label


@dataclass(frozen=True, eq=False)
class SampleBatch:
    """Sampled images, their target classes (-1: any wrong one), and the cost of each.

    Args:
        energy: of the attack's steering; None where it is not counted.
    """

    images: Images
    targets: Labels | None
    nfe: Int[Tensor, " batch"]
    guidance_skipped: BatchScalar
    energy: BatchScalar | None = None

    def __getitem__(self, rows: slice | list[int]) -> "SampleBatch":
        """Some of the images."""
        targets = None if self.targets is None else self.targets[rows]
        energy = None if self.energy is None else self.energy[rows]
        return SampleBatch(
            self.images[rows], targets, self.nfe[rows], self.guidance_skipped[rows], energy
        )

    @staticmethod
    def cat(parts: Sequence["SampleBatch"]) -> "SampleBatch":
        """The images of all ``parts``, which are of one task."""
        targets = [part.targets for part in parts if part.targets is not None]
        energies = [part.energy for part in parts if part.energy is not None]
        return SampleBatch(
            torch.cat([part.images for part in parts]),
            torch.cat(targets) if targets else None,
            torch.cat([part.nfe for part in parts]),
            torch.cat([part.guidance_skipped for part in parts]),
            torch.cat(energies) if energies else None,
        )

    def merge(self, rows: list[int], samples: "SampleBatch", better: Tensor) -> "SampleBatch":
        """With images, targets and energy of ``samples`` where better; costs add up."""
        images, nfe, skipped = self.images.clone(), self.nfe.clone(), self.guidance_skipped.clone()
        targets = None if self.targets is None else self.targets.clone()
        chosen = torch.tensor(rows)[better]
        images[chosen] = samples.images[better]
        if targets is not None and samples.targets is not None:
            targets[chosen] = samples.targets[better]
        energy = None if self.energy is None else self.energy.clone()
        if energy is not None and samples.energy is not None:
            energy[chosen] = samples.energy[better]
        nfe[rows] += samples.nfe
        skipped[rows] += samples.guidance_skipped
        return SampleBatch(images, targets, nfe, skipped, energy)


@dataclass
class CallCounter:
    """Counts the evaluations of a chain, and per image the likelihoods that were paused.

    Args:
        steering: of the chain, which counts its energy.
    """

    nfe: int = 0
    guidance_skipped: BatchScalar | None = None
    steering: Steering | None = None

    def wrap(self, denoise: Denoise, model: ScoreModel) -> Denoise:
        """``denoise`` of ``model`` that counts its evaluations."""

        def counted(x: State, sigma: Sigma) -> State:
            self.nfe += evaluations_at(model, sigma)
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
        nfe = torch.full((len(images),), self.nfe)
        energy = None if self.steering is None else self.steering.energy
        energy = None if energy is None else energy.to(images.device)
        return SampleBatch(images.detach(), targets, nfe, skipped, energy)


class _FirstCall:
    """A denoiser that keeps its first estimate since ``recall``, which gives it without a call."""

    def __init__(self, denoise: Denoise) -> None:
        self.denoise = denoise
        self.first: tuple[State, Sigma, State] | None = None

    def __call__(self, x: State, sigma: Sigma) -> State:
        x0 = self.denoise(x, sigma)
        if self.first is None:
            self.first = (x.detach(), sigma, x0.detach())
        return x0

    def recall(self, x: State, sigma: Sigma) -> State:
        """``D(x; sigma)``, without a call if the first one was of this state."""
        first, self.first = self.first, None
        if first is not None:
            state, level, x0 = first
            if state.data_ptr() == x.data_ptr() and float(level) == float(sigma):
                return x0
        return self.denoise(x, sigma)


def steered_denoiser(
    config: SamplingConfig,
    counter: CallCounter,
    denoise: Denoise,
    guided: Callable[[Denoise], Denoise],
    reference: Callable[[Denoise], Denoise] | None = None,
) -> Denoise:
    """``guided(denoise)``, with its energy counted and limited.

    Without a limit, it is counted only where that costs no call: of a sampler with one call between
    two draws, whose reference is ``denoise`` itself.

    Args:
        reference: the reference generator; None: ``denoise`` itself.
    """
    budget = config.energy_budget
    costs_nothing = reference is None and config.sampler in ONE_CALL_SAMPLERS
    if not draw_levels(config) or not (costs_nothing or budget):
        return guided(denoise)
    limit = None if budget is None else budget**2
    first_call = _FirstCall(denoise)
    counter.steering = (
        Steering(guided(first_call), first_call.recall, limit, energy_shares(config))
        if reference is None
        else Steering(guided(denoise), reference(denoise), limit, energy_shares(config))
    )
    return counter.steering


def energy_shares(config: SamplingConfig) -> list[float]:
    """The share of the energy that may be spent until each draw; none: all of it from the start."""
    if config.energy_pace == "greedy":
        return []
    even = config.energy_pace == "uniform"
    weights = [(1.0 if even else draw) * guided for draw, guided in guided_draws(config)]
    total = sum(weights) or 1.0
    return [sum(weights[: i + 1]) / total for i in range(len(weights))]


def configure_prior(prior: Prior, config: SamplingConfig) -> Prior:
    """The prior with the sampler, the noise levels and the guidance of ``config``."""
    sample = load_component("samplers", config.sampler).sample
    sigmas, device = config.sigmas(), prior.sigmas.device
    sigmas = sigmas.to(prior.sigmas) if device.type == "mps" else sigmas.to(device)  # no float64
    sampler, model = partial(sample, **config.sampler_options), prior.model
    if config.guidance_scale != 1:
        guide = prior.guide if config.guide.startswith(WEAKER) else config.guide
        if guide is None:
            raise ValueError(f"the prior lacks guide {config.guide!r}; attach_guide comes first")
        model = GuidedModel(model, config.guidance_scale, guide, config.guidance_interval)
    return replace(prior, sampler=sampler, sigmas=sigmas, model=model)


def attach_guide(prior: Prior, config: SamplingConfig) -> Prior:
    """The prior with the weaker model that ``config`` names, if it names one.

    One that is attached already under that name is kept.

    Raises:
        ValueError: there is no such model, or it is of other images or classes.
    """
    if config.guidance_scale == 1 or not config.guide.startswith(WEAKER):
        return prior
    name = config.guide.removeprefix(WEAKER)
    if name == prior.guide_name:
        return prior
    weaker = load_prior(name, prior.sigmas.device, prior.trust_code)
    for what, ours, other in (
        ("images", prior.image_shape, weaker.image_shape),
        ("classes", prior.model_classes or prior.classes, weaker.classes),
    ):
        if tuple(ours) != tuple(other):
            raise ValueError(
                f"guide {config.guide!r} is of other {what} than the score model; name an earlier "
                "snapshot of it, or a smaller model of the same data"
            )
    metadata = {**prior.metadata, "guide": score_model_identity(weaker)}
    guide = weaker.to(prior.dtype).model
    return replace(prior, guide=guide, guide_name=name, metadata=metadata)


def runner_up_class(logits: Tensor, labels: Labels) -> Labels:
    """The most likely class that is not the label."""
    return logits.scatter(1, labels[:, None], -torch.inf).argmax(1)


def attack_likelihood(
    classifier: Classifier,
    labels: Labels,
    targets: Labels | None,
    config: SamplingConfig,
    counter: CallCounter,
    noise: Noise,
    scales: BatchScalar | None = None,
) -> LogLikelihood | None:
    """``log p(classifier errs | x0)``, toward ``targets`` unless None; None at attack scale 0.

    Args:
        noise: of random views.
        scales: the attack scale of each image, in place of that of ``config``.
    """
    scale: float | str = config.attack_scale if scales is None else 1.0
    if not scale:
        return None
    assert not isinstance(scale, str), "a search gives the scales of each batch"
    if config.augmentations:
        classifier = average_views(classifier, config.augmentations, noise)
    sets_length = config.normalize_gradient or config.polyak_step
    error = _error_likelihood(
        classifier, labels, targets, config, counter, 1.0 if sets_length else scale
    )
    term = _shape_gradient(error, config, scale)
    return term if scales is None else lambda x0, sigma: scales.to(x0) * term(x0, sigma)


def _error_likelihood(
    classifier: Classifier,
    labels: Labels,
    targets: Labels | None,
    config: SamplingConfig,
    counter: CallCounter,
    scale: float,
) -> LogLikelihood:
    """``scale log p(classifier errs | x0)``, or ``scale`` times the margin."""
    options: dict[str, Any] = {"stop_margin": config.stop_margin, "on_skip": counter.record_skipped}
    if config.attack_loss == "margin":
        return margin(classifier, labels, scale, targets=targets, **options)
    if targets is None:
        return untargeted(classifier, labels, scale, **options)
    return targeted(classifier, targets, scale, **options)


def _shape_gradient(term: LogLikelihood, config: SamplingConfig, scale: float) -> LogLikelihood:
    """``term`` with the length and the memory of its gradient that ``config`` asks for."""
    if config.normalize_gradient:
        term = normalize_gradient(term, scale)
    elif config.polyak_step:
        term = polyak_step(term, scale, MAX_MARGIN if config.attack_loss == "margin" else 0.0)
    return with_momentum(term, config.momentum) if config.momentum else term


def guided_denoiser(
    config: SamplingConfig,
    sigma_data: float,
    denoise: Denoise,
    attack_term: LogLikelihood | None,
    reference: State | None = None,
    similarities: BatchScalar | None = None,
) -> Denoise:
    """``denoise``, conditioned on a classifier error and on an x0 close to ``reference``.

    Args:
        sigma_data: standard deviation of a pixel, in [-1, 1].
        reference: the image to stay close to, in [-1, 1], or None.
        similarities: s_x of each image, in place of that of ``config``.
    """
    similarity = config.similarity if similarities is None else similarities
    assert not isinstance(similarity, str), "a search gives the similarities of each batch"
    condition: Callable[..., Denoise] = partial(
        guide, jacobian=config.jacobian, x0_estimate=config.x0_estimate, sigma_data=sigma_data
    )
    attacked = partial(
        condition, log_likelihood=attack_term, interval=config.attack_interval,
        project=remove_radial if config.tangent_projection else None,
    )  # fmt: skip
    if attack_term and config.x0_steps:
        unmoved = replace(config, x0_steps=0)
        guided = guided_denoiser(
            unmoved, sigma_data, denoise, attack_term, reference, similarities
        )  # fmt: skip
        return ascend_x0(guided, attack_term, config.x0_steps, config.attack_interval, sigma_data)
    if reference is None:
        return attacked(denoise) if attack_term else denoise
    near: Callable[..., Denoise]
    if config.likelihood_variance == EXACT_VARIANCE:
        near = partial(mmps_denoiser, reference=reference, similarity=similarity)
        return sum_conditions(denoise, near, attacked) if attack_term else near(denoise)
    term = reconstruction(reference, similarity, config.likelihood_variance, sigma_data)
    if attack_term and config.tangent_projection:  # of the attack's gradient only
        near = partial(condition, log_likelihood=term)
        return sum_conditions(denoise, near, attacked)
    if attack_term:
        attack_term = restrict_to_interval(config.attack_interval, attack_term)
        term = sum_log_likelihoods(term, attack_term)
    return condition(denoise, term)
