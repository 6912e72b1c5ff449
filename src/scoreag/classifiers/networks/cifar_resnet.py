"""The small residual networks for CIFAR of He et al. (2016), section 4.2."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pad, relu

Maps = Float[Tensor, "_ _ _ _"]  # images, channels, height, width


class ResNet(nn.Module):
    """``6 n + 2`` layers: three groups of ``n`` blocks at sides 32, 16, 8, or other sides.

    Args:
        depth: 20, 32, 44, 56, 110, ...: any ``6 n + 2``.
        width: channels of the first group; the others have twice and four times as many.
        shortcut: "A" subsamples and pads with zero channels, without parameters; "B" is a 1x1
            convolution with normalization.  Published weights have either.

    The names of the parameters are those of akamaster/pytorch_resnet_cifar10.
    """

    def __init__(
        self,
        depth: int = 20,
        classes: int = 10,
        width: int = 16,
        shortcut: str = "A",
        image_shape: Sequence[int] = (3, 32, 32),
    ) -> None:
        super().__init__()
        blocks, rest = divmod(depth - 2, 6)
        if rest or blocks < 1:
            raise ValueError(f"depth is {depth}; write one of 8, 14, 20, 32, 44, 56, 110 (6 n + 2)")
        if shortcut not in ("A", "B"):
            raise ValueError(f"shortcut is {shortcut!r}; write 'A' or 'B'")
        self.conv1 = nn.Conv2d(image_shape[0], width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = _make_layer(blocks, width, width, 1, shortcut)
        self.layer2 = _make_layer(blocks, width, 2 * width, 2, shortcut)
        self.layer3 = _make_layer(blocks, 2 * width, 4 * width, 2, shortcut)
        self.linear = nn.Linear(4 * width, classes)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(layer.weight)

    def forward(self, x: Maps) -> Float[Tensor, "_ classes"]:
        return self.linear(self.features(x))

    def features(self, x: Maps) -> Float[Tensor, "_ features"]:
        """The input of the last layer: the mean of each channel."""
        x = relu(self.bn1(self.conv1(x)))
        return self.layer3(self.layer2(self.layer1(x))).mean((2, 3))


class Block(nn.Module):
    """``relu(shortcut(x) + norm(conv(relu(norm(conv(x))))))``."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, shortcut: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.shortcut: nn.Module = nn.Identity()
        if in_channels != out_channels and shortcut == "A":
            self.shortcut = Subsample(out_channels, stride)
        elif in_channels != out_channels:
            conv = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
            self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(out_channels))

    def forward(self, x: Maps) -> Maps:
        y = self.bn2(self.conv2(relu(self.bn1(self.conv1(x)))))
        return relu(self.shortcut(x) + y)


class Subsample(nn.Module):
    """Option A: every ``stride``-th pixel, padded with zero channels on both sides."""

    def __init__(self, out_channels: int, stride: int) -> None:
        super().__init__()
        self.out_channels, self.stride = out_channels, stride

    def forward(self, x: Maps) -> Maps:
        missing = self.out_channels - x.shape[1]
        pixels = x[:, :, :: self.stride, :: self.stride]
        return pad(pixels, (0, 0, 0, 0, missing // 2, missing - missing // 2))


def _make_layer(
    blocks: int, in_channels: int, out_channels: int, stride: int, shortcut: str
) -> nn.Sequential:
    rest = [Block(out_channels, out_channels, 1, shortcut) for _ in range(blocks - 1)]
    return nn.Sequential(Block(in_channels, out_channels, stride, shortcut), *rest)


build = ResNet
