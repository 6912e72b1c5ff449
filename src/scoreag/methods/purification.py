"""GAP: natural images near given, possibly attacked ones.  Kollovieh et al. (2023), section 3.3."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from scoreag.classifiers.class_groups import known_names
from scoreag.core.rng import Noise
from scoreag.core.types import Classifier, Images
from scoreag.diffusion.prior import Prior, to_model_range
from scoreag.methods.config import (
    SamplingConfig,
    answer_unknown_options,
    document_options,
    given_options,
    resolve_task_config,
)
from scoreag.methods.guided_sampling import (
    CallCounter,
    SampleBatch,
    attach_guide,
    configure_prior,
    guided_denoiser,
)
from scoreag.methods.result import Result
from scoreag.methods.run_task import DEFAULT_BATCH_SIZE, run_in_memory
from scoreag.methods.task import (
    TaskSpec,
    number_labels,
    to_batch,
    validate_classifier,
    validate_image_ids,
    validate_images,
    validate_labels,
    validate_prior,
    validate_seed,
)


def sample_purification(
    prior: Prior,
    images: Images,
    config: SamplingConfig,
    noise: Noise,
    counter: CallCounter | None = None,
) -> Images:
    """``x0 ~ p(x0) N(image; x0, 1/s_x)``, differentiable in ``images``; no label is used."""
    reference, counter = to_model_range(images), counter or CallCounter()
    prior = configure_prior(prior, config)
    return prior.sample(
        noise,
        condition=lambda denoise: guided_denoiser(
            config, prior.sigma_data, counter.wrap(denoise, prior.model), None, reference
        ),
        init_image=reference,
        wrt=[reference],
    )


@torch.no_grad()
def sample_task(task: TaskSpec, config: SamplingConfig, noise: Noise) -> SampleBatch:
    """``sample_purification`` for all images of a task."""
    assert task.images is not None
    counter = CallCounter()
    images = sample_purification(task.prior, task.images, config, noise, counter)
    return counter.to_batch(images, None)


def build_purification(
    prior: Prior,
    images: Tensor,
    classifier: Classifier | None = None,
    labels: Tensor | Sequence[Any] | None = None,
    seed: int = 0,
    image_ids: Sequence[int] | Tensor | None = None,
    **options: Any,
) -> TaskSpec:
    """The checked task of ``purify``."""
    config = resolve_task_config(validate_prior(prior), "purify", **options)
    images = validate_images(images, prior)
    example = to_batch(images[:1], prior)
    count = 2**31  # without a classifier any label is accepted
    if classifier is not None:
        classifier, count = validate_classifier(classifier, example, require_grad=False)
    if labels is not None:
        labels = number_labels(labels, known_names(classifier) or prior.classes)
        labels = validate_labels(labels, len(images), count).to(example.device)
    prior = attach_guide(prior.to(example.dtype), config)
    if names := known_names(classifier):
        prior = replace(prior, classes=names)  # those of the labels, which the chain does not use
    return TaskSpec(
        task="purify",
        sample=sample_task,
        prior=prior,
        config=config,
        seed=validate_seed(seed),
        image_ids=validate_image_ids(image_ids, range(len(images))),
        classifier=classifier,
        images=images,
        labels=labels,
    )


@answer_unknown_options
@document_options
def purify(
    prior: Prior,
    images: Tensor,
    classifier: Classifier | None = None,
    labels: Tensor | Sequence[Any] | None = None,
    *,
    seed: int = 0,
    image_ids: Sequence[int] | Tensor | None = None,
    batch_size: int = DEFAULT_BATCH_SIZE,
    progress: bool = True,
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
) -> Result:
    """GAP: diffusion purification of possibly attacked images.

    Samples ``p(x0) N(image; x0, 1/s_x)`` by a guided diffusion chain that starts at the noisy
    image; Kollovieh et al. (2023), "Assessing Robustness via Score-Based Adversarial Image
    Generation", section 3.3.  No classifier guides it.  ``defend`` makes a classifier of it.

    Args:
        prior: a score model, from ``load_prior``.
        classifier: if given, it predicts the images before and after: images in [0, 1] to logits,
            in eval mode.
        labels: the true classes, (batch,), if known: ``success`` is then where the classifier errs
            on the purified image.
        {options}

    An option that is None has the value of the prior's card.

    Returns:
        The purified images, in [0, 1], and what was measured on them.
    """
    task = build_purification(
        prior, images, classifier, labels, seed, image_ids, **given_options(locals())
    )
    return run_in_memory(task, batch_size, progress)
