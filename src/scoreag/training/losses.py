"""What a training minimizes: the denoising loss, and adversarial losses of classifiers.

A network that predicts the noise with error ``e`` makes a denoiser with error ``sigma e``.  So
every loss of a score model is one of denoising, ``E w(sigma) |D(x0 + sigma n; sigma, y) - x0|^2`` a
pixel, and the weight is one over the square of the parameterization's coefficient ``c_out``.

How batch normalization works during an adversarial search matters.  FGSM-RS and N-FGSM normalize
with the batch, as Wong et al. (2020) did.  PGD and TRADES use the running statistics
(``frozen_batchnorm``): so the network under attack is the one that is used later, images do not
depend on each other, and the running statistics are those of the images that the network learns
from (Pang et al. 2021, section 3.5).  The learning pass always normalizes with its own batch, and
in TRADES the clean and the adversarial images pass separately, as in the original.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div

from scoreag.core.devices import send
from scoreag.core.rng import Stream
from scoreag.core.types import BatchScalar, Images, Labels, Logits, Targets
from scoreag.diffusion import parameterizations
from scoreag.diffusion.noise_schedules import vp_sigma
from scoreag.diffusion.parameterizations import Parameterization
from scoreag.registry import UnknownNameError, did_you_mean
from scoreag.training.schedule import random_flip

Loss: TypeAlias = Callable[[nn.Module, Images, Targets, Stream], Tensor]
BatchTensors: TypeAlias = tuple[Tensor, ...]  # with a row for each image
SigmaSampler: TypeAlias = Callable[[int, Stream], BatchScalar]
InnerMax: TypeAlias = Callable[[Callable[[Images], Tensor], Images, Stream], Images]
Context: TypeAlias = Callable[[nn.Module], AbstractContextManager[Any]]
LN_SIGMA = (-1.2, 1.2)  # mean and deviation of ln sigma, for pixels; Karras et al. (2022)


@dataclass(frozen=True)
class PerSampleLoss:
    """A loss whose batch can be split, since no row depends on another one.

    ``prepare`` samples the random numbers of the whole batch; ``per_sample`` takes any of its rows.
    """

    prepare: Callable[[Images, Labels, Stream], BatchTensors]
    per_sample: Callable[[nn.Module, BatchTensors], BatchScalar]

    def __call__(
        self, network: nn.Module, images: Images, labels: Labels, source: Stream
    ) -> Tensor:
        return self.per_sample(network, self.prepare(images, labels, source)).mean()


@dataclass(frozen=True)
class DenoisingObjective:
    """The training objective of a family of score models; ``weight`` is of the squared error."""

    family: Parameterization
    sample_sigma: SigmaSampler
    weight: Callable[[BatchScalar], BatchScalar]


def noise_prediction_weight(sigma: BatchScalar) -> BatchScalar:
    """``1 / sigma^2``: the denoiser's error, as an error of the predicted noise."""
    return 1 / sigma**2


def edm(sigma_data: float = 0.5, ln_sigma: tuple[float, float] = LN_SIGMA) -> DenoisingObjective:
    """``ln sigma ~ N(mean, std^2)``, ``w = (sigma^2 + sd^2) / (sigma sd)^2``.

    Karras et al. (2022), table 1: every noise level counts equally at the start.
    """
    mean, std = ln_sigma

    def weight(sigma: BatchScalar) -> BatchScalar:
        return (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2

    def sample_sigma(count: int, source: Stream) -> BatchScalar:
        return (std * source.normal((count,)) + mean).exp()

    return DenoisingObjective(parameterizations.edm(sigma_data), sample_sigma, weight)


def ddpm(alphas_cumprod: Float[Tensor, " steps"]) -> DenoisingObjective:
    """One of the steps, equally likely, and ``|n - F|^2``; Ho et al. (2020), eq. 14."""
    sample_sigma = discrete(parameterizations.alphas_cumprod_to_sigmas(alphas_cumprod))
    family = parameterizations.ddpm(alphas_cumprod)
    return DenoisingObjective(family, sample_sigma, noise_prediction_weight)


def vp(t_min: float = 1e-5) -> DenoisingObjective:
    """A time uniform in [t_min, 1], and ``|n - F|^2``; Song et al. (2021), appendix C."""

    def sample_sigma(count: int, source: Stream) -> BatchScalar:
        times = t_min + (1 - t_min) * source.uniform((count,)).double()
        return vp_sigma(times).float()

    return DenoisingObjective(parameterizations.vp(), sample_sigma, noise_prediction_weight)


def ncsn() -> DenoisingObjective:
    """A level of a geometric sequence, equally likely, and ``|sigma s + n|^2``, ``s`` the score.

    Song and Ermon (2019), eq. 5 and 6 with ``lambda = sigma^2``; the network predicts ``sigma s``.
    """
    sample_sigma = discrete(parameterizations.geometric_sigmas())
    return DenoisingObjective(parameterizations.ncsn(), sample_sigma, noise_prediction_weight)


def discrete(levels: Float[Tensor, " levels"]) -> SigmaSampler:
    """One of ``levels``, with equal probability."""
    return lambda count, source: levels[source.integers(len(levels), (count,))].to(torch.float32)


FAMILIES: dict[str, Callable[..., DenoisingObjective]] = {
    "edm": edm,
    "ddpm": lambda: ddpm(parameterizations.linear_alphas_cumprod()),
    # Nichol and Dhariwal (2021), eq. 17
    "ddpm_cosine": lambda: ddpm(parameterizations.cosine_alphas_cumprod()),
    "vp": vp,
    "ncsn": ncsn,
}


def build_objective(
    family: str, sigma_data: float, ln_sigma: tuple[float, float] = LN_SIGMA
) -> DenoisingObjective:
    """The objective of a family; only EDM's depends on ``sigma_data`` and ``ln_sigma``."""
    if family not in FAMILIES:
        raise UnknownNameError(f"no family {family!r}; {did_you_mean(family, list(FAMILIES))}")
    return edm(sigma_data, ln_sigma) if family == "edm" else FAMILIES[family]()


def build_denoising_loss(
    objective: DenoisingObjective,
    null_label: int,
    label_dropout: float = 0.1,
    hflip: bool = True,
    head_weight: float = 0.0,
) -> PerSampleLoss:
    """``E w(sigma) |D(x0 + sigma n; sigma, y) - x0|^2`` a pixel, each image at its own level.

    Args:
        label_dropout: fraction of the labels replaced by ``null_label``: one network learns both
            the class-conditional and the unconditional model (Ho and Salimans 2021).
        hflip: whether half of the images are mirrored.
        head_weight: of the same loss of the network's head, where there is one. Its gradient is
            added; the value is that of the first output, which can be compared.
    """

    def prepare(images: Images, labels: Labels, source: Stream) -> BatchTensors:
        """``x0``, ``x0 + sigma n``, ``sigma``, labels and weights.

        The random numbers are the same on every device; those of the pixels are drawn on it.
        """
        # sampled in any case, so that the later numbers are the same without hflip
        flipped = random_flip(images, source)
        x0 = 2 * (flipped if hflip else images) - 1
        sigma = send(objective.sample_sigma(len(x0), source), x0.device).to(x0)
        n = source.normal(x0.shape, x0.device).to(x0)
        dropped = send(source.uniform((len(x0),)) < label_dropout, x0.device)
        labels = torch.where(dropped, null_label, send(labels, x0.device))
        return x0, x0 + sigma[:, None, None, None] * n, sigma, labels, objective.weight(sigma)

    return PerSampleLoss(prepare, partial(denoising_loss, head_weight=head_weight))


def denoising_loss(model: nn.Module, inputs: BatchTensors, head_weight: float = 0.0) -> BatchScalar:
    """``w |D(x; sigma, y) - x0|^2``, its mean over the pixels; plus the gradient of the head's."""
    x0, x, sigma, labels, weight = inputs
    both = bool(head_weight) and getattr(model, "has_head", False)
    denoised = model(x, sigma, labels, head=True) if both else model(x, sigma, labels)
    error = denoised.float().unflatten(0, (-1, len(x0))) - x0  # of one or two outputs
    losses = error.square().flatten(2).mean(2)
    head = head_weight * losses[1:].sum(0)
    return weight * (losses[0] + head - head.detach())


def normalize(images: Images, mean: Sequence[float], std: Sequence[float]) -> Images:
    """``(x - mean) / std`` for each channel."""
    numbers = torch.tensor([list(mean), list(std)], dtype=images.dtype)
    center, width = send(numbers, images.device).view(2, 1, -1, 1, 1)
    return (images - center) / width


def compute_logits(
    network: nn.Module, images: Images, mean: Sequence[float], std: Sequence[float]
) -> Logits:
    """The network's logits of images in [0, 1], in single precision."""
    return network(normalize(images, mean, std)).float()


def classification_loss(
    network: nn.Module,
    images: Images,
    labels: Targets,
    source: Stream,
    mean: Sequence[float],
    std: Sequence[float],
    label_smoothing: float = 0.0,
) -> Float[Tensor, ""]:
    """``-log p(label | image)``, its mean over the batch."""
    logits = compute_logits(network, images, mean, std)
    return cross_entropy(logits, labels, label_smoothing=label_smoothing)


def pgd(
    loss: Callable[[Images], Tensor],
    images: Images,
    source: Stream,
    eps: float,
    step_size: float,
    steps: int = 1,
) -> Images:
    """``x <- clip(x + step_size sign(grad loss(x)))``, from a point uniform in the ball.

    The clip is to the Linf ball and to [0, 1] (Madry et al. 2018); one step of 1.25 eps is FGSM-RS
    (Wong et al. 2020).
    """
    d = eps * (2 * source.uniform(images.shape) - 1)
    x = (images + d.to(images)).clamp(0, 1)
    for _ in range(steps):
        x = x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(x), x)
        x = x.detach() + step_size * gradient.sign()
        x = torch.minimum(torch.maximum(x, images - eps), images + eps).clamp(0, 1)
    return x.detach()


def n_fgsm(
    loss: Callable[[Images], Tensor],
    images: Images,
    source: Stream,
    eps: float,
    step_size: float,
    noise: float = 2.0,
) -> Images:
    """``clip(x + step_size sign(grad loss(x)))``, ``x`` uniform within ``noise eps`` of the image.

    The result may leave the ball: that keeps a single step from overfitting to itself (de Jorge
    et al. 2022, N-FGSM, whose step is eps and whose noise is 2 eps).
    """
    d = noise * eps * (2 * source.uniform(images.shape) - 1)
    x = (images + d.to(images)).clamp(0, 1).requires_grad_()
    (gradient,) = torch.autograd.grad(loss(x), x)
    return (x.detach() + step_size * gradient.sign()).clamp(0, 1)


def adversarial_loss(
    network: nn.Module,
    images: Images,
    labels: Targets,
    source: Stream,
    base_loss: Loss,
    inner_max: InnerMax,
    context: Context = nullcontext,
) -> Float[Tensor, ""]:
    """The loss at the worst images of the ball, which are searched for within ``context``."""
    with context(network):
        adversarial = inner_max(lambda x: base_loss(network, x, labels, source), images, source)
    return base_loss(network, adversarial, labels, source)


def trades_loss(
    network: nn.Module,
    images: Images,
    labels: Targets,
    source: Stream,
    logits: Callable[[nn.Module, Images], Logits],
    clean_loss: Callable[[Logits, Targets], Tensor],
    inner_max: InnerMax,
    beta: float,
) -> Float[Tensor, ""]:
    """``clean_loss(f(x), y) + beta KL(p(. | x) || p(. | x'))``, where ``x'`` makes the KL large.

    Zhang et al. (2019), eq. 5.  The gradient runs through both sides of the KL.  The search starts
    uniformly in the ball, where theirs started with a Gaussian of 0.001: at ``x`` itself the
    gradient of the KL is 0.
    """
    with frozen_batchnorm(network):
        with torch.no_grad():
            reference = logits(network, images)
        adversarial = inner_max(
            lambda x: mean_kl_divergence(reference, logits(network, x)), images, source
        )
    clean = logits(network, images)
    divergence = mean_kl_divergence(clean, logits(network, adversarial))
    return clean_loss(clean, labels) + beta * divergence


def mean_kl_divergence(first: Logits, second: Logits) -> Float[Tensor, ""]:
    """``KL(p || q) = sum p (log p - log q)``, its mean over the batch, from the logits."""
    log_p, log_q = first.log_softmax(1), second.log_softmax(1)
    return kl_div(log_q, log_p, reduction="batchmean", log_target=True)


@contextmanager
def frozen_batchnorm(network: nn.Module) -> Iterator[None]:
    """Inside, batch normalizations use their running statistics and do not update them."""
    kinds = nn.BatchNorm1d | nn.BatchNorm2d
    norms = [part for part in network.modules() if isinstance(part, kinds) and part.training]
    for norm in norms:
        norm.eval()
    try:
        yield
    finally:
        for norm in norms:
            norm.train()
