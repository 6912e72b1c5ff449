"""Whether a classifier has a gradient of its images: seen before an hour of work, not after."""

import torch
from torch import Tensor

from scoreag.core.types import Images, Logits

NO_GRADIENT = (
    "passes no gradient on to its images; take torch.no_grad, detach and rounding out of its "
    "forward"
)
REENTRANT_CHECKPOINT = (
    "uses torch.utils.checkpoint with use_reentrant=True, through which no gradient of its images "
    "can be taken; write use_reentrant=False, or turn checkpointing off "
    "(timm: set_grad_checkpointing(False), transformers: gradient_checkpointing_disable())"
)
ZERO_GRADIENT = (
    "has a gradient of zero everywhere (it rounds its input, or its logits are saturated), so "
    "neither guidance nor an attack along the gradient can find anything: put "
    "scoreag.classifiers.gradient_masking.StraightThrough(f) in the place of a rounding f (BPDA), "
    "or attack it by square, which needs no gradient"
)


def diagnose_gradient(logits: Logits, images: Images) -> str:
    """What is wrong with the gradient of ``logits`` at ``images``, its leaf; empty if nothing is.

    The logits are added up with a weight for each class: the sum of plain ones may be constant.
    """
    if not logits.requires_grad:
        return NO_GRADIENT
    weights = torch.linspace(1, 2, logits.shape[1], dtype=torch.float64).to(logits).square()
    try:
        (found,) = torch.autograd.grad((logits * weights).sum(), images, allow_unused=True)
    except RuntimeError as error:
        if "heckpoint" in str(error):
            return REENTRANT_CHECKPOINT
        return f"has no gradient of its images: {' '.join(str(error).split())[:200]}"
    return NO_GRADIENT if found is None else "" if _has_nonzero(found) else ZERO_GRADIENT


def _has_nonzero(gradient: Tensor) -> bool:
    """Whether there is any: what is no number is not nothing."""
    return bool((gradient != 0).any())
