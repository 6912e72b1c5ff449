"""From a trained network to a denoiser: every model family is four functions of the noise level."""

from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeAlias, runtime_checkable

from torch import Tensor, nn

from scoreag.core.types import Denoise, Labels, Sigma, Sigmas, State


class Preconditioning(NamedTuple):
    """``D(x; sigma) = skip x + out F(inner x, time)``; Karras et al. (2022), eq. 7."""

    c_skip: Tensor
    c_out: Tensor
    c_in: Tensor
    c_noise: Tensor


Parameterization: TypeAlias = Callable[[Sigmas], Preconditioning]


@runtime_checkable
class ScoreModel(Protocol):
    """A denoiser that may be told the class.  ``score = (D(x; sigma) - x) / sigma^2``."""

    def __call__(self, x: State, sigma: Sigma, labels: Labels | None = None) -> State: ...


class Preconditioned(nn.Module):
    """A network ``F(x, time, labels)`` of some family, seen as a denoiser.

    ``sigma`` is one level for the whole batch, or, as in training, one for each image.
    """

    def __init__(self, network: nn.Module, family: Parameterization) -> None:
        super().__init__()
        self.network = network
        self.family = family

    def forward(self, x: State, sigma: Sigmas, labels: Labels | None = None) -> State:
        per_image = sigma.to(x).expand(len(x))
        skip, out, inner, time = self.family(per_image)
        skip, out, inner = (c.view(-1, *(1,) * (x.ndim - 1)) for c in (skip, out, inner))
        return skip * x + out * self.network(inner * x, time, labels).to(x.dtype)


def with_labels(model: ScoreModel, labels: Labels | None) -> Denoise:
    """Fix the labels: what is left depends on the state and the noise level only."""
    return lambda x, sigma: model(x, sigma, labels)
