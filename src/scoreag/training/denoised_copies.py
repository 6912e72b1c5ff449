"""Training on noisy images that a score model has denoised once: what a smoothed classifier sees.

A classifier behind a denoiser reads ``D(x + sigma n; sigma)``, on which it was never trained.
Carlini et al. (2023) fine-tune it there; Jeong and Shin (2020) ask that two copies of an image are
read alike, which is what a certificate counts.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from scoreag.core.rng import Stream
from scoreag.core.types import Images, Labels, Logits
from scoreag.training.losses import compute_logits, mean_kl_divergence

Denoiser = Callable[[Images], Images]  # of noisy images, pixels in [0, 1]


def denoised_loss(
    network: nn.Module,
    images: Images,
    labels: Labels,
    source: Stream,
    denoise: Denoiser,
    noise: float,
    mean: Sequence[float],
    std: Sequence[float],
    label_smoothing: float = 0.0,
    clean_fraction: float = 0.25,
    consistency: float = 0.0,
    confident: bool = False,
) -> Float[Tensor, ""]:
    """``-log p(label | D(x + sigma n))``, for some images ``-log p(label | x)``, and consistency.

    With ``consistency`` there are two copies of each image, and the loss has that many times the
    divergence of each copy's prediction from the mean of both.

    Args:
        noise: sigma, pixels in [0, 1].
        clean_fraction: of the batch that is not made noisy; at least one image is.
        confident: leave the entropy of copies out that the network reads wrongly: some show nothing
            of the image, as what is lost in noise is made up by the denoiser.
    """
    n_clean = min(round(clean_fraction * len(images)), len(images) - 1)
    order = source.permutation(len(images)).to(images.device)  # extra data stand last in a batch
    images, labels = images[order], labels[order]
    clean, rest, wanted = images[:n_clean], images[n_clean:], labels[n_clean:]
    copies = [_denoised_copy(rest, source, denoise, noise) for _ in range(2 if consistency else 1)]
    logits = compute_logits(network, torch.cat([clean, *copies]), mean, std)
    of_clean, *of_copies = logits.split([n_clean, *[len(rest)] * len(copies)])
    entropy = partial(cross_entropy, label_smoothing=label_smoothing, reduction="none")
    losses = [entropy(of_clean, labels[:n_clean])]
    for found in of_copies:
        kept = found.argmax(1) == wanted if confident else torch.ones_like(wanted, dtype=torch.bool)
        losses.append(_kept(entropy(found, wanted), kept) / len(copies))
    total = torch.cat(losses).sum() / len(images)
    return total + consistency * _disagreement(of_copies) if consistency else total


@torch.no_grad()
def _denoised_copy(images: Images, source: Stream, denoise: Denoiser, noise: float) -> Images:
    return denoise(images + noise * source.normal(images.shape, images.device).to(images))


def _kept(losses: Float[Tensor, " batch"], kept: Bool[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    """The losses of the kept rows, 0 elsewhere."""
    return torch.where(kept, losses, torch.zeros_like(losses))


def _disagreement(logits: Sequence[Logits]) -> Float[Tensor, ""]:
    """The mean over copies of ``KL(mean || copy)``, of the predicted probabilities."""
    mean = torch.stack([found.log_softmax(1) for found in logits]).logsumexp(0)
    return torch.stack([mean_kl_divergence(mean, found) for found in logits]).mean()
