"""DDPM++ and NCSN++ (Song et al. 2021), with the parameter names of Karras et al. (2022)."""

import math
from collections.abc import Sequence
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import silu

from scoreag.diffusion.networks.edm_blocks import (
    Block,
    Level,
    Maps,
    ResamplingConv,
    Vector,
    check_word,
    group_norm,
    make_levels,
    one_hot_labels,
    run_decoder,
    run_encoder,
    sinusoidal_embedding,
)

ENCODERS, DECODERS = ("standard", "skip", "residual"), ("standard", "skip")
TIME_EMBEDDINGS = ("positional", "fourier")


class SongUNet(nn.Module):
    """DDPM++ by default; NCSN++ has ``time="fourier"``, ``noise_width=2``, ``encoder="residual"``
    and ``resample_filter=(1, 3, 3, 1)``.

    Args:
        channels: width of the first level; level ``l`` has ``channels * multipliers[l]``.
        classes: number of labels; 0 for a model without labels.
        blocks: residual blocks a level on the way down; one more on the way up.
        attention_at: sides of the maps whose blocks have attention.
        time: embedding of the noise level, by fixed or by stored frequencies.
        noise_width: of this embedding, as a multiple of ``channels``.
        encoder, decoder: how smaller images are added to the maps; see Song et al., section H.
        resample_filter: taps of the separable filter of down- and upsampling.
        augment: number of augmentation labels in training; here they are 0.
        null_label: whether labels were dropped in training, so that there is one for no class.
    """

    maps_have_dtype = True  # of their own; the embedding stays in float32

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
        null_label: bool = False,
    ) -> None:
        super().__init__()
        check_word("time", time, TIME_EMBEDDINGS)
        check_word("encoder", encoder, ENCODERS)
        check_word("decoder", decoder, DECODERS)
        image_channels, side, _ = image_shape
        self.image_shape, self.classes, self.blocks = tuple(image_shape), classes, blocks
        self.encoder, self.decoder, self.null_label = encoder, decoder, null_label
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
        levels = make_levels(side, [channels * m for m in multipliers], attention_at)
        self.enc, self.dec = nn.ModuleDict(), nn.ModuleDict()
        skip_channels = self._add_down(image_channels, channels, levels)
        self._add_up(image_channels, levels, skip_channels)

    def _add_down(self, image_channels: int, channels: int, levels: Sequence[Level]) -> list[int]:
        """Add the encoder; the channels of its outputs."""
        first = levels[0][0]
        self.enc[f"{first}_conv"] = ResamplingConv(image_channels, channels, 3)
        skip_channels, width, aux_channels = [channels], channels, image_channels
        for at, wide, attention in levels:
            if at != first:
                self.enc[f"{at}_down"] = self.block(width, width, resample="down")
                aux_channels = self._add_aux(at, aux_channels, width)
                skip_channels.append(width)
            for i in range(self.blocks):
                self.enc[f"{at}_block{i}"] = self.block(width, wide, heads=int(attention))
                skip_channels.append(width := wide)
        return skip_channels

    def _add_aux(self, at: str, aux_channels: int, width: int) -> int:
        """Add the layers of the smaller image; its channels at the next level."""
        filtered = self.resample_filter
        if self.encoder == "skip":
            down = ResamplingConv(aux_channels, aux_channels, 0, "down", filtered)
            self.enc[f"{at}_aux_down"] = down
            self.enc[f"{at}_aux_skip"] = ResamplingConv(aux_channels, width, 1)
        if self.encoder == "residual":
            residual = ResamplingConv(aux_channels, width, 3, "down", filtered, conv_first=True)
            self.enc[f"{at}_aux_residual"] = residual
            return width
        return aux_channels

    def _add_up(
        self, image_channels: int, levels: Sequence[Level], skip_channels: list[int]
    ) -> None:
        """Add the decoder, with an output of the image at the first level, or at every level."""
        (first, *_), (last, width, _) = levels[0], levels[-1]
        for at, wide, attention in reversed(levels):
            if at == last:
                self.dec[f"{at}_in0"] = self.block(width, width, heads=1)
                self.dec[f"{at}_in1"] = self.block(width, width)
            else:
                self.dec[f"{at}_up"] = self.block(width, width, resample="up")
            for i in range(self.blocks + 1):
                heads = int(attention and i == self.blocks)
                block = self.block(width + skip_channels.pop(), wide, heads=heads)
                self.dec[f"{at}_block{i}"], width = block, wide
            if self.decoder == "skip" and at != last:
                up = ResamplingConv(image_channels, image_channels, 0, "up", self.resample_filter)
                self.dec[f"{at}_aux_up"] = up
            if self.decoder == "skip" or at == first:
                self.dec[f"{at}_aux_norm"] = group_norm(width, 1e-6)
                self.dec[f"{at}_aux_conv"] = ResamplingConv(width, image_channels, 3)

    def forward(
        self, x: Maps, time: Float[Tensor, " batch"], labels: Int[Tensor, " batch"] | None = None
    ) -> Maps:
        if hasattr(self, "map_noise"):
            waves = self.map_noise(time)
        else:
            waves = sinusoidal_embedding(time, self.width, True)
        emb = waves.unflatten(1, (2, -1)).flip(1).flatten(1)  # these networks have the sine first
        if self.classes:
            one_hot = one_hot_labels(labels, self.classes, emb)
            emb = emb + self.map_label(one_hot * math.sqrt(self.classes))
        emb = silu(self.map_layer1(silu(self.map_layer0(emb))))
        return run_decoder(self.dec, run_encoder(self.enc, x, emb), emb)[1]


class FourierEmbedding(nn.Module):
    """``cos`` and ``sin`` of ``2 pi f t``, at random frequencies f that are stored."""

    def __init__(self, channels: int, scale: float = 16.0) -> None:
        super().__init__()
        self.freqs: Tensor
        self.register_buffer("freqs", scale * torch.randn(channels // 2))

    def forward(self, time: Float[Tensor, " batch"]) -> Vector:
        angles = time[:, None] * (2 * math.pi * self.freqs).to(time)
        return torch.cat([angles.cos(), angles.sin()], 1)


build = SongUNet
