"""A small convolutional network without shortcuts: cheap to train against an adversary."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

Maps = Float[Tensor, "_ _ _ _"]  # images, channels, height, width


class PlainCNN(nn.Module):
    """Convolution, normalization and ReLU, a few times; then one hidden layer.

    Args:
        convolutions: channels, kernel and stride of each; stride 1 keeps the side, 2 halves it.
        hidden: width of the layer before the last one.
    """

    def __init__(
        self,
        image_shape: Sequence[int] = (3, 32, 32),
        classes: int = 10,
        convolutions: Sequence[Sequence[int]] = ((24, 4, 2), (48, 4, 2), (96, 3, 1)),
        hidden: int = 128,
    ) -> None:
        super().__init__()
        channels, height, width = image_shape
        layers: list[nn.Module] = []
        for out_channels, kernel, stride in convolutions:
            conv = nn.Conv2d(channels, out_channels, kernel, stride, (kernel - 1) // 2, bias=False)
            layers += [conv, nn.BatchNorm2d(out_channels), nn.ReLU()]
            channels, height, width = out_channels, height // stride, width // stride
        self.convolutions = nn.Sequential(*layers, nn.Flatten())
        flat = nn.Linear(channels * height * width, hidden, bias=False)
        self.hidden = nn.Sequential(flat, nn.BatchNorm1d(hidden), nn.ReLU())
        self.linear = nn.Linear(hidden, classes)

    def forward(self, x: Maps) -> Float[Tensor, "_ classes"]:
        return self.linear(self.features(x))

    def features(self, x: Maps) -> Float[Tensor, "_ features"]:
        """The input of the last layer."""
        return self.hidden(self.convolutions(x))


build = PlainCNN
