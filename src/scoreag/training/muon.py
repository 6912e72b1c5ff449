"""Muon: momentum whose matrices are made orthogonal before they are applied (Jordan 2024).

torch.optim.Muon takes no weights of convolutions.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

Matrix = Float[Tensor, "rows columns"]
NS_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # a s + b s^3 + c s^5 sends singular values towards 1
NS_STEPS = 5  # after which those above 1e-3 of the norm lie within 0.7 and 1.2


class Muon(torch.optim.Optimizer):
    """Muon for ``matrices``, AdamW for ``adam_params``; one state, one schedule.

    A convolution's weight is the matrix of its filters.  The step is
    ``-lr 0.2 sqrt(max(rows, columns)) orthogonal(momentum)``, whose elements have about the size of
    AdamW's, so that the same rate and decay serve (Liu et al. 2025).

    Args:
        momentum: Nesterov's, for the matrices.
        betas, eps: AdamW's.
        weight_decay: decoupled, of both.
    """

    def __init__(
        self,
        matrices: Iterable[Tensor],
        adam_params: Iterable[Tensor],
        lr: float = 3e-3,
        adam_lr: float = 1e-3,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.99),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        groups = [
            {"params": list(matrices), "lr": lr, "matrices": True},
            {"params": list(adam_params), "lr": adam_lr, "matrices": False},
        ]
        defaults = {"momentum": momentum, "betas": betas, "eps": eps, "decay": weight_decay}
        super().__init__([group for group in groups if group["params"]], defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update from the gradients that the parameters have."""
        if closure is not None:
            raise ValueError("Muon takes no closure; compute the gradients before the step")
        for group in self.param_groups:
            direction = muon_direction if group["matrices"] else adam_direction
            for parameter in group["params"]:
                if parameter.grad is not None:
                    update = direction(parameter.grad, self.state[parameter], group)
                    parameter.mul_(1 - group["lr"] * group["decay"])
                    parameter.add_(update, alpha=-group["lr"])


def muon_direction(gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Tensor:
    """``0.2 sqrt(max(rows, columns)) orthogonal(g + momentum (m - g))``, ``m`` the running mean."""
    mean = state.setdefault("mean", torch.zeros_like(gradient))
    mean.lerp_(gradient, 1 - group["momentum"])
    ahead = gradient.lerp(mean, group["momentum"]).flatten(1)
    return (0.2 * math.sqrt(max(ahead.shape)) * orthogonalize(ahead)).view_as(gradient)


def orthogonalize(matrix: Matrix) -> Matrix:
    """About ``U V^T`` of ``matrix = U S V^T``, by Newton and Schulz's iteration."""
    a, b, c = NS_COEFFICIENTS
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x = wide / (wide.norm() + 1e-7)
    for _ in range(NS_STEPS):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x if wide is matrix else x.T


def adam_direction(gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Tensor:
    """The direction of Adam (Kingma and Ba 2015), its means without bias."""
    first, second = group["betas"]
    state["steps"] = steps = state.get("steps", 0) + 1
    mean = state.setdefault("mean", torch.zeros_like(gradient))
    square = state.setdefault("square", torch.zeros_like(gradient))
    mean.lerp_(gradient, 1 - first)
    square.lerp_(gradient.square(), 1 - second)
    size = (square / (1 - second**steps)).sqrt_().add_(group["eps"])
    return mean / (1 - first**steps) / size


def hidden_matrices(network: nn.Module, excluded: Iterable[nn.Module]) -> list[Tensor]:
    """The weights of convolutions and linear layers, but of those in ``excluded``.

    The first and the last layer, and tables of embeddings, are no maps between hidden features:
    AdamW serves them better.
    """
    skip = {id(parameter) for module in excluded for parameter in module.parameters()}
    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    return [layer.weight for layer in layers if id(layer.weight) not in skip]
