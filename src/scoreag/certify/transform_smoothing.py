"""Smoothing over the parameters of a transform.  TSS, Li et al. (2021).

The smoothed classifier predicts the class that the classifier predicts most often for randomly
transformed copies of the image.  What its probability p > 1/2 certifies is up to the transform.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from scoreag.certify.transforms import blur, brightness_contrast, translation
from scoreag.certify.transforms._transform import Deviations, Size, Transform
from scoreag.certify.votes import (
    Progress,
    agreement_rates,
    certificate_row,
    certified_rates,
    check_vote_config,
    count_votes,
    max_probability,
    mean_certified,
    round_down,
    summarize_rates,
)
from scoreag.core.rng import Noise
from scoreag.core.types import Classifier, Images
from scoreag.io.records import Row
from scoreag.registry import did_you_mean

TRANSFORMS: dict[str, Transform] = {
    module.TRANSFORM.name: module.TRANSFORM for module in (blur, brightness_contrast, translation)
}


@dataclass(frozen=True)
class TransformConfig:
    """How an image is certified against a transform.

    Args:
        transform: one of ``TRANSFORMS``.
        image_size: height and width of the images, on which the torus depends.
        sigma: standard deviations of the noise, one a parameter; empty: those of the transform.
        n0: transformed copies that choose the class to certify.
        n: further copies that bound its probability.
        alpha: the probability that the certificate of an image is wrong.
        batch_size: copies per forward pass.
    """

    transform: str
    image_size: Size
    sigma: Deviations = ()
    n0: int = 100
    n: int = 10_000
    alpha: float = 0.001
    seed: int = 0
    batch_size: int = 100

    def __post_init__(self) -> None:
        transform = load_transform(self.transform)
        object.__setattr__(self, "sigma", self.sigma or transform.sigma)
        check_deviations(transform, self.sigma)
        check_vote_config(self)

    @property
    def largest(self) -> dict[str, float]:
        """What is certified if all copies agree, the most for N and alpha."""
        return dict(self.certify(max_probability(self)))

    def certify(self, p: float) -> dict[str, float]:
        """What a class of probability p > 1/2 certifies, by the names of the quantities."""
        certify = load_transform(self.transform).certify
        return dict(certify(p, self.sigma, self.image_size))


def load_transform(name: str) -> Transform:
    """The transform of this name."""
    if name not in TRANSFORMS:
        raise ValueError(f"no transform {name!r:.60}; {did_you_mean(name, [*TRANSFORMS])}")
    return TRANSFORMS[name]


def check_deviations(transform: Transform, sigma: Sequence[float]) -> None:
    """Refuse another number of standard deviations than the transform has, or one that is not > 0.

    Raises:
        ValueError: says what each is of, and what to write.
    """
    came, example = (",".join(f"{s:g}" for s in values) for values in (sigma, transform.sigma))
    if len(sigma) != len(transform.noise) or not all(s > 0 and math.isfinite(s) for s in sigma):
        count = "1 number" if len(transform.noise) == 1 else f"{len(transform.noise)} numbers"
        raise ValueError(
            f"the noise of {transform.name} is {came}; expected {count} above 0, the standard "
            f"deviation of {' and of '.join(transform.noise)}: write --transform-sigma {example}"
        )


def certify_image(
    classifier: Classifier,
    image: Float[Tensor, "channels height width"],
    image_id: int,
    label: int,
    config: TransformConfig,
    on_progress: Progress = lambda copies: None,
) -> Row:
    """The certificate of one image; ``predicted`` None abstains.

    Args:
        classifier: images to logits, also of values outside [0, 1].
        on_progress: called with the number of copies classified.
    """
    transform = load_transform(config.transform)

    def perturb(copies: Images, noise: Noise) -> Images:
        parameters = transform.sample(noise, copies, config.sigma)
        return transform.apply(copies, parameters)

    votes = count_votes(classifier, perturb, image, image_id, config, on_progress, unclamped=True)
    names = [quantity.name for quantity in transform.quantities]
    return certificate_row(image_id, label, votes, config, config.certify, names)


def summarize(rows: Sequence[Row], config: TransformConfig) -> dict[str, Any]:
    """Accuracy of the smoothed classifier, its abstentions, and what is certified how often.

    A threshold that N and alpha cannot reach has no value: it is "beyond N".
    """
    largest, quantities = config.largest, load_transform(config.transform).quantities
    return {
        "images": len(rows),
        "rates": summarize_rates(rows),
        "agreement": agreement_rates(rows, config.n),
        "certified": {
            q.name: certified_rates(rows, q.name, q.thresholds, largest[q.name]) for q in quantities
        },
        "largest": {name: round_down(value, 4) for name, value in largest.items()},
        "mean_radius": mean_certified(rows, "radius"),
        "alpha": config.alpha,
    }
