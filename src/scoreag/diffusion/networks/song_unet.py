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

ENCODERS, DECODERS = ("standard", "skip", "residual"), ("standard", "skip")
TIME_EMBEDDINGS = ("positional", "fourier")


class SongUNet(nn.Module):
    """DDPM++ by default; NCSN++ has ``time="fourier"``, ``noise_width=2``, ``encoder="residual"``
    and ``resample_filter=(1, 3, 3, 1)``.

    Args:
        channels: width of the first level; level ``l`` has ``channels * multipliers[l]``.
        classes: number of labels; 0 knows none.
        blocks: residual blocks a level on the way down; one more on the way up.
        attention_at: sides of the maps whose blocks have attention.
        time: embedding of the noise level, by fixed or by stored frequencies.
        noise_width: of this embedding, as a multiple of ``channels``.
        encoder, decoder: whether smaller images run beside the maps; see Song et al., section H.
        resample_filter: taps of the separable filter that halves and doubles.
        augment: number of augmentation labels in training; here they are 0.
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
        image_channels, side, _ = image_shape
        self.image_shape, self.classes, self.blocks = tuple(image_shape), classes, blocks
        self.encoder, self.decoder = encoder, decoder
        self.sides = [side >> level for level in range(len(multipliers))]
        noise_channels, emb_channels = channels * noise_width, channels * widening
        if time == "fourier":
            self.map_noise = FourierEmbedding(noise_channels)
        self.width = noise_channels
        if classes:
            self.map_label = nn.Linear(classes, noise_channels)
        if augment:
            self.map_augment = nn.Linear(augment, noise_channels, bias=False)
        self.map_layer0 = nn.Linear(noise_channels, emb_channels)
        self.map_layer1 = nn.Linear(emb_channels, emb_channels)

        self.block = partial(
            Block, emb_channels=emb_channels, adaptive_scale=False, skip_scale=math.sqrt(0.5),
            eps=1e-6, resample_filter=resample_filter, resample_proj=True,
        )  # fmt: skip
        self.resample_filter = resample_filter
        self.has_attention = [side in attention_at for side in self.sides]
        widths = [channels * m for m in multipliers]
        self.enc, self.dec = nn.ModuleDict(), nn.ModuleDict()
        skip_channels = self._add_down(image_channels, channels, widths)
        self._add_up(image_channels, widths, skip_channels)

    def _add_down(self, image_channels: int, channels: int, widths: Sequence[int]) -> list[int]:
        """The way down; the channels of its skips."""
        self.enc[f"{self.sides[0]}x{self.sides[0]}_conv"] = ResamplingConv(
            image_channels, channels, 3
        )
        skip_channels, width, aux_channels = [channels], channels, image_channels
        for side, wide, attention in zip(self.sides, widths, self.has_attention, strict=True):
            at = f"{side}x{side}"
            if side != self.sides[0]:
                self.enc[f"{at}_down"] = self.block(width, width, resample="down")
                aux_channels = self._add_aux(at, aux_channels, width)
                skip_channels.append(width)
            for i in range(self.blocks):
                self.enc[f"{at}_block{i}"] = self.block(width, wide, heads=int(attention))
                skip_channels.append(width := wide)
        return skip_channels

    def _add_aux(self, at: str, aux_channels: int, width: int) -> int:
        """The image beside the maps on the way down; its channels at the next level."""
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
        for side, wide, attention in reversed(list(levels)):
            at, last = f"{side}x{side}", side == self.sides[-1]
            if last:
                self.dec[f"{at}_in0"] = self.block(width, width, heads=1)
                self.dec[f"{at}_in1"] = self.block(width, width)
            else:
                self.dec[f"{at}_up"] = self.block(width, width, resample="up")
            for i in range(self.blocks + 1):
                heads = int(attention and i == self.blocks)
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
        emb = self._embed(time, labels)
        skips = self._encode(x, emb)
        x, image = skips[-1], x.new_zeros(())
        for side in reversed(self.sides):
            at = f"{side}x{side}"
            first = ("in0", "in1") if side == self.sides[-1] else ("up",)
            for name in first:
                x = self.dec[f"{at}_{name}"](x, emb)
            for i in range(self.blocks + 1):
                x = self.dec[f"{at}_block{i}"](torch.cat([x, skips.pop()], 1), emb)
            if self._outputs_image(side):
                if f"{at}_aux_up" in self.dec:
                    image = self.dec[f"{at}_aux_up"](image)
                image = image + self.dec[f"{at}_aux_conv"](silu(self.dec[f"{at}_aux_norm"](x)))
        return image

    def _outputs_image(self, side: int) -> bool:
        """Whether an image comes out of the maps of this side."""
        return self.decoder == "skip" or side == self.sides[0]

    def _embed(self, time: Float[Tensor, " batch"], labels: Tensor | None) -> Vector:
        if hasattr(self, "map_noise"):
            waves = self.map_noise(time)
        else:
            waves = sinusoidal_embedding(time, self.width, True)
        emb = waves.unflatten(1, (2, -1)).flip(1).flatten(1)  # these networks have the sine first
        if self.classes:
            one_hot = one_hot_labels(labels, self.classes, emb)
            emb = emb + self.map_label(one_hot * math.sqrt(self.classes))
        return silu(self.map_layer1(silu(self.map_layer0(emb))))

    def _encode(self, x: Maps, emb: Vector) -> list[Tensor]:
        """The skips: the output of each layer on the way down."""
        skips, image = list[Tensor](), x
        for side in self.sides:
            at = f"{side}x{side}"
            x = self.enc[f"{at}_down"](x, emb) if skips else self.enc[f"{at}_conv"](x)
            if skips and self.encoder == "skip":
                image = self.enc[f"{at}_aux_down"](image)
                x = x + self.enc[f"{at}_aux_skip"](image)
            if skips and self.encoder == "residual":
                x = image = (x + self.enc[f"{at}_aux_residual"](image)) / math.sqrt(2)
            skips.append(x)
            for i in range(self.blocks):
                x = self.enc[f"{at}_block{i}"](x, emb)
                skips.append(x)
        return skips


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
