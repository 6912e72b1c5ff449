"""GAT: given images, changed until a classifier errs.  Kollovieh et al. (2023), section 3.2."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from scoreag.classifiers.checks import validate_judge
from scoreag.core.rng import Noise
from scoreag.core.types import Classifier, Images, Labels
from scoreag.diffusion.prior import Prior, to_model_range
from scoreag.io.images import check_images
from scoreag.methods.config import (
    SamplingConfig,
    answer_unknown_options,
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
)
from scoreag.methods.result import Result
from scoreag.methods.task import DEFAULT_BATCH_SIZE, TaskSpec, run_in_memory, warn_of_gradient
from scoreag.methods.validation import (
    Target,
    validate_class_count,
    validate_classifier,
    validate_image_ids,
    validate_labels,
    validate_prior,
    validate_seed,
    validate_target,
)


def sample_transformation(
    prior: Prior,
    classifier: Classifier,
    images: Images,
    labels: Labels,
    target: Labels | str | None,
    config: SamplingConfig,
    noise: Noise,
) -> SampleBatch:
    """``x0 ~ p(x0 | label) N(image; x0, 1/s_x) p(classifier errs | x0)^s_y``, a guided chain."""
    counter = CallCounter()
    targets = target if not isinstance(target, str) else None
    if isinstance(target, str):
        targets = runner_up_class(classifier(images).detach(), labels)
    term = attack_likelihood(classifier, labels, targets, config, counter)
    reference = to_model_range(images)
    samples = configure_prior(prior, config).sample(
        noise,
        labels if prior.classes else None,
        condition=lambda denoise: guided_denoiser(
            config, prior.sigma_data, counter.wrap(denoise), term, reference
        ),
        init_image=reference,
    )
    return counter.to_batch(samples, torch.full_like(labels, -1) if targets is None else targets)


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
    images = check_images(images, prior.image_shape).to(prior.sigmas.device)
    classifier, count = validate_classifier(classifier, images[:1])
    labels = validate_labels(labels, len(images), validate_class_count(prior, count))
    labels = labels.to(images.device)
    ids, seed = validate_image_ids(image_ids, range(len(images))), validate_seed(seed)
    return TaskSpec(
        task="transform",
        sample=sample_task,
        prior=prior.to(images.dtype),
        config=config,
        seed=seed,
        image_ids=ids,
        classifier=classifier,
        images=images,
        labels=labels,
        target=validate_target(target, labels, count, seed, ids, prior.classes),
        judge=validate_judge(judge, classifier, images[:1], count),
    )


def sample_task(task: TaskSpec, config: SamplingConfig, noise: Noise) -> SampleBatch:
    """The formula, applied to all images of a task."""
    assert task.classifier is not None and task.images is not None and task.labels is not None
    given = (task.prior, task.classifier, task.images, task.labels, task.target)
    return sample_transformation(*given, config, noise)


@answer_unknown_options
def transform(
    prior: Prior,
    classifier: Classifier,
    images: Tensor,
    labels: Tensor | Sequence[Any] | None,
    target: Target = RUNNER_UP,
    *,
    seed: int = 0,
    image_ids: Sequence[int] | Tensor | None = None,
    judge: Classifier | None = None,
    batch_size: int = DEFAULT_BATCH_SIZE,
    progress: bool = True,
    attack_scale: float | None = None,
    attack_loss: str | None = None,
    attack_interval: tuple[float, float] | None = None,
    normalize_gradient: bool | None = None,
    stop_margin: float | None = None,
    max_restarts: int | None = None,
    similarity: float | None = None,
    likelihood_variance: str | None = None,
    sigma_start: float | None = None,
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
        prior: a score model, from ``load_prior``; if it knows classes, those of the classifier.
        classifier: images in [0, 1] to logits (batch, classes), in eval mode; a module, a function,
            or what ``defend`` returns.
        images: (batch, channel, height, width), of the prior's shape: float32 or float64 in
            [0, 1], or uint8.
        labels: their true classes, (batch,), whole numbers 0..classes-1.
        target: what the classifier shall say: ``"runner_up"`` (the likeliest other class of the
            given image), ``"random"``, a class number or name, a class an image (batch,), or None:
            anything but the label.
        seed: 0 or more; with the image id it determines the noise of an image.
        image_ids: one an image, all different; by default 0, 1, 2, ...
        judge: another classifier of the same classes, trained apart, that is asked at the end
            whether the images still show their labels; it guides nothing.
        batch_size: images that the networks see at once, 1 to 4096; 0: all, unpadded.
        progress: whether to show a bar.
        attack_scale: s_y >= 0, the pull of the classifier; 0 is an unguided sample.
        attack_loss: ``likelihood`` of the target (or of any error), or ``margin`` of the logits.
        attack_interval: the lowest and highest noise level at which the classifier acts.
        normalize_gradient: its gradient has the length ``attack_scale`` at every call.
        stop_margin: lead in logits from which on an image is left alone; inf: never.
        max_restarts: how often a failed image is sampled again, at twice the scale each time.
        similarity: s_x >= 0, the inverse variance around the given image, in [-1, 1].
        likelihood_variance: how far an x0-estimate is trusted: ``constant`` (DPS), ``widened``,
            ``damped`` (PiGDM's weight) or ``exact`` (MMPS).
        sigma_start: noise level at which the chain starts, in units of [-1, 1]; 0.002 to 1000.
        steps: noise levels before 0, at least 1.
        sampler: one of ``scoreag list samplers``; ``sampler_options`` are its own.
        jacobian: of the denoiser, ``exact``, ``identity`` (MPGD) or ``finite_difference``.
        x0_estimate: ``denoiser``, ``ode_euler`` or ``sde_euler``, of what the terms look at.

    An option that is None has the value of the prior's card.

    Returns:
        The changed images, in [0, 1], and what was measured on them.

    Raises:
        ValueError: an input, an option or a combination that cannot work; the message says what
            to write instead.
    """
    task = build_transformation(
        prior, classifier, images, labels, target, seed, image_ids, judge, **given_options(locals())
    )
    warn_of_gradient(task)
    return run_in_memory(task, batch_size, progress)
