"""Random search with squares, which needs no gradient; Andriushchenko et al. (2020)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from scoreag.attacks._common.losses import margin
from scoreag.attacks._common.norms import NORM_BALLS, apply_perturbation, l2_norms, sample_uniform
from scoreag.attacks._common.objective import Objective, where_per_image
from scoreag.attacks._common.sequential import run_sequentially
from scoreag.attacks._common.square_proposals import (
    make_proposal_randomness,
    p_selection,
    propose_l2,
    sample_window,
    square_side,
    two_pseudo_gaussians,
)
from scoreag.attacks._common.validation import (
    suggest_option_names,
    validate_attack_options,
    validate_inputs,
)
from scoreag.core.batching import select_rows
from scoreag.core.rng import Noise
from scoreag.core.types import BatchScalar, Classifier, Images, Labels


@suggest_option_names
@dataclass(frozen=True)
class Square:
    """Square: a change is kept where it brings the likeliest wrong class nearer.

    An image is left alone once the classifier errs on it.

    Args:
        epsilon: radius of the ball, pixels in [0, 1].
        queries: how often the classifier may be asked about each image.
        norm: "Linf" or "L2".
        share: of the pixels that the first squares cover.
        restarts: each for the images that still stand.
        draws: calls of the classifier that an answer is the mean of, each of them counted once.
    """

    eps: float = 8 / 255
    n_queries: int = 5000
    norm: str = "Linf"
    p_init: float = 0.8
    restarts: int = 1
    eot_samples: int = 1

    def __post_init__(self) -> None:
        positive = ("eps", "n_queries", "p_init", "restarts", "eot_samples")
        validate_attack_options(self, positive=positive, norm=NORM_BALLS, ranges={"p_init": (0, 1)})

    @validate_inputs(require_grad=False)
    def __call__(
        self, classifier: Classifier, images: Images, labels: Labels, noise: Noise
    ) -> Images:
        """Images in [0, 1] within epsilon of those given."""
        searches = [self._search] * self.restarts
        return run_sequentially(searches, classifier, images, labels, noise, self.eot_samples)

    def _search(
        self, classifier: Classifier, images: Images, labels: Labels, noise: Noise
    ) -> Images:
        begin, propose = (
            (_init_stripes, self._propose_linf)
            if self.norm == "Linf"
            else (_init_tiles, self._propose_l2)
        )
        rolled = make_proposal_randomness(noise, images, 5 + 2 * images.shape[1])
        found = begin(images, noise.fold_in("start"), self.eps)
        lead = Objective(classifier, labels, margin, self.eot_samples).mean_margin(found)
        for query in range(1, self.n_queries):
            rows = (lead <= 0).nonzero().flatten()
            if not len(rows):
                break
            covered = p_selection(query, self.n_queries, self.p_init)
            tried = propose(images[rows], found[rows], rolled(query)[rows], covered)
            part = select_rows(classifier, rows.tolist())
            said = Objective(part, labels[rows], margin, self.eot_samples).mean_margin(tried)
            found, lead = _accept_better(found, lead, rows, tried, said)
        return found

    def _propose_linf(
        self, images: Images, current: Images, uniforms: Tensor, fraction: float
    ) -> Images:
        """A square of one colour: each channel at plus or minus epsilon.

        Where that would change nothing, the signs are turned round.
        """
        inside = sample_window(square_side(images, fraction), images, uniforms[:, :2]).mask(images)
        signs = torch.where(uniforms[:, 5 : 5 + images.shape[1]] > 0.5, 1.0, -1.0)
        colour = signs.to(images)[:, :, None, None]

        def put(sign: float) -> Images:
            coloured = apply_perturbation(images, (sign * colour).expand_as(images), self.eps)
            return torch.where(inside > 0, coloured, current)

        same = (put(1.0) - current).abs().flatten(1).amax(1) < 1e-7
        return where_per_image(same, put(-1.0), put(1.0))

    def _propose_l2(
        self, images: Images, current: Images, uniforms: Tensor, fraction: float
    ) -> Images:
        size = square_side(images, fraction, min_side=3)
        size += 1 - size % 2 if size < min(images.shape[-2:]) else 0
        return propose_l2(images, current, uniforms, size, self.eps)


def _accept_better(
    current: Images, margins: BatchScalar, rows: Tensor, proposals: Tensor, new_margins: Tensor
) -> tuple[Images, BatchScalar]:
    better = new_margins > margins[rows]
    current, margins = current.clone(), margins.clone()
    current[rows] = where_per_image(better, proposals, current[rows])
    margins[rows] = torch.where(better, new_margins, margins[rows])
    return current, margins


def _init_stripes(images: Images, noise: Noise, eps: float) -> Images:
    """Vertical, one pixel wide, of random sign in each channel."""
    signs = sample_uniform(noise, images[:, :, :1]).sign()
    return apply_perturbation(images, signs.expand_as(images), eps)


def _init_tiles(images: Images, noise: Noise, eps: float) -> Images:
    """Bumps side by side, of random sign in each tile and channel."""
    height, width = images.shape[-2:]
    size = max(min(height, width) // 5, 1)
    template = two_pseudo_gaussians(size).to(images)
    rows, columns = -(-height // size), -(-width // size)
    signs = sample_uniform(noise, images.new_zeros(*images.shape[:2], rows, columns)).sign()
    whole = torch.kron(signs, template)[:, :, :height, :width]
    return (images + eps * whole / l2_norms(whole)).clamp(0, 1)
