"""Random search with squares, which needs no gradient; Andriushchenko et al. (2020)."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from scoreag.attacks._attack import Attack, option
from scoreag.attacks._objective import (
    NORM_BALLS,
    Objective,
    apply_perturbation,
    l2_norms,
    margin,
    sample_uniform,
    where_per_image,
)
from scoreag.attacks._search import run_sequentially
from scoreag.core.rng import Noise
from scoreag.core.types import Classifier, Images, Labels

P_SCHEDULE = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # of 10,000 queries
PREFETCH = 64  # queries whose random numbers are computed at once

Uniforms: TypeAlias = Float[Tensor, "batch numbers"]  # in [0, 1): two corners, a coin, colors


@dataclass(frozen=True)
class Square(Attack):
    """Square: a proposal is accepted if it raises the margin of the likeliest wrong class.

    An image is finished once the classifier errs on it.

    Args:
        n_queries: classifier queries per image.
        p_init: fraction of the pixels that the first squares cover.
        eot_samples: classifier calls per query, which are averaged.
    """

    needs_gradient = False
    eps: float = option(8 / 255, above=0)
    n_queries: int = option(5000, above=0)
    norm: str = option("Linf", among=NORM_BALLS)
    p_init: float = option(0.8, above=0, high=1)
    restarts: int = option(1, above=0)
    eot_samples: int = option(1, above=0)

    def run(self, classifier: Classifier, images: Images, labels: Labels, noise: Noise) -> Images:
        searches = [self._search] * self.restarts
        return run_sequentially(searches, classifier, images, labels, noise, self.eot_samples)

    def _search(
        self, classifier: Classifier, images: Images, labels: Labels, noise: Noise
    ) -> Images:
        linf, largest_side = self.norm == "Linf", min(images.shape[-2:])
        initialize, propose, min_side = (
            (_init_stripes, propose_linf, 1) if linf else (_init_tiles, propose_l2, 3)
        )
        uniforms = make_proposal_randomness(noise, images, 5 + 2 * images.shape[1])
        objective = Objective(classifier, labels, margin, self.eot_samples)
        current = initialize(images, noise.fold_in("start"), self.eps)
        margins = objective.mean_margin(current)
        for query in range(1, self.n_queries):
            rows = (margins <= 0).nonzero().flatten()
            if not len(rows):
                break
            fraction = p_selection(query, self.n_queries, self.p_init)
            side = square_side(images, fraction, min_side)
            if not linf and side < largest_side:
                side |= 1  # odd
            proposals = propose(images[rows], current[rows], uniforms(query)[rows], side, self.eps)
            new_margins = objective.select_rows(rows.tolist()).mean_margin(proposals)
            better = new_margins > margins[rows]
            current[rows] = where_per_image(better, proposals, current[rows])
            margins[rows] = torch.where(better, new_margins, margins[rows])
        return current


def p_selection(query: int, n_queries: int, p_init: float) -> float:
    """The fraction of the pixels that a square covers, which is halved at ``P_SCHEDULE``."""
    progress = 10_000 * query // n_queries
    return p_init / 2 ** sum(progress > at for at in P_SCHEDULE)


def square_side(images: Images, fraction: float, min_side: int = 1) -> int:
    """The side of a square that covers this fraction of the pixels, and fits."""
    height, width = images.shape[-2:]
    return min(max(round((fraction * height * width) ** 0.5), min_side), height, width)


def make_proposal_randomness(
    noise: Noise, images: Images, n_numbers: int
) -> Callable[[int], Uniforms]:
    """``n_numbers`` uniform numbers an image and query, as a function of the query."""
    like = images.new_zeros(len(images), PREFETCH, n_numbers)

    @lru_cache(maxsize=1)
    def block(number: int) -> Tensor:
        return noise.fold_in("queries", number).uniform_like(like)

    return lambda query: block(query // PREFETCH)[:, query % PREFETCH]


def _random_signs(images: Images, uniforms: Uniforms) -> Tensor:
    """A sign for each channel; (batch, channels, 1, 1)."""
    signs = torch.where(uniforms[:, 5 : 5 + images.shape[1]] > 0.5, 1.0, -1.0)
    return signs.to(images)[:, :, None, None]


def _init_stripes(images: Images, noise: Noise, eps: float) -> Images:
    """Vertical stripes of one pixel, with a random sign in each channel."""
    signs = sample_uniform(noise, images[:, :, :1]).sign()
    return apply_perturbation(images, signs.expand_as(images), eps)


def _init_tiles(images: Images, noise: Noise, eps: float) -> Images:
    """A grid of bumps, with a random sign in each tile and channel."""
    height, width = images.shape[-2:]
    size = max(min(height, width) // 5, 1)
    template = two_pseudo_gaussians(size).to(images)
    rows, columns = -(-height // size), -(-width // size)
    signs = sample_uniform(noise, images.new_zeros(*images.shape[:2], rows, columns)).sign()
    tiles = torch.kron(signs, template)[:, :, :height, :width]
    return (images + eps * tiles / l2_norms(tiles)).clamp(0, 1)


@dataclass(frozen=True, eq=False)
class SquareWindow:
    """A square of ``side`` pixels, with its own corner in each image."""

    side: int
    top: Tensor
    left: Tensor

    def mask(self, images: Images) -> Float[Tensor, "batch 1 height width"]:
        """1 inside, 0 outside."""
        rows, columns = ((at >= 0) & (at < self.side) for at in self._offsets(images))
        return (rows[:, :, None] & columns[:, None, :])[:, None].to(images)

    def paste(self, template: Tensor, images: Images) -> Float[Tensor, "batch 1 height width"]:
        """``template`` (side x side) inside, 0 outside."""
        rows, columns = (at.clamp(0, self.side - 1) for at in self._offsets(images))
        spread = template.to(images)[rows[:, :, None], columns[:, None, :]]
        return spread[:, None] * self.mask(images)

    def _offsets(self, images: Images) -> tuple[Tensor, Tensor]:
        height, width = (torch.arange(n, device=images.device)[None] for n in images.shape[-2:])
        return height - self.top[:, None], width - self.left[:, None]


def sample_window(side: int, images: Images, uniforms: Uniforms) -> SquareWindow:
    """A window at a uniformly random place."""
    room = images.new_tensor([images.shape[2] - side + 1, images.shape[3] - side + 1])
    corner = (uniforms * room).floor().minimum(room - 1).long()
    return SquareWindow(side, corner[:, 0], corner[:, 1])


def pseudo_gaussian(height: int, width: int) -> Float[Tensor, "{height} {width}"]:
    """Rings around the center, ``sum_{k <= M} 1 / (n + 1 - k)^2``; section 3.2.

    n is half the height, and M is n minus the Chebyshev distance from the center.
    """
    n = max(height, width) // 2
    rows, columns = torch.arange(height) - height // 2, torch.arange(width) - width // 2
    distance = torch.maximum(rows.abs()[:, None], columns.abs()[None, :])
    rings = [1.0 / (n + 1 - k) ** 2 for k in range(n + 1)]
    sums = torch.tensor(rings, dtype=torch.float64).cumsum(0)
    return sums[(n - distance).clamp(min=0)]


def two_pseudo_gaussians(size: int) -> Float[Tensor, "{size} {size}"]:
    """Two bumps, one above the other, of opposite sign; of norm 1."""
    top = size // 2
    if not top:
        return torch.ones(1, 1, dtype=torch.float64)
    both = torch.cat([pseudo_gaussian(top, size), -pseudo_gaussian(size - top, size)])
    return both / both.norm()


def propose_linf(
    images: Images, current: Images, uniforms: Uniforms, side: int, eps: float
) -> Images:
    """A square of one color: each channel at plus or minus ``eps``.

    The signs are flipped where the proposal would change nothing.
    """
    inside = sample_window(side, images, uniforms[:, :2]).mask(images)
    color = _random_signs(images, uniforms)

    def paint(sign: float) -> Images:
        colored = apply_perturbation(images, (sign * color).expand_as(images), eps)
        return torch.where(inside > 0, colored, current)

    painted = paint(1.0)
    unchanged = (painted - current).abs().flatten(1).amax(1) < 1e-7
    return where_per_image(unchanged, paint(-1.0), painted)


def propose_l2(
    images: Images, current: Images, uniforms: Uniforms, side: int, eps: float
) -> Images:
    """Algorithm 3: window 2 loses its change, and window 1 gets that budget and the unused one.

    In window 1, two bumps of random sign are added to the current direction.
    """
    change = current - images
    first, second = (sample_window(side, images, uniforms[:, i : i + 2]) for i in (0, 2))
    inside, cleared = first.mask(images), second.mask(images)
    both = (inside + cleared).clamp(max=1)
    unused = (eps**2 - l2_norms(change) ** 2).clamp(min=0)
    transposed = (uniforms[:, 4] > 0.5)[:, None, None, None]
    template = two_pseudo_gaussians(side)
    bumps = torch.where(transposed, first.paste(template, images), first.paste(template.T, images))
    present = change * inside
    direction = _random_signs(images, uniforms) * bumps + present / _channel_norms(present)
    budget = _channel_norms(change * both) ** 2 + unused / images.shape[1]
    added = direction / _channel_norms(direction) * budget.sqrt()
    new_change = change * (1 - both) + added * inside
    return (images + new_change / l2_norms(new_change) * eps).clamp(0, 1)


def _channel_norms(x: Images) -> Tensor:
    return x.flatten(2).norm(dim=2).clamp(min=1e-12)[:, :, None, None]
