"""What a transform brings, so that a classifier smoothed over its parameters can be certified.

A transform ``phi`` is resolvable if ``phi(phi(x, a), e) = phi(x, c(a, e))``.  Then the smoothed
classifier sees a transformed image as the image itself under other noise of the parameters.  Li et
al. (2021), "TSS: Transformation-Specific Smoothing for Robustness Certification", definition 2.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from jaxtyping import Float
from torch import Tensor

from scoreag.core.rng import Noise
from scoreag.core.types import Images

Parameters: TypeAlias = Float[Tensor, "batch parameters"]
Deviations: TypeAlias = tuple[float, ...]  # of the noise, one a parameter
Size: TypeAlias = tuple[int, int]  # height and width in pixels


@dataclass(frozen=True)
class Quantity:
    """A number that a certificate states, such as a radius.

    Args:
        text: what it measures, with its unit.
        thresholds: where the certified accuracy is reported.
    """

    name: str
    text: str
    thresholds: tuple[float, ...]


@dataclass(frozen=True)
class Transform:
    """A family of transforms, its noise and its certificate.

    Args:
        name: the word of ``--transform``.
        noise: what each standard deviation is of, with its unit.
        sigma: the default standard deviations.
        apply: each image transformed by its row of parameters; nothing is clipped.
        sample: (noise, one row an image; images; standard deviations) -> parameters.
        certify: (p > 1/2, standard deviations, size of the images) -> the quantities by name.
        quantities: what ``certify`` states; the first is "radius".
        guarantee: what is certified, for the report.
    """

    name: str
    noise: tuple[str, ...]
    sigma: Deviations
    apply: Callable[[Images, Parameters], Images]
    sample: Callable[[Noise, Images, Deviations], Parameters]
    certify: Callable[[float, Deviations, Size], Mapping[str, float]]
    quantities: tuple[Quantity, ...]
    guarantee: str
