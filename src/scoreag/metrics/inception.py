"""The Inception v3 of 2015 in whose features FID is measured; Szegedy et al. (2016), section 6.

The published weights were trained with TensorFlow, whose network differs from the paper's in three
ways that change FID: means near a border exclude the padding, the last block has a maximum instead
of a mean, and images are enlarged with aligned first pixels.  Names are those of the state dicts
that pytorch-fid and torch-fidelity publish.
"""

from collections.abc import Sequence
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, max_pool2d, relu

from scoreag.core.types import Images

IMAGE_SIZE = 299  # pixels
NUM_FEATURES, NUM_CLASSES = 2048, 1008

Maps = Float[Tensor, "_ channels height width"]
ConvSpec: TypeAlias = tuple[str, int, tuple[int, int], int]  # name, width, kernel, stride
ParallelConvs: TypeAlias = tuple[ConvSpec, ...]  # of the same maps; outputs are concatenated
Branch: TypeAlias = Sequence[ParallelConvs | str]  # in sequence; a string is a pooling

STEM = (
    ("Conv2d_1a_3x3", 3, 32, 3, 2, 0),
    ("Conv2d_2a_3x3", 32, 32, 3, 1, 0),
    ("Conv2d_2b_3x3", 32, 64, 3, 1, 1),
    ("Conv2d_3b_1x1", 64, 80, 1, 1, 0),
    ("Conv2d_4a_3x3", 80, 192, 3, 1, 0),
)


def conv_chain(
    name: str, *stages: tuple[int, int | tuple[int, int]], stride: int = 1
) -> list[ParallelConvs]:
    """``name_1``, ``name_2``, ... of (width, kernel), or ``name``; the last one has the stride."""
    chain: list[ParallelConvs] = []
    for number, (width, kernel) in enumerate(stages, 1):
        sides = (kernel, kernel) if isinstance(kernel, int) else kernel
        full_name = name if len(stages) == 1 else f"{name}_{number}"
        chain.append(((full_name, width, sides, stride if number == len(stages) else 1),))
    return chain


def inception_a(pool_channels: int) -> list[Branch]:
    return [
        conv_chain("branch1x1", (64, 1)),
        conv_chain("branch5x5", (48, 1), (64, 5)),
        conv_chain("branch3x3dbl", (64, 1), (96, 3), (96, 3)),
        ["mean", *conv_chain("branch_pool", (pool_channels, 1))],
    ]


def inception_b() -> list[Branch]:
    return [
        conv_chain("branch3x3", (384, 3), stride=2),
        conv_chain("branch3x3dbl", (64, 1), (96, 3), (96, 3), stride=2),
        ["halve"],
    ]


def inception_c(channels_7x7: int) -> list[Branch]:
    c, along, down = channels_7x7, (1, 7), (7, 1)
    twice = ((c, 1), (c, down), (c, along), (c, down), (192, along))
    return [
        conv_chain("branch1x1", (192, 1)),
        conv_chain("branch7x7", (c, 1), (c, along), (192, down)),
        conv_chain("branch7x7dbl", *twice),
        ["mean", *conv_chain("branch_pool", (192, 1))],
    ]


def inception_d() -> list[Branch]:
    return [
        conv_chain("branch3x3", (192, 1), (320, 3), stride=2),
        conv_chain("branch7x7x3", (192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3), stride=2),
        ["halve"],
    ]


def inception_e(pooling: str) -> list[Branch]:
    def fan(name: str) -> ParallelConvs:
        return (f"{name}a", 384, (1, 3), 1), (f"{name}b", 384, (3, 1), 1)

    return [
        conv_chain("branch1x1", (320, 1)),
        [*conv_chain("branch3x3_1", (384, 1)), fan("branch3x3_2")],
        [*conv_chain("branch3x3dbl", (448, 1), (384, 3)), fan("branch3x3dbl_3")],
        [pooling, *conv_chain("branch_pool", (192, 1))],
    ]


BLOCKS = {
    "Mixed_5b": (192, inception_a(32)),
    "Mixed_5c": (256, inception_a(64)),
    "Mixed_5d": (288, inception_a(64)),
    "Mixed_6a": (288, inception_b()),
    "Mixed_6b": (768, inception_c(128)),
    "Mixed_6c": (768, inception_c(160)),
    "Mixed_6d": (768, inception_c(160)),
    "Mixed_6e": (768, inception_c(192)),
    "Mixed_7a": (768, inception_d()),
    "Mixed_7b": (1280, inception_e("mean")),
    "Mixed_7c": (2048, inception_e("max")),
}


class Inception(nn.Module):
    """Images in [0, 1], of any size and one or three colors, to 2048 features."""

    def __init__(self) -> None:
        super().__init__()
        for name, width, wide, kernel, stride, padding in STEM:
            self.add_module(name, ConvBnReLU(width, wide, (kernel, kernel), stride, padding))
        for name, (width, branches) in BLOCKS.items():
            self.add_module(name, Mixed(width, branches))
        self.fc = nn.Linear(NUM_FEATURES, NUM_CLASSES)  # in the files; FID stops before it

    def forward(self, images: Images) -> Float[Tensor, "_ features"]:
        x = (255 * resize_like_tf1(images.expand(-1, 3, -1, -1)) - 128) / 128
        layers = dict(self.named_children())
        for name, *_ in STEM:
            x = layers[name](x)
            if name in ("Conv2d_2b_3x3", "Conv2d_4a_3x3"):
                x = max_pool2d(x, 3, 2)
        for name in BLOCKS:
            x = layers[name](x)
        return x.mean((2, 3))


class ConvBnReLU(nn.Module):
    """Convolution, normalization, ReLU; by default padded to the same size, or not at stride 2."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: tuple[int, int],
        stride: int,
        padding: int | None = None,
    ) -> None:
        super().__init__()
        pads = (0, 0) if stride == 2 else (kernel[0] // 2, kernel[1] // 2)
        pads = pads if padding is None else (padding, padding)
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, pads, bias=False)
        self.bn = nn.BatchNorm2d(out_channels, eps=0.001)

    def forward(self, x: Maps) -> Float[Tensor, "_ wide tall broad"]:
        return relu(self.bn(self.conv(x)))


class Mixed(nn.Module):
    """Branches with the same input, whose outputs are concatenated."""

    def __init__(self, in_channels: int, branches: Sequence[Branch]) -> None:
        super().__init__()
        self.branches = branches
        for branch in branches:
            channels = in_channels
            for fan in (part for part in branch if not isinstance(part, str)):
                for name, width, kernel, stride in fan:
                    self.add_module(name, ConvBnReLU(channels, width, kernel, stride))
                channels = sum(width for _, width, _, _ in fan)

    def forward(self, x: Maps) -> Float[Tensor, "_ wide tall broad"]:
        layers = dict(self.named_children())
        outputs = []
        for branch in self.branches:
            y = x
            for part in branch:
                if isinstance(part, str):
                    y = pool3x3(y, part)
                else:
                    y = torch.cat([layers[name](y) for name, *_ in part], 1)
            outputs.append(y)
        return torch.cat(outputs, 1)


def pool3x3(x: Maps, mode: str) -> Float[Tensor, "_ channels tall broad"]:
    """Over 3 x 3: "mean" without the padding, "max", or "halve", a max at stride 2."""
    if mode == "mean":
        return avg_pool2d(x, 3, 1, 1, count_include_pad=False)
    return max_pool2d(x, 3, 1, 1) if mode == "max" else max_pool2d(x, 3, 2)


def resize_like_tf1(x: Maps, side: int = IMAGE_SIZE) -> Float[Tensor, "_ channels side side"]:
    """Bilinear, pixel ``i`` of the new image at ``i * old / side`` of the old, as TensorFlow 1 did.

    Other libraries sample at ``(i + 1/2) * old / side - 1/2``, which differs by half a pixel.
    """
    for axis in (2, 3):
        place = torch.arange(side, dtype=torch.float32, device=x.device) * (x.shape[axis] / side)
        low = place.long()
        high = (low + 1).clamp(max=x.shape[axis] - 1)
        share = (place - low).to(x).view(-1, 1) if axis == 2 else (place - low).to(x)
        below, above = x.index_select(axis, low), x.index_select(axis, high)
        x = below + share * (above - below)
    return x


build = Inception
