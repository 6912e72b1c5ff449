"""Score models by the name of their parameterization: what the network predicts, at which levels.

The tables of noise levels of the package diffusers are those of ``discrete``; its commonest have
names of their own: ``ddpm``, ``ddpm_cosine`` and ``v_prediction``.
"""

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from scoreag.diffusion.parameterizations import (
    Parameterization,
    Preconditioned,
    cosine_alphas_cumprod,
    ddpm,
    edm,
    flow,
    iddpm,
    linear_alphas_cumprod,
    ncsn,
    smld,
    unit_score,
    v_prediction,
    vp,
    x0_prediction,
)
from scoreag.models.model_cards import Card, build_network
from scoreag.registry import check_options, did_you_mean, load_component, short_repr

AlphasCumprod = Float[Tensor, " steps"]
PREDICTIONS: dict[str, Callable[[AlphasCumprod], Parameterization]] = {
    "epsilon": ddpm, "v_prediction": v_prediction, "sample": x0_prediction
}  # fmt: skip
MAX_STEPS, MAX_BETAS = 100_000, 10_000  # of a schedule; betas that a card lists one by one


def load_score_model(card: Card) -> nn.Module:
    """The denoiser of a card, with its weights.

    A family of one's own, ``package.module``, has a function ``load(card)``.

    Raises:
        ValueError: no such family, its ``schedule_kwargs`` are wrong, or the weights do not fit.
    """
    if "." in card.family:
        model = load_component("score_models", card.family).load(card)
        if not isinstance(model, nn.Module):
            got = type(model).__name__
            raise ValueError(f"the family {card.family} returned {got}; expected a torch.nn.Module")
        return model
    return Preconditioned(build_network(card), build_parameterization(card))


def build_parameterization(card: Card) -> Parameterization:
    """The parameterization of a card; its ``sigma_data`` is EDM's."""
    if card.family not in PARAMETERIZATIONS:
        known = did_you_mean(card.family, list(PARAMETERIZATIONS))
        raise ValueError(f"no {short_repr(card.family)} in score_models; {known}")
    build, kwargs = PARAMETERIZATIONS[card.family], dict(card.schedule_kwargs)
    check_options(build, kwargs, f"{card.name}: its schedule_kwargs")
    if card.family == "edm":
        kwargs = {"sigma_data": card.sigma_data, **kwargs}
        if kwargs.get("sign", 1) not in (1, -1):
            raise ValueError(f"{card.name}: the sign {kwargs['sign']!r:.80}; expected 1 or -1")
    try:
        return build(**kwargs)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{card.name}: its schedule_kwargs: {error}") from error


def linear_ddpm(steps: int = 1000, time_scale: float = 1.0) -> Parameterization:
    """Betas from 1e-4 to 0.02; of more steps they are smaller in proportion, as in iDDPM."""
    return ddpm(linear_alphas_cumprod(steps, 0.1 / steps, 20 / steps), time_scale)


def cosine_ddpm(steps: int = 1000, time_scale: float = 1.0) -> Parameterization:
    """The cosine schedule of Nichol and Dhariwal (2021), cut into as many steps."""
    return ddpm(cosine_alphas_cumprod(steps), time_scale)


def discrete(
    predicts: str = "epsilon",
    schedule: str = "linear",
    steps: int = 1000,
    beta_start: float = 1e-4,
    beta_end: float = 0.02,
    betas: Sequence[float] = (),
    snr_shift: float = 1.0,
    zero_snr: bool = False,
) -> Parameterization:
    """A network that is told one step of a table of betas.

    Args:
        predicts: the noise ("epsilon"), v ("v_prediction") or the image ("sample").
        betas: the table itself, in place of a schedule.
        snr_shift: the ratio of signal to noise is divided by it at all steps.
        zero_snr: the last step holds nothing of the image; Lin et al. (2024), algorithm 1.

    Raises:
        ValueError: a word is not known, or these numbers make no table.
    """
    if predicts not in PREDICTIONS:
        raise ValueError(
            f"a prediction {predicts!r}; {did_you_mean(str(predicts), list(PREDICTIONS))}"
        )
    alphas = _from_betas(betas) if len(betas) else _schedule(schedule, steps, beta_start, beta_end)
    alphas = alphas / (snr_shift + (1 - snr_shift) * alphas)
    alphas = _rescale_zero_snr(alphas) if zero_snr else alphas
    alphas = alphas[alphas > 0]  # a step without any image has no finite level
    ratios = alphas[1:] / alphas[:-1]
    if len(alphas) < 2 or not (alphas[0] < 1 and bool((ratios < 1).all())):
        raise ValueError("its betas are no table of rising noise; each is above 0 and below 1")
    return PREDICTIONS[predicts](alphas)


PARAMETERIZATIONS: dict[str, Callable[..., Parameterization]] = {
    "ddpm": linear_ddpm,  # predicts the noise, is told one of 1000 steps; Ho et al. (2020)
    "ddpm_cosine": cosine_ddpm,
    "discrete": discrete,
    "edm": edm,  # Karras et al. (2022)
    "flow": flow,  # flow matching: predicts noise minus image; Lipman et al. (2023)
    "iddpm": iddpm,  # as Karras et al. (2022) have it: at the nearest of 1000 cosine levels
    "ncsn": ncsn,  # predicts minus the noise; Song and Ermon (2019)
    "smld": smld,  # as NCSN, told one of 1000 levels; Song et al. (2021)
    "unit_score": unit_score,  # the score of images in [0, 1]; Song et al. (2021), in diffusers
    "v_prediction": lambda: v_prediction(linear_alphas_cumprod()),  # Salimans and Ho (2022)
    "vp": vp,  # continuous, told 999 t, beta(t) = 0.1 + 19.9 t; Song et al. (2021)
}


def _from_betas(betas: Sequence[float]) -> AlphasCumprod:
    if len(betas) > MAX_BETAS:
        raise ValueError(f"{len(betas)} betas; at most {MAX_BETAS} are read")
    return (1 - torch.tensor(betas, dtype=torch.float64)).cumprod(0)


def _schedule(name: str, steps: int, beta_start: float, beta_end: float) -> AlphasCumprod:
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


def _laplace(steps: int, *ends: float) -> AlphasCumprod:
    t = 0.5 - torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    log_snr = -t.sign() * (1 - 2 * t.abs() + 1e-6).log() / 2
    return _clip_betas((log_snr.sigmoid()).sqrt())


def _exp(steps: int, *ends: float) -> AlphasCumprod:
    return _clip_betas((-12 * torch.linspace(0, 1, steps + 1, dtype=torch.float64)).exp())


def _clip_betas(alpha_bar: Tensor) -> AlphasCumprod:
    """No beta is above 0.999."""
    return (alpha_bar[1:] / alpha_bar[:-1]).clamp(min=0.001).cumprod(0)


def _rescale_zero_snr(alphas_cumprod: AlphasCumprod) -> AlphasCumprod:
    root = alphas_cumprod.sqrt()
    return ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2


SCHEDULES: dict[str, Callable[[int, float, float], AlphasCumprod]] = {
    "linear": linear_alphas_cumprod, "scaled_linear": _scaled_linear, "sigmoid": _sigmoid,
    "squaredcos_cap_v2": lambda steps, *ends: cosine_alphas_cumprod(steps),
    "laplace": _laplace, "exp": _exp,
}  # fmt: skip
