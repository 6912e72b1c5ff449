"""From a trained network to a denoiser, by four functions of the noise level.

    D(x; sigma) = c_skip x + c_out F(c_in x, c_noise)        Karras et al. (2022), eq. 7 and table 1

A family is an entry of ``PREDICTIONS``, which sets the first three, and one of ``TIMES``. It holds
names and numbers only, so that it can be pickled.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from scoreag.core.devices import send
from scoreag.core.types import Denoise, Labels, Sigma, Sigmas, State
from scoreag.diffusion.compiled import CompiledNetwork
from scoreag.diffusion.noise_schedules import vp_time


class Preconditioning(NamedTuple):
    """The coefficients of a family at given noise levels."""

    c_skip: Tensor
    c_out: Tensor
    c_in: Tensor
    c_noise: Tensor


Parameterization: TypeAlias = Callable[[Sigmas], Preconditioning]
Entry: TypeAlias = tuple[Any, ...]  # a name in PREDICTIONS or TIMES, and the numbers it needs


@runtime_checkable
class ScoreModel(Protocol):
    """A denoiser that may be class-conditional; ``score = (D(x; sigma) - x) / sigma^2``."""

    def __call__(self, x: State, sigma: Sigma, labels: Labels | None = None) -> State: ...


class Preconditioned(nn.Module):
    """The denoiser of a network ``F(x, time, labels)``.

    ``sigma`` is one level for the batch, or, as in training, one for each image. ``map_dtype`` is
    that of the network's maps, where it is not the states'; see map_precision.py.  ``compiled``
    calls the network by torch.compile; see compiled.py.
    """

    map_dtype: torch.dtype | None = None
    compiled: CompiledNetwork | None = None

    def __init__(self, network: nn.Module, family: Parameterization) -> None:
        super().__init__()
        self.network = network
        self.family = family

    @property
    def null_label(self) -> int | None:
        """The label that means no class, if the network was trained with one: one past the last."""
        classes: int = getattr(self.network, "classes", 0)
        return classes if getattr(self.network, "null_label", False) else None

    @property
    def has_head(self) -> bool:
        """Whether the network has a second output, of a weaker denoiser."""
        return bool(getattr(self.network, "has_head", False))

    def forward(
        self, x: State, sigma: Sigmas, labels: Labels | None = None, head: bool = False
    ) -> Float[Tensor, "outputs ..."]:
        """``D(x; sigma, labels)``; with ``head`` a batch of twice the size: then the head's."""
        per_image = send(sigma.to(x.dtype), x.device).expand(len(x))
        skip, out, inner, time = self.family(per_image)
        skip, out, inner = (c.view(-1, *(1,) * (x.ndim - 1)) for c in (skip, out, inner))
        scaled = inner * x
        if self.map_dtype is not None and x.dtype == torch.float32:
            scaled = scaled.to(self.map_dtype, memory_format=torch.channels_last)
        network = self.network if self.compiled is None else self.compiled
        if not head:
            return skip * x + out * network(scaled, time, labels).to(x.dtype)
        both = network(scaled, time, labels, head=True).to(x.dtype)
        return (skip * x + out * both.unflatten(0, (2, -1))).flatten(0, 1)


def null_label(model: ScoreModel) -> int | None:
    """The label by which a model was trained to stand for all classes; None if it has none."""
    label = getattr(model, "null_label", None)
    return None if label is None else int(label)


def with_labels(model: ScoreModel, labels: Labels | None) -> Denoise:
    """The denoiser of ``model`` for given labels."""
    return lambda x, sigma: model(x, sigma, labels)


def _precondition(prediction: Entry, time: Entry, sigma: Sigmas) -> Preconditioning:
    (predicts, *numbers), (clock, *more) = prediction, time
    skip, out, inner = PREDICTIONS[predicts](sigma, *numbers)
    return Preconditioning(skip, out, inner, TIMES[clock](sigma, *more))


def _table_step(alphas_cumprod: Float[Tensor, " steps"], scale: float = 1.0) -> Entry:
    return "interpolated_step", (1 / alphas_cumprod.double() - 1).log() / 2, scale


def edm(sigma_data: float = 0.5, sign: int = 1) -> Parameterization:
    """EDM: input and target of the network have unit variance at every noise level.

    Args:
        sign: -1 where the network predicts minus the target, as ``v`` of Salimans and Ho.
    """
    return partial(_precondition, ("unit_variance", sigma_data, sign), ("quarter_log",))


def ddpm(alphas_cumprod: Float[Tensor, " steps"], time_scale: float = 1.0) -> Parameterization:
    """DDPM: the network predicts the noise at step t, where sigma_t^2 = 1 / alpha_bar_t - 1.

    Between two steps, t is interpolated linearly in log sigma.

    Args:
        time_scale: the network gets ``time_scale * t``.
    """
    return partial(_precondition, ("vp_noise",), _table_step(alphas_cumprod, time_scale))


def v_prediction(alphas_cumprod: Float[Tensor, " steps"]) -> Parameterization:
    """As ``ddpm``, but the network predicts ``v = a n - b x0``, a and b of ``x_vp = a x0 + b n``.

    With ``a^2 = 1 / (1 + s^2)`` and ``b = a s``, ``x0 = a x_vp - b v``; Salimans and Ho (2022).
    """
    return partial(_precondition, ("vp_velocity",), _table_step(alphas_cumprod))


def x0_prediction(alphas_cumprod: Float[Tensor, " steps"]) -> Parameterization:
    """As ``ddpm``, but the network predicts the image itself."""
    return partial(_precondition, ("vp_image",), _table_step(alphas_cumprod))


def flow(steps: int = 1000) -> Parameterization:
    """Flow matching: at ``x_s = (1 - s) x0 + s n`` the network predicts ``n - x0``.

    It gets ``steps s``, ``s = sigma / (1 + sigma)``; ``x0 = x_s - s F``; Lipman et al. (2023).
    """
    return partial(_precondition, ("flow",), ("flow_time", steps))


def unit_score() -> Parameterization:
    """The network predicts the score of images in [0, 1], where noise levels are half as high.

    ``D = x + 2 s^2 score((x + 1) / 2; s)``, ``s = sigma / 2``; the network shifts ``x`` itself.
    Karras et al. (2022), eq. 213.
    """
    return partial(_precondition, ("unit_score",), ("half",))


def ncsn() -> Parameterization:
    """NCSN++: the network predicts minus the noise, and gets log(sigma / 2)."""
    return partial(_precondition, ("ve_noise",), ("log_half",))


def smld(steps: int = 1000, sigma_min: float = 0.02, sigma_max: float = 100.0) -> Parameterization:
    """NCSN++ as first trained: as ``ncsn``, but it gets the number of the nearest level.

    The ``steps`` levels have equal ratios, and the largest is the number 0; Song et al. (2021),
    section 3.1.
    """
    return partial(_precondition, ("ve_noise",), ("level_number", steps, sigma_min, sigma_max))


def vp(steps: int = 1000) -> Parameterization:
    """Continuous VP (Song et al. 2021): as DDPM, but it gets ``(steps - 1) t``, t in [0, 1]."""
    return partial(_precondition, ("vp_noise",), ("vp_time", steps))


def iddpm(
    steps: int = 1000, c1: float = 0.001, c2: float = 0.008, rounded: bool = True
) -> Parameterization:
    """iDDPM: the network predicts the noise at step t of a cosine table; Karras et al., table 1.

    ``t = M - 1 - j``, ``j`` the index of the nearest level in ``u_0 > ... > u_M = 0``, where
    ``u_{j-1}^2 = (u_j^2 + 1) / max(abar(j-1) / abar(j), C1) - 1`` and
    ``abar(j) = sin^2(pi/2 j / (M (C2 + 1)))``.

    Args:
        c1, c2: C1 and C2.
        rounded: as released; else j is interpolated between two indices.
    """
    return partial(
        _precondition, ("vp_noise",), ("cosine_step", iddpm_sigmas(steps, c1, c2), rounded)
    )


def _unit_variance(sigma: Sigmas, sigma_data: float, sign: int) -> tuple[Tensor, ...]:
    total = sigma**2 + sigma_data**2
    return sigma_data**2 / total, sign * sigma * sigma_data / total.sqrt(), 1 / total.sqrt()


def _vp_velocity(sigma: Sigmas) -> tuple[Tensor, ...]:
    squared = 1 / (1 + sigma**2)
    a = squared.sqrt()
    return squared, -sigma * a, a


def _interpolated_step(sigma: Sigmas, log_sigmas: Tensor, scale: float) -> Tensor:
    levels = log_sigmas.to(sigma.device)
    log_sigma = sigma.double().log().clamp(levels[0], levels[-1])
    high = torch.searchsorted(levels, log_sigma).clamp(min=1)
    low = high - 1
    weight = (log_sigma - levels[low]) / (levels[high] - levels[low])
    return scale * (low + weight).to(sigma)


def _cosine_step(sigma: Sigmas, table: Tensor, rounded: bool) -> Tensor:
    levels = table.to(sigma.device).flip(0)  # rising
    clamped = sigma.double().clamp(levels[0], levels[-1])
    above = torch.searchsorted(levels, clamped).clamp(1, len(levels) - 1)
    fraction = (clamped - levels[above - 1]) / (levels[above] - levels[above - 1])
    place = (above - 1) + (fraction.round() if rounded else fraction)  # counted from u_M
    return (place - 1).to(sigma)


def _level_number(sigma: Sigmas, steps: int, sigma_min: float, sigma_max: float) -> Tensor:
    fraction = (math.log(sigma_max) - sigma.log()) / math.log(sigma_max / sigma_min)
    return ((steps - 1) * fraction).round().clamp(0, steps - 1)


PREDICTIONS: dict[str, Callable[..., tuple[Tensor, ...]]] = {  # c_skip, c_out, c_in
    "unit_variance": _unit_variance,
    "vp_noise": lambda s: (torch.ones_like(s), -s, 1 / (1 + s**2).sqrt()),
    "vp_image": lambda s: (torch.zeros_like(s), torch.ones_like(s), 1 / (1 + s**2).sqrt()),
    "vp_velocity": _vp_velocity,
    "ve_noise": lambda s: (torch.ones_like(s), s, torch.ones_like(s)),
    "flow": lambda s: (1 / (1 + s), -s * (1 / (1 + s)), 1 / (1 + s)),
    "unit_score": lambda s: (torch.ones_like(s), s**2 / 2, torch.ones_like(s)),
}
TIMES: dict[str, Callable[..., Tensor]] = {  # c_noise
    "interpolated_step": _interpolated_step,
    "cosine_step": _cosine_step,
    "level_number": _level_number,
    "quarter_log": lambda s: s.log() / 4,
    "log_half": lambda s: s.log() - math.log(2),
    "half": lambda s: s / 2,
    "vp_time": lambda s, steps: (steps - 1) * vp_time(s),
    "flow_time": lambda s, steps: steps * (s * (1 / (1 + s))),
}


def iddpm_sigmas(steps: int, c1: float, c2: float) -> Float[Tensor, " {steps}+1"]:
    """``u_0 > u_1 > ... > u_M = 0``."""
    j = torch.arange(steps + 1, dtype=torch.float64)
    alphas_cumprod = (math.pi / 2 * j / (steps * (c2 + 1))).sin() ** 2
    levels = torch.zeros(steps + 1, dtype=torch.float64)
    for place in range(steps, 0, -1):
        ratio = (alphas_cumprod[place - 1] / alphas_cumprod[place]).clamp(min=c1)
        levels[place - 1] = ((levels[place] ** 2 + 1) / ratio - 1).sqrt()
    return levels


def linear_alphas_cumprod(
    steps: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02
) -> Float[Tensor, " {steps}"]:
    """``alpha_bar_t``, the product of ``1 - beta`` up to t; Ho et al. (2020), section 4."""
    return (1 - torch.linspace(beta_start, beta_end, steps, dtype=torch.float64)).cumprod(0)


def cosine_alphas_cumprod(steps: int = 1000, offset: float = 0.008) -> Float[Tensor, " {steps}"]:
    """``alpha_bar_t = f(t) / f(0)``, ``f(t) = cos^2((t/T + s) / (1 + s) pi/2)``.

    No beta is above 0.999.  Nichol and Dhariwal (2021), eq. 17.
    """
    t = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    f = ((t + offset) / (1 + offset) * math.pi / 2).cos() ** 2
    return (f[1:] / f[:-1]).clamp(min=0.001).cumprod(0)


def alphas_cumprod_to_sigmas(alphas_cumprod: Float[Tensor, " steps"]) -> Float[Tensor, " steps"]:
    """``sigma_t = sqrt(1 / alpha_bar_t - 1)``."""
    return (1 / alphas_cumprod.double() - 1).sqrt()


def geometric_sigmas(
    count: int = 232, sigma_min: float = 0.02, sigma_max: float = 100.0
) -> Float[Tensor, " {count}"]:
    """Noise levels of equal ratios, rising; Song and Ermon (2020) for CIFAR-10.

    Theirs go from 0.01 to 50 for pixels in [0, 1]; states are twice as far apart.
    """
    ends = math.log(sigma_min), math.log(sigma_max)
    return torch.linspace(*ends, count, dtype=torch.float64).exp()
