"""Averages of any width, also after the training; Karras et al. (2024), arXiv 2312.02696.

A power-function average weighs the weights of time ``tau`` by ``tau^gamma``: it is as wide, in
shares of the training, at every time.  Its *width* is the deviation of that profile over ``t``.
Of several such averages, at several times, a linear combination comes close to any other one.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import nn

MAX_WIDTH = 0.28  # at gamma = 0, the plain mean, it is 1 / sqrt(12) = 0.289


def width_to_gamma(width: float) -> float:
    """gamma of a width: ``width^2 = (gamma + 1) / ((gamma + 2)^2 (gamma + 3))``, section 3.1.

    Raises:
        ValueError: no profile ``tau^gamma`` with gamma above 0 is so wide.
    """
    if not 0 < width <= MAX_WIDTH:
        raise ValueError(f"the width of an average is {width}; expected above 0 to {MAX_WIDTH}")
    t = width**-2  # gamma^3 + 7 gamma^2 + 16 gamma + 12 = t (gamma + 1)
    return float(np.roots([1.0, 7.0, 16.0 - t, 12.0 - t]).real.max())


@torch.no_grad()
def update_power_ema(average: nn.Module, network: nn.Module, step: int, width: float) -> None:
    """The update after ``step`` (1, 2, ...): ``average += (1 - beta) (network - average)``.

    ``beta = (1 - 1 / step)^(gamma + 1)``, so that the first step is the average itself.
    """
    kept = (1 - 1 / step) ** (width_to_gamma(width) + 1)
    for slow, fast in zip(average.parameters(), network.parameters(), strict=True):
        slow.lerp_(fast, 1 - kept)
    for held, now in zip(average.buffers(), network.buffers(), strict=True):
        held.copy_(now)


def solve_posthoc_weights(
    times: Sequence[float], widths: Sequence[float], time: float, width: float
) -> Float[NDArray[np.float64], " averages"]:
    """Weights with which averages add up, nearly, to that of ``width`` at ``time``; algorithm 3.

    The least squares ``|sum_i c_i p_i - p|^2`` over profiles: ``A c = b``, where
    ``A_ij = <p_i, p_j>`` and ``b_i = <p_i, p>``.

    Args:
        times, widths: of each average that was kept.
    """
    known = [(t, width_to_gamma(w)) for t, w in zip(times, widths, strict=True)]
    wanted = (time, width_to_gamma(width))
    products = np.array([[profile_overlap(one, other) for other in known] for one in known])
    with_wanted = np.array([profile_overlap(one, wanted) for one in known])
    # profiles that lie close together leave directions that rounding alone decides
    found: NDArray[np.float64] = np.linalg.lstsq(products, with_wanted, rcond=1e-10)[0]
    return found


def profile_overlap(one: tuple[float, float], other: tuple[float, float]) -> float:
    """``<p, q>`` of two (time, gamma), where ``p(tau) = (gamma + 1) tau^gamma / t^(gamma + 1)``.

    Up to the earlier time ``s`` the integral of the product is
    ``(g + 1) (h + 1) s^(g + h + 1) / ((g + h + 1) t^(g + 1) u^(h + 1))``.
    """
    (t, g), (u, h) = one, other
    s = min(t, u)
    logs = (g + h + 1) * math.log(s) - (g + 1) * math.log(t) - (h + 1) * math.log(u)
    return (g + 1) * (h + 1) / (g + h + 1) * math.exp(logs)
