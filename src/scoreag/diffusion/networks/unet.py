"""A class-conditional U-Net: the raw network ``F(x, time, labels)`` inside a denoiser.

Noise level and class scale and shift the maps of residual blocks (Ho et al. 2020; Dhariwal and
Nichol 2021). Patches of pixels become channels first, so that the widest maps are the small ones.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, silu

from scoreag.diffusion.networks.edm_blocks import Maps, Vector, attend

DEFAULT_MULTIPLIERS, DEFAULT_PATCH = (1, 2, 3), 2


class UNet(nn.Module):
    """A U-Net of residual blocks with an embedding of the noise level and the class.

    Args:
        channels: width of the first level; level ``l`` has ``channels * multipliers[l]``.
        classes: number of labels, without the null label, which ``labels=None`` stands for.
        patch: side of the square of pixels that becomes one position.
        blocks: residual blocks a level on the way down; one more on the way up.
        attention_at: sides of the maps whose blocks have attention.
        period: of the slowest wave: about the length of the interval of times.
        head_at: side of the maps on the way up of which a second, weaker output is made, by which
            guide "head" works; 0: none.
    """

    null_label = True  # labels are dropped in training
    maps_have_dtype = True  # of their own; the embedding stays in float32

    def __init__(
        self,
        image_shape: Sequence[int] = (3, 32, 32),
        classes: int = 10,
        channels: int = 64,
        multipliers: Sequence[int] = DEFAULT_MULTIPLIERS,
        blocks: int = 1,
        attention_at: Sequence[int] = (8,),
        patch: int = DEFAULT_PATCH,
        period: float = 3.0,
        head_at: int = 0,
    ) -> None:
        super().__init__()
        image_channels, side, _ = image_shape
        _check_image_shape(image_shape, patch * 2 ** (len(multipliers) - 1))
        side //= patch
        _check_head(head_at, head_sides(image_shape, multipliers, patch))
        self.image_shape = tuple(image_shape)
        self.classes = classes
        self.told = Conditioning(classes, 4 * channels, period=period)  # "told" is in state dicts
        self.unshuffle, self.shuffle = nn.PixelUnshuffle(patch), nn.PixelShuffle(patch)
        widths = [channels * m for m in multipliers]
        self.first = nn.Conv2d(image_channels * patch**2, channels, 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        skip_channels = [width := channels]
        for level, wide in enumerate(widths):
            if level:
                self.down.append(Resize(width, 0.5))
                side //= 2
                skip_channels.append(width)
            for _ in range(blocks):
                self.down.append(Block(width, wide, 4 * channels, side in attention_at))
                skip_channels.append(width := wide)
        self.middle = Block(width, width, 4 * channels, attention=True)
        for level, wide in reversed(list(enumerate(widths))):
            for _ in range(blocks + 1):
                up = Block(width + skip_channels.pop(), wide, 4 * channels, side in attention_at)
                self.up.append(up)
                width = wide
            if side == head_at:
                self.head_after, self.head = (
                    len(self.up),
                    Head(width, image_channels, patch * 2**level),
                )
            if level:
                self.up.append(Resize(width, 2.0))
                side *= 2
        self.last = nn.Sequential(
            nn.GroupNorm(_num_groups(width), width),
            nn.SiLU(),
            _zero_init(nn.Conv2d(width, image_channels * patch**2, 3, padding=1)),
        )

    @property
    def has_head(self) -> bool:
        """Whether there is a second output."""
        return hasattr(self, "head")

    def forward(
        self,
        x: Maps,
        time: Float[Tensor, " batch"],
        labels: Int[Tensor, " batch"] | None = None,
        head: bool = False,
    ) -> Float[Tensor, "outputs channel height width"]:
        """``F(x, time, labels)``; with ``head`` a batch of twice the size: then the head's."""
        emb = self.told(time, labels)
        skips = [x := self.first(self.unshuffle(x))]
        for layer in self.down:
            skips.append(x := layer(x, emb))
        x = self.middle(x, emb)
        weak = []
        for i, layer in enumerate(self.up, start=1):
            x = layer(x if isinstance(layer, Resize) else torch.cat([x, skips.pop()], 1), emb)
            if head and i == self.head_after:
                weak = [self.head(x)]
        return torch.cat([self.shuffle(self.last(x)), *weak])


class Head(nn.Sequential):
    """An image from maps of a lower resolution: a square of ``patch`` pixels of each position."""

    def __init__(self, width: int, image_channels: int, patch: int) -> None:
        super().__init__(
            nn.GroupNorm(_num_groups(width), width),
            nn.SiLU(),
            _zero_init(nn.Conv2d(width, image_channels * patch**2, 3, padding=1)),
            nn.PixelShuffle(patch),
        )


class Conditioning(nn.Module):
    """The embedding of noise level and class; row ``classes`` is the null label."""

    def __init__(
        self, classes: int, width: int, num_frequencies: int = 32, period: float = 3.0
    ) -> None:
        super().__init__()
        self.classes, self.period = classes, period
        self.frequencies: Tensor
        # 1 to 64 waves a period; EDM's time, ln(sigma)/4, is within [-1.6, 1.1]
        self.register_buffer(
            "frequencies", torch.logspace(0, 6, num_frequencies, 2.0), persistent=False
        )
        self.time = nn.Sequential(
            nn.Linear(2 * num_frequencies, width), nn.SiLU(), nn.Linear(width, width)
        )
        self.label = nn.Embedding(classes + 1, width)

    def forward(self, time: Float[Tensor, " batch"], labels: Tensor | None) -> Vector:
        angles = (2 * math.pi / self.period) * time[:, None] * self.frequencies.to(time)
        if labels is None:
            labels = torch.full_like(time, self.classes, dtype=torch.int64)
        waves = torch.cat([angles.sin(), angles.cos()], 1)
        return silu(self.time(waves) + self.label(labels))


class Block(nn.Module):
    """``x + conv(silu(scale * norm(conv(silu(norm(x)))) + shift))``, then attention."""

    def __init__(
        self, in_channels: int, out_channels: int, emb_channels: int, attention: bool = False
    ) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(_num_groups(in_channels), in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.told = _zero_init(nn.Linear(emb_channels, 2 * out_channels))
        self.norm2 = nn.GroupNorm(_num_groups(out_channels), out_channels)
        self.conv2 = _zero_init(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        self.skip: nn.Module = nn.Identity()
        if in_channels != out_channels:
            self.skip = nn.Conv2d(in_channels, out_channels, 1)
        self.attention = Attention(out_channels) if attention else nn.Identity()

    def forward(self, x: Maps, emb: Vector) -> Maps:
        scale, shift = self.told(emb).to(x.dtype)[:, :, None, None].chunk(2, 1)
        y = self.conv1(silu(self.norm1(x)))
        y = silu(self.norm2(y) * (1 + scale) + shift)
        return self.attention(self.skip(x) + self.conv2(y))


class Attention(nn.Module):
    """Self-attention over positions, with a shortcut."""

    def __init__(self, channels: int, head_channels: int = 32) -> None:
        super().__init__()
        self.heads = _max_equal_parts(channels, head_channels)
        self.norm = nn.GroupNorm(_num_groups(channels), channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = _zero_init(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Maps) -> Maps:
        qkv = self.qkv(self.norm(x)).flatten(2).unflatten(1, (3, self.heads, -1))
        return x + self.out(attend(*qkv.unbind(1)).unflatten(2, x.shape[2:]))


class Resize(nn.Module):
    """Downsample or upsample by 2, then convolve."""

    def __init__(self, channels: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Maps, emb: Vector) -> Maps:
        if self.scale < 1:
            return self.conv(avg_pool2d(x, 2))
        return self.conv(x.repeat_interleave(2, 2).repeat_interleave(2, 3))


def head_sides(
    image_shape: Sequence[int],
    multipliers: Sequence[int] = DEFAULT_MULTIPLIERS,
    patch: int = DEFAULT_PATCH,
    **others: Any,
) -> list[int]:
    """The sides of the maps at which a U-Net of these options can have a head."""
    return [image_shape[1] // patch // 2**level for level in range(1, len(multipliers))]


def _num_groups(width: int) -> int:
    return _max_equal_parts(width, 16)


def _max_equal_parts(width: int, size: int) -> int:
    """The largest number of equal parts of ``width``, of at least ``size`` channels each."""
    return next((n for n in range(width // size, 1, -1) if width % n == 0), 1)


def _check_image_shape(image_shape: Sequence[int], step: int) -> None:
    """Refuse sides that cannot be halved at each level."""
    if any(side % step for side in image_shape[1:]):
        raise ValueError(
            f"image_shape is {tuple(image_shape)}; its sides must be multiples of {step}, which is "
            "patch * 2^(levels - 1): resize the images, or give fewer multipliers"
        )


def _check_head(head_at: int, sides: Sequence[int]) -> None:
    """Refuse a head of maps that there are not, or of the largest."""
    if head_at and head_at not in sides:
        known = f"one of {', '.join(map(str, sides))}" if sides else "0, as there is but one level"
        raise ValueError(f"head_at is {head_at}; expected the side of smaller maps: {known}")


def _zero_init(layer: nn.Module) -> nn.Module:
    """Set all parameters to zero, so that the block begins as the identity."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


build = UNet
