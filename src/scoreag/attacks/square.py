"""Random search with squares, which needs no gradient; Andriushchenko et al. (2020)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from scoreag.core.noise import Noise
from scoreag.core.rows import of_rows
from scoreag.core.types import Classifier, Images, Labels, PerImage
from scoreag.search.balls import BALLS, lengths, uniform, within
from scoreag.search.door import door
from scoreag.search.losses import margin
from scoreag.search.objective import Objective, chosen
from scoreag.search.options import answering, check
from scoreag.search.squares import dice, moved_in_l2, share, side, two_bumps, window
from scoreag.search.turns import in_turn


@answering
@dataclass(frozen=True)
class Attack:
    """Square: a change is kept where it brings the likeliest wrong class nearer.

    An image is left alone once the classifier errs on it.

    Args:
        epsilon: radius of the ball, pixels in [0, 1].
        queries: how often the classifier may be asked about each image.
        norm: "linf" or "l2".
        share: of the pixels that the first squares cover.
        restarts: each for the images that still stand.
        draws: calls of the classifier that an answer is the mean of, each of them counted once.
    """

    epsilon: float = 8 / 255
    queries: int = 5000
    norm: str = "linf"
    share: float = 0.8
    restarts: int = 1
    draws: int = 1

    def __post_init__(self) -> None:
        positive = ("epsilon", "queries", "share", "restarts", "draws")
        check(self, above_zero=positive, norm=BALLS, ranges={"share": (0, 1)})

    @door(guides=False)
    def __call__(
        self, classifier: Classifier, images: Images, labels: Labels, noise: Noise
    ) -> Images:
        """Images in [0, 1] within epsilon of those given."""
        searches = [self._search] * self.restarts
        return in_turn(searches, classifier, images, labels, noise, self.draws)

    def _search(
        self, classifier: Classifier, images: Images, labels: Labels, noise: Noise
    ) -> Images:
        begin, propose = (_stripes, self._linf) if self.norm == "linf" else (_tiles, self._l2)
        rolled = dice(noise, images, 5 + 2 * images.shape[1])
        found = begin(images, noise.at("start"), self.epsilon)
        lead = Objective(classifier, labels, margin, self.draws).lead(found)
        for query in range(1, self.queries):
            rows = (lead <= 0).nonzero().flatten()
            if not len(rows):
                break
            covered = share(query, self.queries, self.share)
            tried = propose(images[rows], found[rows], rolled(query)[rows], covered)
            part = of_rows(classifier, rows.tolist())
            said = Objective(part, labels[rows], margin, self.draws).lead(tried)
            found, lead = _accepted(found, lead, rows, tried, said)
        return found

    def _linf(self, images: Images, found: Images, query: Tensor, covered: float) -> Images:
        """A square of one colour: each channel at plus or minus epsilon.

        Where that would change nothing, the signs are turned round.
        """
        inside = window(side(images, covered), images, query[:, :2]).mask(images)
        signs = torch.where(query[:, 5 : 5 + images.shape[1]] > 0.5, 1.0, -1.0)
        colour = signs.to(images)[:, :, None, None]

        def put(sign: float) -> Images:
            coloured = within(images, (sign * colour).expand_as(images), self.epsilon)
            return torch.where(inside > 0, coloured, found)

        same = (put(1.0) - found).abs().flatten(1).amax(1) < 1e-7
        return chosen(same, put(-1.0), put(1.0))

    def _l2(self, images: Images, found: Images, query: Tensor, covered: float) -> Images:
        size = side(images, covered, least=3)
        size += 1 - size % 2 if size < min(images.shape[-2:]) else 0
        return moved_in_l2(images, found, query, size, self.epsilon)


def _accepted(
    found: Images, lead: PerImage, rows: Tensor, tried: Tensor, said: Tensor
) -> tuple[Images, PerImage]:
    better = said > lead[rows]
    found, lead = found.clone(), lead.clone()
    found[rows] = chosen(better, tried, found[rows])
    lead[rows] = torch.where(better, said, lead[rows])
    return found, lead


def _stripes(images: Images, noise: Noise, epsilon: float) -> Images:
    """Vertical, one pixel wide, of random sign in each channel."""
    signs = uniform(noise, images[:, :, :1]).sign()
    return within(images, signs.expand_as(images), epsilon)


def _tiles(images: Images, noise: Noise, epsilon: float) -> Images:
    """Bumps side by side, of random sign in each tile and channel."""
    height, width = images.shape[-2:]
    size = max(min(height, width) // 5, 1)
    template = two_bumps(size).to(images)
    rows, columns = -(-height // size), -(-width // size)
    signs = uniform(noise, images.new_zeros(*images.shape[:2], rows, columns)).sign()
    whole = torch.kron(signs, template)[:, :, :height, :width]
    return (images + epsilon * whole / lengths(whole)).clamp(0, 1)
