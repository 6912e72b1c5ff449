"""Whether a classifier answers alike twice: the same logits, but for what kernels may round."""

from torch import Tensor

DETERMINISM_RTOL = (
    1e-5  # of the largest logit: kernels that add in any order, as on a GPU, differ by less
)


def relative_difference(a: Tensor, b: Tensor) -> float:
    """The largest difference, as a share of the largest of ``b``."""
    return float((a - b).abs().max() / b.abs().max().clamp(min=1e-12))


def outputs_match(a: Tensor, b: Tensor) -> bool:
    """Whether two answers to the same images are the same, to ``STEADY``."""
    return relative_difference(a, b) <= DETERMINISM_RTOL
