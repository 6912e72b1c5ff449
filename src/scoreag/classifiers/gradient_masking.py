"""A victim with a trick: as easy to fool as before, but its gradients are zero.

The input is rounded to a few levels and the logits are scaled up until the softmax saturates:
"shattered" and "vanishing" gradients of Athalye et al. (2018), sections 4 and 5. Attacks along the
gradient find nothing, those without one and images made against the bare classifier do: an
evaluation that calls it robust is broken.  Nor is it to an attacker who knows the trick: he takes
the rounding for the identity (BPDA, section 4.1) and leaves the scale out.
"""

from collections.abc import Callable

from torch import Tensor, nn


class StraightThrough(nn.Module):
    """``f(x)``, whose gradient is that of x; f keeps the shape of its input."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, images: Tensor) -> Tensor:
        plain: Tensor = self.function(images.detach())
        return images + (plain.to(images) - images).detach()


PREFIX = "obfuscated:"
BPDA_PREFIX = "bpda:"  # the same, as an attacker sees it who knows the trick
PIXEL_LEVELS = 16  # of each pixel
LOGIT_SCALE = 1e4  # of the logits


class GradientMasked(nn.Module):
    """``scale * f(round(x (levels - 1)) / (levels - 1))``, of images in [0, 1]."""

    def __init__(
        self, classifier: nn.Module, levels: int = PIXEL_LEVELS, scale: float = LOGIT_SCALE
    ) -> None:
        super().__init__()
        self.classifier, self.levels, self.scale = classifier, levels, scale

    def forward(self, images: Tensor) -> Tensor:
        steps = self.levels - 1
        logits: Tensor = self.classifier((images * steps).round() / steps)
        return self.scale * logits

    def extra_repr(self) -> str:
        return f"levels={self.levels}, scale={self.scale:g}"


class BpdaView(nn.Module):
    """The same answers, unscaled logits, and the gradient of f where x was rounded to."""

    def __init__(self, classifier: nn.Module, levels: int = PIXEL_LEVELS) -> None:
        super().__init__()
        self.classifier, self.levels = classifier, levels

    def forward(self, images: Tensor) -> Tensor:
        steps = self.levels - 1
        rounded = (images * steps).round() / steps
        logits: Tensor = self.classifier(rounded.detach() + (images - images.detach()))
        return logits

    def extra_repr(self) -> str:
        return f"levels={self.levels}"


MASKING_WRAPPERS = {PREFIX: GradientMasked, BPDA_PREFIX: BpdaView}
