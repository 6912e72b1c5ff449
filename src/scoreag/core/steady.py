"""Whether a classifier answers alike twice: the same logits, but for what kernels may round."""

from torch import Tensor

STEADY = 1e-5  # of the largest logit: kernels that add in any order, as on a GPU, differ by less


def apart(a: Tensor, b: Tensor) -> float:
    """The largest difference, as a share of the largest of ``b``."""
    return float((a - b).abs().max() / b.abs().max().clamp(min=1e-12))


def alike(a: Tensor, b: Tensor) -> bool:
    """Whether two answers to the same images are the same, to ``STEADY``."""
    return apart(a, b) <= STEADY
