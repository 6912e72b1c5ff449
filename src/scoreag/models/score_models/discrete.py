"""A network that is told one step of a table of betas, and predicts the noise, v or the image.

The tables are those of the package diffusers; its commonest are the families ``ddpm``,
``ddpm_cosine`` and ``v_prediction``.
"""

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from scoreag.diffusion.parameterizations import (
    Parameterization,
    Preconditioned,
    cosine_alphas_cumprod,
    ddpm,
    linear_alphas_cumprod,
    v_prediction,
    x0_prediction,
)
from scoreag.models.model_cards import Card, build_network
from scoreag.registry import check_options, did_you_mean

PARAMETERIZATIONS: dict[str, Callable[[Tensor], Parameterization]] = {
    "epsilon": ddpm, "v_prediction": v_prediction, "sample": x0_prediction
}  # fmt: skip
MAX_STEPS, MAX_BETAS = (
    100_000,
    10_000,
)  # steps of a schedule, and betas that a card tells one by one
AlphasCumprod = Float[Tensor, " steps"]


def load(card: Card) -> Preconditioned:
    """The denoiser of a card, with its weights."""
    check_options(family, dict(card.schedule_kwargs), f"{card.name}: its schedule_kwargs")
    try:
        told = family(**card.schedule_kwargs)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{card.name}: its schedule_kwargs: {error}") from error
    return Preconditioned(build_network(card), told)


def family(
    predicts: str = "epsilon",
    schedule: str = "linear",
    steps: int = 1000,
    beta_start: float = 1e-4,
    beta_end: float = 0.02,
    betas: Sequence[float] = (),
    snr_shift: float = 1.0,
    zero_snr: bool = False,
) -> Parameterization:
    """The family of a table of noise levels, from the words of the networks that count its steps.

    Args:
        betas: the table itself, in place of a schedule.
        snr_shift: what the ratio of signal to noise is divided by at all steps.
        zero_snr: the last step holds nothing of the image; Lin et al. (2024), algorithm 1.

    Raises:
        ValueError: a word is not known, or these numbers make no table.
    """
    if predicts not in PARAMETERIZATIONS:
        raise ValueError(
            f"a prediction {predicts!r}; {did_you_mean(str(predicts), list(PARAMETERIZATIONS))}"
        )
    alphas = _from_betas(betas) if len(betas) else _from_schedule(schedule, steps, beta_start, beta_end)
    alphas = alphas / (snr_shift + (1 - snr_shift) * alphas)
    alphas = _rescale_zero_snr(alphas) if zero_snr else alphas
    alphas = alphas[alphas > 0]  # a step without any image has no finite level
    ratios = alphas[1:] / alphas[:-1]
    if len(alphas) < 2 or not (alphas[0] < 1 and bool((ratios < 1).all())):
        raise ValueError("its betas are no table of rising noise; each is above 0 and below 1")
    return PARAMETERIZATIONS[predicts](alphas)


def _from_betas(betas: Sequence[float]) -> AlphasCumprod:
    if len(betas) > MAX_BETAS:
        raise ValueError(f"{len(betas)} betas; at most {MAX_BETAS} are read")
    return (1 - torch.tensor(betas, dtype=torch.float64)).cumprod(0)


def _from_schedule(name: str, steps: int, beta_start: float, beta_end: float) -> AlphasCumprod:
    if not 2 <= steps <= MAX_STEPS:
        raise ValueError(f"{steps} steps; from 2 to {MAX_STEPS} are read")
    if not 0 < beta_start <= beta_end < 1:
        raise ValueError(f"betas from {beta_start} to {beta_end}; they rise, above 0 and below 1")
    if name not in SCHEDULES:
        raise ValueError(f"a schedule {name!r}; {did_you_mean(str(name), list(SCHEDULES))}")
    return SCHEDULES[name](steps, beta_start, beta_end)


def _scaled_linear(steps: int, beta_start: float, beta_end: float) -> AlphasCumprod:
    roots = torch.linspace(math.sqrt(beta_start), math.sqrt(beta_end), steps, dtype=torch.float64)
    return (1 - roots**2).cumprod(0)


def _sigmoid(steps: int, beta_start: float, beta_end: float) -> AlphasCumprod:
    rise = torch.linspace(-6, 6, steps, dtype=torch.float64).sigmoid()
    return (1 - (beta_start + rise * (beta_end - beta_start))).cumprod(0)


def _laplace(steps: int, beta_start: float, beta_end: float) -> AlphasCumprod:
    t = 0.5 - torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    log_snr = -t.sign() * (1 - 2 * t.abs() + 1e-6).log() / 2
    return _clip_betas((log_snr.sigmoid()).sqrt())


def _exp(steps: int, beta_start: float, beta_end: float) -> AlphasCumprod:
    return _clip_betas((-12 * torch.linspace(0, 1, steps + 1, dtype=torch.float64)).exp())


def _clip_betas(alpha_bar: Tensor) -> AlphasCumprod:
    """Of a falling curve of what is kept of the image; no beta is above 0.999."""
    return (alpha_bar[1:] / alpha_bar[:-1]).clamp(min=0.001).cumprod(0)


def _rescale_zero_snr(alphas_cumprod: AlphasCumprod) -> AlphasCumprod:
    root = alphas_cumprod.sqrt()
    return ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2


SCHEDULES: dict[str, Callable[[int, float, float], AlphasCumprod]] = {
    "linear": linear_alphas_cumprod,
    "scaled_linear": _scaled_linear,
    "squaredcos_cap_v2": lambda steps, first, last: cosine_alphas_cumprod(steps),
    "sigmoid": _sigmoid,
    "laplace": _laplace,
    "exp": _exp,
}
