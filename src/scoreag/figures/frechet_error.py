"""The standard error of a Fréchet distance, by leaving out one block of the images after another.

A bootstrap would not do: images that are drawn twice make a covariance look narrower, and the
distance, which is biased by the number of images, moves away from its own value.
"""

import torch

from scoreag.metrics.fid import Moments, frechet_distance
from scoreag.metrics.kernel_distance import Estimate, Features


def with_error(a: Features, b: Features, extractor: str, blocks: int = 20) -> Estimate:
    """The distance of all, and the error of the delete-a-block jackknife; Shao and Wu (1989).

    ``error^2 = (B - 1)/B sum_i (F_i - mean F)^2``, where F_i lacks block i of both sets.  Rows are
    dealt to the blocks in turn: put them in a random order before.

    Raises:
        ValueError: there are too few images for 2 blocks.
    """
    blocks = min(blocks, len(a) // 2, len(b) // 2)
    if blocks < 2:
        raise ValueError(
            f"{len(a)} and {len(b)} images make no 2 blocks of 2; give at least 4 of each"
        )
    of_a, of_b = Moments.of(a, extractor), Moments.of(b, extractor)
    values = torch.tensor(
        [
            frechet_distance(
                _without(of_a, Moments.of(a[i::blocks], extractor)),
                _without(of_b, Moments.of(b[i::blocks], extractor)),
            )
            for i in range(blocks)
        ],
        dtype=torch.float64,
    )
    error = ((blocks - 1) * values.var(correction=0)).sqrt()
    return Estimate(frechet_distance(of_a, of_b), float(error))


def _without(whole: Moments, part: Moments) -> Moments:
    return Moments(
        whole.count - part.count, whole.total - part.total, whole.outer - part.outer,
        whole.extractor,
    )  # fmt: skip
