"""ScoreAG's three tasks: one prior, three kinds of evidence.  Section numbers are the paper's."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

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
from scoreag.diffusion.prior import Prior, to_model_range
from scoreag.methods.config import SamplingConfig
from scoreag.registry import load_component

RUNNER_UP = "runner_up"  # the likeliest class but the label
SIGMA_FREEZE_TARGET = (
    2.0  # the noise level under which a draw's first estimate settles its wrong class
)


@dataclass
class CallCounter:
    """What a draw cost: denoiser calls, and for each image those at which guidance rested."""

    nfe: int = 0
    guidance_skipped: BatchScalar | None = None

    def wrap(self, denoise: Denoise) -> Denoise:
        """``denoise``, each call of which is counted."""

        def counted(x: State, sigma: Sigma) -> State:
            self.nfe += 1
            return denoise(x, sigma)

        return counted

    def record_skipped(self, skipped: BatchScalar) -> None:
        self.guidance_skipped = (
            skipped if self.guidance_skipped is None else self.guidance_skipped + skipped
        )


@dataclass
class TargetState:
    """What the images of one draw shall be taken for, once that is settled."""

    targets: Labels | None = None


@dataclass(frozen=True, eq=False)
class SampleBatch:
    """Images, what they should be taken for (-1: anything wrong), and what they cost."""

    images: Images
    targets: Labels
    nfe: int
    guidance_skipped: BatchScalar = field(repr=False)


def synthesize(
    prior: Prior,
    classifier: Classifier,
    labels: Labels,
    target: Labels | str | None,
    config: SamplingConfig,
    noise: Noise,
) -> SampleBatch:
    """GAS, 3.1: an image of class ``labels`` that ``classifier`` takes for ``wrong``.

    With ``wrong="second"`` guidance is untargeted until the first x0-estimate at a level below
    ``DECIDED_BELOW``; that settles the likeliest other class of each image, which is kept.
    """
    tally, aim = CallCounter(), TargetState(None if isinstance(target, str) else target)
    if isinstance(target, str):
        evidence = _runner_up_likelihood(classifier, labels, config, tally, aim)
    else:
        evidence = _attack_likelihood(classifier, labels, target, config, tally)
    sd = prior.sigma_data
    drawn = configure_prior(prior, config).sample(
        noise,
        labels,
        condition=lambda denoise: _guided_denoiser(config, sd, tally.wrap(denoise), evidence),
    )
    return _to_sample_batch(drawn, labels, aim.targets, tally)


def transform(
    prior: Prior,
    classifier: Classifier,
    images: Images,
    labels: Labels,
    target: Labels | str | None,
    config: SamplingConfig,
    noise: Noise,
) -> SampleBatch:
    """GAT, 3.2: ``images``, changed until ``classifier`` takes them for ``wrong``."""
    tally, prior = CallCounter(), configure_prior(prior, config)
    if isinstance(target, str):
        target = runner_up_class(classifier(images).detach(), labels)
    told = labels if prior.classes else None
    evidence = _attack_likelihood(classifier, labels, target, config, tally)
    reference, sd = to_model_range(images), prior.sigma_data
    drawn = prior.sample(
        noise,
        told,
        condition=lambda denoise: _guided_denoiser(
            config, sd, tally.wrap(denoise), evidence, reference
        ),
        init_image=reference,
    )
    return _to_sample_batch(drawn, labels, target, tally)


def purify(
    prior: Prior,
    images: Images,
    config: SamplingConfig,
    noise: Noise,
    counter: CallCounter | None = None,
) -> Images:
    """GAP, 3.3: the natural image that ``images`` was made from.  Its class is not known."""
    reference, sd = to_model_range(images), prior.sigma_data
    counting = (counter or CallCounter()).wrap
    return configure_prior(prior, config).sample(
        noise,
        condition=lambda denoise: _guided_denoiser(config, sd, counting(denoise), None, reference),
        init_image=reference,
        wrt=[reference],
    )


def configure_prior(prior: Prior, config: SamplingConfig) -> Prior:
    """The prior with the sampler and the noise levels that ``settings`` ask for."""
    module = load_component("samplers", config.sampler)
    sampler = partial(module.sample, **config.sampler_options)
    levels = config.sigmas()
    place = prior.sigmas.device  # Apple's has no float64
    sigmas = levels.to(prior.sigmas) if place.type == "mps" else levels.to(place)
    return replace(prior, sampler=sampler, sigmas=sigmas)


def runner_up_class(logits: Tensor, labels: Labels) -> Labels:
    """The likeliest class that is not the label."""
    return logits.scatter(1, labels[:, None], -torch.inf).argmax(1)


def _attack_likelihood(
    classifier: Classifier,
    labels: Labels,
    targets: Labels | None,
    config: SamplingConfig,
    counter: CallCounter,
) -> LogLikelihood | None:
    """``classifier`` errs, in the way that ``settings.guidance`` says; None at strength 0."""
    if not config.attack_scale:
        return None
    options: dict[str, Any] = {"stop_margin": config.stop_margin, "on_skip": counter.record_skipped}
    strength = config.attack_scale
    if config.attack_loss == "margin":
        term = margin(classifier, labels, strength, targets=targets, **options)
    elif targets is None:
        term = untargeted(classifier, labels, strength, **options)
    else:
        term = targeted(classifier, targets, strength, **options)
    return normalize_gradient(term, strength) if config.normalize_gradient else term


def _runner_up_likelihood(
    classifier: Classifier,
    labels: Labels,
    config: SamplingConfig,
    counter: CallCounter,
    target_state: TargetState,
) -> LogLikelihood | None:
    """Any error at first, then towards the class that is the second likeliest at that moment."""
    free = _attack_likelihood(classifier, labels, None, config, counter)
    if free is None:
        return None
    ask = getattr(
        classifier, "forward_unclamped", classifier
    )  # a defence looks at images it is given

    def log_likelihood(x0: State, sigma: Sigma) -> BatchScalar:
        if target_state.targets is None and sigma < SIGMA_FREEZE_TARGET:
            target_state.targets = runner_up_class(ask((x0.detach() + 1) / 2).detach(), labels)
        if target_state.targets is None:
            return free(x0, sigma)
        settled = _attack_likelihood(classifier, labels, target_state.targets, config, counter)
        assert settled is not None
        return settled(x0, sigma)

    return log_likelihood


def _guided_denoiser(
    config: SamplingConfig,
    sigma_data: float,
    denoise: Denoise,
    attack_term: LogLikelihood | None,
    reference: State | None = None,
) -> Denoise:
    """``denoise`` with the evidence in it; ``sd`` is the deviation of a pixel."""
    put: Callable[..., Denoise] = partial(
        guide, jacobian=config.jacobian, x0_estimate=config.x0_estimate, sigma_data=sigma_data
    )
    fooled = partial(put, log_likelihood=attack_term, interval=config.attack_interval)
    if reference is None:
        return fooled(denoise) if attack_term else denoise
    if config.likelihood_variance == EXACT_VARIANCE:
        near = partial(mmps_denoiser, reference=reference, similarity=config.similarity)
        return sum_conditions(denoise, near, fooled) if attack_term else near(denoise)
    near_term = reconstruction(reference, config.similarity, config.likelihood_variance, sigma_data)
    together = (
        sum_log_likelihoods(near_term, restrict_to_interval(config.attack_interval, attack_term))
        if attack_term
        else near_term
    )
    return put(denoise, together)


def _to_sample_batch(
    images: Images, labels: Labels, targets: Labels | None, counter: CallCounter
) -> SampleBatch:
    rests = (
        counter.guidance_skipped
        if counter.guidance_skipped is not None
        else torch.zeros(len(images)).to(images)
    )
    aim = torch.full_like(labels, -1) if targets is None else targets
    return SampleBatch(images.detach(), aim, counter.nfe, rests)
