"""``defend``: put a classifier behind a purifier, after checks of all options."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from scoreag.classifiers.checks import REENTRANT_CHECKPOINT, diagnose_gradient
from scoreag.classifiers.normalized import NormalizedClassifier, wrap_classifier
from scoreag.core.batching import BatchContext, use_batch
from scoreag.core.types import Classifier
from scoreag.defenses.memory_budget import parse_bytes
from scoreag.defenses.purified_classifier import (
    DefenseConfig,
    PurifiedClassifier,
    measure_memory,
    validate_logits,
)
from scoreag.diffusion.prior import Prior
from scoreag.methods.config import (
    answer_unknown_options,
    document_options,
    given_options,
    resolve_config,
)
from scoreag.methods.guided_sampling import attach_guide
from scoreag.methods.task import check_callable, validate_flag, validate_prior, validate_seed
from scoreag.registry import describe_value, did_you_mean, load_component

CHOICES = {"backward": ("exact", "bpda", "none"), "aggregate": ("mean", "majority")}


@answer_unknown_options
@document_options
def defend(
    classifier: Classifier,
    prior: Prior,
    purifier: str = "gap",
    *,
    seed: int = 0,
    draws: int = 1,
    aggregate: str = "mean",
    backward: str = "exact",
    max_memory: int | str | None = None,
    bf16: bool = False,
    similarity: float | None = None,
    likelihood_variance: str | None = None,
    sigma_start: float | None = None,
    guidance_scale: float | None = None,
    guide: str | None = None,
    guidance_interval: tuple[float, float] | None = None,
    steps: int | None = None,
    sampler: str | None = None,
    sampler_options: Mapping[str, Any] | None = None,
    jacobian: str | None = None,
    x0_estimate: str | None = None,
) -> PurifiedClassifier:
    """``classifier`` behind a purifier: images in [0, 1] to logits, with fresh draws at each call.

    Any attack takes it, of this library or another: its gradient is that of the whole chain.

    Args:
        classifier: images in [0, 1] to logits (batch, classes): a module in eval mode, a function,
            or another defense.
        prior: a score model of the same images, from ``load_prior``.
        purifier: ``gap`` (Kollovieh et al. 2023), ``diffpure`` (Nie et al. 2022),
            ``one_step_denoising`` (Carlini et al. 2023), or ``package.module`` of one's own.
        seed: 0 or more; with the image and the number of the call it determines the draws.
        draws: purified images that each answer is aggregated from.
        aggregate: the ``mean`` of their logits, or ``majority``: the log of the share of draws
            that say a class.
        backward: the gradient that an attacker gets: ``exact``, of the discrete chain; ``bpda``,
            as if purification were the identity; ``none``, as if there were no purifier.
        max_memory: bytes, or such as ``"4 GiB"``, for the gradient of the draws that are taken at
            once; a single draw that needs more is refused.  By default 2 GiB, at least one draw.
        bf16: networks compute in bfloat16; states, noise and the sums over steps do not.
        {options}

    A sampling option that is None has the value of the prior's card; a purifier takes some of them.
    """
    prior, seed = validate_prior(prior), validate_seed(seed)
    check_callable(classifier)
    _check_options(draws, backward=backward, aggregate=aggregate)
    validate_flag("bf16", bf16)
    options = given_options(locals())
    if isinstance(classifier, nn.Module) and not isinstance(
        classifier, NormalizedClassifier | PurifiedClassifier
    ):
        classifier = wrap_classifier(classifier)
    if not isinstance(purifier, str):
        raise ValueError(f"the purifier is {describe_value(purifier)}; write one such as 'gap'")
    try:
        part = load_component("purifiers", purifier)
    except ModuleNotFoundError as error:
        raise ValueError(f"the purifier {purifier} cannot be imported: {error}") from error
    sampling = resolve_config(prior, part.CARD_SECTION, part.CONFIG_FIELDS, part.DEFAULTS, options)
    max_bytes = None if max_memory is None else parse_bytes(max_memory)
    prior = attach_guide(prior, sampling)
    config = DefenseConfig(
        classifier, prior, part.purify, sampling, seed, draws, aggregate, backward, max_bytes, bf16
    )
    if isinstance(classifier, nn.Module):
        check_image_shapes(classifier, prior)
    if draws > 1 or max_bytes is not None:
        config = measure_memory(config)
    return PurifiedClassifier(config)


def _check_options(draws: int, **words: str) -> None:
    for name, word in words.items():
        if not isinstance(word, str) or word not in CHOICES[name]:
            word = word if isinstance(word, str) else describe_value(word)
            raise ValueError(f"no {name} {word!r}; {did_you_mean(word, list(CHOICES[name]))}")
    if not isinstance(draws, int) or draws < 1:
        raise ValueError(f"draws is {describe_value(draws)}; expected a whole number, at least 1")


@torch.inference_mode(False)
def check_image_shapes(classifier: nn.Module, prior: Prior) -> None:
    """Refuse a classifier of other images than the score model's."""
    takes = " x ".join(map(str, prior.image_shape))
    known = getattr(classifier, "image_shape", None)
    if known is not None and tuple(known) != tuple(prior.image_shape):
        raise ValueError(
            f"the classifier is one of images of {' x '.join(map(str, known))}, and the score "
            f"model purifies {takes}; give two that were made for the same images"
        )
    blank = torch.full((1, *prior.image_shape), 0.5, dtype=prior.dtype)
    leaf = blank.to(prior.sigmas.device).requires_grad_()
    try:
        with torch.enable_grad(), use_batch(BatchContext(call_counts={})):  # no draw is counted
            logits = classifier(leaf)
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"the classifier cannot take what the score model purifies, images of {takes}: {reason}"
        ) from error
    problem = diagnose_gradient(validate_logits(logits, leaf), leaf)
    if problem == REENTRANT_CHECKPOINT:
        raise ValueError(f"the classifier {problem}")
