"""A wide, shallow network that learns fast, after airbench94 (Jordan 2024, arXiv 2404.00498)."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import adaptive_max_pool2d, gelu, max_pool2d, unfold

Maps = Float[Tensor, "_ _ _ _"]  # images, channels, height, width


class WhitenedCNN(nn.Module):
    """Whitened 2x2 patches, three groups of two convolutions, the maximum of each channel.

    The first layer is not trained: see ``whiten``.  Its filters come in pairs of opposite sign, so
    that the GELU drops no direction.

    Args:
        widths: channels of the three groups; airbench94 has 64, 256, 256.
        scale: of the logits.
        mirrored: in eval mode, the features are the mean of those of the image and of its mirror
            image, as airbench's accuracies are measured.
    """

    def __init__(
        self,
        classes: int = 10,
        widths: Sequence[int] = (64, 256, 256),
        scale: float = 1 / 9,
        mirrored: bool = False,
        image_shape: Sequence[int] = (3, 32, 32),
    ) -> None:
        super().__init__()
        self.scale, self.mirrored = scale, mirrored
        patch = 4 * image_shape[0]  # its numbers
        self.whitening = nn.Conv2d(image_shape[0], 2 * patch, 2)
        self.whitening.weight.requires_grad_(False)
        nn.init.zeros_(self.whitening.bias)  # type: ignore[arg-type]
        inner = zip((2 * patch, *widths), widths, strict=False)
        self.groups = nn.Sequential(*(Group(width, wide) for width, wide in inner))
        self.linear = nn.Linear(widths[-1], classes, bias=False)

    def forward(self, x: Maps) -> Float[Tensor, "_ classes"]:
        return self.scale * self.linear(self.features(x))

    def features(self, x: Maps) -> Float[Tensor, "_ features"]:
        """The input of the last layer: the maximum of each channel."""
        if self.mirrored and not self.training:
            return (self._features(x) + self._features(x.flip(3))) / 2
        return self._features(x)

    def _features(self, x: Maps) -> Float[Tensor, "_ features"]:
        return adaptive_max_pool2d(self.groups(gelu(self.whitening(x))), 1).flatten(1)


class Group(nn.Module):
    """``gelu(norm(conv(gelu(norm(pool(conv(x)))))))``; the convolutions begin as the identity."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = _make_identity_conv(in_channels, out_channels)
        self.norm1 = _batch_norm(out_channels)
        self.conv2 = _make_identity_conv(out_channels, out_channels)
        self.norm2 = _batch_norm(out_channels)

    def forward(self, x: Maps) -> Maps:
        x = gelu(self.norm1(max_pool2d(self.conv1(x), 2)))
        return gelu(self.norm2(self.conv2(x)))


@torch.no_grad()
def whiten(network: WhitenedCNN, images: Maps, floor: float = 5e-4) -> None:
    """Set the first layer so that its outputs on patches of ``images`` have unit covariance.

    The patches' covariance is ``U diag(l) U^T``; the filters are ``+-U / sqrt(l + floor)``.
    """
    patches = unfold(images.double(), 2).transpose(1, 2).flatten(0, 1)
    variances, directions = torch.linalg.eigh(patches.T @ patches / len(patches))
    filters = (directions / (variances + floor).sqrt()).T.reshape(-1, images.shape[1], 2, 2)
    network.whitening.weight.copy_(torch.cat([filters, -filters]))


def _make_identity_conv(in_channels: int, out_channels: int) -> nn.Conv2d:
    conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
    nn.init.dirac_(conv.weight[:in_channels].detach())
    return conv


def _batch_norm(width: int) -> nn.BatchNorm2d:
    """Without a trained scale, which the next convolution makes redundant."""
    norm = nn.BatchNorm2d(width, eps=1e-12, momentum=0.4)
    norm.weight.requires_grad_(False)
    return norm


build = WhitenedCNN
