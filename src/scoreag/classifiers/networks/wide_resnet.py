"""Wide residual networks: few layers, many channels.  Zagoruyko and Komodakis (2016), table 1."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

Maps = Float[Tensor, "_ _ _ _"]  # images, channels, height, width
ACTIVATIONS = {"relu": nn.ReLU, "silu": nn.SiLU}


class WideResNet(nn.Module):
    """WRN-depth-width: ``6 n + 4`` layers, three groups of ``n`` blocks, for images of any side.

    The groups have ``16 width``, ``32 width`` and ``64 width`` channels; the second and the third
    halve the side.

    Args:
        depth: 10, 16, 22, 28, 34, 40, ...: any ``6 n + 4``.
        width: k of the paper.
        activation: "relu"; or "silu", which is smooth and better against an adversary (Gowal
            et al. 2020).
        stem: stride of the first convolution; by 2, images of side 64 enter the groups with 32.

    The names of the parameters are those of xternalz/WideResNet-pytorch.
    """

    def __init__(
        self,
        image_shape: Sequence[int] = (3, 32, 32),
        classes: int = 10,
        depth: int = 16,
        width: int = 4,
        activation: str = "relu",
        stem: int = 1,
    ) -> None:
        super().__init__()
        blocks, rest = divmod(depth - 4, 6)
        if rest or blocks < 1:
            raise ValueError(f"depth is {depth}; write one of 10, 16, 22, 28, 34, 40 (6 n + 4)")
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation is {activation!r}; write 'relu' or 'silu'")
        widths = [16 * width, 32 * width, 64 * width]
        self.conv1 = nn.Conv2d(image_shape[0], 16, 3, stem, padding=1, bias=False)
        self.block1 = Group(blocks, 16, widths[0], 1, activation)
        self.block2 = Group(blocks, widths[0], widths[1], 2, activation)
        self.block3 = Group(blocks, widths[1], widths[2], 2, activation)
        self.bn1 = nn.BatchNorm2d(widths[2])
        self.activation = ACTIVATIONS[activation]()
        self.fc = nn.Linear(widths[2], classes)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Maps) -> Float[Tensor, "_ classes"]:
        return self.fc(self.features(x))

    def features(self, x: Maps) -> Float[Tensor, "_ features"]:
        """The input of the last layer: the mean of each channel."""
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        return self.activation(self.bn1(x)).mean((2, 3))


class Block(nn.Module):
    """``x + conv(act(norm(conv(act(norm(x))))))``, without an activation of the sum.

    Where the number of channels changes, a 1x1 convolution of ``act(norm(x))`` replaces ``x``.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, activation: str) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[activation]()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        same = in_channels == out_channels and stride == 1
        self.convShortcut = (
            None if same else nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
        )

    def forward(self, x: Maps) -> Maps:
        y = self.activation(self.bn1(x))
        shortcut = x if self.convShortcut is None else self.convShortcut(y)
        return shortcut + self.conv2(self.activation(self.bn2(self.conv1(y))))


class Group(nn.Module):
    """Blocks of one width; the first of them changes the width and the side."""

    def __init__(
        self, blocks: int, in_channels: int, out_channels: int, stride: int, activation: str
    ) -> None:
        super().__init__()
        rest = [Block(out_channels, out_channels, 1, activation) for _ in range(blocks - 1)]
        self.layer = nn.Sequential(Block(in_channels, out_channels, stride, activation), *rest)

    def forward(self, x: Maps) -> Maps:
        return self.layer(x)


build = WideResNet
