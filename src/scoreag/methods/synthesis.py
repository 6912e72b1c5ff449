"""GAS: adversarial images from scratch.  Kollovieh et al. (2023), section 3.1."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from scoreag.classifiers.checks import validate_judge
from scoreag.core.rng import Noise
from scoreag.core.types import BatchScalar, Classifier, Labels, Sigma, State
from scoreag.diffusion.prior import Prior
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
    default_image_ids,
    validate_class_count,
    validate_classifier,
    validate_image_ids,
    validate_labels,
    validate_prior,
    validate_seed,
    validate_target,
)

SIGMA_FREEZE_TARGET = 2.0  # the first x0-estimate below this noise level settles the runner-up


def sample_synthesis(
    prior: Prior,
    classifier: Classifier,
    labels: Labels,
    target: Labels | str | None,
    config: SamplingConfig,
    noise: Noise,
) -> SampleBatch:
    """``x0 ~ p(x0 | label) p(classifier errs | x0)^s_y``: a guided chain from pure noise."""
    counter = CallCounter()
    chooser = RunnerUpLikelihood(classifier, labels, config, counter)
    term = attack_likelihood(
        classifier, labels, None if isinstance(target, str) else target, config, counter
    )
    if isinstance(target, str) and term is not None:
        term = chooser
    images = configure_prior(prior, config).sample(
        noise,
        labels,
        condition=lambda denoise: guided_denoiser(
            config, prior.sigma_data, counter.wrap(denoise), term
        ),
    )
    targets = chooser.targets if isinstance(target, str) else target
    return counter.to_batch(images, torch.full_like(labels, -1) if targets is None else targets)


@dataclass(eq=False)
class RunnerUpLikelihood:
    """``log p(classifier errs | x0)``: untargeted at first, then towards the runner-up.

    The first x0-estimate below ``SIGMA_FREEZE_TARGET`` settles ``targets``, which are the state of
    one chain: it is sampled, and never differentiated.
    """

    classifier: Classifier
    labels: Labels
    config: SamplingConfig
    counter: CallCounter
    targets: Labels | None = None

    def __call__(self, x0: State, sigma: Sigma) -> BatchScalar:
        if self.targets is None and sigma < SIGMA_FREEZE_TARGET:
            classify = getattr(self.classifier, "forward_unclamped", self.classifier)
            self.targets = runner_up_class(classify((x0.detach() + 1) / 2).detach(), self.labels)
        term = attack_likelihood(
            self.classifier, self.labels, self.targets, self.config, self.counter
        )
        assert term is not None  # the attack scale is above 0
        return term(x0, sigma)


def build_synthesis(
    prior: Prior,
    classifier: Classifier,
    labels: Tensor | Sequence[Any] | int,
    target: Target = RUNNER_UP,
    seed: int = 0,
    image_ids: Sequence[int] | Tensor | None = None,
    judge: Classifier | None = None,
    **options: Any,
) -> TaskSpec:
    """The checked task of ``synthesize``."""
    device = validate_prior(prior).sigmas.device
    if not prior.classes:
        raise ValueError(
            "this score model knows no classes, so it cannot be asked for one; "
            "use a class-conditional model, or transform given images"
        )
    config = resolve_task_config(prior, "synthesize", **options)
    blank = torch.full((1, *prior.image_shape), 0.5, dtype=prior.dtype, device=device)
    classifier, count = validate_classifier(classifier, blank)
    labels = validate_labels(labels, None, validate_class_count(prior, count)).to(device)
    ids, seed = validate_image_ids(image_ids, default_image_ids(labels)), validate_seed(seed)
    return TaskSpec(
        task="synthesize",
        sample=sample_task,
        prior=prior,
        config=config,
        seed=seed,
        image_ids=ids,
        classifier=classifier,
        labels=labels,
        target=validate_target(target, labels, count, seed, ids, prior.classes),
        judge=validate_judge(judge, classifier, blank, count),
    )


def sample_task(task: TaskSpec, config: SamplingConfig, noise: Noise) -> SampleBatch:
    """The formula, applied to all images of a task."""
    assert task.classifier is not None and task.labels is not None
    return sample_synthesis(task.prior, task.classifier, task.labels, task.target, config, noise)


@answer_unknown_options
def synthesize(
    prior: Prior,
    classifier: Classifier,
    labels: Tensor | Sequence[Any] | int,
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
    sigma_start: float | None = None,
    steps: int | None = None,
    sampler: str | None = None,
    sampler_options: Mapping[str, Any] | None = None,
    jacobian: str | None = None,
    x0_estimate: str | None = None,
) -> Result:
    """GAS: adversarial images from scratch, which show ``labels`` and fool the classifier.

    Samples ``p(x0 | label) p(classifier errs | x0)^s_y`` by a guided diffusion chain from pure
    noise; Kollovieh et al. (2023), "Assessing Robustness via Score-Based Adversarial Image
    Generation", section 3.1.

    Args:
        prior: a class-conditional score model, from ``load_prior``.
        classifier: images in [0, 1] to logits (batch, classes), in eval mode; a module, a function,
            or what ``defend`` returns.
        labels: the classes that the images shall show, (batch,), whole numbers 0..classes-1.
        target: what the classifier shall say: ``"runner_up"`` (the likeliest other class at the
            first x0-estimate below sigma = 2), ``"random"``, a class number or name, a class an
            image (batch,), or None: anything but the label.
        seed: 0 or more; with the image id it determines the noise of an image.
        image_ids: one an image, all different; by default label * 1,000,000 + the index
            within the class, so that an image does not depend on which others are asked for.
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
        sigma_start: noise level at which the chain starts, in units of [-1, 1]; 0.002 to 1000.
        steps: noise levels before 0, at least 1.
        sampler: one of ``scoreag list samplers``; ``sampler_options`` are its own.
        jacobian: of the denoiser, ``exact``, ``identity`` (MPGD) or ``finite_difference``.
        x0_estimate: ``denoiser``, ``ode_euler`` or ``sde_euler``, of what the terms look at.

    An option that is None has the value of the prior's card.

    Returns:
        Images (batch, channel, height, width) in [0, 1] and what was measured on them.

    Raises:
        ValueError: an input, an option or a combination that cannot work; the message says what
            to write instead.
    """
    task = build_synthesis(
        prior, classifier, labels, target, seed, image_ids, judge, **given_options(locals())
    )
    warn_of_gradient(task)
    return run_in_memory(task, batch_size, progress)
