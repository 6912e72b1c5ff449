"""A step without a gradient, taken for the identity on the way back: BPDA.

Athalye et al. (2018), section 4.1.  ``StraightThrough(f)`` answers as f does, such as a rounding to
8 bits or a JPEG, and has the gradient of the identity: what is behind it can be attacked and can
guide.

    victim = nn.Sequential(StraightThrough(lambda x: (x * 255).round() / 255), net).eval()
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
