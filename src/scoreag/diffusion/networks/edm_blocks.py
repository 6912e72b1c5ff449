"""The parts of the U-Nets of Song et al. (2021), Dhariwal and Nichol (2021) and Karras et al.
(2022), under the parameter names that the last released, so that public weights fit.

Written anew from the papers' descriptions.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d, one_hot, silu

Maps = Float[Tensor, "_ _ _ _"]  # images, channels, height, width
Vector = Float[Tensor, "_ _"]  # images, features
Heads = Float[Tensor, "batch heads _ positions"]  # channels of a head


class ResamplingConv(nn.Module):
    """A convolution that keeps the side, behind a halving or a doubling of it.

    Args:
        kernel: its side; 0 only resamples.
        resample: "down", "up" or "".
        resample_filter: taps of a separable filter, e.g. (1, 1) or (1, 3, 3, 1).
        conv_first: the filter comes behind the convolution, which sees the finer map.
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
        self.weight = (
            nn.Parameter(torch.empty(out_channels, in_channels, kernel, kernel)) if kernel else None
        )
        self.bias = nn.Parameter(torch.zeros(out_channels)) if kernel else None
        if self.weight is not None:
            nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if resample:
            line = torch.tensor(resample_filter, dtype=torch.float32)
            self.register_buffer(
                "resample_filter", torch.outer(line, line)[None, None] / line.sum() ** 2
            )

    def forward(self, x: Maps) -> Maps:
        if self.conv_first:
            assert self.resample == "down" and self.weight is not None
            padding = self._padding + self.weight.shape[-1] // 2
            x = conv2d(x, self.weight, self.bias, padding=padding)
            return self._downsample(x, 0)
        if self.resample == "up":
            x = self._upsample(x)
        elif self.resample == "down":
            x = self._downsample(x, self._padding)
        if self.weight is None:
            return x
        return conv2d(x, self.weight, self.bias, padding=self.weight.shape[-1] // 2)

    @property
    def _padding(self) -> int:
        return (self._filter.shape[-1] - 1) // 2

    @property
    def _filter(self) -> Tensor:
        taps = self.resample_filter
        assert isinstance(taps, Tensor)
        return taps

    def _downsample(self, x: Maps, padding: int) -> Maps:
        width = x.shape[1]
        taps = self._filter.to(x).expand(width, -1, -1, -1)
        return conv2d(x, taps, stride=2, padding=padding, groups=width)

    def _upsample(self, x: Maps) -> Maps:
        width = x.shape[1]
        taps = 4 * self._filter.to(x).expand(width, -1, -1, -1)  # a new pixel has a quarter of them
        return conv_transpose2d(x, taps, stride=2, padding=self._padding, groups=width)


class Block(nn.Module):
    """Two convolutions under an embedding of noise level and class, a shortcut, and attention.

    Args:
        emb_channels: width of the embedding.
        heads: of the attention behind the convolutions; 0: no attention.
        adaptive_scale: whether the embedding scales and shifts, or only shifts.
        skip_scale: factor of sums: 1, or sqrt(1/2), which keeps the variance.
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
        kernel = 1 if resample_proj or in_channels != out_channels else 0
        plain = in_channels == out_channels and not resample
        self.skip = (
            nn.Identity()
            if plain
            else ResamplingConv(in_channels, out_channels, kernel, resample, resample_filter)
        )
        if heads:
            self.norm2 = group_norm(out_channels, eps, min_channels_per_group)
            self.qkv = ResamplingConv(out_channels, 3 * out_channels, 1)
            self.proj = ResamplingConv(out_channels, out_channels, 1)

    def forward(self, x: Maps, emb: Vector) -> Maps:
        y = self.conv0(silu(self.norm0(x)))
        affine = self.affine(emb)[:, :, None, None]
        if self.adaptive_scale:
            scale, shift = affine.chunk(2, 1)
            y = silu(shift + self.norm1(y) * (1 + scale))
        else:
            y = silu(self.norm1(y + affine))
        x = self.skip_scale * (self.skip(x) + self.conv1(y))
        return self.skip_scale * (x + self.proj(self._attention(x))) if self.heads else x

    def _attention(self, x: Maps) -> Maps:
        """q, k and v of a channel stand side by side."""
        qkv = self.qkv(self.norm2(x)).flatten(2)
        return attend(*qkv.unflatten(1, (self.heads, -1, 3)).unbind(3)).unflatten(2, x.shape[2:])


def attend(q: Heads, k: Heads, v: Heads) -> Float[Tensor, "batch channels positions"]:
    """``sum_k softmax_k(q . k / c^(1/2)) v_k``, c channels a head.

    Written out, since fused kernels have no second derivative, which guidance needs.
    """
    weights = (q.transpose(2, 3) @ k / math.sqrt(q.shape[2])).softmax(3)
    return (v @ weights.transpose(2, 3)).flatten(1, 2)


def group_norm(channels: int, eps: float = 1e-5, min_channels_per_group: int = 4) -> nn.GroupNorm:
    """At most 32 groups, of ``min_channels_per_group`` or more.

    Raises:
        ValueError: they cannot be equally large.
    """
    groups = min(32, channels // min_channels_per_group)
    if not groups or channels % groups:
        raise ValueError(f"{channels} channels make no {groups} equal groups; write another width")
    return nn.GroupNorm(groups, channels, eps)


def sinusoidal_embedding(
    time: Float[Tensor, " batch"], channels: int, endpoint: bool = False
) -> Vector:
    """``cos(w t)``, then ``sin(w t)``, w from 1 to 1/10000, itself included if ``endpoint``."""
    half = channels // 2
    steps = torch.arange(half, device=time.device, dtype=torch.float32) / (half - int(endpoint))
    angles = time[:, None] * (10000**-steps).to(time)
    return torch.cat([angles.cos(), angles.sin()], 1)


def one_hot_labels(labels: Int[Tensor, " batch"] | None, classes: int, like: Vector) -> Vector:
    """One-hot rows; all 0 where the label is unknown: None, or ``classes``."""
    if labels is None:
        return like.new_zeros(len(like), classes)
    return one_hot(labels, classes + 1)[:, :classes].to(like)
