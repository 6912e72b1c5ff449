"""Parts of the U-Nets of Song et al. (2021), Dhariwal and Nichol (2021) and Karras et al. (2022).

Parameters have the names of the last, so that public weights fit. Written from the descriptions in
the papers.
"""

import math
from collections.abc import Sequence
from typing import TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d, one_hot, silu

from scoreag.registry import did_you_mean

Maps: TypeAlias = Float[Tensor, "_ _ _ _"]  # images, channels, height, width
Vector: TypeAlias = Float[Tensor, "_ _"]  # images, features
Level: TypeAlias = tuple[str, int, bool]  # name "16x16", width, whether it has attention
Heads: TypeAlias = Float[Tensor, "batch heads _ positions"]  # channels of a head


class ResamplingConv(nn.Module):
    """A convolution of stride 1, after resampling by 2.

    Args:
        kernel: its side; 0 only resamples.
        resample: "down", "up" or "".
        resample_filter: taps of a separable filter, e.g. (1, 1) or (1, 3, 3, 1).
        conv_first: convolve before downsampling.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        resample: str = "",
        resample_filter: Sequence[float | int] = (1, 1),
        conv_first: bool = False,
    ) -> None:
        super().__init__()
        self.resample, self.conv_first = resample, conv_first
        self.weight = self.bias = None
        if kernel:
            self.weight = nn.Parameter(torch.empty(out_channels, in_channels, kernel, kernel))
            self.bias = nn.Parameter(torch.zeros(out_channels))
            nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if resample:
            line = torch.tensor(resample_filter, dtype=torch.float32)
            self.register_buffer(
                "resample_filter", torch.outer(line, line)[None, None] / line.sum() ** 2
            )

    def forward(self, x: Maps) -> Maps:
        padding = (self._taps(x).shape[-1] - 1) // 2 if self.resample else 0
        if self.conv_first:
            return self._downsample(self._convolve(x, padding), 0)
        if self.resample == "up":
            taps = 4 * self._taps(x)  # each tap reaches a quarter of the new pixels
            x = conv_transpose2d(x, taps, stride=2, padding=padding, groups=x.shape[1])
        elif self.resample == "down":
            x = self._downsample(x, padding)
        return x if self.weight is None else self._convolve(x)

    def _convolve(self, x: Maps, padding: int = 0) -> Maps:
        assert self.weight is not None
        padding += self.weight.shape[-1] // 2
        return conv2d(x, self.weight, self.bias, padding=padding)

    def _downsample(self, x: Maps, padding: int) -> Maps:
        return conv2d(x, self._taps(x), stride=2, padding=padding, groups=x.shape[1])

    def _taps(self, x: Maps) -> Tensor:
        """The filter, for each channel of ``x``."""
        taps = self.resample_filter
        assert isinstance(taps, Tensor)
        return taps.to(x).expand(x.shape[1], -1, -1, -1)


class Block(nn.Module):
    """A residual block that depends on an embedding of noise level and class, and attention.

    Args:
        emb_channels: width of the embedding.
        heads: of the attention after the convolutions; 0: no attention.
        adaptive_scale: the embedding scales and shifts; else it only shifts.
        skip_scale: factor of sums: 1, or sqrt(1/2), which preserves the variance.
        resample_proj: the shortcut of a block that resamples has a convolution.
        min_channels_per_group: of the normalizations.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        emb_channels: int,
        resample: str = "",
        heads: int = 0,
        adaptive_scale: bool = True,
        skip_scale: float = 1.0,
        eps: float = 1e-5,
        resample_filter: Sequence[float | int] = (1, 1),
        resample_proj: bool = False,
        min_channels_per_group: int = 4,
    ) -> None:
        super().__init__()
        self.heads, self.adaptive_scale, self.skip_scale = heads, adaptive_scale, skip_scale
        self.norm0 = group_norm(in_channels, eps, min_channels_per_group)
        self.conv0 = ResamplingConv(in_channels, out_channels, 3, resample, resample_filter)
        self.affine = nn.Linear(emb_channels, 2 * out_channels if adaptive_scale else out_channels)
        self.norm1 = group_norm(out_channels, eps, min_channels_per_group)
        self.conv1 = ResamplingConv(out_channels, out_channels, 3)
        self.skip: nn.Module = nn.Identity()
        if resample or in_channels != out_channels:
            kernel = 1 if resample_proj or in_channels != out_channels else 0
            self.skip = ResamplingConv(in_channels, out_channels, kernel, resample, resample_filter)
        if heads:
            self.norm2 = group_norm(out_channels, eps, min_channels_per_group)
            self.qkv = ResamplingConv(out_channels, 3 * out_channels, 1)
            self.proj = ResamplingConv(out_channels, out_channels, 1)

    def forward(self, x: Maps, emb: Vector) -> Maps:
        y = self.conv0(silu(self.norm0(x)))
        affine = self.affine(emb).to(x.dtype)[:, :, None, None]
        if self.adaptive_scale:
            scale, shift = affine.chunk(2, 1)
            y = silu(shift + self.norm1(y) * (1 + scale))
        else:
            y = silu(self.norm1(y + affine))
        x = self.skip_scale * (self.skip(x) + self.conv1(y))
        if not self.heads:
            return x
        qkv = self.qkv(self.norm2(x)).flatten(2).unflatten(1, (self.heads, -1, 3))
        attended = attend(*qkv.unbind(3)).unflatten(2, x.shape[2:])
        return self.skip_scale * (x + self.proj(attended))


def make_levels(side: int, widths: Sequence[int], attention_at: Sequence[int]) -> list[Level]:
    """The levels of a U-Net, each of half the side of the one before."""
    sides = [side >> level for level in range(len(widths))]
    return [(f"{s}x{s}", wide, s in attention_at) for s, wide in zip(sides, widths, strict=True)]


def run_encoder(layers: nn.ModuleDict, x: Maps, emb: Vector) -> list[Tensor]:
    """The output of each layer; "aux" layers add a smaller image to the one before."""
    outputs, image = list[Tensor](), x
    for name, layer in layers.items():
        if name.endswith("aux_down"):
            image = layer(image)
        elif name.endswith("aux_skip"):
            x = outputs[-1] = x + layer(image)
        elif name.endswith("aux_residual"):
            x = image = outputs[-1] = (x + layer(image)) / math.sqrt(2)
        else:
            outputs.append(x := layer(x, emb) if isinstance(layer, Block) else layer(x))
    return outputs


def run_decoder(layers: nn.ModuleDict, skips: list[Tensor], emb: Vector) -> tuple[Maps, Tensor]:
    """The last map, and the image, which is the sum of all "aux" outputs (0 without any)."""
    x, image = skips[-1], skips[-1].new_zeros(())
    for name, layer in layers.items():
        if name.endswith("aux_up"):
            image = layer(image)
        elif name.endswith("aux_norm"):
            normed = silu(layer(x))
        elif name.endswith("aux_conv"):
            image = image + layer(normed)
        else:
            x = torch.cat([x, skips.pop()], 1) if "block" in name else x
            x = layer(x, emb) if isinstance(layer, Block) else layer(x)
    return x, image


def attend(q: Heads, k: Heads, v: Heads) -> Float[Tensor, "batch channels positions"]:
    """``sum_k softmax_k(q . k / c^(1/2)) v_k``, c channels a head.

    Fused kernels have no second derivative, which guidance needs.
    """
    weights = (q.transpose(2, 3) @ k / math.sqrt(q.shape[2])).softmax(3)
    return (v @ weights.transpose(2, 3)).flatten(1, 2)


def group_norm(channels: int, eps: float = 1e-5, min_channels_per_group: int = 4) -> nn.GroupNorm:
    """At most 32 equal groups, of at least ``min_channels_per_group``."""
    groups = min(32, channels // min_channels_per_group)
    if not groups or channels % groups:
        raise ValueError(f"{channels} channels make no {groups} equal groups; write another width")
    return nn.GroupNorm(groups, channels, eps)


def sinusoidal_embedding(
    time: Float[Tensor, " batch"], channels: int, endpoint: bool = False
) -> Vector:
    """``cos(w t)``, then ``sin(w t)``, w from 1 to 1/10000, which ``endpoint`` includes."""
    half = channels // 2
    steps = torch.arange(half, device=time.device, dtype=torch.float32) / (half - int(endpoint))
    angles = time[:, None] * (10000**-steps).to(time)
    return torch.cat([angles.cos(), angles.sin()], 1)


def one_hot_labels(labels: Int[Tensor, " batch"] | None, classes: int, like: Vector) -> Vector:
    """One-hot rows; all 0 for no label, which is None or ``classes``."""
    if labels is None:
        return like.new_zeros(len(like), classes)
    return one_hot(labels, classes + 1)[:, :classes].to(like)


def check_word(option: str, word: str, known: Sequence[str]) -> None:
    """Refuse an unknown word, and suggest one that was probably meant."""
    if word not in known:
        raise ValueError(f"{option} is {word!r}; {did_you_mean(word, list(known))}")
