"""ScoreAG's three tasks: one prior, three kinds of evidence.  Section numbers are the paper's."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from scoreag.core.guide import both, during, guide, normalized, sum_of
from scoreag.core.noise import Noise
from scoreag.core.prior import Prior, to_state
from scoreag.core.types import (
    Classifier,
    Denoise,
    Images,
    Labels,
    LogLikelihood,
    PerImage,
    Sigma,
    State,
)
from scoreag.guidance.classified_as import classified_as
from scoreag.guidance.margin import margin
from scoreag.guidance.misclassified import misclassified
from scoreag.guidance.resembles import EXACT, posterior, resembles
from scoreag.load import load
from scoreag.settings import Settings

SECOND = "second"  # the likeliest class but the label
DECIDED_BELOW = 2.0  # the noise level under which a draw's first estimate settles its wrong class


@dataclass
class Tally:
    """What a draw cost: denoiser calls, and for each image those at which guidance rested."""

    calls: int = 0
    rests: PerImage | None = None

    def counting(self, denoise: Denoise) -> Denoise:
        """``denoise``, each call of which is counted."""

        def counted(x: State, sigma: Sigma) -> State:
            self.calls += 1
            return denoise(x, sigma)

        return counted

    def rest(self, resting: PerImage) -> None:
        self.rests = resting if self.rests is None else self.rests + resting


@dataclass
class Aim:
    """What the images of one draw shall be taken for, once that is settled."""

    wrong: Labels | None = None


@dataclass(frozen=True, eq=False)
class Drawn:
    """Images, what they should be taken for (-1: anything wrong), and what they cost."""

    images: Images
    wrong: Labels
    calls: int
    rests: PerImage = field(repr=False)


def synthesize(
    prior: Prior,
    classifier: Classifier,
    labels: Labels,
    wrong: Labels | str | None,
    settings: Settings,
    noise: Noise,
) -> Drawn:
    """GAS, 3.1: an image of class ``labels`` that ``classifier`` takes for ``wrong``.

    With ``wrong="second"`` guidance is untargeted until the first x0-estimate at a level below
    ``DECIDED_BELOW``; that settles the likeliest other class of each image, which is kept.
    """
    tally, aim = Tally(), Aim(None if isinstance(wrong, str) else wrong)
    if isinstance(wrong, str):
        evidence = _settling(classifier, labels, settings, tally, aim)
    else:
        evidence = _wrongly(classifier, labels, wrong, settings, tally)
    sd = prior.sigma_data
    drawn = arranged(prior, settings).draw(
        noise, labels, bend=lambda denoise: _bent(settings, sd, tally.counting(denoise), evidence)
    )
    return _drawn(drawn, labels, aim.wrong, tally)


def transform(
    prior: Prior,
    classifier: Classifier,
    images: Images,
    labels: Labels,
    wrong: Labels | str | None,
    settings: Settings,
    noise: Noise,
) -> Drawn:
    """GAT, 3.2: ``images``, changed until ``classifier`` takes them for ``wrong``."""
    tally, prior = Tally(), arranged(prior, settings)
    if isinstance(wrong, str):
        wrong = second(classifier(images).detach(), labels)
    told = labels if prior.classes else None
    evidence = _wrongly(classifier, labels, wrong, settings, tally)
    reference, sd = to_state(images), prior.sigma_data
    drawn = prior.draw(
        noise,
        told,
        bend=lambda denoise: _bent(settings, sd, tally.counting(denoise), evidence, reference),
        near=reference,
    )
    return _drawn(drawn, labels, wrong, tally)


def purify(
    prior: Prior, images: Images, settings: Settings, noise: Noise, tally: Tally | None = None
) -> Images:
    """GAP, 3.3: the natural image that ``images`` was made from.  Its class is not known."""
    reference, sd = to_state(images), prior.sigma_data
    counting = (tally or Tally()).counting
    return arranged(prior, settings).draw(
        noise,
        bend=lambda denoise: _bent(settings, sd, counting(denoise), None, reference),
        near=reference,
        wrt=[reference],
    )


def arranged(prior: Prior, settings: Settings) -> Prior:
    """The prior with the sampler and the noise levels that ``settings`` ask for."""
    module = load("samplers", settings.sampler)
    sampler = partial(module.sample, **settings.sampler_options)
    levels = settings.sigmas()
    place = prior.sigmas.device  # Apple's has no float64
    sigmas = levels.to(prior.sigmas) if place.type == "mps" else levels.to(place)
    return replace(prior, sampler=sampler, sigmas=sigmas)


def second(logits: Tensor, labels: Labels) -> Labels:
    """The likeliest class that is not the label."""
    return logits.scatter(1, labels[:, None], -torch.inf).argmax(1)


def _wrongly(
    classifier: Classifier,
    labels: Labels,
    wrong: Labels | None,
    settings: Settings,
    tally: Tally,
) -> LogLikelihood | None:
    """``classifier`` errs, in the way that ``settings.guidance`` says; None at strength 0."""
    if not settings.strength:
        return None
    options: dict[str, Any] = {"stop": settings.stop, "rest": tally.rest}
    strength = settings.strength
    if settings.guidance == "margin":
        term = margin(classifier, labels, strength, wanted=wrong, **options)
    elif wrong is None:
        term = misclassified(classifier, labels, strength, **options)
    else:
        term = classified_as(classifier, wrong, strength, **options)
    return normalized(term, strength) if settings.normalized else term


def _settling(
    classifier: Classifier, labels: Labels, settings: Settings, tally: Tally, aim: Aim
) -> LogLikelihood | None:
    """Any error at first, then towards the class that is the second likeliest at that moment."""
    free = _wrongly(classifier, labels, None, settings, tally)
    if free is None:
        return None
    ask = getattr(classifier, "of_estimates", classifier)  # a defence looks at images it is given

    def log_likelihood(x0: State, sigma: Sigma) -> PerImage:
        if aim.wrong is None and sigma < DECIDED_BELOW:
            aim.wrong = second(ask((x0.detach() + 1) / 2).detach(), labels)
        if aim.wrong is None:
            return free(x0, sigma)
        settled = _wrongly(classifier, labels, aim.wrong, settings, tally)
        assert settled is not None
        return settled(x0, sigma)

    return log_likelihood


def _bent(
    settings: Settings,
    sd: float,
    denoise: Denoise,
    wrongly: LogLikelihood | None,
    reference: State | None = None,
) -> Denoise:
    """``denoise`` with the evidence in it; ``sd`` is the deviation of a pixel."""
    put: Callable[..., Denoise] = partial(
        guide, gradient=settings.gradient, estimate=settings.estimate, deviation=sd
    )
    fooled = partial(put, log_likelihood=wrongly, interval=settings.interval)
    if reference is None:
        return fooled(denoise) if wrongly else denoise
    if settings.variance == EXACT:
        near = partial(posterior, reference=reference, precision=settings.precision)
        return sum_of(denoise, near, fooled) if wrongly else near(denoise)
    near_term = resembles(reference, settings.precision, settings.variance, sd)
    together = both(near_term, during(settings.interval, wrongly)) if wrongly else near_term
    return put(denoise, together)


def _drawn(images: Images, labels: Labels, wrong: Labels | None, tally: Tally) -> Drawn:
    rests = tally.rests if tally.rests is not None else torch.zeros(len(images)).to(images)
    aim = torch.full_like(labels, -1) if wrong is None else wrong
    return Drawn(images.detach(), aim, tally.calls, rests)
