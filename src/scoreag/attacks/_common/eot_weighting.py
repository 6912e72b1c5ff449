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

from scoreag.attacks._common.norms import NORM_BALLS, NormBall
from scoreag.core.types import Images

DrawLosses: TypeAlias = Float[Tensor, "draws batch"]
DrawGradients: TypeAlias = Float[Tensor, "draws batch channels height width"]
EotWeighting: TypeAlias = Callable[[DrawLosses, DrawGradients], Images]

EOT_WEIGHTINGS = ("mean", "selective")
FRANK_WOLFE_STEPS = 10  # of the search for the step that carries most draws along


def average_gradients(draw_losses: DrawLosses, gradients: DrawGradients) -> Images:
    """``sum_i g_i / n``: expectation over transformation."""
    return gradients.mean(0)


def validate_eot_weighting(name: str, eot_weighting: str, eot_samples: int) -> None:
    """Refuse to weigh what there is but one of."""
    if eot_weighting != "mean" and eot_samples == 1:
        raise ValueError(
            f"{name}: eot_weighting is {eot_weighting!r}, and eot_samples is 1: there is nothing to weigh; "
            "write eot_samples = 10, or leave eot_weighting out"
        )


def make_eot_weighting(eot_weighting: str, norm: str, eps: float) -> EotWeighting:
    """The way of that name, for a search in a ball of radius ``epsilon``."""
    return (
        average_gradients
        if eot_weighting == "mean"
        else partial(weight_selectively, NORM_BALLS[norm], eps)
    )


def weight_selectively(
    ball: NormBall, eps: float, draw_losses: DrawLosses, gradients: DrawGradients
) -> Images:
    """``sum_i q_i g_i / sum_i q_i``: draws that one and the same step can fool count most.

    ``q_i = s(L_i + d . g_i)`` with the logistic function s, where d is the step within ``reach``
    that raises ``sum_i s(L_i + d . g_i)`` most: Wang et al. (2024), eq. 9, to first order. Theirs
    is a part of an EM algorithm; gradients here are exact, so nothing is grafted, and what an
    attack remembers of earlier steps is its own affair.  A loss that is 0 where the answer turns,
    such as the margin, gives a draw that is read right less than half; of the cross-entropy, never
    below 0, a draw counts less only where the common step lowers it.
    """
    chance = selection_probabilities(ball, eps, draw_losses, gradients)
    return _weighted_sum(chance, gradients) / _expand_to_images(chance).sum(0)


def selection_probabilities(
    ball: NormBall, eps: float, draw_losses: DrawLosses, gradients: DrawGradients
) -> DrawLosses:
    """``q``, by full steps of Frank and Wolfe (1956) from d = 0, the best of which counts.

    So does the step along the mean, so that the draws chosen are never fewer than by it.
    """

    def chances(direction: Images) -> DrawLosses:
        step = eps * ball.steepest_ascent(direction)
        return torch.sigmoid(draw_losses + (gradients * step).flatten(2).sum(2))

    best, chance = chances(gradients.mean(0)), torch.sigmoid(draw_losses)
    for _ in range(FRANK_WOLFE_STEPS):
        chance = chances(_weighted_sum(chance * (1 - chance), gradients))
        best = torch.where(chance.sum(0) > best.sum(0), chance, best)
    return best


def _weighted_sum(weights: DrawLosses, gradients: DrawGradients) -> Images:
    return (_expand_to_images(weights) * gradients).sum(0)


def _expand_to_images(weights: DrawLosses) -> Tensor:
    return weights[..., None, None, None]
