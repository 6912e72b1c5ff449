"""ADM (Dhariwal and Nichol 2021), with the parameter names of Karras et al. (2022).

By options also the U-Nets that it is based on: Ho et al. (2020), Nichol and Dhariwal (2021).
"""

from collections.abc import Sequence
from functools import partial

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import silu

from scoreag.diffusion.networks.edm_blocks import (
    Block,
    Level,
    Maps,
    ResamplingConv,
    check_word,
    group_norm,
    make_levels,
    one_hot_labels,
    run_decoder,
    run_encoder,
    sinusoidal_embedding,
)

RESAMPLE_MODES = ("blocks", "even", "uneven")


class AdmUNet(nn.Module):
    """The U-Net of Dhariwal and Nichol (2021), and its relatives in the published releases.

    Args:
        channels: width of the first level; level ``l`` has ``channels * multipliers[l]``.
        classes: number of labels; 0 for a model without labels.
        blocks: residual blocks a level on the way down; one more on the way up.
        attention_at: sides of the maps whose blocks have attention.
        head: channels of an attention head.
        heads: their number, where it does not depend on the width; 0: by ``head``.
        augment: number of augmentation labels in training; here they are 0.
        variance: the network also predicts a variance, which is left out.
        resample: by residual blocks ("blocks"); or down by a convolution of stride 2, padded on
            both sides ("even") or at the end only ("uneven", Ho et al.), and up by copies.
        scaled: noise level and class scale and shift the maps; else they only shift them.
        min_channels_per_group: of the normalizations; 1 in all releases except EDM's.
        ends: the lowest frequency of the time embedding is exactly 1/10000.
        null_label: whether labels were dropped in training, so that there is one for no class.
    """

    maps_have_dtype = True  # of their own; the embedding stays in float32

    def __init__(
        self,
        image_shape: Sequence[int] = (3, 64, 64),
        classes: int = 0,
        channels: int = 192,
        multipliers: Sequence[int] = (1, 2, 3, 4),
        blocks: int = 3,
        attention_at: Sequence[int] = (32, 16, 8),
        head: int = 64,
        augment: int = 0,
        variance: bool = False,
        widening: int = 4,
        heads: int = 0,
        resample: str = "blocks",
        scaled: bool = True,
        min_channels_per_group: int = 4,
        eps: float = 1e-5,
        ends: bool = False,
        null_label: bool = False,
    ) -> None:
        super().__init__()
        check_word("resample", resample, RESAMPLE_MODES)
        image_channels, side, _ = image_shape
        self.image_shape, self.classes, self.width = tuple(image_shape), classes, channels
        self.null_label = null_label
        emb_channels = channels * widening
        if augment:
            self.map_augment = nn.Linear(augment, channels, bias=False)
        self.map_layer0 = nn.Linear(channels, emb_channels)
        self.map_layer1 = nn.Linear(emb_channels, emb_channels)
        if classes:
            self.map_label = nn.Linear(classes, emb_channels, bias=False)

        self.block = partial(
            Block,
            emb_channels=emb_channels,
            adaptive_scale=scaled,
            min_channels_per_group=min_channels_per_group,
            eps=eps,
        )
        self.head, self.heads, self.blocks = head, heads, blocks
        self.resample, self.embed_layers = resample, ends
        levels = make_levels(side, [channels * m for m in multipliers], attention_at)
        self.enc, self.dec = nn.ModuleDict(), nn.ModuleDict()
        skip_channels = self._add_down(image_channels, levels)
        width = self._add_up(levels, skip_channels)
        self.out_norm = group_norm(width, eps, min_channels_per_group)
        self.out_conv = ResamplingConv(width, image_channels * (2 if variance else 1), 3)

    def _add_down(self, image_channels: int, levels: Sequence[Level]) -> list[int]:
        """Add the encoder; the channels of its outputs."""
        (first, width, _), *_ = levels
        self.enc[f"{first}_conv"] = ResamplingConv(image_channels, width, 3)
        skip_channels = [width]
        for at, wide, attention in levels:
            if at != first:
                self.enc[f"{at}_down"] = self._make_downsample(width)
                skip_channels.append(width)
            for i in range(self.blocks):
                self.enc[f"{at}_block{i}"] = self._make_block(width, wide, attention)
                skip_channels.append(width := wide)
        return skip_channels

    def _add_up(self, levels: Sequence[Level], skip_channels: list[int]) -> int:
        """Add the decoder; the channels of its output."""
        *_, (last, width, _) = levels
        self.dec[f"{last}_in0"] = self._make_block(width, width, True)
        self.dec[f"{last}_in1"] = self._make_block(width, width)
        for at, wide, attention in reversed(levels):
            if at != last:
                self.dec[f"{at}_up"] = self._make_upsample(width)
            for i in range(self.blocks + 1):
                self.dec[f"{at}_block{i}"] = self._make_block(
                    width + skip_channels.pop(), wide, attention
                )
                width = wide
        return width

    def _make_block(self, in_channels: int, out_channels: int, attention: bool = False) -> Block:
        heads = (self.heads or out_channels // self.head) if attention else 0
        return self.block(in_channels, out_channels, heads=heads)

    def _make_downsample(self, width: int) -> nn.Module:
        if self.resample == "blocks":
            return self.block(width, width, resample="down")
        if self.resample == "even":
            return nn.Conv2d(width, width, 3, stride=2, padding=1)
        return nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(width, width, 3, stride=2))

    def _make_upsample(self, width: int) -> nn.Module:
        if self.resample == "blocks":
            return self.block(width, width, resample="up")
        return ResamplingConv(width, width, 3, "up")

    def forward(
        self, x: Maps, time: Float[Tensor, " batch"], labels: Int[Tensor, " batch"] | None = None
    ) -> Maps:
        waves = sinusoidal_embedding(time, self.width, self.embed_layers)
        emb = self.map_layer1(silu(self.map_layer0(waves)))
        if self.classes:
            emb = emb + self.map_label(one_hot_labels(labels, self.classes, emb))
        emb, channels = silu(emb), x.shape[1]
        y, _ = run_decoder(self.dec, run_encoder(self.enc, x, emb), emb)
        return self.out_conv(silu(self.out_norm(y)))[:, :channels]


build = AdmUNet
