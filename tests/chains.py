"""Plain autograd through a chain, and other routes to its gradient than the library takes."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from scoreag.core.rng import Noise
from scoreag.core.types import Denoise, LogLikelihood, Sigma, State
from scoreag.diffusion import guidance, solver
from scoreag.diffusion.guidance import X0Coefficients


class Plain:
    """In place of the function that recomputes: every step's graph is kept."""

    @staticmethod
    def apply(function: Any, x: Tensor, *wrt: Tensor) -> Tensor:
        return function(x)


def plainly(monkeypatch) -> None:
    """From here on chains are what a loop over their steps is to autograd."""
    monkeypatch.setattr(solver, "_CheckpointedCall", Plain)


@contextmanager
def drawing(scheduler: Any, noise: Noise) -> Iterator[None]:
    """A scheduler of diffusers draws its next normal numbers from ``noise``."""

    def drawn(shape: Any, dtype: Any = None, **_: Any) -> Tensor:
        return noise.normal_like(torch.zeros(shape, dtype=dtype))

    with patch.object(sys.modules[type(scheduler).__module__], "randn_tensor", drawn):
        yield


def detached(
    denoise: Denoise,
    log_likelihood: LogLikelihood,
    estimate: X0Coefficients,
    x: State,
    sigma: Sigma,
    deviation: float = 0.5,
) -> tuple[State, State]:
    """The mutant: guidance whose own gradient is taken for a constant, as a fast purifier would."""
    denoised, score = guidance.exact_vjp(denoise, log_likelihood, estimate, x, sigma, deviation)
    return denoised, score.detach()


def gradient(function, x: Tensor) -> Tensor:
    leaf = x.clone().requires_grad_()
    return torch.autograd.grad(function(leaf), leaf)[0]


def difference(function, x: Tensor, along: Tensor, h: float = 1e-5) -> float:
    """The derivative along a direction, by central differences of fourth order: error h^4."""
    with torch.no_grad():
        near = function(x + h * along) - function(x - h * along)
        far = function(x + 2 * h * along) - function(x - 2 * h * along)
    return float((8 * near - far) / (12 * h))
