"""Worlds whose answers are known on paper."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Gaussian:
    """Data x0 ~ N(mean, var), coordinate by coordinate.  Everything about it is in closed form."""

    mean: Tensor
    var: Tensor

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """E[x0 | x], for x = x0 + sigma n."""
        return (self.var * x + sigma**2 * self.mean) / (self.var + sigma**2)

    def flow(self, x: Tensor, start: Tensor, end: Tensor) -> Tensor:
        """The exact probability-flow map: the standardised state does not move."""
        scale = ((self.var + end**2) / (self.var + start**2)).sqrt()
        return self.mean + scale * (x - self.mean)

    def posterior(self, y: Tensor, var_y: float) -> "Gaussian":
        """x0 | y, for a measurement y = x0 + N(0, var_y)."""
        var = 1 / (1 / self.var + 1 / var_y)
        return Gaussian(var * (self.mean / self.var + y / var_y), var)


@dataclass(frozen=True)
class TwoClasses:
    """A mixture of two Gaussians in [-1, 1]; labels choose the component.  A score model."""

    centre: Tensor  # of class 1; class 0 sits opposite
    var: float = 0.04

    def __call__(self, x: Tensor, sigma: Tensor, labels: Tensor | None = None) -> Tensor:
        """E[x0 | x], for x = x0 + sigma n."""
        total = self.var + sigma**2
        if labels is None:  # E[sign | x] of the two components
            sign = (x * self.centre).flatten(1).sum(1).div(total).tanh()
        else:
            sign = 2.0 * labels.to(x) - 1
        sign = sign.view(-1, *(1,) * (x.ndim - 1))
        return (self.var * x + sigma**2 * sign * self.centre) / total


def pulled(denoise, reference: Tensor, strength: float):
    """``denoise`` bent as guidance does it, so that its own formula holds a gradient.

    ``D + sigma^2 grad_x sum cos(D) (reference + 1)`` has second derivatives in all directions.
    """

    def bent(x: Tensor, sigma: Tensor) -> Tensor:
        attacked = torch.is_grad_enabled()
        with torch.enable_grad():
            leaf = x if x.requires_grad else x.detach().requires_grad_()
            x0 = denoise(leaf, sigma)
            evidence = strength * (x0.cos() * (reference + 1)).sum()
            (gradient,) = torch.autograd.grad(evidence, leaf, create_graph=attacked)
        pull = sigma**2 / (1 + sigma**2) * gradient
        return x0 + pull if attacked else (x0 + pull).detach()

    return bent


def assert_drawn_from(world: Gaussian, x0: Tensor) -> None:
    """Mean and variance over batch and last axis, within five standard errors of the truth."""
    n = x0.shape[0] * x0.shape[2]
    mean, var = x0.mean(dim=(0, 2)), x0.var(dim=(0, 2))
    true_mean, true_var = world.mean.squeeze(1), world.var.squeeze(1)
    assert ((mean - true_mean).abs() < 5 * (true_var / n).sqrt()).all(), (mean, true_mean)
    assert ((var - true_var).abs() < 5 * true_var * (2 / n) ** 0.5).all(), (var, true_var)
