"""How the gradients of several draws of a randomised classifier become one.

``L_i`` is the loss at draw i and ``g_i`` its gradient. The literature disagrees about the second
way: DiffHammer (Wang et al. 2024) finds it stronger than the mean, DiffBreak (2411.16598) finds no
advantage once gradients are exact.
"""

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from scoreag.core.types import Images
from scoreag.search.balls import BALLS, Ball

Values: TypeAlias = Float[Tensor, "draws batch"]
Gradients: TypeAlias = Float[Tensor, "draws batch channels height width"]
Weigh: TypeAlias = Callable[[Values, Gradients], Images]

WEIGHTS = ("mean", "selective")
ROUNDS = 10  # of the search for the step that carries most draws along


def mean(values: Values, gradients: Gradients) -> Images:
    """``sum_i g_i / n``: expectation over transformation."""
    return gradients.mean(0)


def check_weights(name: str, weights: str, draws: int) -> None:
    """Refuse to weigh what there is but one of."""
    if weights != "mean" and draws == 1:
        raise ValueError(
            f"{name}: weights is {weights!r}, and draws is 1: there is nothing to weigh; "
            "write draws = 10, or leave weights out"
        )


def weighing(weights: str, norm: str, epsilon: float) -> Weigh:
    """The way of that name, for a search in a ball of radius ``epsilon``."""
    return mean if weights == "mean" else partial(selective, BALLS[norm], epsilon)


def selective(ball: Ball, reach: float, values: Values, gradients: Gradients) -> Images:
    """``sum_i q_i g_i / sum_i q_i``: draws that one and the same step can fool count most.

    ``q_i = s(L_i + d . g_i)`` with the logistic function s, where d is the step within ``reach``
    that raises ``sum_i s(L_i + d . g_i)`` most: Wang et al. (2024), eq. 9, to first order. Theirs
    is a part of an EM algorithm; gradients here are exact, so nothing is grafted, and what an
    attack remembers of earlier steps is its own affair.  A loss that is 0 where the answer turns,
    such as the margin, gives a draw that is read right less than half; of the cross-entropy, never
    below 0, a draw counts less only where the common step lowers it.
    """
    chance = shared(ball, reach, values, gradients)
    return _weighted(chance, gradients) / _wide(chance).sum(0)


def shared(ball: Ball, reach: float, values: Values, gradients: Gradients) -> Values:
    """``q``, by full steps of Frank and Wolfe (1956) from d = 0, the best of which counts.

    So does the step along the mean, so that the draws chosen are never fewer than by it.
    """

    def chances(direction: Images) -> Values:
        step = reach * ball.ascent(direction)
        return torch.sigmoid(values + (gradients * step).flatten(2).sum(2))

    best, chance = chances(gradients.mean(0)), torch.sigmoid(values)
    for _ in range(ROUNDS):
        chance = chances(_weighted(chance * (1 - chance), gradients))
        best = torch.where(chance.sum(0) > best.sum(0), chance, best)
    return best


def _weighted(weights: Values, gradients: Gradients) -> Images:
    return (_wide(weights) * gradients).sum(0)


def _wide(weights: Values) -> Tensor:
    return weights[..., None, None, None]
