"""What a classifier must be: logits in eval mode, a gradient of its images, the same twice."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from scoreag.classifiers.normalized import looks_like_probabilities
from scoreag.core.batching import reset_draws, select_rows
from scoreag.core.types import Images, Logits

DETERMINISM_RTOL = 1e-5  # of the largest logit: kernels that add in any order differ by less
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


@torch.inference_mode(False)  # its gradient is looked at, wherever this is called from
def check_classifier(classifier: Any, images: Images, require_grad: bool = True) -> int:
    """Look at ``images`` once; the number of classes.

    Args:
        require_grad: whether its gradient will be used.

    Raises:
        ValueError: it does not return logits, one row an image, or they have no gradient.
    """
    if isinstance(classifier, nn.Module) and any(part.training for part in classifier.modules()):
        raise ValueError("the classifier is in train mode; call its .eval() first")
    _check_image_shape(classifier, images)
    leaf = images.detach().clone().requires_grad_(require_grad)
    logits = _logits(classifier, leaf)
    if logits.shape[1] < 2:
        raise ValueError("the classifier knows one class only; expected at least 2")
    if not torch.isfinite(logits).all():
        raise ValueError("the classifier returned NaN or infinity on these images")
    if looks_like_probabilities(logits):
        raise ValueError(
            "the classifier returned probabilities (rows sum to 1); guidance needs logits: "
            "leave out its last softmax"
        )
    wrong = diagnose_gradient(logits, leaf) if require_grad else ""
    if wrong and wrong != ZERO_GRADIENT:
        raise ValueError(f"the classifier {wrong}")
    return int(logits.shape[1])


@torch.inference_mode(False)
def has_zero_gradient(classifier: Any, image_shape: Sequence[int], like: Tensor) -> bool:
    """Whether a classifier's gradient is zero everywhere in some images of noise.

    Its answers to these are sure to differ from pixel to pixel, unlike those to a gray image.
    """
    grain = torch.rand(
        2, *image_shape, generator=torch.Generator().manual_seed(0), dtype=torch.float32
    )
    leaf = grain.to(like).requires_grad_()
    return diagnose_gradient(_logits(classifier, leaf), leaf) == ZERO_GRADIENT


def _logits(classifier: Any, leaf: Images) -> Tensor:
    """Its answer, with a graph of the leaf; no draw of a defense is counted for it."""
    shape, rows = tuple(leaf.shape[1:]), range(len(leaf))
    ask = reset_draws(select_rows(classifier, rows), rows, "check")
    with torch.set_grad_enabled(leaf.requires_grad):
        try:
            logits = ask(leaf)
        except Exception as error:  # whatever somebody else's network may raise
            reason = " ".join(str(error).split())[:300]
            raise ValueError(f"the classifier cannot take images of {shape}: {reason}") from error
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(leaf):
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(f"the classifier returned {got}; expected logits ({len(leaf)}, classes)")
    return logits


def _check_image_shape(classifier: Any, images: Images) -> None:
    """Refuse images of another size than those that a classifier is known to be of."""
    known, came = getattr(classifier, "image_shape", None), tuple(images.shape[1:])
    if known is not None and tuple(known) != came:
        wanted, has = (" x ".join(map(str, shape)) for shape in (known, came))
        raise ValueError(
            f"the classifier is one of images of {wanted}, and these are {has}; give a classifier "
            "of such images, or a score model and images of its own"
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


def relative_difference(a: Tensor, b: Tensor) -> float:
    """The largest difference, as a share of the largest of ``b``."""
    return float((a - b).abs().max() / b.abs().max().clamp(min=1e-12))


def outputs_match(a: Tensor, b: Tensor) -> bool:
    """Whether two answers to the same images are the same, to ``DETERMINISM_RTOL``."""
    return relative_difference(a, b) <= DETERMINISM_RTOL
