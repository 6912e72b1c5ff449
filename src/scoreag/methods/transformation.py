"""GAT: given images, changed until a classifier errs.  Kollovieh et al. (2023), section 3.2."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from scoreag.core.rng import Noise
from scoreag.core.types import BatchScalar, Classifier, Denoise, Images, Labels, LogLikelihood
from scoreag.diffusion.prior import Prior, to_model_range
from scoreag.methods.config import (
    SamplingConfig,
    answer_unknown_options,
    document_options,
    given_options,
    resolve_task_config,
)
from scoreag.methods.guided_sampling import (
    RUNNER_UP,
    CallCounter,
    SampleBatch,
    attack_likelihood,
    configure_prior,
    guided_denoiser,
    runner_up_class,
    steered_denoiser,
)
from scoreag.methods.result import Result
from scoreag.methods.run_task import DEFAULT_BATCH_SIZE, run_in_memory, warn_of_gradient
from scoreag.methods.task import Target, TaskSpec, build_attack, validate_images, validate_prior


def sample_transformation(
    prior: Prior,
    classifier: Classifier,
    images: Images,
    labels: Labels,
    target: Labels | str | None,
    config: SamplingConfig,
    noise: Noise,
    found: Mapping[str, BatchScalar] = MappingProxyType({}),
) -> SampleBatch:
    """``x0 ~ p(x0 | label) N(image; x0, 1/s_x) p(classifier errs | x0)^s_y``, a guided chain.

    Args:
        found: the values for each image of options that are searched for.
    """
    counter = CallCounter()
    targets = target if not isinstance(target, str) else None
    if isinstance(target, str) and config.attack_scale:
        targets = runner_up_class(classifier(images).detach(), labels)
    scales, similarities = found.get("attack_scale"), found.get("similarity")
    term = attack_likelihood(classifier, labels, targets, config, counter, noise, scales)
    reference = to_model_range(images)
    prior = configure_prior(prior, config)

    def guided(attack_term: LogLikelihood | None) -> Callable[[Denoise], Denoise]:
        return partial(
            guided_denoiser, config, prior.sigma_data, attack_term=attack_term,
            reference=reference, similarities=similarities,
        )  # fmt: skip

    samples = prior.sample(
        noise,
        labels if prior.classes else None,
        condition=lambda denoise: steered_denoiser(
            config,
            counter,
            counter.wrap(denoise, prior.model),
            guided(attack_term=term),
            reference=guided(attack_term=None),
        ),
        init_image=reference,
    )
    return counter.to_batch(samples, torch.full_like(labels, -1) if targets is None else targets)


def sample_task(task: TaskSpec, config: SamplingConfig, noise: Noise) -> SampleBatch:
    """``sample_transformation`` for all images of a task."""
    assert task.classifier is not None and task.images is not None and task.labels is not None
    inputs = (task.prior, task.classifier, task.images, task.labels, task.target)
    return sample_transformation(*inputs, config, noise, task.found)


def build_transformation(
    prior: Prior,
    classifier: Classifier,
    images: Tensor,
    labels: Tensor | Sequence[Any] | None,
    target: Target = RUNNER_UP,
    seed: int = 0,
    image_ids: Sequence[int] | Tensor | None = None,
    judge: Classifier | None = None,
    **options: Any,
) -> TaskSpec:
    """The checked task of ``transform``."""
    config = resolve_task_config(validate_prior(prior), "transform", **options)
    images = validate_images(images, prior)
    return build_attack(
        "transform", sample_task, prior, config, classifier, images, labels, target, seed,
        image_ids, judge,
    )  # fmt: skip


@answer_unknown_options
@document_options
def transform(
    prior: Prior,
    classifier: Classifier,
    images: Tensor,
    labels: Tensor | Sequence[Any] | None = None,
    target: Target = RUNNER_UP,
    *,
    seed: int = 0,
    image_ids: Sequence[int] | Tensor | None = None,
    judge: Classifier | None = None,
    batch_size: int = DEFAULT_BATCH_SIZE,
    progress: bool = True,
    attack_scale: float | str | None = None,
    attack_loss: str | None = None,
    attack_interval: tuple[float, float] | None = None,
    normalize_gradient: bool | None = None,
    polyak_step: bool | None = None,
    momentum: float | None = None,
    tangent_projection: bool | None = None,
    x0_steps: int | None = None,
    augmentations: int | None = None,
    stop_margin: float | None = None,
    max_restarts: int | None = None,
    energy_budget: float | None = None,
    energy_pace: str | None = None,
    similarity: float | str | None = None,
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
    """GAT: unrestricted adversarial examples near given images.

    Samples ``p(x0 | label) N(image; x0, 1/s_x) p(classifier errs | x0)^s_y`` by a guided diffusion
    chain that starts at the noisy image; Kollovieh et al. (2023), "Assessing Robustness via
    Score-Based Adversarial Image Generation", section 3.2.

    Args:
        prior: a score model, from ``load_prior``; if it has classes, those of the classifier.
        labels: the true classes, (batch,), whole numbers 0..classes-1.
        target: the class to be predicted: ``"runner_up"`` (the most likely other class of the given
            image), ``"random"``, a class number or name, a class per image (batch,), or None: any
            wrong one.
        {options}

    An option that is None has the value of the prior's card.

    Returns:
        The changed images, in [0, 1], and what was measured on them.
    """
    task = build_transformation(
        prior, classifier, images, labels, target, seed, image_ids, judge, **given_options(locals())
    )
    warn_of_gradient(task)
    return run_in_memory(task, batch_size, progress)
