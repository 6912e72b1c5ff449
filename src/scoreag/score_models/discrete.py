"""A network that is told one step of a table of betas, and predicts the noise, v or the image.

The tables are those of the package diffusers; its commonest are the families ``ddpm``,
``ddpm_cosine`` and ``v_prediction``.
"""

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from scoreag.cards import Card, network
from scoreag.core.denoiser import Family, Preconditioned
from scoreag.core.families import cosine_alphas, ddpm, linear_alphas, v_prediction, x0_prediction
from scoreag.load import check_options, hint

PREDICTS: dict[str, Callable[[Tensor], Family]] = {
    "epsilon": ddpm, "v_prediction": v_prediction, "sample": x0_prediction
}  # fmt: skip
MOST, MOST_TOLD = 100_000, 10_000  # steps of a schedule, and betas that a card tells one by one
Table = Float[Tensor, " steps"]


def load(card: Card) -> Preconditioned:
    """The denoiser of a card, with its weights."""
    check_options(family, dict(card.levels), f"{card.name}: the table of levels")
    try:
        told = family(**card.levels)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{card.name}: the table of levels: {error}") from error
    return Preconditioned(network(card), told)


def family(
    predicts: str = "epsilon",
    schedule: str = "linear",
    steps: int = 1000,
    first: float = 1e-4,
    last: float = 0.02,
    betas: Sequence[float] = (),
    snr_shift: float = 1.0,
    zero_snr: bool = False,
) -> Family:
    """The family of a table of noise levels, from the words of the networks that count its steps.

    Args:
        betas: the table itself, in place of a schedule.
        snr_shift: what the ratio of signal to noise is divided by at all steps.
        zero_snr: the last step holds nothing of the image; Lin et al. (2024), algorithm 1.

    Raises:
        ValueError: a word is not known, or these numbers make no table.
    """
    if predicts not in PREDICTS:
        raise ValueError(f"a prediction {predicts!r}; {hint(str(predicts), list(PREDICTS))}")
    alphas = _of_betas(betas) if len(betas) else _of_schedule(schedule, steps, first, last)
    alphas = alphas / (snr_shift + (1 - snr_shift) * alphas)
    alphas = _rescaled(alphas) if zero_snr else alphas
    alphas = alphas[alphas > 0]  # a step without any image has no finite level
    ratios = alphas[1:] / alphas[:-1]
    if len(alphas) < 2 or not (alphas[0] < 1 and bool((ratios < 1).all())):
        raise ValueError("its betas are no table of rising noise; each is above 0 and below 1")
    return PREDICTS[predicts](alphas)


def _of_betas(betas: Sequence[float]) -> Table:
    if len(betas) > MOST_TOLD:
        raise ValueError(f"{len(betas)} betas; at most {MOST_TOLD} are read")
    return (1 - torch.tensor(betas, dtype=torch.float64)).cumprod(0)


def _of_schedule(name: str, steps: int, first: float, last: float) -> Table:
    if not 2 <= steps <= MOST:
        raise ValueError(f"{steps} steps; from 2 to {MOST} are read")
    if not 0 < first <= last < 1:
        raise ValueError(f"betas from {first} to {last}; they rise, above 0 and below 1")
    if name not in SCHEDULES:
        raise ValueError(f"a schedule {name!r}; {hint(str(name), list(SCHEDULES))}")
    return SCHEDULES[name](steps, first, last)


def _scaled_linear(steps: int, first: float, last: float) -> Table:
    roots = torch.linspace(math.sqrt(first), math.sqrt(last), steps, dtype=torch.float64)
    return (1 - roots**2).cumprod(0)


def _sigmoid(steps: int, first: float, last: float) -> Table:
    rise = torch.linspace(-6, 6, steps, dtype=torch.float64).sigmoid()
    return (1 - (first + rise * (last - first))).cumprod(0)


def _laplace(steps: int, first: float, last: float) -> Table:
    t = 0.5 - torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    log_snr = -t.sign() * (1 - 2 * t.abs() + 1e-6).log() / 2
    return _clipped((log_snr.sigmoid()).sqrt())


def _exp(steps: int, first: float, last: float) -> Table:
    return _clipped((-12 * torch.linspace(0, 1, steps + 1, dtype=torch.float64)).exp())


def _clipped(curve: Tensor) -> Table:
    """Of a falling curve of what is kept of the image; no beta is above 0.999."""
    return (curve[1:] / curve[:-1]).clamp(min=0.001).cumprod(0)


def _rescaled(alphas: Table) -> Table:
    root = alphas.sqrt()
    return ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2


SCHEDULES: dict[str, Callable[[int, float, float], Table]] = {
    "linear": linear_alphas,
    "scaled_linear": _scaled_linear,
    "squaredcos_cap_v2": lambda steps, first, last: cosine_alphas(steps),
    "sigmoid": _sigmoid,
    "laplace": _laplace,
    "exp": _exp,
}
