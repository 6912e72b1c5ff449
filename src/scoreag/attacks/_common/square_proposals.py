"""Random squares: where they lie, how large they are, and what is put into them.

Andriushchenko et al. (2020): proposals of the Square attack, algorithms 2 (linf) and 3 (l2).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from scoreag.attacks._common.norms import l2_norms, sample_uniform
from scoreag.core.rng import Noise
from scoreag.core.types import Images

P_SCHEDULE = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # of 10,000 queries
PREFETCH = 64  # queries whose random numbers are drawn at once

ProposalRandomness: TypeAlias = Callable[
    [int], Float[Tensor, "batch numbers"]
]  # query -> uniform on (0, 1)


def make_proposal_randomness(noise: Noise, images: Images, n_numbers: int) -> ProposalRandomness:
    """For each query ``numbers`` uniform numbers an image: a function of its id and the query."""
    drawn: dict[int, Tensor] = {}
    blank = images.new_zeros(len(images), PREFETCH, n_numbers)

    def rolled(query: int) -> Tensor:
        block, place = divmod(query, PREFETCH)
        if block not in drawn:
            drawn.clear()
            drawn[block] = (1 + sample_uniform(noise.fold_in("queries", block), blank)) / 2
        return drawn[block][:, place]

    return rolled


def p_selection(query: int, n_queries: int, p_init: float) -> float:
    """The share of the image's pixels that a square covers: halved as the queries go by."""
    progress = 10_000 * query // n_queries
    return p_init / 2 ** sum(progress > at for at in P_SCHEDULE)


@dataclass(frozen=True, eq=False)
class SquareWindow:
    """A square of ``side`` pixels, elsewhere in each image."""

    side: int
    top: Tensor
    left: Tensor

    def mask(self, images: Images) -> Float[Tensor, "batch 1 height width"]:
        """1 inside, 0 outside."""
        rows, columns = self._offsets(images)
        inside = [(at >= 0) & (at < self.side) for at in (rows, columns)]
        return (inside[0][:, :, None] & inside[1][:, None, :])[:, None].to(images)

    def paste(self, template: Tensor, images: Images) -> Float[Tensor, "batch 1 height width"]:
        """``template`` (side x side) there, and 0 outside."""
        rows, columns = (at.clamp(0, self.side - 1) for at in self._offsets(images))
        spread = template.to(images)[rows[:, :, None], columns[:, None, :]]
        return spread[:, None] * self.mask(images)

    def _offsets(self, images: Images) -> tuple[Tensor, Tensor]:
        height, width = images.shape[-2:]
        return (
            torch.arange(height, device=images.device)[None] - self.top[:, None],
            torch.arange(width, device=images.device)[None] - self.left[:, None],
        )


def sample_window(side: int, images: Images, uniforms: Float[Tensor, "batch two"]) -> SquareWindow:
    """Anywhere that it fits, each place as likely."""
    room = images.new_tensor([images.shape[2] - side + 1, images.shape[3] - side + 1])
    corner = (uniforms * room).floor().minimum(room - 1).long()
    return SquareWindow(side, corner[:, 0], corner[:, 1])


def square_side(images: Images, fraction: float, min_side: int = 1) -> int:
    """Of a square that covers this share of the pixels, and fits."""
    height, width = images.shape[-2:]
    return min(max(round((fraction * height * width) ** 0.5), min_side), height, width)


def pseudo_gaussian(height: int, width: int) -> Float[Tensor, "{height} {width}"]:
    """Rings around the middle, ``sum_{k <= M} 1 / (n + 1 - k)^2``, n half the height; section 3.2.

    M is n less the distance from the middle, in the larger of rows and columns.
    """
    n = max(height, width) // 2
    rows, columns = torch.arange(height) - height // 2, torch.arange(width) - width // 2
    distance = torch.maximum(rows.abs()[:, None], columns.abs()[None, :])
    rings = [1.0 / (n + 1 - k) ** 2 for k in range(n + 1)]
    sums = torch.tensor(rings, dtype=torch.float64).cumsum(0)
    return sums[(n - distance).clamp(min=0)]


def two_pseudo_gaussians(size: int) -> Float[Tensor, "{size} {size}"]:
    """One above the other, of opposite sign; of length 1."""
    top = size // 2
    if not top:
        return torch.ones(1, 1, dtype=torch.float64)
    whole = torch.cat([pseudo_gaussian(top, size), -pseudo_gaussian(size - top, size)])
    return whole / whole.norm()


def propose_l2(
    images: Images, current: Images, uniforms: Float[Tensor, "batch numbers"], size: int, eps: float
) -> Images:
    """A square's share of the change, put where another one was, with all that is left over.

    The change of window 2 is given up; window 1 gets two bumps of random sign added to its own
    direction, with a length that uses up the ball.
    """
    change = current - images
    here, there = (sample_window(size, images, uniforms[:, i : i + 2]) for i in (0, 2))
    inside, given_up = here.mask(images), there.mask(images)
    both = (inside + given_up).clamp(max=1)
    spare = (eps**2 - l2_norms(change) ** 2).clamp(min=0)
    turned = (uniforms[:, 4] > 0.5)[:, None, None, None]
    template = two_pseudo_gaussians(size)
    bumps = torch.where(turned, here.paste(template, images), here.paste(template.T, images))
    signs = torch.where(uniforms[:, 5 : 5 + images.shape[1]] > 0.5, 1.0, -1.0)[:, :, None, None]
    own = change * inside
    direction = signs.to(images) * bumps + own / _channel_norms(own)
    budget = _channel_norms(change * both) ** 2 + spare / images.shape[1]
    put = direction / _channel_norms(direction) * budget.sqrt()
    changed = change * (1 - both) + put * inside
    return (images + changed / l2_norms(changed) * eps).clamp(0, 1)


def _channel_norms(x: Images) -> Tensor:
    return x.flatten(2).norm(dim=2).clamp(min=1e-12)[:, :, None, None]
