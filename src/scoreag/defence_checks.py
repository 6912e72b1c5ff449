"""What a defence refuses of a classifier: other images than it purifies, and no logits."""

from typing import Any

import torch
from torch import Tensor, nn

from scoreag.core import gradient
from scoreag.core.prior import Prior
from scoreag.core.rows import Batch, showing
from scoreag.core.types import Images, Logits


@torch.inference_mode(False)
def check_fits(classifier: nn.Module, prior: Prior) -> None:
    """Refuse a classifier that cannot take the score model's images."""
    takes = " x ".join(map(str, prior.image_shape))
    known = getattr(classifier, "image_shape", None)
    if known is not None and tuple(known) != tuple(prior.image_shape):
        raise ValueError(
            f"the classifier is one of images of {' x '.join(map(str, known))}, and the score "
            f"model purifies {takes}; give two that were made for the same images"
        )
    blank = torch.full((1, *prior.image_shape), 0.5, dtype=prior.dtype)
    leaf = blank.to(prior.sigmas.device).requires_grad_()
    try:
        with torch.enable_grad(), showing(Batch(counts={})):  # which no draw is counted for
            logits = classifier(leaf)
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"the classifier cannot take what the score model purifies, images of {takes}: {reason}"
        ) from error
    if (wrong := gradient.fault(checked(logits, leaf), leaf)) == gradient.REENTRANT:
        raise ValueError(f"the classifier {wrong}")


def checked(logits: Any, images: Images) -> Logits:
    """Logits, a row an image, all of them numbers."""
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(images):
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(f"the classifier returned {got}; expected logits ({len(images)}, classes)")
    sound = logits.detach().isfinite().all(1)
    if not sound.all():
        blame = "the classifier returned NaN or infinity"
        if not images.detach().isfinite().all():
            blame = "the purified images are not finite: write a smaller precision, or more steps"
        raise ValueError(f"{blame} (for {int((~sound).sum())} of {len(sound)} purified images)")
    return logits
