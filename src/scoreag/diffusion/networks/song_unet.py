"""DDPM++ and NCSN++ (Song et al. 2021), under the parameter names of Karras et al. (2022)."""

import math
from collections.abc import Sequence
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import silu

from scoreag.diffusion.networks.edm_blocks import (
    Block,
    Maps,
    ResamplingConv,
    Vector,
    group_norm,
    one_hot_labels,
    sinusoidal_embedding,
)

ENCODERS, DECODERS, TIME_EMBEDDINGS = (
    ("standard", "skip", "residual"),
    ("standard", "skip"),
    ("positional", "fourier"),
)


class SongUNet(nn.Module):
    """DDPM++ by default; NCSN++ has ``time="fourier"``, ``noise_width=2``, ``encoder="residual"``
    and ``taps=(1, 3, 3, 1)``.

    Args:
        channels: width of the first level; level ``l`` has ``channels * multipliers[l]``.
        classes: number of labels; 0 knows none.
        blocks: residual blocks a level on the way down; one more on the way up.
        attention_at: sides of the maps after whose blocks positions look at each other.
        time: how the noise level is told: by waves of fixed or of stored frequencies.
        noise_width: width of these waves, as a multiple of ``channels``.
        encoder, decoder: whether smaller images run beside the maps; see Song et al., section H.
        taps: of the filter that halves and doubles.
        augment: number of augmentations that it was told in training; here none is told.
    """

    def __init__(
        self,
        image_shape: Sequence[int] = (3, 32, 32),
        classes: int = 0,
        channels: int = 128,
        multipliers: Sequence[int] = (1, 2, 2, 2),
        blocks: int = 4,
        attention_at: Sequence[int] = (16,),
        time: str = "positional",
        noise_width: int = 1,
        encoder: str = "standard",
        decoder: str = "standard",
        resample_filter: Sequence[float | int] = (1, 1),
        augment: int = 0,
        widening: int = 4,
    ) -> None:
        super().__init__()
        _check_options(
            ("time", time, TIME_EMBEDDINGS),
            ("encoder", encoder, ENCODERS),
            ("decoder", decoder, DECODERS),
        )
        colours, side, _ = image_shape
        self.image_shape, self.classes, self.blocks = tuple(image_shape), classes, blocks
        self.encoder, self.decoder = encoder, decoder
        self.sides = [side >> level for level in range(len(multipliers))]
        noise, told = channels * noise_width, channels * widening
        if time == "fourier":
            self.map_noise = FourierEmbedding(noise)
        self.width = noise
        if classes:
            self.map_label = nn.Linear(classes, noise)
        if augment:
            self.map_augment = nn.Linear(augment, noise, bias=False)
        self.map_layer0, self.map_layer1 = nn.Linear(noise, told), nn.Linear(told, told)

        self.block = partial(
            Block, emb_channels=told, adaptive_scale=False, skip_scale=math.sqrt(0.5), eps=1e-6, resample_filter=resample_filter,
            resample_proj=True,
        )  # fmt: skip
        self.resample_filter, self.has_attention = (
            resample_filter,
            [side in attention_at for side in self.sides],
        )
        widths = [channels * m for m in multipliers]
        self.enc, self.dec = nn.ModuleDict(), nn.ModuleDict()
        kept = self._add_down(colours, channels, widths)
        self._add_up(colours, widths, kept)

    def _add_down(self, image_channels: int, channels: int, widths: Sequence[int]) -> list[int]:
        """The way down; the widths of what it leaves for the way up."""
        self.enc[f"{self.sides[0]}x{self.sides[0]}_conv"] = ResamplingConv(
            image_channels, channels, 3
        )
        kept, width, small = [channels], channels, image_channels
        for side, wide, looks in zip(self.sides, widths, self.has_attention, strict=True):
            at = f"{side}x{side}"
            if side != self.sides[0]:
                self.enc[f"{at}_down"] = self.block(width, width, resample="down")
                small = self._add_aux(at, small, width)
                kept.append(width)
            for i in range(self.blocks):
                self.enc[f"{at}_block{i}"] = self.block(width, wide, heads=int(looks))
                kept.append(width := wide)
        return kept

    def _add_aux(self, at: str, aux_channels: int, width: int) -> int:
        """What runs beside the maps on the way down; its width at the next level."""
        if self.encoder == "skip":
            self.enc[f"{at}_aux_down"] = ResamplingConv(
                aux_channels, aux_channels, 0, "down", self.resample_filter
            )
            self.enc[f"{at}_aux_skip"] = ResamplingConv(aux_channels, width, 1)
        if self.encoder == "residual":
            self.enc[f"{at}_aux_residual"] = ResamplingConv(
                aux_channels, width, 3, "down", self.resample_filter, True
            )
            return width
        return aux_channels

    def _add_up(self, image_channels: int, widths: Sequence[int], skip_channels: list[int]) -> None:
        width = widths[-1]
        levels = zip(self.sides, widths, self.has_attention, strict=True)
        for side, wide, looks in reversed(list(levels)):
            at, last = f"{side}x{side}", side == self.sides[-1]
            if last:
                self.dec[f"{at}_in0"] = self.block(width, width, heads=1)
                self.dec[f"{at}_in1"] = self.block(width, width)
            else:
                self.dec[f"{at}_up"] = self.block(width, width, resample="up")
            for i in range(self.blocks + 1):
                heads = int(looks and i == self.blocks)
                self.dec[f"{at}_block{i}"] = self.block(
                    width + skip_channels.pop(), wide, heads=heads
                )
                width = wide
            if self._outputs_image(side):
                if self.decoder == "skip" and not last:
                    self.dec[f"{at}_aux_up"] = ResamplingConv(
                        image_channels, image_channels, 0, "up", self.resample_filter
                    )
                self.dec[f"{at}_aux_norm"] = group_norm(width, 1e-6)
                self.dec[f"{at}_aux_conv"] = ResamplingConv(width, image_channels, 3)

    def forward(
        self, x: Maps, time: Float[Tensor, " batch"], labels: Int[Tensor, " batch"] | None = None
    ) -> Maps:
        told = self._embed(time, labels)
        kept = self._encode(x, told)
        x, found = kept[-1], x.new_zeros(())
        for side in reversed(self.sides):
            at = f"{side}x{side}"
            first = ("in0", "in1") if side == self.sides[-1] else ("up",)
            for name in first:
                x = self.dec[f"{at}_{name}"](x, told)
            for i in range(self.blocks + 1):
                x = self.dec[f"{at}_block{i}"](torch.cat([x, kept.pop()], 1), told)
            if self._outputs_image(side):
                if f"{at}_aux_up" in self.dec:
                    found = self.dec[f"{at}_aux_up"](found)
                found = found + self.dec[f"{at}_aux_conv"](silu(self.dec[f"{at}_aux_norm"](x)))
        return found

    def _outputs_image(self, side: int) -> bool:
        """Whether an image comes out of the maps of this side."""
        return self.decoder == "skip" or side == self.sides[0]

    def _embed(self, time: Float[Tensor, " batch"], labels: Tensor | None) -> Vector:
        both = (
            self.map_noise(time)
            if hasattr(self, "map_noise")
            else sinusoidal_embedding(time, self.width, True)
        )
        told = both.unflatten(1, (2, -1)).flip(1).flatten(1)  # these have the sine first
        if self.classes:
            told = told + self.map_label(
                one_hot_labels(labels, self.classes, told) * math.sqrt(self.classes)
            )
        return silu(self.map_layer1(silu(self.map_layer0(told))))

    def _encode(self, x: Maps, emb: Vector) -> list[Tensor]:
        """What each layer on the way down leaves for the way up."""
        kept, small = list[Tensor](), x
        for side in self.sides:
            at = f"{side}x{side}"
            x = self.enc[f"{at}_down"](x, emb) if kept else self.enc[f"{at}_conv"](x)
            if kept and self.encoder == "skip":
                small = self.enc[f"{at}_aux_down"](small)
                x = x + self.enc[f"{at}_aux_skip"](small)
            if kept and self.encoder == "residual":
                x = small = (x + self.enc[f"{at}_aux_residual"](small)) / math.sqrt(2)
            kept.append(x)
            for i in range(self.blocks):
                x = self.enc[f"{at}_block{i}"](x, emb)
                kept.append(x)
        return kept


class FourierEmbedding(nn.Module):
    """``cos`` and ``sin`` of ``2 pi f t``, at frequencies f that were drawn once and are stored."""

    def __init__(self, channels: int, scale: float = 16.0) -> None:
        super().__init__()
        self.freqs: Tensor
        self.register_buffer("freqs", scale * torch.randn(channels // 2))

    def forward(self, time: Float[Tensor, " batch"]) -> Vector:
        angles = time[:, None] * (2 * math.pi * self.freqs).to(time)
        return torch.cat([angles.cos(), angles.sin()], 1)


def _check_options(*words: tuple[str, str, Sequence[str]]) -> None:
    for option, word, known in words:
        if word not in known:
            raise ValueError(f"{option} is {word!r}; write one of {', '.join(known)}")


build = SongUNet
