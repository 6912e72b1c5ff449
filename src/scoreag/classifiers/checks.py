"""A classifier at the door: looked at once, so that no later figure is of something else."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from scoreag.classifiers.normalized import looks_like_probabilities
from scoreag.core import gradient
from scoreag.core.batching import reset_draws, select_rows
from scoreag.core.types import Images


@torch.inference_mode(False)  # its gradient is looked at, wherever this is called from
def check_classifier(classifier: Any, images: Images, require_grad: bool = True) -> int:
    """Look at ``images`` once; the number of classes.

    Args:
        require_grad: will its gradient be asked for?

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
    wrong = gradient.diagnose_gradient(logits, leaf) if require_grad else ""
    if wrong and wrong != gradient.ZERO_GRADIENT:
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
    return gradient.diagnose_gradient(_logits(classifier, leaf), leaf) == gradient.ZERO_GRADIENT


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
