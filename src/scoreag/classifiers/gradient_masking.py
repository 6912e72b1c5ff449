"""A classifier with masked gradients: as vulnerable as before, but its gradients are zero.

The input is rounded to a few levels and the logits are scaled up until the softmax saturates:
"shattered" and "vanishing" gradients of Athalye et al. (2018), sections 4 and 5.  Attacks along the
gradient fail; gradient-free and transfer attacks succeed, so an evaluation that calls it robust is
broken.  An attacker who knows the trick replaces the rounding by the identity (BPDA, section 4.1)
and omits the scale.
"""

from collections.abc import Callable

from torch import Tensor, nn


class StraightThrough(nn.Module):
    """``f(x)`` with the gradient of x, for an f that keeps the shape of its input."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, images: Tensor) -> Tensor:
        values: Tensor = self.function(images.detach())
        return images + (values.to(images) - images).detach()


PREFIX = "obfuscated:"
BPDA_PREFIX = "bpda:"  # the same, as attacked with BPDA
PIXEL_LEVELS = 16
LOGIT_SCALE = 1e4


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
    """The same predictions with unscaled logits, and the gradient of f at the rounded x."""

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
