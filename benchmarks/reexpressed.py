"""One trained denoiser as the network of another family: what such a network would say.

A family is ``D(x; sigma) = skip x + out F(inner x, time)``; with a D that is known,

    F(z, time) = (D(z / inner; sigma) - skip z / inner) / out,  sigma the level of that time.
"""

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from scoreag.diffusion.noise_schedules import vp_sigma
from scoreag.diffusion.parameterizations import (
    Parameterization,
    Preconditioned,
    ScoreModel,
    edm,
    ncsn,
    vp,
)
from scoreag.diffusion.prior import Prior

STEPS = 1000  # in which VP counts its time


class Network(nn.Module):
    """``F`` of a family, which knows of the noise what its time tells, as any network does.

    Args:
        level: the noise level of a time, one an image.
    """

    def __init__(
        self, model: ScoreModel, family: Parameterization, level: Callable[[Tensor], Tensor]
    ) -> None:
        super().__init__()
        self.model, self.family, self.level = model, family, level

    def forward(self, z: Tensor, time: Tensor, labels: Tensor | None = None) -> Tensor:
        sigma = self.level(time)
        skip, out, inner, _ = (c.view(-1, *(1,) * (z.ndim - 1)) for c in self.family(sigma))
        x = z / inner
        return (self.model(x, sigma, labels) - skip * x) / out


FAMILIES: dict[str, tuple[Parameterization, Callable[[Tensor], Tensor]]] = {
    "edm": (edm(), lambda time: (4 * time).exp()),
    "vp": (vp(STEPS), lambda time: vp_sigma(time / (STEPS - 1))),
    "ve": (ncsn(), lambda time: (time + math.log(2)).exp()),
}


def as_family(prior: Prior, name: str) -> Prior:
    """The same prior, whose denoiser goes by way of a network of that family."""
    family, level = FAMILIES[name]
    return replace(prior, model=Preconditioned(Network(prior.model, family, level), family).eval())


@torch.no_grad()
def apart(one: ScoreModel, other: ScoreModel, x: Tensor, sigma: Tensor) -> float:
    """The root mean square between what two models say of a state."""
    return float((one(x, sigma) - other(x, sigma)).square().mean().sqrt())
