"""A victim with a trick: as easy to fool as before, but its gradients are zero.

The input is rounded to a few levels and the logits are scaled up until the softmax saturates:
"shattered" and "vanishing" gradients of Athalye et al. (2018), sections 4 and 5. Attacks along the
gradient find nothing, those without one and images made against the bare classifier do: an
evaluation that calls it robust is broken.
"""

from torch import Tensor, nn

PREFIX = "masked:"
LEVELS = 16  # of each pixel
SCALE = 1e4  # of the logits


class Masked(nn.Module):
    """``scale * f(round(x (levels - 1)) / (levels - 1))``, of images in [0, 1]."""

    def __init__(self, classifier: nn.Module, levels: int = LEVELS, scale: float = SCALE) -> None:
        super().__init__()
        self.classifier, self.levels, self.scale = classifier, levels, scale

    def forward(self, images: Tensor) -> Tensor:
        steps = self.levels - 1
        logits: Tensor = self.classifier((images * steps).round() / steps)
        return self.scale * logits

    def extra_repr(self) -> str:
        return f"levels={self.levels}, scale={self.scale:g}"
