"""Residual networks that normalize before they convolve.  He et al. (2016), Identity mappings."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import relu

Maps = Float[Tensor, "_ _ _ _"]  # images, channels, height, width


class PreActResNet(nn.Module):
    """Four groups of blocks with 1, 2, 4 and 8 times ``width`` channels, for images of any side.

    Every group but the first halves the side.  Width 64 and two blocks each are PreActResNet-18,
    the network of Rice et al. (2020) and of most studies of fast adversarial training; the names of
    the parameters are theirs.

    Args:
        width: channels of the first convolution and of the first group.
        blocks: of each group.
    """

    def __init__(
        self,
        image_shape: Sequence[int] = (3, 32, 32),
        classes: int = 10,
        width: int = 64,
        blocks: Sequence[int] = (2, 2, 2, 2),
    ) -> None:
        super().__init__()
        if len(blocks) != 4 or min(blocks) < 1:
            raise ValueError(f"blocks is {list(blocks)}; write four numbers, e.g. [2, 2, 2, 2]")
        if width < 1:
            raise ValueError(f"width is {width}; write the number of channels, e.g. 64")
        widths = [width, width, 2 * width, 4 * width, 8 * width]
        self.conv1 = nn.Conv2d(image_shape[0], width, 3, padding=1, bias=False)
        self.layer1 = _group(blocks[0], widths[0], widths[1], 1)
        self.layer2 = _group(blocks[1], widths[1], widths[2], 2)
        self.layer3 = _group(blocks[2], widths[2], widths[3], 2)
        self.layer4 = _group(blocks[3], widths[3], widths[4], 2)
        self.bn = nn.BatchNorm2d(widths[4])
        self.linear = nn.Linear(widths[4], classes)

    def forward(self, x: Maps) -> Float[Tensor, "_ classes"]:
        return self.linear(self.features(x))

    def features(self, x: Maps) -> Float[Tensor, "_ features"]:
        """The input of the last layer: the mean of each channel."""
        x = self.layer4(self.layer3(self.layer2(self.layer1(self.conv1(x)))))
        return relu(self.bn(x)).mean((2, 3))


class Block(nn.Module):
    """``x + conv(relu(norm(conv(relu(norm(x))))))``, without an activation of the sum.

    Where the number of channels or the side changes, a 1x1 convolution of ``relu(norm(x))``
    replaces ``x``.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.shortcut = None
        if in_channels != out_channels or stride != 1:
            layer = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
            self.shortcut = nn.Sequential(layer)

    def forward(self, x: Maps) -> Maps:
        y = relu(self.bn1(x))
        shortcut = x if self.shortcut is None else self.shortcut(y)
        return shortcut + self.conv2(relu(self.bn2(self.conv1(y))))


def _group(blocks: int, in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """Blocks of one width; the first of them changes the width and the side."""
    rest = [Block(out_channels, out_channels, 1) for _ in range(blocks - 1)]
    return nn.Sequential(Block(in_channels, out_channels, stride), *rest)


build = PreActResNet
