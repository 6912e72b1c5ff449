"""GAS: adversarial images from scratch.  Kollovieh et al. (2023), section 3.1."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from scoreag.classifiers.checks import validate_judge
from scoreag.core.rng import Noise
from scoreag.core.types import BatchScalar, Classifier, Labels, LogLikelihood, Sigma, State
from scoreag.diffusion.prior import Prior
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
    attach_guide,
    attack_likelihood,
    configure_prior,
    guided_denoiser,
    runner_up_class,
    steered_denoiser,
)
from scoreag.methods.result import Result
from scoreag.methods.run_task import DEFAULT_BATCH_SIZE, run_in_memory, warn_of_gradient
from scoreag.methods.task import (
    Target,
    TaskSpec,
    build_attack,
    check_known,
    default_image_ids,
    number_labels,
    validate_image_ids,
    validate_labels,
    validate_prior,
    validate_seed,
)
from scoreag.registry import describe_value

ATTACK_OPTIONS = (  # of ``synthesize``, without effect where there is no classifier
    "attack_scale", "attack_loss", "attack_interval", "normalize_gradient", "polyak_step",
    "momentum", "tangent_projection", "x0_steps", "augmentations", "stop_margin", "max_restarts",
    "energy_budget", "energy_pace", "jacobian", "x0_estimate",
)  # fmt: skip
SIGMA_FREEZE_TARGET = 2.0  # the first x0-estimate below this noise level fixes the runner-up


def sample_synthesis(
    prior: Prior,
    classifier: Classifier,
    labels: Labels,
    target: Labels | str | None,
    config: SamplingConfig,
    noise: Noise,
    found: Mapping[str, BatchScalar] = MappingProxyType({}),
) -> SampleBatch:
    """``x0 ~ p(x0 | label) p(classifier errs | x0)^s_y``: a guided chain from pure noise.

    Args:
        found: the values for each image of options that are searched for.
    """
    counter, scales = CallCounter(), found.get("attack_scale")
    runner_up = RunnerUpLikelihood(
        classifier, labels, config, counter, noise, freeze_level(config), scales
    )
    term = attack_likelihood(
        classifier, labels, None if isinstance(target, str) else target, config, counter, noise,
        scales,
    )  # fmt: skip
    if isinstance(target, str) and term is not None:
        term = runner_up
    prior = configure_prior(prior, config)
    images = prior.sample(
        noise,
        labels,
        condition=lambda denoise: steered_denoiser(
            config,
            counter,
            counter.wrap(denoise, prior.model),
            partial(guided_denoiser, config, prior.sigma_data, attack_term=term),
        ),
    )
    targets = runner_up.targets if isinstance(target, str) else target
    return counter.to_batch(images, torch.full_like(labels, -1) if targets is None else targets)


def freeze_level(config: SamplingConfig) -> float:
    """The noise level below which the runner-up is fixed: above one that is guided, if any is."""
    low, high = config.attack_interval or (0.0, math.inf)
    guided = [s for s in config.sigmas().tolist() if s > 0 and low <= s <= high]
    return max(SIGMA_FREEZE_TARGET, 1.001 * min(guided, default=0.0))


@dataclass(eq=False)
class RunnerUpLikelihood:
    """``log p(classifier errs | x0)``: untargeted at first, then toward the runner-up.

    The first x0-estimate below ``freeze_below`` fixes ``targets``, so that an instance serves one
    chain only, and nothing may be differentiated through that chain.
    """

    classifier: Classifier
    labels: Labels
    config: SamplingConfig
    counter: CallCounter
    noise: Noise
    freeze_below: float = SIGMA_FREEZE_TARGET
    scales: BatchScalar | None = None
    targets: Labels | None = None
    term: LogLikelihood | None = None

    def __call__(self, x0: State, sigma: Sigma) -> BatchScalar:
        if self.targets is None and sigma < self.freeze_below:
            classify = getattr(self.classifier, "forward_unclamped", self.classifier)
            self.targets = runner_up_class(classify((x0.detach() + 1) / 2).detach(), self.labels)
            self.term = None
        if self.term is None:  # it may remember its calls
            noise = self.noise.fold_in("untargeted" if self.targets is None else "targeted")
            self.term = attack_likelihood(
                self.classifier, self.labels, self.targets, self.config, self.counter, noise,
                self.scales,
            )  # fmt: skip
        assert self.term is not None  # the attack scale is above 0
        return self.term(x0, sigma)


def sample_prior(
    prior: Prior, labels: Labels | None, config: SamplingConfig, noise: Noise
) -> SampleBatch:
    """``x0 ~ p(x0 | label)``: a chain that no classifier guides."""
    counter = CallCounter()
    prior = configure_prior(prior, config)
    images = prior.sample(
        noise, labels, condition=lambda denoise: counter.wrap(denoise, prior.model)
    )
    return counter.to_batch(images, torch.full((len(images),), -1, device=images.device))


def sample_task(task: TaskSpec, config: SamplingConfig, noise: Noise) -> SampleBatch:
    """``sample_synthesis`` for all images of a task, or ``sample_prior`` without a classifier."""
    if task.classifier is None:
        return sample_prior(task.prior, task.labels, config, noise)
    assert task.labels is not None
    inputs = (task.prior, task.classifier, task.labels, task.target)
    return sample_synthesis(*inputs, config, noise, task.found)


def build_synthesis(
    prior: Prior,
    classifier: Classifier | None,
    labels: Tensor | Sequence[Any] | int | None,
    target: Target = RUNNER_UP,
    seed: int = 0,
    image_ids: Sequence[int] | Tensor | None = None,
    judge: Classifier | None = None,
    **options: Any,
) -> TaskSpec:
    """The checked task of ``synthesize``."""
    if classifier is None:
        if target is not None and not (isinstance(target, str) and target == RUNNER_UP):
            named = describe_value(target)
            raise ValueError(f"target {named} needs a classifier that predicts it; give one")
        return _build_samples(prior, labels, seed, image_ids, judge, options)
    if not validate_prior(prior).classes:
        raise ValueError(
            "this score model has no classes, so it cannot synthesize images of one; "
            "use a class-conditional model, or transform given images"
        )
    config = resolve_task_config(prior, "synthesize", **options)
    return build_attack(
        "synthesize", sample_task, prior, config, classifier, None, labels, target, seed,
        image_ids, judge,
    )  # fmt: skip


def _build_samples(
    prior: Prior,
    labels: Any,
    seed: int,
    image_ids: Sequence[int] | Tensor | None,
    judge: Classifier | None,
    options: Mapping[str, Any],
) -> TaskSpec:
    """The task without a classifier: samples of the score model, by class where it has classes."""
    if given := [name for name in ATTACK_OPTIONS if options.get(name) is not None]:
        raise ValueError(f"{given[0]} is of an attack, and there is no classifier; leave it out")
    config = resolve_task_config(validate_prior(prior), "synthesize", **options, attack_scale=0.0)
    blank = torch.full((1, *prior.image_shape), 0.5, dtype=prior.dtype)
    example, count = blank.to(prior.sigmas.device), len(prior.classes)
    prior = attach_guide(prior.to(example.dtype), config)
    if count:
        labels = number_labels(labels, prior.classes)
        labels = validate_labels(labels, None, count).to(example.device)
        check_known(prior, labels, given=False)
        default_ids: Sequence[int] = default_image_ids(labels)
    elif labels is None and isinstance(image_ids, Sequence | Tensor):
        default_ids = range(len(image_ids))
    else:
        raise ValueError(
            "this score model has no classes; write labels=None and image_ids=range(N)"
        )
    return TaskSpec(
        task="synthesize",
        sample=sample_task,
        prior=prior,
        config=config,
        seed=validate_seed(seed),
        image_ids=validate_image_ids(image_ids, default_ids),
        labels=labels,
        judge=validate_judge(judge, None, example, count, prior.classes),
    )


@answer_unknown_options
@document_options
def synthesize(
    prior: Prior,
    classifier: Classifier | None,
    labels: Tensor | Sequence[Any] | int | None,
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
    """GAS: adversarial images from scratch that show ``labels`` and fool the classifier.

    Samples ``p(x0 | label) p(classifier errs | x0)^s_y`` by a guided diffusion chain from pure
    noise; Kollovieh et al. (2023), "Assessing Robustness via Score-Based Adversarial Image
    Generation", section 3.1.

    Args:
        prior: a class-conditional score model, from ``load_prior``.
        classifier: to be fooled; None: samples of the score model, without an attack.
        labels: the classes that the images should show, (batch,), numbers 0..classes-1 or names.
        target: the class to be predicted: ``"runner_up"`` (the most likely other class at the first
            x0-estimate below sigma = 2), ``"random"``, a class number or name, a class per image
            (batch,), or None: any wrong one.
        image_ids: one per image, all different; by default label * 1,000,000 + the index within
            the class, so that an image does not depend on the other requested classes.
        {options}

    An option that is None has the value of the prior's card.

    Returns:
        Images (batch, channel, height, width) in [0, 1] and what was measured on them.
    """
    task = build_synthesis(
        prior, classifier, labels, target, seed, image_ids, judge, **given_options(locals())
    )
    warn_of_gradient(task)
    return run_in_memory(task, batch_size, progress)
