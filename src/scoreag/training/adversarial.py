"""Losses against an adversary: FGSM-RS, PGD and TRADES, and the inner maximization that they share.

Batch normalization during the inner maximization is a decision of its own.  FGSM-RS normalizes with
the batch, as Wong et al. (2020) did.  PGD and TRADES use the running statistics
(``frozen_batchnorm``): the network that is attacked is then the one that is used later, image i is
none of image j's business, and the running statistics are those of images that the network learns
from (Pang et al. 2021, section 3.5).  What is learned from is always normalized with its own batch,
and in TRADES the clean and the adversarial images pass apart, as in the original.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import kl_div

from scoreag.core.rng import Stream
from scoreag.core.types import Images, Labels, Logits
from scoreag.training.loop import Loss

InnerMax: TypeAlias = Callable[[Callable[[Images], Tensor], Images, Stream], Images]
Context: TypeAlias = Callable[[nn.Module], AbstractContextManager[Any]]


def pgd(
    loss: Callable[[Images], Tensor],
    images: Images,
    source: Stream,
    eps: float,
    step_size: float,
    steps: int = 1,
) -> Images:
    """``x <- clip(x + step_size sign(grad loss(x)))``, from a point uniform in the ball.

    The clip is into the Linf ball and into [0, 1] (Madry et al. 2018); one step of 1.25 eps is
    FGSM-RS (Wong et al. 2020).
    """
    d = eps * (2 * source.uniform(images.shape) - 1)
    x = (images + d.to(images)).clamp(0, 1)
    for _ in range(steps):
        x = x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(x), x)
        x = x.detach() + step_size * gradient.sign()
        x = torch.minimum(torch.maximum(x, images - eps), images + eps).clamp(0, 1)
    return x.detach()


def adversarial_loss(
    network: nn.Module,
    images: Images,
    labels: Labels,
    source: Stream,
    base_loss: Loss,
    inner_max: InnerMax,
    context: Context = nullcontext,
) -> Float[Tensor, ""]:
    """The plain loss at the worst images of the ball.

    Args:
        context: how the network is while they are searched, e.g. ``frozen_batchnorm``.
    """
    with context(network):
        adversarial = inner_max(lambda x: base_loss(network, x, labels, source), images, source)
    return base_loss(network, adversarial, labels, source)


def trades_loss(
    network: nn.Module,
    images: Images,
    labels: Labels,
    source: Stream,
    logits: Callable[[nn.Module, Images], Logits],
    clean_loss: Callable[[Logits, Labels], Tensor],
    inner_max: InnerMax,
    beta: float,
) -> Float[Tensor, ""]:
    """``clean_loss(f(x), y) + beta KL(p(. | x) || p(. | x'))``, where ``x'`` makes the KL large.

    Zhang et al. (2019), eq. 5.  The gradient runs through both sides of the KL.  The search begins
    uniformly in the ball, where theirs began with a Gaussian of 0.001: at ``x`` itself the gradient
    of the KL is 0.
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
    """``KL(p || q) = sum p (log p - log q)``, its mean over the batch, of the logits of p and q."""
    log_p, log_q = first.log_softmax(1), second.log_softmax(1)
    return kl_div(log_q, log_p, reduction="batchmean", log_target=True)


@contextmanager
def frozen_batchnorm(network: nn.Module) -> Iterator[None]:
    """Batch normalizations use their running statistics, and keep them as they are, meanwhile."""
    kinds = nn.BatchNorm1d | nn.BatchNorm2d
    norms = [part for part in network.modules() if isinstance(part, kinds) and part.training]
    for norm in norms:
        norm.eval()
    try:
        yield
    finally:
        for norm in norms:
            norm.train()
